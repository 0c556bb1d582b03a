"""The lines of the scoreboard: attacks by family, intensity and mimicry, look-alikes by what they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from stream.lab.evaluation.intervals import Interval, poisson, wilson
from stream.lab.evaluation.scoring import Line, Lookalike, Outcome, Scores

KINDS = ("all", "mimicry", "family", "intensity")


@dataclass(frozen=True, slots=True)
class Row:
    """Some attacks together; `group` is one of KINDS, `name` says which of it.

    recall, low, high: share found, with Wilson's 95 % interval
    chance, attainable: the share that alerts hit by chance, and that an oracle finds; None where not known for all
    by_days: the share that their days show by what is known then; likewise
    delay_seconds: median over those found; share_gone: of all their tokens, so that large attacks weigh most
    mean_gone, median_gone: mean of each attack's own share, and median of the tokens, over all attacks
    alerts: incidents per attack that was found; paged: share of all attacks; covered: not found, one was open before
    """

    group: str
    name: str
    attacks: int
    found: int
    recall: float
    low: float
    high: float
    chance: float | None
    attainable: float | None
    by_days: float | None
    delay_seconds: float | None
    share_gone: float
    mean_gone: float
    median_gone: float
    alerts: float | None
    paged: float
    covered: int


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """All rows: total, mimic or not, each family followed by its intensities; none where there were no attacks."""
    if not outcomes:
        return []
    rows = [_row("all", "all attacks", outcomes)]
    rows += _rows("mimicry", outcomes, lambda one: "mimic" if one.episode.mimic else "not mimic")
    families: dict[str, list[Outcome]] = {}
    for one in outcomes:
        families.setdefault(one.episode.family, []).append(one)
    for family in sorted(families):
        rows.append(_row("family", family, families[family]))
        rows += _rows("intensity", families[family], lambda one: f"{one.episode.family} {one.episode.intensity}")
    return rows


def _rows(group: str, outcomes: Sequence[Outcome], name: Callable[[Outcome], str]) -> list[Row]:
    those: dict[str, list[Outcome]] = {}
    for one in outcomes:
        those.setdefault(name(one), []).append(one)
    return [_row(group, which, those[which]) for which in sorted(those, key=_by_numbers)]


def _by_numbers(name: str) -> tuple[list[float], str]:
    """What puts x5 before x10."""
    return [float(number) for number in re.findall(r"\d+", name)], name


def _row(group: str, name: str, outcomes: Sequence[Outcome]) -> Row:
    count = len(outcomes)
    found = [one for one in outcomes if one.found]
    low, high = wilson(len(found), count)
    tokens = sum(one.tokens for one in outcomes)
    return Row(
        group=group,
        name=name,
        attacks=count,
        found=len(found),
        recall=len(found) / count,
        low=low,
        high=high,
        chance=_mean([None if one.chance is None else float(one.chance) for one in outcomes]),
        attainable=_mean([one.attainable for one in outcomes]),
        by_days=_mean([None if one.by_days is None else float(one.by_days) for one in outcomes]),
        delay_seconds=median(one.delay_seconds or 0.0 for one in found) if found else None,
        share_gone=sum(one.gone for one in outcomes) / tokens if tokens else 0.0,
        mean_gone=sum(one.gone / one.tokens if one.tokens else 1.0 for one in outcomes) / count,
        median_gone=float(median(one.gone for one in outcomes)),
        alerts=sum(one.alerts for one in found) / len(found) if found else None,
        paged=sum(one.paged for one in outcomes) / count,
        covered=sum(one.covered and not one.found for one in outcomes),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def per_1000(count: int, days: int) -> tuple[float, Interval] | None:
    """A count as a rate per 1,000 key-days (or group-days) with its exact Poisson interval; None without any."""
    if not days:
        return None
    low, high = poisson(count)
    scale = 1000 / days
    return count * scale, (low * scale, high * scale)


def line_json(line: Line) -> dict[str, Any]:
    """A line's counts and rates as plain data."""
    shown: dict[str, Any] = {"key_days": line.key_days, "alerts": line.alerts, "pages": line.pages}
    return shown | rates_json(line.alerts, line.pages, line.key_days, "key_days")


def rates_json(alerts: int, pages: int, days: int, unit: str) -> dict[str, Any]:
    """Both counts as rates per 1,000 days of the unit ("key_days", ...), with intervals, as plain data."""
    shown: dict[str, Any] = {}
    for name, count in (("alerts", alerts), ("pages", pages)):
        rate = per_1000(count, days)
        shown[f"{name}_per_1000_{unit}"] = None if rate is None else rate[0]
        shown[f"{name}_interval"] = None if rate is None else list(rate[1])
    return shown


def lookalikes_json(lookalikes: Sequence[Lookalike]) -> dict[str, Any]:
    """Look-alikes, all and by what they are, as plain data."""
    families = sorted({one.family for one in lookalikes})
    counts = _lookalikes(lookalikes)
    counts["families"] = {name: _lookalikes([one for one in lookalikes if one.family == name]) for name in families}
    return counts


def _lookalikes(those: Sequence[Lookalike]) -> dict[str, Any]:
    pages = sum(one.paged for one in those)
    return {
        "episodes": len(those),
        "alerted": sum(one.alerts > 0 for one in those),
        "alerts": sum(one.alerts for one in those),
        "paged": pages,
        "share_paged": pages / len(those) if those else None,
    }


def scores_json(scores: Scores) -> dict[str, Any]:
    """All counts and rows as plain data."""
    return {
        "clean": line_json(scores.clean),
        "young": line_json(scores.young),
        "lookalikes": lookalikes_json(scores.lookalikes),
        "attacks": [asdict(row) for row in rows_of(scores.attacks)],
    }
