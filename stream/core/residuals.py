"""How far a key is above its expectation: log residuals over exponential windows of event time.

Two paces. The windows of 10 and 40 minutes move with every bucket; those of 4 hours, a day and 5 days move four times
an hour (a step), which costs a third and delays a slow alert by a quarter of an hour at most.
"""

from __future__ import annotations

import math
from array import array
from typing import Final

from stream.core.calendar import Calendar

HORIZONS = (600.0, 2400.0, 14_400.0, 86_400.0, 432_000.0)
"""Lengths of the windows in seconds: 10 min, 40 min, 4 h, 1 d, 5 d."""
QUICK: Final = 2
"""The first two windows move with every bucket."""
FAST_HORIZONS: Final = 3
"""The first three compare with the fast season, the others with the slow one, which a drift has not yet dragged."""
STEP_SECONDS: Final = 900
"""Pace of the slow windows."""
OFFSET_CALLS: Final = 3.0
OFFSET_LEVEL: Final = 0.05
OFFSET_TOKENS: Final = 1500.0
"""What is added to both sides of the ratio: 3 usual calls, 5 % of the level, 1,500 tokens, less in long windows.

Without it a key of a few calls an hour would show a tenfold "surge" at every call.
"""


class Horizons:
    """Constants of the windows for one bucket length; shared by all keys.

    `decay[h]` is the weight that window h keeps per bucket, or per step from QUICK on; `buckets[h]` its effective
    length in buckets; `per_step` the buckets of a step, `steps_per_hour` and `steps_per_day` the steps of an hour and
    of a day.
    """

    __slots__ = ("buckets", "calendar", "count", "decay", "offset", "per_step", "steps_per_day", "steps_per_hour")

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        seconds = calendar.bucket_seconds
        self.per_step = max(1, STEP_SECONDS // seconds)
        while calendar.per_hour % self.per_step:
            self.per_step -= 1  # a step must not reach over the end of an hour
        self.steps_per_hour = calendar.per_hour // self.per_step
        self.steps_per_day = calendar.per_day // self.per_step
        step = self.per_step * seconds
        self.decay = tuple(math.exp(-(seconds if h < QUICK else step) / length) for h, length in enumerate(HORIZONS))
        self.buckets = tuple((1 if h < QUICK else self.per_step) / (1 - decay) for h, decay in enumerate(self.decay))
        # 1,500 tokens belong to a bucket of 5 minutes
        per_bucket = OFFSET_TOKENS * seconds / 300
        self.offset = tuple(per_bucket / math.sqrt(buckets) for buckets in self.buckets)
        self.count = len(HORIZONS)


class Residuals:
    """Windows of observed and expected tokens (per bucket) and of calls (sums) of one key."""

    __slots__ = ("calls", "expected", "horizons", "observed", "pending")

    def __init__(self, horizons: Horizons) -> None:
        self.horizons = horizons
        self.observed = array("f", bytes(4 * horizons.count))
        self.expected = array("f", bytes(4 * horizons.count))
        self.calls = array("f", bytes(4 * horizons.count))
        self.pending = array("f", bytes(20))
        """Since the last step: tokens, calls, expectation by the fast and by the slow season, and buckets."""

    def update(
        self, bucket: int, tokens: float, calls: int, fast: float, slow: float
    ) -> tuple[float, float, float, float, float] | None:
        """One bucket: `tokens` and `calls` against the expectations.

        At the end of a step, returns what it held: tokens, calls, expectations (fast, slow), and buckets.
        """
        horizons = self.horizons
        observed, expected, counts, pending = self.observed, self.expected, self.calls, self.pending
        ten, forty = horizons.decay[0], horizons.decay[1]
        expected[0] = ten * expected[0] + (1 - ten) * fast
        expected[1] = forty * expected[1] + (1 - forty) * fast
        pending[2] += fast
        pending[3] += slow
        pending[4] += 1
        if tokens or calls:  # a share of a sum may hold tokens without a whole call
            observed[0] = ten * observed[0] + (1 - ten) * tokens
            observed[1] = forty * observed[1] + (1 - forty) * tokens
            counts[0] = ten * counts[0] + calls
            counts[1] = forty * counts[1] + calls
            pending[0] += tokens
            pending[1] += calls
        else:
            observed[0] *= ten
            observed[1] *= forty
            counts[0] *= ten
            counts[1] *= forty
        return self._step() if (bucket + 1) % horizons.per_step == 0 else None

    def _step(self) -> tuple[float, float, float, float, float]:
        horizons = self.horizons
        observed, expected, counts = self.observed, self.expected, self.calls
        tokens, calls, fast, slow, buckets = self.pending
        for h in range(QUICK, horizons.count):
            decay = horizons.decay[h]
            gain = (1 - decay) / buckets
            observed[h] = decay * observed[h] + gain * tokens
            expected[h] = decay * expected[h] + gain * (fast if h < FAST_HORIZONS else slow)
            counts[h] = decay * counts[h] + calls
        pending = self.pending
        pending[0] = pending[1] = pending[2] = pending[3] = pending[4] = 0.0
        return tokens, calls, fast, slow, buckets

    def settle(self) -> None:
        """An incident is over: what it left in the windows must not open another one."""
        for h in range(self.horizons.count):
            self.observed[h] = min(self.observed[h], self.expected[h])

    def offset(self, h: int, call_tokens: float, level: float) -> float:
        """What stands on both sides of the log ratio of window `h`, in tokens per bucket."""
        horizons = self.horizons
        return OFFSET_CALLS * call_tokens / horizons.buckets[h] + OFFSET_LEVEL * level + horizons.offset[h]

    def log_ratio(self, h: int, call_tokens: float, level: float) -> float:
        """Log of observed over expected in window `h`, the offset on both sides."""
        offset = self.offset(h, call_tokens, level)
        return math.log((self.observed[h] + offset) / (self.expected[h] + offset))

    def excess(self, h: int) -> float:
        """Tokens above the expectation in window `h`."""
        return (self.observed[h] - self.expected[h]) * self.horizons.buckets[h]
