"""What would be unusual of a key: the tokens at which a window, or a bucket that is yet to come, opens an incident."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from stream.core.channels.base import MOST_STANDARDISED
from stream.core.channels.drift import Drift
from stream.core.channels.surge import Surge
from stream.core.residuals import QUICK

if TYPE_CHECKING:
    from stream.core.key import KeyState

MAX_LOG_RATIO: Final = 30.0
MOST_VALUE = math.log1p(MOST_STANDARDISED)
"""No standardised residual counts for more."""
MOST_RATIO: Final = 1000.0
"""Limits further above the expectation, and above the least excess, are no limits."""


def is_reachable(key: KeyState, tokens: float, usual: float) -> bool:
    """Whether a key of which so many are usual could ever take so many: a limit beyond that is none."""
    return tokens <= MOST_RATIO * max(usual, key.rules.settings.min_excess_tokens)


def raise_bar(key: KeyState) -> None:
    """Work out what each of the windows of minutes needs, at the least excess, to open an incident by itself."""
    rules = key.rules
    context = key.context(rules.settings.min_excess_tokens)
    raised = key.raised(key.next_bucket)
    for h in range(QUICK):
        wanted = rules.needed(key.surge.statistics[h], context, rules.open_score + raised)
        key.bar[h] = key.surge.laws.z_of(h, max(wanted, 0.0)) if wanted < MOST_VALUE else math.inf


def window_upper(key: KeyState, h: int, score: float) -> float:
    """Tokens in window `h` at which that window alone would bring the key to `score`; infinite if it never can."""
    rules = key.rules
    channel, i = _level(key, h)
    wanted = rules.needed(channel.statistics[i], key.context(rules.settings.min_excess_tokens), score)
    if not math.isfinite(wanted):
        wanted = rules.needed("level_40m", key.context(rules.settings.min_excess_tokens), score)
    return _tokens_at(key, h, channel.laws.z_of(i, min(wanted, MOST_VALUE)))


def window_band(key: KeyState, h: int, standardised: float) -> float:
    """Tokens in window `h` that lie so far above the key's own daily maxima, `standardised` by their law."""
    channel, i = _level(key, h)
    return _tokens_at(key, h, channel.laws.laws[i].raw(standardised))


def _level(key: KeyState, h: int) -> tuple[Surge | Drift, int]:
    """The channel that judges window `h`, and the window's place in it."""
    channel = key.channels[0] if h < QUICK else key.channels[1]
    assert isinstance(channel, Surge | Drift)
    return channel, h if h < QUICK else h - QUICK


def _tokens_at(key: KeyState, h: int, z: float) -> float:
    """Tokens in window `h` that are `z` standard deviations above what is usual there."""
    channel, i = _level(key, h)
    # the windows of minutes are judged by the variance of their own hour
    variance = channel.width(i, key.next_bucket - 1) if isinstance(channel, Surge) else channel.scales.variance[i]
    log_ratio = min(channel.scales.mean[i] + z * math.sqrt(variance), MAX_LOG_RATIO)
    offset, expected = _offset(key, h), key.residuals.expected[h]
    return max(0.0, (expected + offset) * math.exp(log_ratio) - offset) * key.residuals.horizons.buckets[h]


def _offset(key: KeyState, h: int) -> float:
    """What stands on both sides of the log ratio of window `h`, in tokens per bucket."""
    return key.residuals.offset(h, key.baseline.call_tokens.value, key.baseline.level.value)


def forecast(key: KeyState, index: int) -> tuple[float, float]:
    """Expected tokens of bucket `index`, and the sum that makes its 10-minute residual worth opening an incident.

    The buckets in between are taken as expected. Infinite while the key is too young to be judged.
    """
    rules, baseline = key.rules, key.baseline
    expected, _ = baseline.predict(index)
    if baseline.age + rules.ahead <= rules.warm_buckets:
        return expected, math.inf
    residuals, surge = key.residuals, key.surge
    horizons = residuals.horizons
    usual, level, least_excess = baseline.call_tokens.value, baseline.level.value, rules.settings.min_excess_tokens
    between = [baseline.predict(bucket)[0] for bucket in range(index - rules.ahead, index)]
    least = math.inf
    for h in range(QUICK):
        z = key.bar[h]
        if z == math.inf:
            continue
        decay = horizons.decay[h]
        gain = 1 - decay
        seen, due = residuals.observed[h], residuals.expected[h]
        for tokens in between:
            seen = decay * seen + gain * tokens
            due = decay * due + gain * tokens
        # what an attack has already put into the window must not lower the bar for the next bucket
        if seen > due:
            seen = due
        due = decay * due + gain * expected
        log_ratio = surge.scales.mean[h] + z * math.sqrt(surge.width(h, index))
        offset = residuals.offset(h, usual, level)
        wanted = (due + offset) * math.exp(log_ratio if log_ratio < MAX_LOG_RATIO else MAX_LOG_RATIO) - offset
        wanted = max(wanted, due + least_excess / horizons.buckets[h])
        wanted = (wanted - decay * seen) / gain
        if wanted < least:
            least = wanted
    return expected, least if least > 1.0 else 1.0
