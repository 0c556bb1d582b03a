"""Why: what a key's state says of it, in numbers and in words.

Everything is worked out anew from the state as it stands after the key's last closed bucket: the channels are asked
once more, by all that was learned up to and including that bucket, and nothing is learned. While an incident is open
the detector learns hardly anything, so these are the numbers that it was judged by; of a calm key they may be a little
lower, for the bucket has been learned since. `score_at_close` is what was decided then.
"""

from __future__ import annotations

import math

from stream.core.channels import CHANNELS, STATISTICS
from stream.core.channels.base import Laws, Moment
from stream.core.channels.shape import Shape
from stream.core.explain import PAGE_EXCESS_TOKENS, SEVERITIES, short
from stream.core.explanation import (
    BAND_DAYS,
    ContextView,
    Decision,
    Explanation,
    Habits,
    IncidentView,
    StatisticView,
    WindowView,
)
from stream.core.incidents import Phase
from stream.core.key import KeyState
from stream.core.reasons import (
    CONTEXT_REASONS,
    activity_in_words,
    reason_of,
    season_in_words,
    unpredictability_in_words,
    volatility_in_words,
)
from stream.core.residuals import HORIZONS
from stream.core.rule import CONTEXT, SHARE, UNPREDICTABILITY, VOLATILITY
from stream.core.rules import LEAST_NEWCOMER_Z, NEWCOMER, PLACES, SHAPE, WARM_DAYS

STANDARDISED_BAND = -math.log(-math.log1p(-1 / BAND_DAYS))
"""The value of Gumbel's law that a day's maximum exceeds on one day in BAND_DAYS."""
MOST_RATIO = 1000.0
"""Limits further above the expectation, and above the least excess, are no limits."""
LEAST_EFFECT = 0.05
"""Decades: a number of the context that moves the score by less is not worth naming."""


