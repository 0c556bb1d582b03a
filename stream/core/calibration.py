"""From scores to rates: each key's own daily maxima standardise it, a frozen tail law says how often that happens."""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

PRIOR_DAYS: Final = 15.0
"""A key's own daily maxima outweigh the population's after about two weeks."""
HALF_LIFE_DAYS: Final = 60.0
SCALE_FLOOR: Final = 0.4
CLIP_SD: Final = 3.5
MOST_DAYS: Final = 255
MOST_PEAK: Final = 30_000.0
MOST_VARIANCE: Final = 60_000.0
"""What 16 bits can hold."""
SD_OF_GUMBEL = math.pi / math.sqrt(6)
EULER: Final = 0.5772156649015329
_HALF = struct.Struct("<e")


def half(number: float) -> float:
    """The number as 16 bits hold it: what is stored is what is used."""
    rounded: float = _HALF.unpack(_HALF.pack(number))[0]
    return rounded


@lru_cache(maxsize=64)
def _moments(location: float, scale: float) -> tuple[float, float, float]:
    """Mean and variance of a law, and the variance's floor; a key that wakes up asks for all of the population's."""
    variance = (scale * SD_OF_GUMBEL) ** 2
    return half(location + EULER * scale), half(variance), half(SCALE_FLOOR**2 * variance)


def learned(
    mean: float, variance: float, peak: float, days: float, *, floor: float, clip: float = CLIP_SD
) -> tuple[float, float]:
    """Mean and variance of daily maxima after one more day of `peak`, which counts up to `clip` standard deviations.

    Both follow the days with an exponential forgetting, and `days` of them and the prior's are behind them; the
    variance does not fall below `floor`.
    """
    weight = max(1 / (PRIOR_DAYS + days + 1), 1 - 0.5 ** (1 / HALF_LIFE_DAYS))
    distance = min(peak, mean + clip * math.sqrt(variance)) - mean
    return mean + weight * distance, max(floor, (1 - weight) * (variance + weight * distance * distance))


class DailyMaximum:
    """A Gumbel law on one key's daily maxima of one standardised residual.

    Moments follow the days with an exponential forgetting; the population's law counts as PRIOR_DAYS days. After
    E. J. Gumbel, Statistics of Extremes (1958): mean = location + 0.5772 scale, sd = pi / sqrt(6) scale. All of it is
    held in 16 bits, to about 0.1 %.

    >>> law = DailyMaximum(location=1.0, scale=0.5)
    >>> round(law.standardise(2.0), 2)
    2.0
    """

    __slots__ = ("_location", "_scale", "days", "floor", "mean", "peak", "variance")

    def __init__(self, location: float, scale: float) -> None:
        self.mean, self.variance, self.floor = _moments(location, scale)
        self.days = 0
        self.peak = -math.inf
        self._derive()

    def _derive(self) -> None:
        self._scale = math.sqrt(self.variance) / SD_OF_GUMBEL
        self._location = self.mean - EULER * self._scale

    def standardise(self, z: float) -> float:
        """(z - location) / scale: P(a day's maximum exceeds it) is about exp(-value)."""
        return (z - self._location) / self._scale

    def raw(self, standardised: float) -> float:
        """The z whose `standardise` is the given value."""
        return self._location + self._scale * standardised

    def see(self, z: float) -> None:
        """Let `z` be the day's highest if it is."""
        if z > self.peak:
            self.peak = half(min(z, MOST_PEAK)) if z > -MOST_PEAK else -MOST_PEAK

    def begin(self, mean: float, variance: float, days: int) -> None:
        """Begin with what an earlier version knew of the key, with the floor of today's law."""
        self.mean, self.variance = half(mean), max(self.floor, half(variance))
        self.days = min(days, MOST_DAYS)
        self._derive()

    def learn_day(self) -> None:
        """Take up the day's `peak` and begin a new day; a day without a peak teaches nothing."""
        peak, self.peak = self.peak, -math.inf
        if peak == -math.inf:
            return
        mean, variance = learned(self.mean, self.variance, peak, self.days, floor=self.floor)
        self.days = min(self.days + 1, MOST_DAYS)
        self.mean, self.variance = half(mean), half(min(variance, MOST_VARIANCE))
        self._derive()

    def restore(self, mean: float, variance: float, peak: float, days: int) -> None:
        """Take up what the law held."""
        self.mean, self.variance, self.peak, self.days = mean, variance, peak, days
        self._derive()


class TailLaw:
    """How often a clean key shows a score within a day, and the score that is exceeded at a given rate.

    Log-linear between the measured points and, with the slope of the last two, beyond them.

    >>> law = TailLaw([(1.0, 0.1), (2.0, 0.01)])
    >>> round(law.share(3.0), 6), round(law.threshold(0.001), 6)
    (0.001, 3.0)
    """

    __slots__ = ("logs", "scores")

    def __init__(self, tail: Sequence[tuple[float, float]]) -> None:
        self.scores = [score for score, _ in tail]
        self.logs = [math.log(share) for _, share in tail]

    def share(self, score: float) -> float:
        """Share of clean key-days whose highest score exceeds `score`, in (0, 1]."""
        scores, logs = self.scores, self.logs
        if score <= scores[0]:
            return 1.0 if score < scores[0] else math.exp(logs[0])
        i = min(bisect_left(scores, score), len(scores) - 1)
        slope = (logs[i] - logs[i - 1]) / (scores[i] - scores[i - 1])
        return math.exp(max(logs[i - 1] + slope * (score - scores[i - 1]), -700.0))

    def threshold(self, share: float) -> float:
        """The score that the given share of clean key-days exceeds."""
        wanted = math.log(min(share, math.exp(self.logs[0])))
        falling = [-log for log in self.logs]
        i = min(max(bisect_left(falling, -wanted), 1), len(falling) - 1)
        slope = (self.logs[i] - self.logs[i - 1]) / (self.scores[i] - self.scores[i - 1])
        return self.scores[i - 1] + (wanted - self.logs[i - 1]) / slope
