"""What the two dials mean here: false alerts and pages to expect at the number of keys that there are."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from stream.core.explain import PAGE_EXCESS_TOKENS, few, short
from stream.core.rules import Rules
from stream.core.state import summaries
from stream.settings import Settings
from stream.worker.inspection import Finding
from stream.worker.recovery import read_state

DAY_SECONDS = 86_400.0
SUBJECT = "false alerts"


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that the installation knows, and those of them in use within the day before its newest call."""

    known: int
    active: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What to expect of `keys` where nobody attacks; the rates hold as far as the priors fit the traffic.

    dial: false alerts per 1,000 key-days; alert_score, page_score: what an alert and a page need, in decades
    """

    keys: Keys
    dial: float
    alert_score: float
    false_alerts_per_day: float
    false_alerts_per_week: float
    false_pages_per_week: float
    page_score: float


def forecast(settings: Settings, keys: Keys) -> Forecast:
    """What the dials in force come to for so many keys.

    >>> round(forecast(Settings(), Keys(known=2_000, active=500)).false_alerts_per_week, 3)
    3.5
    """
    rules = Rules(settings)
    per_day = settings.false_alerts_per_1000_key_days * keys.active / 1000
    return Forecast(
        keys=keys,
        dial=settings.false_alerts_per_1000_key_days,
        alert_score=round(rules.open_score, 3),
        false_alerts_per_day=per_day,
        false_alerts_per_week=7 * per_day,
        # a page is an alert first
        false_pages_per_week=min(settings.false_pages_per_week, 7 * per_day),
        page_score=round(rules.page_score(keys.known), 3),
    )


async def known_keys(settings: Settings) -> Keys:
    """The keys on the state topic. Raises KafkaError, TimeoutError, and StateError on what cannot be read."""
    seen = array("d")
    for partition in range(settings.partitions):
        state = await read_state(settings, partition, stable=True)
        seen.extend(view.last_seen for view in summaries(state.states.items()))
    since = max(seen, default=0.0) - DAY_SECONDS
    return Keys(len(seen), sum(time > since for time in seen))


def findings_of(made: Forecast) -> list[Finding]:
    """A forecast as lines of the check."""
    keys = made.keys
    if not keys.active:
        text = f"{made.dial:g} per 1,000 key-days; no key is known so far: --keys N tells what that means"
        return [Finding("ok", SUBJECT, text)]
    return [
        Finding(
            "ok",
            SUBJECT,
            f"{made.dial:g} per 1,000 key-days are {few(made.false_alerts_per_day)} a day, "
            f"{few(made.false_alerts_per_week)} a week to expect of {keys.active:,} active keys; an alert needs a "
            f"score of {made.alert_score:.2f}",
        ),
        Finding(
            "ok",
            "false pages",
            f"at most {few(made.false_pages_per_week)} a week to expect of {keys.known:,} keys; a page needs a score "
            f"of {made.page_score:.2f} and {short(PAGE_EXCESS_TOKENS)} tokens above the baseline",
        ),
    ]
