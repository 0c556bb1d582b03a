"""Newcomer: a key that starts hot. It has no history: it is compared with the population's frozen priors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from stream.core.channels.base import Channel, Moment
from stream.core.channels.shape import LIMIT, NEWCOMER_DAYS, RATIO, UNIFORM

if TYPE_CHECKING:
    from stream.core.priors import Priors
    from stream.core.residuals import Horizons

LEAST_HOURS = 1.0
FOUR_HOURS = 2
LEAST_CALLS = 6.0


class Newcomer(Channel):
    """Root of the sum of squares of how far level and shape are above the population's, in its standard deviations."""

    name: ClassVar[str] = "newcomer"
    statistics: ClassVar[tuple[str, ...]] = ("newcomer",)
    kinds: ClassVar[tuple[str, ...]] = ("newcomer",)
    horizons: ClassVar[tuple[int, ...]] = (2,)
    __slots__ = ("decay", "per_step", "population", "steps_per_day")

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.population = priors.population
        self.decay = horizons.decay[FOUR_HOURS]
        self.per_step = horizons.per_step
        self.steps_per_day = horizons.steps_per_day

    def score(self, moment: Moment) -> None:
        """In the first week, from the first hour on."""
        self.values[0] = self.z[0] = 0.0
        residuals, baseline = moment.residuals, moment.baseline
        if not LEAST_HOURS / 24 <= moment.age_days <= NEWCOMER_DAYS or residuals.calls[FOUR_HOURS] < LEAST_CALLS:
            return
        level: float = baseline.level.value
        if level * baseline.age < moment.min_excess:
            return
        seen = 1 - self.decay ** max(moment.age_days * self.steps_per_day, 1.0)
        per_second = max(residuals.observed[FOUR_HOURS] / seen, level) / residuals.horizons.calendar.bucket_seconds
        law = self.population
        total = law["level"].above(math.log(per_second + law["level"].offset)) ** 2
        if moment.aspects is not None:
            for name, a in (("at_limit", LIMIT), ("output_ratio", RATIO), ("uniformity", UNIFORM)):
                total += law[name].above(moment.aspects[a]) ** 2
        self.z[0] = self.values[0] = math.sqrt(total)

    def pack(self) -> bytes:
        """It keeps nothing."""
        return b""

    def unpack(self, data: memoryview) -> memoryview:
        """It kept nothing."""
        return data
