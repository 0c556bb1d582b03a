"""How much is above a key's baseline: what its parts are usually, and how far the whole can be trusted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stream.core.channels.drift import Drift
from stream.core.channels.shape import INPUT, OUTPUT, REASONED, REASONING, SMALL, Shape
from stream.core.outlook import MAX_LOG_RATIO
from stream.core.residuals import HORIZONS, QUICK
from stream.core.rules import SHAPE
from stream.core.taken import Taken, Window

if TYPE_CHECKING:
    from stream.core.key import KeyState

SHAPE_WINDOW_SECONDS = 21_600.0
"""A slow window up to this long has the shape of the last six hours, a longer one that of the last day."""
QUANTILE = 1.645
"""5 % of a normal law lie above it: both sides together leave 90 %."""
WEIGHING = 2.0
"""A window that forgets with time constant T varies as much as a plain mean over 2 T (sum of squared weights)."""


def new_taken(key: KeyState) -> Taken:
    """Nothing so far, with what is usual for the key now."""
    baseline, priors = key.baseline, key.rules.priors
    usual, usual_input = baseline.call_tokens.value, baseline.call_input.value
    if usual <= 0:
        usual_input, usual = priors.call_input_tokens, priors.call_input_tokens + priors.call_output_tokens
    shape = _shape(key)
    # the inverse of `logit`; a key that never reasoned lies a little below 0
    odds = math.exp(shape.mean[REASONED])
    reasoning = ((1 + SMALL) * odds - SMALL) / (1 + odds) if shape.blocks[0] else 0.0
    return Taken(min(max(usual_input / usual, 0.0), 1.0), min(max(reasoning, 0.0), 1.0))


def window_of(key: KeyState, h: int, seconds: float) -> Window:
    """What window `h` of so many seconds holds, in tokens."""
    residuals = key.residuals
    buckets = residuals.horizons.buckets[h]
    return parts_of(key, residuals.observed[h] * buckets, residuals.expected[h] * buckets, seconds)


def parts_of(key: KeyState, observed: float, expected: float, seconds: float) -> Window:
    """Tokens of the last so many seconds by their parts, as the shape of the key's calls has them there."""
    sums = _shape(key).windows[0 if seconds <= SHAPE_WINDOW_SECONDS else 1]
    known = sums[INPUT] + sums[OUTPUT]
    if known <= 0:
        usual = new_taken(key)
        output = observed * (1 - usual.input_share)
        return Window(observed - output, output, output * usual.reasoning_share, expected)
    return Window(
        observed * sums[INPUT] / known, observed * sums[OUTPUT] / known, observed * sums[REASONING] / known, expected
    )


def _shape(key: KeyState) -> Shape:
    shape = key.channels[SHAPE]
    assert isinstance(shape, Shape)
    return shape


def excess_interval(key: KeyState, excess: float, expected_per_second: float, seconds: float) -> tuple[float, float]:
    """The 90 % interval of an excess over `seconds` up to now, given that an attack caused it, in tokens.

    What the key would have used without it is not known; by how much its use differs from its expectation is: channels
    surge and drift learn mean m and variance v of the log ratio ln((used + c) / (expected + c)) for windows of five
    lengths, while no incident is open. So its own use lies between (expected + c) exp(m ± 1.645 √v) - c, and the excess
    is uncertain by as much as that differs from the expectation, down and up. Between two lengths the limits are
    interpolated in ln(length).

    It does not know of what is not the key's own variation: a slow window holds large calls capped (`Baseline.capped`),
    so that what an attack with such calls took before its incident opened is understated; and a long attack raises the
    expectation that it is measured by, by INCIDENT_RATE of the usual pace.
    """
    low, high = _own_use(key, expected_per_second, seconds, key.next_bucket - 1)
    expected = expected_per_second * seconds
    return max(0.0, excess - max(0.0, high - expected)), excess + max(0.0, expected - low)


def own_upper(key: KeyState, expected_per_second: float, seconds: float, bucket: int | None = None) -> float:
    """The upper end of what is usual: tokens in `seconds` that the key itself exceeds 1 time in 20, by `_own_use`; at
    least what is expected.

    bucket: the last one of these seconds, None: the one that closed last
    """  # noqa: D205
    last = key.next_bucket - 1 if bucket is None else bucket
    return max(_own_use(key, expected_per_second, seconds, last)[1], expected_per_second * seconds)


def usual_per_minute(key: KeyState) -> float:
    """The upper end of what is usual, tokens a minute: in ten minutes of the busiest hour that the next day has for it.

    What stands in an alert of days would cut the busy hours of whoever is robbed.
    """
    baseline, calendar = key.baseline, key.rules.calendar
    hours = range(key.next_bucket, key.next_bucket + calendar.per_day, calendar.per_hour)
    bucket_seconds = key.rules.settings.bucket_seconds
    seconds = max(HORIZONS[0], float(bucket_seconds))
    tokens, bucket = max((baseline.predict(bucket)[0], bucket) for bucket in hours)
    return own_upper(key, tokens / bucket_seconds, seconds, bucket) * 60 / seconds


def _own_use(key: KeyState, expected_per_second: float, seconds: float, bucket: int) -> tuple[float, float]:
    """Tokens that the key itself uses in `seconds` up to a bucket's end, 9 times of 10: at least and at most."""
    lengths = [WEIGHING * horizon for horizon in HORIZONS]
    last = len(lengths) - 1
    above = next((h for h, length in enumerate(lengths) if seconds <= length), last)
    if above == 0 or seconds >= lengths[last]:
        return _own_use_by(key, above, expected_per_second, seconds, bucket)
    weight = math.log(seconds / lengths[above - 1]) / math.log(lengths[above] / lengths[above - 1])
    shorter = _own_use_by(key, above - 1, expected_per_second, seconds, bucket)
    longer = _own_use_by(key, above, expected_per_second, seconds, bucket)
    low, high = (one + weight * (other - one) for one, other in zip(shorter, longer, strict=True))
    return low, high


def _own_use_by(key: KeyState, h: int, expected_per_second: float, seconds: float, bucket: int) -> tuple[float, float]:
    """The same by what is known of window `h`."""
    baseline, bucket_seconds = key.baseline, key.rules.settings.bucket_seconds
    if h < QUICK:
        mean, variance = key.surge.scales.mean[h], key.surge.width(h, bucket)
    else:
        drift = key.channels[1]
        assert isinstance(drift, Drift)
        mean, variance = drift.scales.mean[h - QUICK], drift.scales.variance[h - QUICK]
    offset = key.residuals.offset(h, baseline.call_tokens.value, baseline.level.value)
    expected = expected_per_second * bucket_seconds
    half = QUANTILE * math.sqrt(variance)
    buckets = seconds / bucket_seconds
    low, high = (
        max(0.0, (expected + offset) * math.exp(min(mean + side, MAX_LOG_RATIO)) - offset) * buckets
        for side in (-half, half)
    )
    return low, high
