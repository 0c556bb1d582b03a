"""What is expected of a key: tokens per bucket by hour of the week, learned online, with forgetting.

The level and the tokens per call are River's `stats.EWMean`; the season is a class of our own with River's verbs,
because no River forecaster knows event-time gaps, or fits into half a kilobyte (48 + 168 slots a key).
"""

from __future__ import annotations

import math
from array import array
from functools import lru_cache
from typing import Final

from stream.core.adaptivemean import AdaptiveMean
from stream.core.calendar import Calendar

SLOTS: Final = 48
WEEK_HOURS: Final = 168
FAST_PER_DAY: Final = 0.12
"""Weight of one day's hour in the fast season: it forgets half in five and a half days."""
SLOW_PER_DAY: Final = 0.04
"""The same for the slow season, against which slow drifts are measured: half in seventeen days."""
YOUNG_HOURS: Final = 12
"""A slot that was seen in fewer hours is the mean of what it has seen."""
LEVEL_DAYS: Final = 10.0
FREE_DAYS: Final = 3
"""So long a key's baseline takes whatever comes."""
WEEK_FLOOR: Final = 0.8
"""The fast season is at least this share of the same hour last week: it keeps weekly batch jobs quiet."""
CAP_LEVEL: Final = 20.0
CAP_EXPECTED: Final = 8.0
CAP_CALLS: Final = 5.0
"""What a bucket may teach: at most this many levels + expectations + calls; one flood must not become the norm."""
CAP_CALLS_PER_CALL: Final = 3.0
CAP_CALLS_FIXED: Final = 6.0
"""One giant prompt is not a rate change: a call counts for at most 3 usual calls, a bucket for 6 more."""
INCIDENT_RATE: Final = 0.15
"""Share of the usual learning rate while an incident is open: score first, and never learn an attack."""
CALL_RATE: Final = 0.01
STRENGTH_PER_HOUR: Final = 1 / 240
"""How quickly a key's season proves itself, or fails to: over ten days."""
PRIOR_ERRORS = (0.3, 0.6)
"""Mean squared log errors of season and level before the first day: most keys have a season; it halves the error."""
PRIOR_HOURS: Final = 24.0
"""They count for so many hours of a young key."""
MOST_ERRORS: Final = 3.0
MOST_ERROR: Final = 0.02
"""An hour's squared error counts for at most 3 usual ones and 0.02: an attack must not make a steady key look restless
before it has been judged."""
ERROR_OFFSET_LEVEL: Final = 0.05
ERROR_OFFSET_TOKENS: Final = 500.0
"""Added to both sides of an hour's log error; an hour of so little counts for half."""

_CODE: Final = 2000.0
"""The season's slots are held as 16 bit of log(1 + tokens) × 2000: to 0.05 %, up to 10^14 tokens."""
WEEK_CODE: Final = 10.0
"""Last week's hours as 8 bit of log(1 + tokens) × 10: to 5 %, for they only make a floor; up to 10^11 tokens."""
RATE: Final = 0
LESSON: Final = 1
JUDGED: Final = 2
COUNT: Final = 3
LEVEL: Final = 4


def cap_of(usual: float, calls: int) -> float:
    """The most tokens that `calls` calls may count for, where one usually takes `usual`."""
    return usual * (CAP_CALLS_PER_CALL * calls + CAP_CALLS_FIXED)


@lru_cache(maxsize=8192)
def _decoded(code: int) -> float:
    return math.expm1(code / _CODE)


def coded_tokens(tokens: float) -> int:
    """`tokens` as a slot of a season holds them; raises ValueError or OverflowError if they are no finite number."""
    return min(65_535, round(math.log1p(tokens) * _CODE))


