"""Any single series, online: how rare a value is, by what the series itself has shown before.

Three distances are judged: from the level, from what is usual at this time of day, and the mean of the latter of late,
which is drift. Each has a law of its own: above its 99 % quantile the tail is exponential, learned as it goes
(Pickands, "Statistical inference using extreme order statistics", 1975). The rarest of the three is the surprise, in
nats: -ln of a probability. Two things temper it: a series whose own maxima are higher than its laws say has to show
more, and what comes soon after a surprise has to be much rarer than that one. So a score marks where something begins.
No constant is set for a series, every number follows from earlier values only, and the memory does not grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stream.core.adaptivemean import AdaptiveMean

ALERT_SURPRISE = math.log(400)
"""An alert is what the laws expect once in 400 values, as three sigma of a normal one; the holding makes it rarer."""
MOST_SURPRISE = 700.0
"""Nats: about the smallest probability that a float can hold."""
LARGEST = 1e250
"""Larger magnitudes count as this one, so that differences and products stay finite."""

QUANTILE = 0.99
"""The tail begins there: a few days hold enough of it to learn from."""
QUANTILE_STEP = 0.02
"""Step of the quantile's search, in mean distances: it follows a new width within some hundred values."""
MEMORY = 0.0003
"""Weight of a value in the mean distance: half is forgotten after 2,300 values, eight days of 5 min."""
PRIOR_EXCESS = 0.5
"""Mean distance beyond the quantile, in mean distances, before any was seen; a normal law has 0.4."""
PRIOR_EXCESSES = 20
"""How many seen ones the prior is worth."""
MOST_EXCESSES = 200
LESSON_SURPRISE = 2 * ALERT_SURPRISE
"""No value teaches more than one this rare: a single spike must not deafen, and a lasting step is still learned."""

LEVEL_RATE = 0.005
DRIFT_RATE = 0.02
"""Drift is the mean distance over about 50 values."""
SLOT_RATE = 0.02
SLOTS = 48
WEEKDAYS = 7
DAY_SECONDS = 86_400
WEEKDAY_STEP_SECONDS = 72_000.0
"""From 20 hours between values on, the time of day tells nothing, and the weekday may."""

EXTREME_MARGIN = 0.02
EXTREME_SURPRISE = 1.0
"""A surprise that lies beyond all values so far, by 2 % of their range, counts one nat more."""
MAXIMUM_VALUES = 100
PRIOR_MAXIMA = 15
"""The maxima of the surprise, of 100 values each; what theory expects of them counts as 15 that were seen."""
MAXIMUM_RATE = 0.02
HOLD_VALUES = 100
HOLD_MARGIN = 3.0
"""For 100 values after a surprise, another one counts only if it is e^3 = 20 times rarer."""
YOUNG_VALUES = 30
SEASONED_VALUES = 60
"""Nothing counts among the first 30 values, nor on the first day before 60 of them: all is new then."""

