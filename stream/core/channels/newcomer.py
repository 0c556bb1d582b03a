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
COMPARED = (("at_limit", LIMIT), ("output_ratio", RATIO), ("uniformity", UNIFORM))
"""Aspects of the calls' shape of which the population has a law."""


class Stretch(NamedTuple):
    """What a key used in so many seconds, and the tokens per second that it is judged by, in which the last count more.

    tokens: at that rate, but no more than it used in all its life
    """

    seconds: float
    rate: float
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
        recent = self._recent(residuals, moment.age_days)
        per_second = max(recent, level) / residuals.horizons.calendar.bucket_seconds
        law = self.population
        total = law["level"].above(math.log(per_second + law["level"].offset)) ** 2
        if moment.aspects is not None:
            for name, a in COMPARED:
                total += law[name].above(moment.aspects[a]) ** 2
        self.z[0] = self.values[0] = math.sqrt(total)

    def _recent(self, residuals: Residuals, age_days: float) -> float:
        """Tokens per bucket of the last four hours, of which a young key has filled a part."""
        seen: float = 1 - self.decay ** max(age_days * self.steps_per_day, 1.0)
        return residuals.observed[FOUR_HOURS] / seen

    def stretch(self, residuals: Residuals, baseline: Baseline) -> Stretch:
        """What a key's level is judged by: its last four hours, or all of its life if it used more then."""
        calendar = residuals.horizons.calendar
        life = float(baseline.age * calendar.bucket_seconds)
        level: float = baseline.level.value
        used = level * baseline.age
        recent = self._recent(residuals, baseline.age / calendar.per_day)
        if level > recent:
            return Stretch(life, level / calendar.bucket_seconds, used)
        rate, seconds = recent / calendar.bucket_seconds, min(HORIZONS[FOUR_HOURS], life)
        # a key that has just begun in earnest has not used so much for so long; of an old one the level lags behind
        most = max(used, residuals.observed[FOUR_HOURS] * residuals.horizons.buckets[FOUR_HOURS])
        return Stretch(seconds, rate, min(rate * seconds, most))

    def pack(self) -> bytes:
        """It keeps nothing."""
        return b""

    def unpack(self, data: memoryview) -> memoryview:
        """It kept nothing."""
        return data