class Baseline:
    """Expected tokens per bucket of one key. `predict` first, then `learn`, bucket by bucket in event time.

    `predict(bucket)` gives (fast, slow); `learn(bucket, tokens, calls, input_share, rate, expected)` takes the bucket
    up, where `rate` 1 is usual and INCIDENT_RATE while an incident is open. A bucket that never was (lost telemetry)
    is passed over by `turn`. The season learns once an hour, from the mean of the hour's buckets.

    How much season a key has is learned: the expectation is the geometric mean of season and level, weighted by how
    well each has predicted the key's hours.
    """

    __slots__ = (
        "_free_until", "_known", "_place", "active", "age", "calendar", "call_input", "call_tokens",
        "errors", "fast", "hour", "level", "slow", "visits", "week",
    )  # fmt: skip

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.fast = array("H", bytes(2 * SLOTS))
        self.slow = array("H", bytes(2 * SLOTS))
        self.visits = array("B", bytes(SLOTS))
        self.week = array("B", bytes(WEEK_HOURS))
        self.level = AdaptiveMean(0.0, 1 / (LEVEL_DAYS * calendar.per_day))
        self.call_tokens = AdaptiveMean(0.0, CALL_RATE)
        self.call_input = AdaptiveMean(0.0, CALL_RATE)
        self.age = self.active = 0
        self.errors = array("f", PRIOR_ERRORS)
        """Mean squared log error of the season alone, and of the level alone."""
        self.hour = array("f", bytes(20))
        """Of the hour so far: sums of learning rate and of rate × lesson, number of buckets; the level when it began,
        for what is expected of an hour must not depend on when it was worked out. Of all hours: the weight of those
        that have judged the season."""
        self._known: dict[int, tuple[float, float, float, float, float]] = {}
        """What was worked out of this hour, and of the next ones that plans are made for."""
        self._place = calendar.place
        self._free_until = FREE_DAYS * calendar.per_day

    def forget_cache(self) -> None:
        """The arrays were replaced from outside: what was worked out from them is void."""
        self._known.clear()

    @property
    def strength(self) -> float:
        """How much of the key's rate its season explains, in [0, 1]."""
        season, flat = self.errors
        return flat * flat / (season * season + flat * flat)

    def predict(self, bucket: int) -> tuple[float, float]:
        """Expected tokens in `bucket` by the fast and by the slow season."""
        # the hour of the week counts too: plans go up to a day ahead, and not every zone's hours are those of UTC
        place, slot, neighbour, weight, week_hour, _ = self._place(bucket)
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = self._of_hour(slot, neighbour, week_hour)
        fast, fast_rise, slow, slow_rise, floor = known
        fast += weight * fast_rise
        return (fast if fast > floor else floor), slow + weight * slow_rise

    def _of_hour(self, slot: int, neighbour: int, week_hour: int) -> tuple[float, float, float, float, float]:
        """Fast and slow expectation at the middle of an hour, each with its rise towards the neighbour; the floor."""
        level = self.hour[LEVEL]
        strength = self.strength
        log_level = math.log1p(level)
        values = []
        for season in (self.fast, self.slow):
            for hour in (slot, neighbour):
                if self.visits[hour]:
                    values.append(math.expm1(log_level + strength * (season[hour] / _CODE - log_level)))
                else:
                    values.append(level)
        coded = self.week[week_hour]
        floor = WEEK_FLOOR * math.expm1(coded / WEEK_CODE) if coded else 0.0
        fast, fast_next, slow, slow_next = values
        return fast, fast_next - fast, slow, slow_next - slow, floor

    def accept(self) -> None:
        """What is seen now is the new normal: every hour is learned as if it had been seen once so far."""
        for slot, seen in enumerate(self.visits):
            self.visits[slot] = min(seen, 1)

    def capped(self, tokens: float, calls: int) -> float:
        """`tokens` with the effect of a single call capped; a key younger than a day has no usual call yet."""
        usual: float = self.call_tokens.value
        if calls and usual > 0 and self.age > self.calendar.per_day:
            return min(tokens, cap_of(usual, calls))
        return tokens

    def learn(self, bucket: int, tokens: float, calls: int, input_share: float, rate: float, expected: float) -> None:
        """Take up a bucket's (capped) tokens; `expected` is what `predict` said of it, `input_share` in [0, 1]."""
        self.age = age = self.age + 1
        level = self.level
        lesson = tokens
        if age <= self._free_until:
            rate = 1.0
        elif tokens:
            cap = CAP_EXPECTED * expected + CAP_CALLS * self.call_tokens.value + CAP_LEVEL * level.value
            if cap < tokens:
                lesson = cap
        fading = level.fading_factor
        level.learn(lesson, (1.0 / age if age * fading < 1 else fading) * rate)
        if calls:
            self.active += 1
            usual = self.call_tokens
            each = tokens / calls
            call_rate = 1.0 if usual.value == 0.0 else max(CALL_RATE, 1.0 / (age + 1)) * rate
            usual.learn(each, call_rate)
            self.call_input.learn(each * input_share, call_rate)
        hour = self.hour
        hour[RATE] += rate
        hour[COUNT] += 1
        if lesson:
            hour[LESSON] += rate * lesson
        self.turn(bucket)

    def turn(self, bucket: int) -> None:
        """`bucket` is over: if it was the last of its hour, the season learns the hour's mean.

        Of an hour that was cut short by an outage it learns what was seen; of one that never was, nothing.
        """
        _, slot, _, _, week_hour, following = self._place(bucket)
        if slot == following:
            return
        hour = self.hour
        weights, lessons, _, count, _ = hour
        self._known.clear()
        hour[RATE] = hour[LESSON] = hour[COUNT] = 0.0
        hour[LEVEL] = self.level.value
        if count == 0:
            return
        mean = lessons / weights
        rate = weights / count
        seen = self.visits[slot]
        if seen:
            self._learn_strength(mean, _decoded(self.fast[slot]))
        fast_rate, slow_rate = FAST_PER_DAY, SLOW_PER_DAY
        if seen < YOUNG_HOURS:
            # a young slot is the mean of what it has seen; it must not learn an attack any quicker than an old one
            self.visits[slot] = seen + 1
            fast_rate = max(1.0 / (seen + 1), fast_rate)
            slow_rate = max(1.0 / (seen + 1), slow_rate)
        for season, share in ((self.fast, fast_rate), (self.slow, slow_rate)):
            known = _decoded(season[slot])
            season[slot] = coded_tokens(known + share * rate * (mean - known))
        # half an attack is learned here, so that the same hour next week is not a surprise if it was none
        worth = mean * (0.5 if rate < 1 else 1.0)
        coded = self.week[week_hour]
        if coded or self.age > 7 * self.calendar.per_day:
            worth = 0.5 * (math.expm1(coded / WEEK_CODE) + worth)
        self.week[week_hour] = min(255, round(math.log1p(worth) * WEEK_CODE))

    def _learn_strength(self, mean: float, due: float) -> None:
        """Compare the hour with what the season and what the level alone had said of it.

        An hour counts by what was used in it or should have been: nobody cares how well silence was predicted, and a
        key that sleeps for days is not steady for that.
        """
        level: float = self.level.value
        offset = ERROR_OFFSET_LEVEL * level + ERROR_OFFSET_TOKENS
        actual = math.log(mean + offset)
        season, flat = actual - math.log(due + offset), actual - math.log(level + offset)
        most = mean if mean > due else due
        weight = most / (most + offset)
        self.hour[JUDGED] += weight
        rate = weight * max(STRENGTH_PER_HOUR, 1 / (PRIOR_HOURS + self.hour[JUDGED]))
        for i, error in enumerate((season, flat)):
            known = self.errors[i]
            self.errors[i] = known + rate * (min(error * error, MOST_ERRORS * known + MOST_ERROR) - known)
