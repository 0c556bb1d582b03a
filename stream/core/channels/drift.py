"""Drift: a rise that stays for hours or days, too low for any single bucket to show."""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Final

from river import stats

from stream.core.channels.base import Moment
from stream.core.channels.level import Level
from stream.core.page_hinkley import PageHinkley
from stream.core.priors import Priors
from stream.core.residuals import Horizons

CLIP: Final = 3.0
DELTA: Final = 0.5
"""A rise of half a standard deviation is tolerated."""
UNIT: Final = 15.0
"""Sum of standard deviations above that: a rise of one has gathered it in about 30 hours, of three in six."""
MOST_UNITS: Final = 3.0
"""More is no more evidence: there the test begins anew."""
FADING: Final = 1 - 1 / 240

_FLAG = struct.Struct("<ii3d?")


def page_hinkley() -> Any:
    """River's one-sided Page-Hinkley test on an hourly standardised residual."""
    return PageHinkley(min_instances=72, delta=DELTA, threshold=MOST_UNITS * UNIT, alpha=FADING, mode="up")


class Drift(Level):
    """The windows of 4 hours, 1 day and 5 days, and River's Page-Hinkley test on the residual of 4 hours, hourly."""

    name: ClassVar[str] = "drift"
    windows: ClassVar[tuple[int, ...]] = (2, 3, 4)
    statistics: ClassVar[tuple[str, ...]] = ("level_4h", "level_1d", "level_5d", "page_hinkley")
    standardised: ClassVar[tuple[str, ...]] = statistics[:3]
    kinds: ClassVar[tuple[str, ...]] = ("drift", "drift", "drift", "drift")
    horizons: ClassVar[tuple[int, ...]] = (2, 3, 4, 3)
    prior_scales: ClassVar[tuple[float, ...]] = (0.5, 0.30, 0.22)
    __slots__ = ("flag", "last_hour", "per_hour")

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.flag = page_hinkley()
        self.last_hour = -1
        self.per_hour = horizons.calendar.per_hour

    def score(self, moment: Moment) -> None:
        """The windows, and how much the test has gathered."""
        super().score(moment)
        moment.day_z = self.z[1]
        flag = self.flag
        # before the first hour River's least sum is infinite
        gathered = (flag._sum_increase - flag._min_increase) / UNIT if flag._min_increase < 0 else 0.0
        self.z[3] = gathered
        self.values[3] = min(gathered, MOST_UNITS) if moment.warm and gathered > 0 and moment.passes(3) else 0.0

    def learn(self, moment: Moment) -> None:
        """Besides the windows: once in each hour of use, show the residual to Page-Hinkley."""
        super().learn(moment)
        hour = moment.bucket // self.per_hour
        if moment.warm and hour != self.last_hour:
            self.last_hour = hour
            self.flag.update(max(-CLIP, min(CLIP, self.z[0])))

    def settle(self) -> None:
        """The test begins anew."""
        self.flag = page_hinkley()

    def pack(self) -> bytes:
        """The windows, and the state of the test."""
        flag = self.flag
        mean = flag._x_mean
        state = (flag._sum_increase, flag._min_increase, mean.get())
        return super().pack() + _FLAG.pack(self.last_hour, int(mean.n), *state, flag.drift_detected)

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        data = super().unpack(data)
        self.last_hour, count, increase, least, mean, detected = _FLAG.unpack_from(data)
        flag = self.flag = page_hinkley()
        flag._x_mean = stats.Mean._from_state(count, mean) if count else stats.Mean()
        flag._sum_increase, flag._min_increase, flag._drift_detected = increase, least, detected
        return data[_FLAG.size :]
