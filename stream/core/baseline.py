"""What is expected of a key: tokens per bucket by hour of the week, learned online, with forgetting.

The level and the tokens per call are River's `stats.EWMean`; the season is a class of our own with River's verbs,
because no River forecaster knows event-time gaps, or fits into a kilobyte (48 + 168 slots a key).
"""

from __future__ import annotations

import math
from array import array
from functools import lru_cache

from river import stats

from stream.core.calendar import Calendar

SLOTS = 48
WEEK_HOURS = 168
FAST_PER_DAY = 0.12
"""Weight of one day's hour in the fast season: it forgets half in five and a half days."""
SLOW_PER_DAY = 0.04
"""The same for the slow season, against which slow drifts are measured: half in seventeen days."""
LEVEL_DAYS = 10.0
WEEK_FLOOR = 0.8
"""The fast season is at least this share of the same hour last week: it keeps weekly batch jobs quiet."""
CAP_LEVEL = 20.0
CAP_EXPECTED = 8.0
CAP_CALLS = 5.0
"""What a bucket may teach: at most this many levels + expectations + calls; one flood must not become the norm."""
CAP_CALLS_PER_CALL = 3.0
CAP_CALLS_FIXED = 6.0
"""One giant prompt is not a rate change: a call counts for at most 3 usual calls, a bucket for 6 more."""
INCIDENT_RATE = 0.15
"""Share of the usual learning rate while an incident is open: score first, and never learn an attack."""
CALL_RATE = 0.01

_WEEK_SCALE = 2000.0
"""Last week's hours are held as 16 bit of log(1 + tokens) × 2000: to 0.05 %, up to 10^14 tokens."""


@lru_cache(maxsize=64)
def _per_bucket(per_hour: int) -> tuple[float, float]:
    """The daily weights of the fast and the slow season, as weights of one of the hour's buckets."""
    return 1 - (1 - FAST_PER_DAY) ** (1 / per_hour), 1 - (1 - SLOW_PER_DAY) ** (1 / per_hour)


class AdaptiveMean(stats.EWMean):  # type: ignore[misc]
    """River's EWMean with a rate for each value: quicker while young, slower while an incident is open.

    `learn(x, rate)` moves the mean by `rate` of the way to x: EWMean is shown the value that does so. Make one by
    `at`: a fresh EWMean takes its first value as it is, whatever the rate.

    >>> mean = AdaptiveMean.at(0.0, 0.01)
    >>> mean.learn(10.0, 1.0); mean.learn(20.0, 0.5); mean.get()
    15.0
    """

    def learn(self, value: float, rate: float) -> None:
        """Take `value` up with weight `rate` in (0, 1] instead of the fading factor."""
        mean = self.get()
        self.update(mean + (value - mean) * (rate / self.fading_factor))

    @classmethod
    def at(cls, value: float, fading_factor: float) -> AdaptiveMean:
        """One whose mean is `value`."""
        mean = cls(fading_factor)
        mean.update(value)
        return mean


def cap_of(usual: float, calls: int) -> float:
    """The most tokens that `calls` calls may count for, where one usually takes `usual`."""
    return usual * (CAP_CALLS_PER_CALL * calls + CAP_CALLS_FIXED)


