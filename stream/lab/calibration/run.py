"""A calibration: the tails of a history, what they make of the dials, and the priors file that holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stream.core.calibration import TailLaw
from stream.core.priors import Priors, priors_of, shipped_text, tail_of
from stream.core.rules import NEWCOMER_FACTOR, Rules
from stream.lab.calibration.incidents import Incidents
from stream.lab.calibration.peaks import DAY_SECONDS, KeyDays, Peaks
from stream.lab.calibration.tail import LEAST_EXPECTED, Rate, Rows, TooFewError, least_dial, realised, refit
from stream.settings import Settings, SettingsError

PROVENANCE = "calibration"
"""Where a file that was made here says from what; the detector does not read it."""


class DialError(ValueError):
    """A history too short for the dial that is set; the message says which dial it can support.

    key_days: clean ones that it has; least: the lowest dial that these can set
    """

    def __init__(self, message: str, key_days: int, least: float) -> None:
        super().__init__(message)
        self.key_days, self.least = key_days, least


@dataclass(frozen=True, slots=True)
class Fit:
    """One tail: the score that the dial asks for, before and after, and how many key-days exceed it.

    dial: false alerts per 1,000 of these key-days
    kept: why the tail stays as it was, empty if it does not
    """

    dial: float
    days: KeyDays
    old: Rows
    new: Rows
    kept: str = ""

    def threshold(self, rows: Rows) -> float:
        """The score at the dial."""
        return TailLaw(rows).threshold(self.dial / 1000)

    def rate(self, rows: Rows) -> Rate:
        """How often the key-days exceed it."""
        return realised(self.days, self.threshold(rows))

    def as_json(self) -> dict[str, Any]:
        """Both, as plain data."""
        sides = {"before": self.old, "after": self.new}
        return {
            "dial": self.dial,
            "key_days": len(self.days),
            "expected": round(self.dial * len(self.days) / 1000, 2),
            "kept": self.kept or None,
            **{side: _side(self, rows) for side, rows in sides.items()},
        }


def _side(fit: Fit, rows: Rows) -> dict[str, Any]:
    if not len(fit.days):
        return {"score": round(fit.threshold(rows), 3)}
    rate = fit.rate(rows)
    return {
        "score": round(fit.threshold(rows), 3),
        "count": rate.count,
        "per_1000": round(rate.per_1000, 3),
        "interval": [round(end, 3) for end in rate.interval],
    }


@dataclass(frozen=True, slots=True)
class Calibration:
    """What came out: `alerts` over key-days after the first week, `newcomers` over those of it; `text` is the file.

    keys, active_keys: in the whole history, and in use on a day of its last week
    page_score: what a page needs at that number of keys
    """

    alerts: Fit
    newcomers: Fit
    keys: int
    active_keys: float
    first_day: int
    counted_from: int
    last_day: int
    incidents: int
    excluded: int
    pages_per_week: float
    page_score: float
    text: str

    @property
    def digest(self) -> str:
        """Names the new file."""
        return Priors.from_json(self.text).digest

    @property
    def per_day(self) -> tuple[float, float]:
        """False alerts a day at the number of active keys: as they were realised before, and as the dial says."""
        before = self.alerts.rate(self.alerts.old).per_1000
        return before * self.active_keys / 1000, self.alerts.dial * self.active_keys / 1000

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        before, after = self.per_day
        return {
            "keys": self.keys,
            "active_keys_per_day": round(self.active_keys, 1),
            "first_day": date_of(self.first_day),
            "counted_from": date_of(self.counted_from),
            "last_day": date_of(self.last_day),
            "excluded": {"incidents": self.incidents, "key_days": self.excluded},
            "alerts": self.alerts.as_json(),
            "newcomers": self.newcomers.as_json(),
            "false_alerts_per_day": {"before": round(before, 3), "after": round(after, 3)},
            "false_alerts_per_week": {"before": round(7 * before, 3), "after": round(7 * after, 3)},
            "pages": {"per_week_at_most": self.pages_per_week, "score": round(self.page_score, 3)},
            "digest": self.digest,
        }


def calibrate(settings: Settings, peaks: Peaks, incidents: Incidents, warm_up_days: int) -> Calibration:
    """Fit both tails to what was heard of a history, less its first `warm_up_days`.

    Raises DialError if the history is too short for the dial, TooFewError if too little happened in it, SettingsError
    if the priors file says of itself what cannot be.
    """
    if not peaks.keys:
        raise TooFewError("there is no call in it")
    oldest, last = peaks.span()
    first = oldest + warm_up_days
    every = [peaks.rows(young=young, first=first) for young in (False, True)]
    days, young = (peaks.rows(young=young, first=first, without=incidents.spans) for young in (False, True))
    dial = settings.false_alerts_per_1000_key_days
    least = least_dial(len(days))
    if dial < least:
        raise DialError(_too_short(dial, len(days), least, warm_up_days), len(days), least)
    base = settings.priors_text or shipped_text()
    priors = priors_of(settings)
    document = json.loads(base)
    shipped, shipped_young, digest = _shipped(document, priors)
    alerts = Fit(dial, days, priors.tail, refit(days, shipped))
    newcomers = _newcomers(min(NEWCOMER_FACTOR * dial, 1000.0), young, priors.newcomer_tail, shipped_young)
    document |= {
        "source": "overdraw calibrate",
        "tail": alerts.new,
        "newcomer_tail": newcomers.new,
        PROVENANCE: {
            "base": digest,
            "tail": shipped,
            "newcomer_tail": shipped_young,
            "key_days": len(days),
            "newcomer_key_days": len(young),
            "keys": peaks.keys,
            "first_day": date_of(oldest),
            "counted_from": date_of(first),
            "last_day": date_of(last),
            "bucket_seconds": settings.bucket_seconds,
            "min_excess_tokens": settings.min_excess_tokens,
            "min_calls": settings.min_calls,
        },
    }
    text = json.dumps(document, indent=1) + "\n"
    active = peaks.active_keys()
    return Calibration(
        alerts=alerts,
        newcomers=newcomers,
        keys=peaks.keys,
        active_keys=active,
        first_day=oldest,
        counted_from=first,
        last_day=last,
        incidents=incidents.count,
        excluded=sum(map(len, every)) - len(days) - len(young),
        pages_per_week=settings.false_pages_per_week,
        page_score=Rules(settings, Priors.from_json(text)).page_score(round(active)),
        text=text,
    )


def _shipped(document: dict[str, Any], priors: Priors) -> tuple[Rows, Rows, str]:
    """The tails to shrink towards, and the digest of the file that had them: no history may count twice."""
    before = document.get(PROVENANCE)
    if before is None:
        return priors.tail, priors.newcomer_tail, priors.digest
    try:
        return tail_of(before["tail"]), tail_of(before["newcomer_tail"]), str(before["base"])
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"priors_file: its part {PROVENANCE!r} is damaged: make it again") from error


def _newcomers(dial: float, young: KeyDays, old: Rows, shipped: Rows) -> Fit:
    kept = ""
    if dial < least_dial(len(young)):
        kept = f"only {len(young):,} key-days of first weeks, {LEAST_EXPECTED * 1000 / dial:,.0f} are needed"
    else:
        try:
            return Fit(dial, young, old, refit(young, shipped))
        except TooFewError as error:
            kept = str(error)
    return Fit(dial, young, old, old, kept)


def _too_short(dial: float, key_days: int, least: float, warm_up_days: int) -> str:
    wanted = 1000 * LEAST_EXPECTED / dial
    text = (
        f"after its first {warm_up_days} days (--warm-up) the history has {key_days:,} clean key-days: at the dial, "
        f"{dial:g} false alerts per 1,000, they hold {dial * key_days / 1000:.1f}, and {LEAST_EXPECTED:g} are needed "
        "to set it by. "
    )
    if not key_days:
        return text + "A key's days count after its first week: take a longer history"
    return text + (
        f"Take one of at least {wanted:,.0f} key-days, or a dial of {_rounded_up(least):g} or more "
        "(--set false_alerts_per_1000_key_days=…)"
    )


def _rounded_up(dial: float) -> float:
    """Two digits, never below."""
    rounded = float(f"{dial:.2g}")
    return rounded if rounded >= dial else float(f"{dial * 1.05:.2g}")


def date_of(day: int) -> str:
    """A day, counted from 1970, as a date."""
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).date().isoformat()
