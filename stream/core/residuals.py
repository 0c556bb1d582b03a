"""How far a key is above its expectation: standardised log residuals over exponential windows of event time."""

from __future__ import annotations

import math
from array import array

from stream.core.calendar import Calendar

HORIZONS = (600.0, 2400.0, 14_400.0, 86_400.0, 432_000.0)
"""Lengths of the windows in seconds: 10 min, 40 min, 4 h, 1 d, 5 d."""
FAST_HORIZONS = 3
"""The first three compare with the fast season, the others with the slow one, which a drift has not yet dragged."""
PRIOR_SCALE = (1.3, 0.8, 0.5, 0.30, 0.22)
"""Standard deviation of the log residual before a key has shown its own, per horizon (measured on simulated keys)."""
MIN_SCALE = 0.35
"""A scale never falls below this share of its prior: a key that was constant for weeks may still vary."""
SCALE_DAYS = 20.0
FREEZE_Z = 2.2
"""Above this z the scale learns at FREEZE_RATE, else a fourfold drift hides itself."""
FREEZE_RATE = 0.05
ALARM_Z = 4.0
ALARM_RATE = 0.2
CLIP_SCALES = 2.0
UPPER_GAIN = 1.1
"""Makes the clipped upper second moment of a normal residual unbiased."""
OFFSET_CALLS = 3.0
OFFSET_LEVEL = 0.05
OFFSET_TOKENS = 1500.0
"""What is added to both sides of the ratio: 3 usual calls, 5 % of the level, 1,500 tokens, less in long windows.

Without it a key of a few calls an hour would show a tenfold "surge" at every call.
"""
SLOT_RATE = 0.02
SLOT_WEIGHTS = (1.5, 1.0)
"""The hour's variance is that of the 40-minute window; ten minutes vary half as much again."""
SLOT_MAX = 9.0


class Horizons:
    """Constants of the windows for one bucket length; shared by all keys.

    `decay[h]` is the weight that a window keeps per bucket, `buckets[h]` its effective length in buckets.
    """

    __slots__ = ("buckets", "calendar", "count", "decay", "offset", "scale_rate")

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.decay = tuple(math.exp(-calendar.bucket_seconds / horizon) for horizon in HORIZONS)
        self.buckets = tuple(1 / (1 - decay) for decay in self.decay)
        # 1,500 tokens belong to a bucket of 5 minutes
        per_bucket = OFFSET_TOKENS * calendar.bucket_seconds / 300
        self.offset = tuple(per_bucket / math.sqrt(buckets) for buckets in self.buckets)
        self.scale_rate = 1 / (SCALE_DAYS * calendar.per_day)
        self.count = len(HORIZONS)


class Residuals:
    """Windows of observed and expected tokens of one key, and the one-sided scale of their log ratio.

    `update` moves all windows by one bucket and leaves in `z` the standardised residuals, scored before the scale
    learns. One-sided: only what is above the mean teaches the scale, for the quiet side of an on/off key must not
    widen its band.
    """

    __slots__ = ("calls", "expected", "horizons", "mean", "observed", "slot_scale", "variance", "z")

    def __init__(self, horizons: Horizons) -> None:
        self.horizons = horizons
        count = horizons.count
        self.observed = array("f", bytes(4 * count))
        self.expected = array("f", bytes(4 * count))
        self.calls = array("f", bytes(4 * count))
        self.mean = array("f", bytes(4 * count))
        self.variance = array("f", [scale * scale for scale in PRIOR_SCALE])
        self.slot_scale = array("f", bytes(4 * 48))
        self.z = [0.0] * count

    def update(
        self, slot: int, tokens: float, calls: int, fast: float, slow: float, call_tokens: float, level: float,
        age: int, frozen: bool,
    ) -> None:  # fmt: skip
        """One bucket: `tokens` and `calls` against the expectations; `frozen`: an incident is open, learn no scale."""
        horizons = self.horizons
        per_day = horizons.calendar.per_day
        observed, expected, counts, mean, variance, z = (
            self.observed, self.expected, self.calls, self.mean, self.variance, self.z,
        )  # fmt: skip
        warm = age > 3 * per_day
        learning = age > per_day and not frozen
        young = 1.0 / (5 * per_day + age) if age < 14 * per_day else 0.0
        slot_variance = self.slot_scale[slot]
        alarm = False
        log = math.log
        for h in range(horizons.count):
            decay = horizons.decay[h]
            gain = 1 - decay
            seen = decay * observed[h] + gain * tokens
            due = decay * expected[h] + gain * (fast if h < FAST_HORIZONS else slow)
            observed[h] = seen
            expected[h] = due
            counts[h] = decay * counts[h] + calls
            offset = self.offset(h, call_tokens, level)
            residual = log((seen + offset) / (due + offset))
            deviation = residual - mean[h]
            value = deviation / math.sqrt(self.width(h, slot_variance)) if warm else 0.0
            z[h] = value
            if h == 1 and learning:
                upper = min(residual * residual, SLOT_MAX) if residual > 0 else 0.0
                rate = SLOT_RATE * (ALARM_RATE if alarm else 1.0) * (FREEZE_RATE if value > FREEZE_Z else 1.0)
                self.slot_scale[slot] = slot_variance + rate * (2 * upper - slot_variance)
            if value > ALARM_Z:
                alarm = True
            if learning:
                limit = CLIP_SCALES * math.sqrt(variance[h])
                lesson = limit if deviation > limit else (-limit if deviation < -limit else deviation)
                rate = young if young > horizons.scale_rate else horizons.scale_rate
                if h >= FAST_HORIZONS and not young:
                    rate *= 0.25
                # young keys too: what is far above the scale must not widen it before it has been judged
                if value > FREEZE_Z:
                    rate *= FREEZE_RATE
                if alarm:
                    rate *= ALARM_RATE
                mean[h] += rate * lesson
                if lesson > 0:
                    floor = (MIN_SCALE * PRIOR_SCALE[h]) ** 2
                    learned = variance[h] + 2 * rate * (UPPER_GAIN * lesson * lesson - variance[h])
                    variance[h] = learned if learned > floor else floor

    def settle(self) -> None:
        """An incident is over: what it left in the windows must not open another one."""
        for h in range(self.horizons.count):
            self.observed[h] = min(self.observed[h], self.expected[h])

    def rest(self, fast: float, slow: float) -> None:
        """An empty bucket: the windows fade; there is no residual of a key that is not used."""
        horizons = self.horizons
        observed, expected, counts = self.observed, self.expected, self.calls
        for h, decay in enumerate(horizons.decay):
            observed[h] *= decay
            counts[h] *= decay
            expected[h] = decay * expected[h] + (1 - decay) * (fast if h < FAST_HORIZONS else slow)

    def offset(self, h: int, call_tokens: float, level: float) -> float:
        """What stands on both sides of the log ratio of window `h`, in tokens per bucket."""
        horizons = self.horizons
        return OFFSET_CALLS * call_tokens * (1 - horizons.decay[h]) + OFFSET_LEVEL * level + horizons.offset[h]

    def width(self, h: int, slot_variance: float) -> float:
        """Variance that window `h` is judged by: the surges' windows by their hour's own, where that is wider."""
        variance = self.variance[h]
        return max(variance, SLOT_WEIGHTS[h] * slot_variance) if h < len(SLOT_WEIGHTS) else variance

    def excess(self, h: int) -> float:
        """Tokens above the expectation in window `h`."""
        return (self.observed[h] - self.expected[h]) * self.horizons.buckets[h]