ROUNDING = 1e-9
"""A distance below this share of the two values is none: a mean of equal values need not equal them."""
_EULER = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of one value, in its own unit: `expected`, the usual band, a score in [0, 1], and whether it alerts.

    Beyond `lower` and `upper` a value alerts unless it is held, or the series is young (see `Series`). Between them
    only drift does, or a value that is the highest or lowest so far.
    """

    expected: float
    lower: float
    upper: float
    score: float
    alert: bool


def _distance(value: float, base: float) -> float:
    distance = value - base
    return distance if abs(distance) > ROUNDING * (abs(value) + abs(base)) else 0.0


class Tail:
    """How rare a distance is; `surprise` and `reach` first, then `learn`. Distances are ≥ 0, of any unit.

    >>> law = Tail()
    >>> for i in range(1000): law.learn(float(i % 10))
    >>> law.surprise(5.0), law.surprise(20.0) > 8
    (0.0, True)
    """

    __slots__ = ("beyond", "count", "excess", "quantile", "usual")

    def __init__(self) -> None:
        self.count = self.beyond = 0
        self.usual = AdaptiveMean(0.0, MEMORY)
        self.quantile = 0.0
        self.excess = AdaptiveMean(PRIOR_EXCESS, 1 / MOST_EXCESSES)

    def surprise(self, distance: float) -> float:
        """-ln of the share of distances that are as large, in nats; 0 below the tail."""
        usual: float = self.usual.get()
        if usual <= 0:  # constant so far: any change is as rare as can be
            return MOST_SURPRISE if self.count and distance > 0 else 0.0
        excess = distance / usual - self.quantile
        return min(self._start() + excess / self.excess.get(), MOST_SURPRISE) if excess > 0 else 0.0

    def reach(self, surprise: float) -> float:
        """The distance that has the given surprise; not below where the tail begins."""
        beyond: float = max(surprise - self._start(), 0.0) * self.excess.get()
        usual: float = self.usual.get()
        return usual * (max(self.quantile, 0.0) + beyond)

    def lesson(self, distance: float) -> float:
        """What of a distance may be learned: all of it only while little else was seen."""
        free = self.count < YOUNG_VALUES or self.usual.get() <= 0
        return distance if free else min(distance, self.reach(LESSON_SURPRISE))

    def learn(self, distance: float) -> None:
        """Take a distance up."""
        distance = self.lesson(distance)
        self.count += 1
        self.usual.learn(distance, max(MEMORY, 1 / self.count))
        usual = self.usual.get()
        if usual <= 0:
            return
        # Robbins and Monro (1951): up by the share below, down by the share above, in ever smaller steps
        step = max(QUANTILE_STEP, 1 / (1 + 0.2 * self.count))
        excess = distance / usual - self.quantile
        if excess > 0:
            self.beyond += 1
            self.excess.learn(excess, 1 / min(self.beyond + PRIOR_EXCESSES, MOST_EXCESSES))
            self.quantile += step * QUANTILE
        else:
            self.quantile -= step * (1 - QUANTILE)

    def _start(self) -> float:
        # n distances cannot show that anything is rarer than 1 in n + 1
        return min(-math.log(1 - QUANTILE), math.log(self.count + 1))


class Season:
    """What is usual at a time of day (48 slots), or on a weekday if values are a day apart."""

    __slots__ = ("usual", "visits")

    def __init__(self) -> None:
        self.usual = [0.0] * (SLOTS + WEEKDAYS)
        self.visits = [0] * (SLOTS + WEEKDAYS)

    @staticmethod
    def slot(time: float, step_seconds: float) -> int:
        """The slot of a time (epoch seconds) in a series whose values are `step_seconds` apart."""
        if step_seconds >= WEEKDAY_STEP_SECONDS:
            return SLOTS + int(time // DAY_SECONDS) % WEEKDAYS
        return int(time % DAY_SECONDS * SLOTS / DAY_SECONDS) % SLOTS

    def predict(self, slot: int, level: float) -> float:
        """The usual value of a slot; `level` where none was seen yet."""
        return self.usual[slot] if self.visits[slot] else level

    def learn(self, slot: int, value: float) -> None:
        """Take a value of a slot up."""
        self.visits[slot] += 1
        self.usual[slot] += max(SLOT_RATE, 1 / self.visits[slot]) * (value - self.usual[slot])


class Maxima:
    """The series' own maxima of the surprise: how much higher they are than laws that fit would give, in nats."""

    __slots__ = ("blocks", "count", "mean", "peak", "theory")

    def __init__(self) -> None:
        # the maximum of n surprises follows Gumbel's law, location ln n, scale 1
        self.theory = math.log(MAXIMUM_VALUES) + _EULER
        self.mean = AdaptiveMean(self.theory, MAXIMUM_RATE)
        self.blocks = self.count = 0
        self.peak = 0.0

    def surplus(self) -> float:
        """By how many nats the mean maximum is above the theory; 0 if it is not."""
        mean: float = self.mean.get()
        return max(0.0, mean - self.theory)

    def learn(self, surprise: float) -> None:
        """Take a surprise up; every MAXIMUM_VALUES of them teach one maximum."""
        self.peak = max(self.peak, min(surprise, LESSON_SURPRISE))
        self.count += 1
        if self.count == MAXIMUM_VALUES:
            self.blocks += 1
            self.mean.learn(self.peak, max(MAXIMUM_RATE, 1 / (self.blocks + PRIOR_MAXIMA)))
            self.count, self.peak = 0, 0.0


