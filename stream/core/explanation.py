"""What an explanation is made of: frozen values, as `overdraw explain --json` prints them."""

from __future__ import annotations

from dataclasses import dataclass

BAND_DAYS = 20.0
"""The band of a window ends where a day's highest value lies on one of the key's own days in so many."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What is usual for the key. Shares and strength in [0, 1]; the factors are those of one standard deviation."""

    age_days: float
    active_days: int
    maturity: float
    tokens_per_day: float
    tokens_per_call: float
    input_share: float
    season_strength: float
    season: str
    hour_factor: float
    predictability: str
    day_factor: float
    volatility: str
    active_share: float
    activity: str


@dataclass(frozen=True, slots=True)
class WindowView:
    """One exponential window: tokens in it against the expectation.

    ratio None: nothing was expected; band: what the key's own highest of a day exceeds on one day in BAND_DAYS; upper:
    where the window alone would open an incident, None: nowhere; z, band and upper None: it was not judged
    """

    horizon_seconds: float
    observed: float
    expected: float
    ratio: float | None
    band: float | None
    upper: float | None
    z: float | None
    calls: float


@dataclass(frozen=True, slots=True)
class StatisticView:
    """One number that speaks for an incident.

    standardised: z by the law of the key's own daily maxima; once_in_days: so rarely a day's highest value exceeds it;
    both None where the number has no such law, or is below it. share: what it adds to the log odds of an attack, 0 if
    another part of the rule decided
    """

    channel: str
    statistic: str
    z: float
    standardised: float | None
    once_in_days: float | None
    value: float
    share: float
    reason: str


@dataclass(frozen=True, slots=True)
class ContextView:
    """One number of the context; `effect`: decades by which it raises (> 0) or lowers the score."""

    name: str
    value: float
    effect: float
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """How the evidence becomes a score, in decades: clean key-days of keys like this reach it with 10^-score.

    by: the head of the rule that says most ("quick": the windows of minutes, "volume", "joint": all numbers), or
    "newcomer", or "nothing"; log_odds: of that head, None where there is none
    score_at_close: what was decided at the close of the last bucket; if no step ended with it, by "quick" alone
    gate: why nothing was judged, if so; missing_for_page: of the score, and of the excess in tokens
    """

    by: str
    log_odds: float | None
    score: float
    score_at_close: float
    false_alarm_probability: float
    threshold: float
    dial: float
    page_threshold: float
    excess_tokens: float
    gate: str | None
    missing_for_page: tuple[float, float]
    to_page: str


@dataclass(frozen=True, slots=True)
class IncidentView:
    """The open incident: times in epoch seconds, tokens since `since`, where its window had begun to gather them."""

    started_at: float
    since: float
    kind: str
    cooling: bool
    channels: dict[str, float]
    score: float
    excess_tokens: float
    severity: str
    severity_reason: str


@dataclass(frozen=True, slots=True)
class PeersView:
    """A newcomer and other new keys: tokens in its last hours or in all its life, in which what is older counts less.

    expected: what new keys usually use in so long; upper: where a key whose calls are shaped like these alerts
    shape: by which factors its calls are unlike those of other keys, and so many of the population's deviations
    """

    horizon_seconds: float
    observed: float
    expected: float
    ratio: float | None
    upper: float
    shape: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it, as of the end of the last closed bucket, in epoch seconds.

    The quick windows end there, the slow ones with their last quarter of an hour (`steps_as_of`). peers: what a
    newcomer is judged against, instead of the windows' expectation.
    """

    key_id: str
    as_of: float
    steps_as_of: float
    calls: int
    input_tokens: int
    output_tokens: int
    first_seen: float
    last_seen: float
    habits: Habits
    windows: tuple[WindowView, ...]
    statistics: tuple[StatisticView, ...]
    context: tuple[ContextView, ...]
    decision: Decision
    incident: IncidentView | None
    peers: PeersView | None = None
