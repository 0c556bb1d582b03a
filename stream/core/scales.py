"""What is usual for a residual of one key: a running mean and an upper variance, slow to believe what is unusual."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Final

SCALE_DAYS: Final = 20.0
"""Memory of a scale that is no longer young."""
YOUNG_DAYS: Final = 14.0
PRIOR_DAYS: Final = 5.0
"""Until YOUNG_DAYS of age a scale learns as the mean of its age and PRIOR_DAYS more, from the population's prior."""
SLOW_HORIZON_SHARE: Final = 0.25
"""Windows of a day and more hold few independent values in the same time."""
FREEZE_Z: Final = 2.2
"""Above this z a scale learns at FREEZE_RATE, else a fourfold drift hides itself."""
FREEZE_RATE: Final = 0.05
ALARM_Z: Final = 4.0
ALARM_RATE: Final = 0.2
CLIP_SCALES: Final = 2.0
UPPER_GAIN: Final = 1.1
"""Makes the clipped upper second moment of a normal residual unbiased."""
MIN_SHARE: Final = 0.35
"""A scale never falls below this share of its prior: a key that was constant for weeks may still vary."""


class Scales:
    """Mean and one-sided variance of several residuals. Score first (`standardise`), then `learn`.

    One-sided: only what is above the mean teaches the variance, for the quiet side of an on/off key must not widen
    its band. `priors` are the population's standard deviations.

    >>> scales = Scales((0.5,))
    >>> scales.standardise(0, 1.0)
    2.0
    """

    __slots__ = ("floors", "mean", "variance")

    def __init__(self, priors: Sequence[float], least: float = MIN_SHARE) -> None:
        self.mean = array("f", bytes(4 * len(priors)))
        self.variance = array("f", [prior * prior for prior in priors])
        self.floors = tuple((least * prior) ** 2 for prior in priors)

    def standardise(self, i: int, residual: float) -> float:
        """How many standard deviations residual `i` is above its mean."""
        return (residual - self.mean[i]) / math.sqrt(self.variance[i])

    def learn(self, i: int, residual: float, z: float, rate: float) -> None:
        """Take residual `i` up, which was judged as `z`, with weight `rate` in (0, 1)."""
        variance = self.variance[i]
        mean = self.mean[i]
        deviation = residual - mean
        if deviation * deviation > CLIP_SCALES * CLIP_SCALES * variance:
            limit = CLIP_SCALES * math.sqrt(variance)
            deviation = limit if deviation > 0 else -limit
        if z > FREEZE_Z:
            # young keys too: what is far above the scale must not widen it before it has been judged
            rate *= FREEZE_RATE
        self.mean[i] = mean + rate * deviation
        if deviation > 0:
            variance += 2 * rate * (UPPER_GAIN * deviation * deviation - variance)
            floor = self.floors[i]
            self.variance[i] = variance if variance > floor else floor


def rate_of(age_days: float, steps_per_day: float) -> float:
    """The weight of one step in a scale at a key's age."""
    if age_days < YOUNG_DAYS:
        return 1.0 / ((PRIOR_DAYS + age_days) * steps_per_day)
    return 1.0 / (SCALE_DAYS * steps_per_day)
