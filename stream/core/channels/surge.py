"""Surge: far more tokens than expected within minutes."""

from __future__ import annotations

import math
from array import array
from typing import ClassVar, Final

from stream.core.channels.base import Moment, take_arrays
from stream.core.channels.level import Level
from stream.core.priors import Priors
from stream.core.residuals import Horizons
from stream.core.scales import ALARM_RATE, ALARM_Z, FREEZE_RATE, FREEZE_Z

SLOTS: Final = 48
SLOT_RATE: Final = 0.02
"""Per five minutes: an hour of the week forgets half its variance in three visits."""
SLOT_WEIGHTS = (1.5, 1.0)
"""The hour's variance is that of the 40-minute window; ten minutes vary half as much again."""
SLOT_MAX: Final = 9.0
_CODE: Final = 20.0
_LEAST: Final = 1e-4
"""An hour's variance is held as 8 bit of 20 × ln(v / 0.0001): to 2.5 %, up to e^8."""


def _decoded(code: int) -> float:
    return _LEAST * math.exp(code / _CODE) if code else 0.0


_VARIANCES = tuple(_decoded(code) for code in range(256))


def coded_variance(variance: float) -> int:
    """An hour's variance as it is held; raises ValueError or OverflowError if it is no finite number."""
    return 0 if variance <= _LEAST else min(255, round(_CODE * math.log(variance / _LEAST)))


class Surge(Level):
    """The windows of 10 and 40 minutes. They are judged by the variance of their own hour where that is wider."""

    name: ClassVar[str] = "surge"
    quick: ClassVar[bool] = True
    windows: ClassVar[tuple[int, ...]] = (0, 1)
    statistics: ClassVar[tuple[str, ...]] = ("level_10m", "level_40m")
    standardised: ClassVar[tuple[str, ...]] = statistics
    kinds: ClassVar[tuple[str, ...]] = ("surge", "surge")
    horizons: ClassVar[tuple[int, ...]] = (0, 1)
    prior_scales: ClassVar[tuple[float, ...]] = (1.3, 0.8)
    __slots__ = ("bucket", "hour", "place", "rate", "slot", "slots")

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.place = horizons.calendar.place
        self.rate = SLOT_RATE * horizons.calendar.bucket_seconds / 300
        self.slots = array("B", bytes(SLOTS))
        self.hour = array("f", bytes(12))
        """Of the hour so far: sums of rate and of rate × squared upper residual, and its slot + 1."""
        self.bucket = self.slot = -1
        """The bucket whose slot was asked for last, and that: it is asked for several times in a row."""

    def _slot(self, bucket: int) -> int:
        if bucket != self.bucket:
            self.bucket, self.slot = bucket, self.place(bucket)[1]
        return self.slot

    def width(self, i: int, bucket: int) -> float:
        """Variance that window i is judged by in `bucket`."""
        variance: float = self.scales.variance[i]
        code = self.slots[self._slot(bucket)]
        if not code:
            return variance
        own = SLOT_WEIGHTS[i] * _VARIANCES[code]
        return own if own > variance else variance

    def standardise(self, i: int, moment: Moment) -> float:
        """The z of the i-th of these windows."""
        return (moment.ratios[i] - self.scales.mean[i]) / math.sqrt(self.width(i, moment.bucket))

    def learn(self, moment: Moment) -> None:
        """Besides the scales: how much this hour varies."""
        z = self.z
        moment.alarm = alarm = z[0] > ALARM_Z or z[1] > ALARM_Z
        super().learn(moment)
        if not moment.learning:
            return
        place = self._slot(moment.bucket) + 1
        hour = self.hour
        if hour[2] != place:
            self._close_hour()
            hour[2] = place
        rate = self.rate
        if alarm:
            rate *= ALARM_RATE
        if z[1] > FREEZE_Z:
            rate *= FREEZE_RATE
        hour[0] += rate
        residual = moment.ratios[1]
        if residual > 0:
            hour[1] += rate * 2 * min(residual * residual, SLOT_MAX)

    def _close_hour(self) -> None:
        """Take up the last hour in which the key was used."""
        rate, weighted, place = self.hour
        if place and rate > 0:
            slot = int(place) - 1
            known = _VARIANCES[self.slots[slot]]
            self.slots[slot] = coded_variance(known + min(rate, 1.0) * (weighted / rate - known))
        self.hour[0] = self.hour[1] = 0.0

    def pack(self) -> bytes:
        """60 bytes for the hours, besides the scales and laws."""
        return self.slots.tobytes() + self.hour.tobytes() + super().pack()

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        return super().unpack(take_arrays(data, self.slots, self.hour))
