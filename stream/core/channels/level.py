"""What surge and drift share: the level of a window against its expectation and its own scale."""

from __future__ import annotations

from typing import ClassVar

from stream.core.calendar import HOURS
from stream.core.channels.base import LITTLE_Z, Channel, Laws, Moment, take_arrays
from stream.core.priors import Priors
from stream.core.residuals import Horizons
from stream.core.scales import ALARM_RATE, SLOW_HORIZON_SHARE, YOUNG_DAYS, Scales, rate_of


class Level(Channel):
    """Standardised log ratios of some windows, each against the key's own daily maxima."""

    windows: ClassVar[tuple[int, ...]]
    prior_scales: ClassVar[tuple[float, ...]]
    __slots__ = ("laws", "per_day", "scales")

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.scales = Scales(self.prior_scales)
        self.laws = Laws(priors, self.standardised)
        self.per_day = horizons.calendar.per_day if self.quick else HOURS

    def score(self, moment: Moment) -> None:
        """Judge each window; one with too little in it says little, whatever its ratio."""
        values, z = self.values, self.z
        for i, h in enumerate(self.windows):
            raw = z[i] = self.standardise(i, moment) if moment.warm else 0.0
            values[i] = self.laws.value(i, raw) if raw > 0.0 and moment.passes(h) else 0.0

    def residual(self, i: int, moment: Moment) -> float:
        """What is standardised: the log ratio of the i-th of these windows."""
        return moment.ratios[self.windows[i]]

    def standardise(self, i: int, moment: Moment) -> float:
        """The z of the i-th of these windows."""
        return self.scales.standardise(i, self.residual(i, moment))

    def learn(self, moment: Moment) -> None:
        """Scales learn while no incident is open; the day's maxima once the key can be judged."""
        z, windows = self.z, self.windows
        if moment.warm:
            for law, h, raw in zip(self.laws.laws, windows, z, strict=False):
                if raw > law.peak:
                    law.see(raw if raw <= LITTLE_Z or moment.passes(h) else LITTLE_Z)
        if moment.learning and (moment.hourly or self.quick):
            rate = rate_of(moment.age_days, self.per_day)
            if moment.alarm:
                rate *= ALARM_RATE
            young, learn = moment.age_days < YOUNG_DAYS, self.scales.learn
            for i, h in enumerate(windows):
                learn(i, self.residual(i, moment), z[i], rate if young or h <= 2 else rate * SLOW_HORIZON_SHARE)

    def learn_day(self) -> None:
        """Take the day's maxima up."""
        self.laws.learn_day()

    def forget_day(self) -> None:
        """Leave the day's maxima out."""
        self.laws.forget_day()

    def pack(self) -> bytes:
        """8 bytes a window, and the laws."""
        return self.scales.mean.tobytes() + self.scales.variance.tobytes() + self.laws.pack()

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        data = take_arrays(data, self.scales.mean, self.scales.variance)
        return self.laws.unpack(data)