def explain(key: KeyState, keys: int) -> Explanation:
    """What the key's state says; `keys` is the size of the installation. Nothing of the state is changed.

    Raises ValueError if no bucket of the key was closed so far.
    """
    moment = key.ask_again()
    seconds = key.rules.settings.bucket_seconds
    per_step = key.rules.horizons.per_step
    by, context = _basis(key, moment)
    return Explanation(
        key_id=key.key_id,
        as_of=float(key.next_bucket * seconds),
        steps_as_of=float(key.next_bucket // per_step * per_step * seconds),
        calls=key.calls,
        input_tokens=key.input_tokens,
        output_tokens=key.output_tokens,
        first_seen=key.first_seen,
        last_seen=key.last_seen,
        habits=_habits(key),
        windows=tuple(_window(key, h, moment) for h in range(len(HORIZONS))),
        statistics=_statistics(key, by, context),
        context=_context(key, by, context, moment),
        decision=_decision(key, by, context, moment, keys),
        incident=_incident(key),
    )


def _habits(key: KeyState) -> Habits:
    baseline, rules = key.baseline, key.rules
    usual: float = baseline.call_tokens.value
    context = key.context(0.0)
    share = context[SHARE]
    return Habits(
        age_days=baseline.age / rules.calendar.per_day,
        active_days=key.active_days,
        maturity=rules.maturity(key.active_days),
        tokens_per_day=baseline.level.value * rules.calendar.per_day,
        tokens_per_call=usual,
        input_share=baseline.call_input.value / usual if usual > 0 else 0.0,
        season_strength=baseline.strength,
        season=season_in_words(baseline.strength),
        hour_factor=math.exp(math.sqrt(baseline.errors[0])),
        predictability=unpredictability_in_words(context[UNPREDICTABILITY]),
        day_factor=math.exp(math.sqrt(key.day_variance)),
        volatility=volatility_in_words(context[VOLATILITY]),
        active_share=share,
        activity=activity_in_words(share),
    )


def _window(key: KeyState, h: int, moment: Moment) -> WindowView:
    residuals = key.residuals
    channel = key.channels[0] if h < 2 else key.channels[1]
    buckets = residuals.horizons.buckets[h]
    observed, expected = residuals.observed[h] * buckets, residuals.expected[h] * buckets
    band, upper = limits(key, h) if moment.warm else (None, None)
    return WindowView(
        horizon_seconds=HORIZONS[h],
        observed=observed,
        expected=expected,
        ratio=observed / expected if expected > 0 else None,
        band=band,
        upper=upper,
        z=channel.z[h if h < 2 else h - 2] if moment.warm else None,
        calls=residuals.calls[h],
    )


def limits(key: KeyState, h: int) -> tuple[float | None, float | None]:
    """Tokens in window `h` at the end of the key's own band, and where the window alone would open an incident.

    None: nothing that a key could take.
    """
    most = max(key.residuals.expected[h], key.baseline.level.value) * key.residuals.horizons.buckets[h] * MOST_RATIO
    least = key.rules.settings.min_excess_tokens * MOST_RATIO
    found = key.window_band(h, STANDARDISED_BAND), key.window_upper(h, key.rules.open_score)
    band, upper = (limit if limit <= max(most, least) else None for limit in found)
    return band, upper


def _basis(key: KeyState, moment: Moment) -> tuple[str, list[float]]:
    """What part of the rule decides, and the context that it decides by."""
    rules, channels = key.rules, key.channels
    quick_context = key.context(max(key.residuals.excess(0), key.residuals.excess(1)))
    context = key.context(moment.excess)
    slow = rules.slow_score(channels, context, moment.excess)
    if max(key.surge.values) > 0 and rules.quick_score(channels, quick_context) > slow:
        return "minutes", quick_context
    newcomer = channels[NEWCOMER].values[0]
    if newcomer > LEAST_NEWCOMER_Z and slow == rules.newcomer_score(newcomer):
        return "newcomer", context
    return "everything", context


def _score(key: KeyState, by: str, context: list[float], moment: Moment) -> float:
    if by == "minutes":
        return key.rules.quick_score(key.channels, context)
    return key.rules.slow_score(key.channels, context, moment.excess)


def _statistics(key: KeyState, by: str, context: list[float]) -> tuple[StatisticView, ...]:
    """Those that say something, the most first."""
    values = [value for channel in key.channels for value in channel.values]
    shares = {i: share for share, i in key.rules.rule.shares(values, context, by == "minutes")}
    shape = key.channels[SHAPE]
    assert isinstance(shape, Shape)
    names = list(CHANNELS)
    found = []
    for i, statistic in enumerate(STATISTICS):
        c, place = PLACES[i]
        channel = key.channels[c]
        if channel.values[place] <= 0:
            continue
        z = channel.z[place]
        rare = _standardised(getattr(channel, "laws", None), channel.standardised, statistic, z)
        share = channel.values[place] if by == statistic == "newcomer" else shares.get(i, 0.0)
        found.append(
            StatisticView(
                names[c], statistic, z, rare, None if rare is None else 1 / -math.expm1(-math.exp(-min(rare, 30.0))),
                channel.values[place], share, reason_of(statistic, z, shape),
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda view: (-view.share, -view.value)))


def _standardised(laws: Laws | None, standardised: tuple[str, ...], statistic: str, z: float) -> float | None:
    if laws is None or statistic not in standardised:
        return None
    return laws.laws[standardised.index(statistic)].standardise(z)


def _context(key: KeyState, by: str, context: list[float], moment: Moment) -> tuple[ContextView, ...]:
    """What the score would be if one of the numbers were that of a key that is neither this nor that."""
    score = _score(key, by, context, moment)
    if by == "newcomer" or not score:
        return ()
    facts = {
        "size": short(moment.excess if by != "minutes" else max(key.residuals.excess(0), key.residuals.excess(1))),
        "relative": math.exp(2 * context[CONTEXT.index("relative_size")]),
        "active_days": f"{key.active_days} day{'s' if key.active_days != 1 else ''}",
        "volatility": math.exp(context[VOLATILITY]),
        "share": context[SHARE],
        "unpredictability": math.sqrt(math.exp(context[UNPREDICTABILITY])),
    }
    found = []
    for i, name in enumerate(CONTEXT):
        usual, text = CONTEXT_REASONS[name]
        effect = score - _score(key, by, [*context[:i], usual, *context[i + 1 :]], moment)
        if abs(effect) >= LEAST_EFFECT:
            found.append(ContextView(name, context[i], effect, text.format(**facts)))
    return tuple(sorted(found, key=lambda view: -abs(view.effect)))


def _decision(key: KeyState, by: str, context: list[float], moment: Moment, keys: int) -> Decision:
    rules = key.rules
    score = _score(key, by, context, moment)
    page = rules.page_score(keys)
    incident = key.incident
    highest, excess = (incident.score, incident.excess) if incident is not None else (score, moment.excess)
    missing = max(0.0, page - highest), max(0.0, PAGE_EXCESS_TOKENS - excess)
    return Decision(
        by=by,
        evidence=key.channels[NEWCOMER].values[0] if by == "newcomer" else rules.rule.tail.evidence(score, context),
        score=score,
        score_at_close=key.score,
        false_alarm_probability=rules.law.share(score),
        threshold=rules.open_score,
        dial=rules.settings.false_alerts_per_1000_key_days,
        page_threshold=page,
        excess_tokens=moment.excess,
        gate=_gate(key, moment) if score <= 0 else None,
        missing_for_page=missing,
        to_page=_to_page(*missing),
    )


def _gate(key: KeyState, moment: Moment) -> str | None:
    if not moment.warm:
        return f"the key is younger than {WARM_DAYS} days: it is compared with new keys only, not with itself"
    if moment.excess < moment.min_excess:
        return (
            f"no window holds {moment.min_calls:g} calls and {short(moment.min_excess)} tokens above its expectation "
            f"(min_calls, min_excess_tokens): the most is {short(moment.excess)}"
        )
    return None


def _to_page(score: float, excess: float) -> str:
    wanted = []
    if score > 0:
        wanted.append(f"a score higher by {score:.1f}")
    if excess > 0:
        wanted.append(f"{short(excess)} more tokens above the baseline")
    return " and ".join(wanted) if wanted else "nothing more"


def _incident(key: KeyState) -> IncidentView | None:
    incident = key.incident
    if incident is None:
        return None
    return IncidentView(
        started_at=float(incident.started * key.rules.settings.bucket_seconds),
        since=incident.since,
        kind=incident.kind,
        cooling=incident.phase is Phase.COOLING,
        channels=dict(sorted(incident.channels.items(), key=lambda item: -item[1])),
        score=incident.score,
        excess_tokens=incident.excess,
        severity=SEVERITIES[incident.severity],
        severity_reason=incident.severity_reason,
    )