class Series:
    """One series. `judge(time, value)` says what it makes of a value, and then learns it.

    A missing value (None, NaN or infinite) is passed over: it scores 0 and teaches nothing. A gap in time is no
    value at all: what is held or young counts values, and only the season looks at the clock.

    >>> series = Series()
    >>> said = [series.judge(300.0 * i, i % 7) for i in range(500)]
    >>> any(one.alert for one in said), series.judge(150_000.0, 40.0).alert
    (False, True)
    """

    __slots__ = (
        "by_drift", "by_level", "by_season", "count", "drift", "first", "held", "highest", "holding", "last", "level",
        "lowest", "maxima", "season", "step",
    )  # fmt: skip

    def __init__(self) -> None:
        self.level = AdaptiveMean(0.0, LEVEL_RATE)
        self.season = Season()
        self.drift = 0.0
        self.by_level, self.by_season, self.by_drift = Tail(), Tail(), Tail()
        self.maxima = Maxima()
        self.count = self.holding = 0
        self.held = 0.0
        self.first = self.last = self.step = 0.0
        self.highest = self.lowest = 0.0

    def judge(self, time: float, value: float | None) -> Judgement | None:
        """What a value at `time` (epoch seconds, not before the last one) is worth; None before any value is known."""
        if value is not None:
            value = min(max(value, -LARGEST), LARGEST) if math.isfinite(value) else None
        if not self.count:
            if value is None:
                return None
            self.level.learn(value, 1.0)
            self.highest = self.lowest = value
            self.first = self.last = time
        step, self.step, self.last = self.step, time - self.last, time
        slot = Season.slot(time, min(step, self.step))  # a single gap of days does not make a daily series
        level: float = self.level.get()
        usual = self.season.predict(slot, level)
        expected = usual if self.by_season.usual.get() <= self.by_level.usual.get() else level
        lower, upper = self._band(level, usual)
        score = 0.0
        if value is not None:
            surprise = self._surprise(value, level, usual)
            self._learn(slot, value, level, usual)
            counted = self._counted(surprise, time)
            score = round(counted / (counted + ALERT_SURPRISE), 6)
        return Judgement(expected, min(lower, expected), max(upper, expected), score, score >= 0.5)

    def _surprise(self, value: float, level: float, usual: float) -> float:
        from_level, from_usual = _distance(value, level), _distance(value, usual)
        surprise = max(self.by_level.surprise(abs(from_level)), self.by_season.surprise(abs(from_usual)))
        if self.count >= 1 / DRIFT_RATE:
            surprise = max(surprise, self.by_drift.surprise(abs(self._drifted(from_usual))))
        margin = EXTREME_MARGIN * (self.highest - self.lowest)
        extreme = value > self.highest + margin or value < self.lowest - margin
        tempered = surprise - self.maxima.surplus() + (EXTREME_SURPRISE if extreme else 0.0)
        self.maxima.learn(surprise)
        return max(tempered, 0.0) if surprise else 0.0

    def _drifted(self, distance: float) -> float:
        return self.drift + DRIFT_RATE * (distance - self.drift)

    def _learn(self, slot: int, value: float, level: float, usual: float) -> None:
        self.count += 1
        from_level, from_usual = _distance(value, level), _distance(value, usual)
        level_lesson = math.copysign(self.by_level.lesson(abs(from_level)), from_level)
        season_lesson = math.copysign(self.by_season.lesson(abs(from_usual)), from_usual)
        if self.count > 1 / DRIFT_RATE:
            self.by_drift.learn(abs(self._drifted(from_usual)))
        self.drift = self._drifted(season_lesson)
        self.by_level.learn(abs(from_level))
        self.by_season.learn(abs(from_usual))
        self.level.learn(level + level_lesson, max(LEVEL_RATE, 1 / self.count))
        self.season.learn(slot, usual + season_lesson)
        self.highest, self.lowest = max(self.highest, value), min(self.lowest, value)

    def _counted(self, surprise: float, time: float) -> float:
        """The surprise, or 0 while the series is young or the value is held."""
        if self.count < YOUNG_VALUES or (self.count < SEASONED_VALUES and time - self.first < DAY_SECONDS):
            return 0.0
        held = self.holding > 0 and surprise < self.held + HOLD_MARGIN
        self.holding -= self.holding > 0
        if held:
            return 0.0
        if surprise > 0:
            self.holding, self.held = HOLD_VALUES, surprise
        return surprise

    def _band(self, level: float, usual: float) -> tuple[float, float]:
        """The values that are no alert by their distances from the level and from what is usual."""
        enough = ALERT_SURPRISE + self.maxima.surplus()
        by_level, by_season = self.by_level.reach(enough), self.by_season.reach(enough)
        return max(level - by_level, usual - by_season), min(level + by_level, usual + by_season)
