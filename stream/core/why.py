"""Why: what a key's state says of it, in numbers and in words.

Everything is worked out anew from the state as it stands after the key's last closed bucket: the channels are asked
once more, by all that was learned up to and including that bucket, and nothing is learned. While an incident is open
the detector learns hardly anything, so these are the numbers that it was judged by; of a calm key they may be a little
lower, for the bucket has been learned since. `score_at_close` is what was decided then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stream.core import peers
from stream.core.channels import STATISTICS
from stream.core.channels.base import WARM_DAYS, Laws, Moment
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
from stream.core.judging import ask_again
from stream.core.key import KeyState
from stream.core.outlook import is_reachable, window_band, window_upper
from stream.core.reasons import (
    CONTEXT_REASONS,
    activity_in_words,
    reason_of,
    season_in_words,
    unpredictability_in_words,
    volatility_in_words,
)
from stream.core.residuals import HORIZONS
from stream.core.rule import CONTEXT, RELATIVE, SHARE, UNPREDICTABILITY, VOLATILITY, Head, steadiness
from stream.core.rules import LEAST_NEWCOMER_Z, NEWCOMER, PLACES, SHAPE

STANDARDISED_BAND = -math.log(-math.log1p(-1 / BAND_DAYS))
"""The value of Gumbel's law that a day's maximum exceeds on one day in BAND_DAYS."""
MOST_STANDARDISED_DAYS = 20.0
"""One day in half a billion: beyond that a number says no more."""
LEAST_EFFECT = 0.05
"""Decades: a number of the context that moves the score by less is not worth naming."""


def explain(key: KeyState, keys: int) -> Explanation:
    """What the key's state says; `keys` is the size of the installation. Nothing of the state is changed.

    Raises ValueError if no bucket of the key was closed so far.
    """
    moment = ask_again(key)
    seconds = key.rules.settings.bucket_seconds
    per_step = key.rules.horizons.per_step
    values = [value for channel in key.channels for value in channel.values]
    basis = _basis(key, moment, values)
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
        statistics=_statistics(key, basis),
        context=_context(key, basis, values, moment),
        decision=_decision(key, basis, values, moment, keys),
        incident=_incident(key),
        peers=peers.view_of(key) if _by_peers(key, basis) else None,
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
    usual = max(key.residuals.expected[h], key.baseline.level.value) * key.residuals.horizons.buckets[h]
    found = window_band(key, h, STANDARDISED_BAND), window_upper(key, h, key.rules.open_score)
    band, upper = (limit if is_reachable(key, limit, usual) else None for limit in found)
    return band, upper


@dataclass(frozen=True, slots=True)
class _Basis:
    """What decides: its name, the score that it gives, and the head and its context, which a newcomer has none of."""

    by: str
    score: float = 0.0
    head: Head | None = None
    context: Sequence[float] = ()


def _basis(key: KeyState, moment: Moment, values: Sequence[float]) -> _Basis:
    """What says most, as `Rules` decides."""
    rules, rule = key.rules, key.rules.rule
    found = [_Basis("nothing")]

    def ask(head: Head, excess: float) -> None:
        context = key.context(excess)
        found.append(_Basis(head.name, head.score(values, context), head, context))

    if max(key.surge.values) > 0:
        ask(rule.quick, max(key.residuals.excess(0), key.residuals.excess(1)))
    large = moment.excess >= moment.min_excess
    if large:
        ask(rule.volume, moment.excess)
    if large or any(key.channels[SHAPE].z[:2]):
        ask(rule.joint, moment.excess)
    newcomer = key.channels[NEWCOMER].values[0]
    if newcomer > LEAST_NEWCOMER_Z:
        found.append(_Basis("newcomer", rules.newcomer_score(newcomer)))
    return max(found, key=lambda basis: basis.score)


def _statistics(key: KeyState, basis: _Basis) -> tuple[StatisticView, ...]:
    """Those that say something, the most first."""
    weights: dict[int, float] = {}
    if basis.head is not None:
        steady = steadiness(basis.context)
        weights = {i: weight + steady * further for i, weight, further in basis.head.weights}
    shape = key.channels[SHAPE]
    assert isinstance(shape, Shape)
    found = []
    for i, statistic in enumerate(STATISTICS):
        c, place = PLACES[i]
        channel = key.channels[c]
        if channel.values[place] <= 0:
            continue
        z, value = channel.z[place], channel.values[place]
        rare = _standardised(getattr(channel, "laws", None), channel.standardised, statistic, z)
        found.append(
            StatisticView(
                channel=channel.name,
                statistic=statistic,
                z=z,
                standardised=rare,
                once_in_days=None if rare is None else _days(rare),
                value=value,
                share=value * (1.0 if basis.by == statistic == "newcomer" else weights.get(i, 0.0)),
                reason=reason_of(statistic, z, shape),
            )
        )
    return tuple(sorted(found, key=lambda view: (-view.share, -view.value)))


def _standardised(laws: Laws | None, standardised: tuple[str, ...], statistic: str, z: float) -> float | None:
    if laws is None or statistic not in standardised:
        return None
    return laws.laws[standardised.index(statistic)].standardise(z)


def _days(standardised: float) -> float:
    """A day's highest value exceeds it on one day in so many, by Gumbel's law."""
    return 1 / -math.expm1(-math.exp(-min(standardised, MOST_STANDARDISED_DAYS)))


def _context(key: KeyState, basis: _Basis, values: Sequence[float], moment: Moment) -> tuple[ContextView, ...]:
    """What the score would be if one of the numbers were that of a key that is neither this nor that."""
    head, context = basis.head, basis.context
    if head is None or not basis.score:
        return ()
    quick = max(key.residuals.excess(0), key.residuals.excess(1))
    facts = {
        "size": short(moment.excess if head is not key.rules.rule.quick else quick),
        "relative": math.exp(2 * context[RELATIVE]),
        "active_days": f"{key.active_days} day{'s' if key.active_days != 1 else ''}",
        "volatility": math.exp(context[VOLATILITY]),
        "share": context[SHARE],
        "unpredictability": math.sqrt(math.exp(context[UNPREDICTABILITY])),
    }
    found = []
    for i, name in enumerate(CONTEXT):
        usual, text = CONTEXT_REASONS[name]
        effect = basis.score - head.score(values, [*context[:i], usual, *context[i + 1 :]])
        if abs(effect) >= LEAST_EFFECT:
            found.append(ContextView(name, context[i], effect, text.format(**facts)))
    return tuple(sorted(found, key=lambda view: -abs(view.effect)))


def _decision(key: KeyState, basis: _Basis, values: Sequence[float], moment: Moment, keys: int) -> Decision:
    rules, score = key.rules, basis.score
    page = rules.page_score(keys) + rules.quality.caution
    incident = key.incident
    excess = peers.compare(key, {}).excess if basis.by == "newcomer" else moment.excess
    highest, gathered = (incident.score, incident.excess) if incident is not None else (score, excess)
    missing = max(0.0, page - highest), max(0.0, PAGE_EXCESS_TOKENS - gathered)
    return Decision(
        by=basis.by,
        log_odds=None if basis.head is None else basis.head.odds(values, basis.context),
        score=score,
        score_at_close=key.score,
        false_alarm_probability=rules.law.share(score),
        threshold=rules.open_score + rules.quality.caution,
        dial=rules.settings.false_alerts_per_1000_key_days,
        page_threshold=page,
        excess_tokens=excess,
        gate=_gate(key, moment) if score <= 0 else None,
        missing_for_page=missing,
        to_page=_to_page(*missing),
    )


def _by_peers(key: KeyState, basis: _Basis) -> bool:
    """Whether the key is judged against new keys, not against itself."""
    return basis.by == "newcomer" if key.incident is None else key.incident.kind == peers.KIND


def _gate(key: KeyState, moment: Moment) -> str:
    if not moment.warm:
        return f"the key is younger than {WARM_DAYS} days: it is compared with new keys only, not with itself"
    if moment.excess < moment.min_excess:
        return (
            f"no window holds {moment.min_calls:g} calls and {short(moment.min_excess)} tokens above its expectation "
            f"(min_calls, min_excess_tokens): the most is {short(moment.excess)}"
        )
    return "no number says more than those of clean days do"


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
