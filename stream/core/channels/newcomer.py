"""Newcomer: a key that starts hot. It has no history: it is compared with the population's frozen priors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from stream.core.channels.base import Channel, Moment
from stream.core.channels.shape import LIMIT, NEWCOMER_DAYS, RATIO, UNIFORM
from stream.core.residuals import HORIZONS

if TYPE_CHECKING:
    from stream.core.baseline import Baseline
    from stream.core.priors import Priors
    from stream.core.residuals import Horizons, Residuals

LEAST_HOURS = 1.0
FOUR_HOURS = 2
LEAST_CALLS = 6.0


class Stretch(NamedTuple):
    """Tokens of a stretch of time of so many seconds, in which what is older counts less: as in `weight_seconds`."""

    seconds: float
    weight_seconds: float
    tokens: float


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
        seen = self._seen(moment.age_days)
        per_second = max(residuals.observed[FOUR_HOURS] / seen, level) / residuals.horizons.calendar.bucket_seconds
        law = self.population
        total = law["level"].above(math.log(per_second + law["level"].offset)) ** 2
        if moment.aspects is not None:
            for name, a in (("at_limit", LIMIT), ("output_ratio", RATIO), ("uniformity", UNIFORM)):
                total += law[name].above(moment.aspects[a]) ** 2
        self.z[0] = self.values[0] = math.sqrt(total)

    def _seen(self, age_days: float) -> float:
        """How much of the four hours a key of this age has filled, at most 1."""
        seen: float = 1 - self.decay ** max(age_days * self.steps_per_day, 1.0)
        return seen

    def stretch(self, residuals: Residuals, baseline: Baseline) -> Stretch:
        """What a key's level is judged by: its last four hours, or all of its life if it used more then."""
        calendar = residuals.horizons.calendar
        buckets = residuals.horizons.buckets[FOUR_HOURS]
        life = float(baseline.age * calendar.bucket_seconds)
        seen = self._seen(baseline.age / calendar.per_day)
        level: float = baseline.level.value
        if level > residuals.observed[FOUR_HOURS] / seen:
            return Stretch(life, life, level * baseline.age)
        filled = buckets * calendar.bucket_seconds
        return Stretch(min(HORIZONS[FOUR_HOURS], life), filled * seen, residuals.observed[FOUR_HOURS] * buckets)

    def pack(self) -> bytes:
        """It keeps nothing."""
        return b""

    def unpack(self, data: memoryview) -> memoryview:
        """It kept nothing."""
        return data
