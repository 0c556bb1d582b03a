"""Ramp: a rise so slow that the baseline follows it.

Two looks at the days. A whitened CUSUM of the day's level: each day less 0.7 of the day before, in its own standard
deviations, added up; after E. S. Page, Continuous inspection schemes, Biometrika 41 (1954). And a drift budget: an
anchor that may follow the five-day level by 2 % a day at most, however much the baseline has learned.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, ClassVar, Final

from stream.core.channels.base import LITTLE_Z, Channel, Laws, Moment, take_arrays

if TYPE_CHECKING:
    from stream.core.priors import Priors
    from stream.core.residuals import Horizons

PERSISTENCE: Final = 0.7
SHIFTS = (0.5, 1.0)
"""The CUSUMs are made for rises of half a standard deviation and of one."""
PRIOR_SCALE: Final = 0.9
MOST_SUM: Final = 20.0
LOWEST: Final = -3.0
HIGHEST: Final = 5.0
YOUNG_RATE_DAYS: Final = 6.0
LEAST_RATE: Final = 0.02
HIGH_SUM: Final = 3.0
"""Above this sum a day is suspicious: mean and scale learn at a quarter."""
BUDGET_PER_DAY: Final = 0.02
"""Growth of the anchor, per day: 15 % a week is a business that grows; more has to be accepted."""
ANCHOR_DOWN_PER_DAY: Final = 0.10
ANCHOR_AFTER_DAYS: Final = 7.0
FIVE_DAYS: Final = 4
ONE_DAY: Final = 3
SUM_1: Final = 0
SUM_2: Final = 1
LAST: Final = 2
MEAN: Final = 3
VARIANCE: Final = 4
DAYS: Final = 5
ANCHOR: Final = 6


class Ramp(Channel):
    """The CUSUM of the daily level, and the five-day level against its anchor."""

    name: ClassVar[str] = "ramp"
    statistics: ClassVar[tuple[str, ...]] = ("cusum", "creep")
    standardised: ClassVar[tuple[str, ...]] = statistics
    kinds: ClassVar[tuple[str, ...]] = ("ramp", "ramp")
    horizons: ClassVar[tuple[int, ...]] = (3, 4)
    __slots__ = ("day_level", "day_z", "laws", "state")

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.laws = Laws(priors, self.standardised)
        self.state = array("f", (0.0, 0.0, 0.0, 0.0, PRIOR_SCALE**2, 0.0, 0.0))
        """The two sums, the day before, mean and variance of the whitened days, their number, the anchor (log)."""
        self.day_z = array("f", (0.0, 0.0))
        """The day so far: the level in standard deviations, and the log of the five-day level."""

    def _sums(self, day_z: float) -> tuple[float, float]:
        """The two sums if the day ended like this."""
        state = self.state
        innovation = (day_z - PERSISTENCE * state[LAST] - state[MEAN]) / math.sqrt(state[VARIANCE])
        innovation = max(LOWEST, min(HIGHEST, innovation))
        return (
            max(0.0, state[SUM_1] + SHIFTS[0] * innovation - SHIFTS[0] ** 2 / 2),
            max(0.0, state[SUM_2] + SHIFTS[1] * innovation - SHIFTS[1] ** 2 / 2),
        )

    def score(self, moment: Moment) -> None:
        """What the sums would be if the day ended now, and how far the level is above its anchor."""
        values, z = self.values, self.z
        values[0] = values[1] = z[0] = z[1] = 0.0
        if not moment.warm:
            return
        passes = moment.passes(ONE_DAY)
        z[0] = max(self._sums(moment.day_z))
        if passes:
            values[0] = self.laws.value(0, z[0])
        if self.state[DAYS] >= ANCHOR_AFTER_DAYS:
            z[1] = self._level(moment) - self.state[ANCHOR]
            if passes and z[1] > 0:
                values[1] = self.laws.value(1, z[1])

    def _level(self, moment: Moment) -> float:
        residuals = moment.residuals
        offset = residuals.offset(FIVE_DAYS, moment.baseline.call_tokens.value, 0.0)
        return math.log(residuals.observed[FIVE_DAYS] + offset)

    def learn(self, moment: Moment) -> None:
        """Note how the day stands."""
        if moment.warm:
            self.day_z[0], self.day_z[1] = moment.day_z, self._level(moment)
            for i in (0, 1):
                self.laws.see(i, self.z[i] if self.values[i] > 0 else min(self.z[i], LITTLE_Z))

    def learn_day(self) -> None:
        """Take the day up, if it had any calls."""
        self.laws.learn_day()
        state = self.state
        day_z, level = self.day_z
        if not day_z and not level:
            return
        state[SUM_1], state[SUM_2] = (min(total, MOST_SUM) for total in self._sums(day_z))
        state[DAYS] += 1
        rate = max(1 / (state[DAYS] + YOUNG_RATE_DAYS), LEAST_RATE)
        suspicious = state[SUM_1] >= HIGH_SUM
        rest = day_z - PERSISTENCE * state[LAST] - state[MEAN]
        limit = 2 * math.sqrt(state[VARIANCE])
        rest = max(-limit, min(limit, rest))
        state[MEAN] += rate * (0.1 if suspicious else 0.5) * rest
        variance = state[VARIANCE] + rate * (0.25 if suspicious else 1.0) * (1.2 * rest * rest - state[VARIANCE])
        state[VARIANCE] = max(variance, 0.1 * PRIOR_SCALE**2)
        state[LAST] = day_z
        if state[DAYS] <= ANCHOR_AFTER_DAYS:
            state[ANCHOR] = level
        else:
            state[ANCHOR] += max(-ANCHOR_DOWN_PER_DAY, min(BUDGET_PER_DAY, level - state[ANCHOR]))
        self.day_z[0] = self.day_z[1] = 0.0

    def forget_day(self) -> None:
        """Leave the day out."""
        self.laws.forget_day()
        self.day_z[0] = self.day_z[1] = 0.0

    def accept(self) -> None:
        """The sums begin anew, and so does the anchor."""
        self.state[SUM_1] = self.state[SUM_2] = self.state[DAYS] = 0.0

    def settle(self) -> None:
        """The sums begin anew."""
        self.state[SUM_1] = self.state[SUM_2] = 0.0

    def pack(self) -> bytes:
        """64 bytes."""
        return self.state.tobytes() + self.day_z.tobytes() + self.laws.pack()

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        return self.laws.unpack(take_arrays(data, self.state, self.day_z))
