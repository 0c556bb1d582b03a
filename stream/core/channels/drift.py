"""Drift: a rise that stays for hours or days, too low for any single bucket to show."""

from __future__ import annotations

import struct
from typing import ClassVar

from river import drift, stats

from stream.core.calibration import Priors
from stream.core.channels.base import Evidence, Gate
from stream.core.channels.surge import Surge
from stream.core.residuals import Residuals

SECONDS_PER_STEP = 3600
"""Page-Hinkley sees one value an hour: the 40-minute residual, which has forgotten the last one by then."""
CLIP = 3.0
DELTA = 0.5
"""A rise of half a standard deviation is tolerated."""
THRESHOLD = 15.0
"""Sum of standard deviations above that: a rise of one is found in about 30 hours, of three in six."""
FADING = 1 - 1 / 240
FLAG_SECONDS = 86_400
FLAG_BONUS = 1.0
"""What a raised flag adds to the score, on the scale of the tail law, which was measured with it."""
PRESENT_Z = 0.5
"""A drift is news only while the last 40 minutes are above their expectation too: an attack that has ended is over."""

_FLAG = struct.Struct("<3i3d?")


def page_hinkley() -> drift.PageHinkley:
    """River's one-sided Page-Hinkley test on an hourly standardised residual."""
    return drift.PageHinkley(min_instances=72, delta=DELTA, threshold=THRESHOLD, alpha=FADING, mode="up")


class Drift(Surge):
    """The windows of 4 hours, 1 day and 5 days, helped by River's Page-Hinkley test on the hourly residual."""

    name: ClassVar[str] = "drift"
    horizons: ClassVar[tuple[int, ...]] = (2, 3, 4)
    __slots__ = ("flag", "flagged_at", "last_hour", "per_flag", "per_step")

    def __init__(self, priors: Priors, bucket_seconds: int) -> None:
        super().__init__(priors, bucket_seconds)
        self.flag = page_hinkley()
        self.flagged_at = self.last_hour = -1
        self.per_step = SECONDS_PER_STEP // bucket_seconds
        self.per_flag = FLAG_SECONDS // bucket_seconds

    def score(self, residuals: Residuals, gate: Gate) -> Evidence | None:
        """The strongest window while the rise is present; a raised flag adds to it."""
        if residuals.z[1] < PRESENT_Z or residuals.z[2] < PRESENT_Z:
            return None
        found = super().score(residuals, gate)
        if found is None or self.flagged_at < 0:
            return found
        return Evidence(found.channel, found.z, found.score + FLAG_BONUS, found.horizon, found.excess_tokens)

    def learn(self, residuals: Residuals, bucket: int) -> None:
        """Note the day's highest residuals; once in each hour of use, show the residual to Page-Hinkley."""
        super().learn(residuals, bucket)
        if 0 <= self.flagged_at <= bucket - self.per_flag:
            self.flagged_at = -1
        hour = bucket // self.per_step
        if hour != self.last_hour:
            self.last_hour = hour
            self.flag.update(max(-CLIP, min(CLIP, residuals.z[1])))
            if self.flag.drift_detected:
                self.flagged_at = bucket

    def pack(self) -> bytes:
        """The windows, and the state of the test."""
        flag = self.flag
        mean = flag._x_mean
        state = (flag._sum_increase, flag._min_increase, mean.get())
        return super().pack() + _FLAG.pack(self.flagged_at, self.last_hour, int(mean.n), *state, flag.drift_detected)

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        data = super().unpack(data)
        self.flagged_at, self.last_hour, count, increase, least, mean, detected = _FLAG.unpack_from(data)
        flag = self.flag = page_hinkley()
        flag._x_mean = stats.Mean._from_state(count, mean) if count else stats.Mean()
        flag._sum_increase, flag._min_increase, flag._drift_detected = increase, least, detected
        return data[_FLAG.size :]