class Baseline:
    """Expected tokens per bucket of one key. `predict` first, then `learn`, bucket by bucket in event time.

    `predict(bucket)` gives (fast, slow); `learn(bucket, tokens, calls, input_share, rate)` takes the bucket up, where
    `rate` 1 is usual and INCIDENT_RATE while an incident is open. A bucket that never was (lost telemetry) is left out.
    """

    __slots__ = (
        "active", "age", "calendar", "call_input", "call_tokens", "fast", "hour_last_week", "hour_sum", "level", "slow",
        "visits", "week",
    )  # fmt: skip

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.fast = array("f", bytes(4 * SLOTS))
        self.slow = array("f", bytes(4 * SLOTS))
        self.visits = array("B", bytes(SLOTS))
        self.week = array("H", bytes(2 * WEEK_HOURS))
        self.level = AdaptiveMean.at(0.0, 1 / (LEVEL_DAYS * calendar.per_day))
        self.call_tokens = AdaptiveMean.at(0.0, CALL_RATE)
        self.call_input = AdaptiveMean.at(0.0, CALL_RATE)
        self.age = self.active = 0
        self.hour_sum = 0.0
        self.hour_last_week = -1.0

    def predict(self, bucket: int) -> tuple[float, float]:
        """Expected tokens in `bucket` by the fast and by the slow season."""
        slot, neighbour, weight = self.calendar.slots(bucket)
        visits = self.visits
        level: float = self.level.get()
        here = visits[slot]
        there = visits[neighbour]
        fast = (1 - weight) * (self.fast[slot] if here else level) + weight * (self.fast[neighbour] if there else level)
        slow = (1 - weight) * (self.slow[slot] if here else level) + weight * (self.slow[neighbour] if there else level)
        last_week = self.hour_last_week
        if last_week < 0 or bucket % self.calendar.per_hour == 0:
            last_week = self._last_week(bucket)
        floor = WEEK_FLOOR * last_week
        return (fast if fast > floor else floor), slow

    def _last_week(self, bucket: int) -> float:
        coded = self.week[self.calendar.week_hour(bucket)]
        return math.expm1(coded / _WEEK_SCALE) if coded else 0.0

    def capped(self, tokens: float, calls: int) -> float:
        """`tokens` with the effect of a single call capped; a key younger than a day has no usual call yet."""
        usual: float = self.call_tokens.get()
        if calls and usual > 0 and self.age > self.calendar.per_day:
            return min(tokens, cap_of(usual, calls))
        return tokens

    def learn(self, bucket: int, tokens: float, calls: int, input_share: float, rate: float, expected: float) -> None:
        """Take up a bucket's (capped) tokens; `expected` is what `predict` said of it, `input_share` in [0, 1]."""
        calendar = self.calendar
        per_hour = calendar.per_hour
        self.age = age = self.age + 1
        level: float = self.level.get()
        usual: float = self.call_tokens.get()
        warm = age > 3 * calendar.per_day
        lesson = tokens
        if warm:
            cap = CAP_EXPECTED * expected + CAP_CALLS * usual + CAP_LEVEL * level
            lesson = tokens if tokens < cap else cap
        slot = calendar.slots(bucket)[0]
        fast_rate, slow_rate = _per_bucket(per_hour)
        seen = self.visits[slot]
        if seen < 12 * per_hour and seen < 255:
            # a young slot is the mean of what it has seen; it must not learn an attack any quicker than an old one
            self.visits[slot] = seen + 1
            fast_rate = max(1.0 / (seen + 1), fast_rate)
            slow_rate = max(1.0 / (seen + 1), slow_rate)
        if warm:
            fast_rate *= rate
            slow_rate *= rate
        self.fast[slot] += fast_rate * (lesson - self.fast[slot])
        self.slow[slot] += slow_rate * (lesson - self.slow[slot])
        self.level.learn(lesson, max(1.0 / age, self.level.fading_factor) * (rate if warm else 1.0))
        if calls:
            self.active += 1
            call_rate = max(CALL_RATE, 1.0 / (age + 1)) * (rate if warm else 1.0)
            if usual == 0.0:
                call_rate = 1.0
            self.call_tokens.learn(tokens / calls, call_rate)
            self.call_input.learn(tokens * input_share / calls, call_rate)
        self._learn_week(bucket, lesson, 0.5 if rate < 1 else 1.0)

    def _learn_week(self, bucket: int, tokens: float, weight: float) -> None:
        per_hour = self.calendar.per_hour
        if self.hour_last_week < 0 or bucket % per_hour == 0:
            self.hour_last_week = self._last_week(bucket)
            self.hour_sum = 0.0
        self.hour_sum += weight * tokens / per_hour
        if (bucket + 1) % per_hour == 0:
            hour = self.calendar.week_hour(bucket)
            known = self.week[hour] or self.age > 7 * self.calendar.per_day
            mean = 0.5 * (self.hour_last_week + self.hour_sum) if known else self.hour_sum
            self.week[hour] = min(65_535, round(math.log1p(mean) * _WEEK_SCALE))
            self.hour_last_week = -1.0

    def turn(self, bucket: int) -> None:
        """Pass over a bucket that is not learned (lost telemetry): an hour that was cut short is not a quiet hour."""
        if (bucket + 1) % self.calendar.per_hour == 0:
            self.hour_last_week = -1.0
            self.hour_sum = 0.0
