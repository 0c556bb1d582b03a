"""Records: what a window holds against the most that it ever held. It suits keys that are used now and then.

No standard deviation fits a key that sleeps for days; its own record does. ln((window + c) / (record + c)), where the
record fades by 3 % a day and c stands for 20 usual calls and a share of the least excess.
"""

from __future__ import annotations

import math
from array import array
from typing import ClassVar, Final

from stream.core.channels.base import Channel, Moment, take_arrays
from stream.core.priors import Priors
from stream.core.residuals import Horizons

WINDOWS = (1, 2, 3)
FADING: Final = 0.97
AFTER_DAYS: Final = 2
"""A record needs two days to be one."""
OFFSET_CALLS: Final = 20.0
OFFSET_EXCESS: Final = 0.3
MOST: Final = 4.0
MATURE_DAYS: Final = 14.0
"""The longer a record stands, the more it says: a part of the evidence counts in proportion to the active days."""
COUNT = len(WINDOWS)


class Records(Channel):
    """The windows of 40 minutes, 4 hours and a day against their records."""

    name: ClassVar[str] = "records"
    statistics: ClassVar[tuple[str, ...]] = (
        "record_40m", "record_4h", "record_1d", "mature_record_40m", "mature_record_4h", "mature_record_1d",
    )  # fmt: skip
    kinds: ClassVar[tuple[str, ...]] = ("surge", "surge", "drift", "surge", "surge", "drift")
    horizons: ClassVar[tuple[int, ...]] = (1, 2, 3, 1, 2, 3)
    __slots__ = ("state",)

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.state = array("f", bytes(4 * (2 * COUNT + 1)))
        """Records, today's peaks, and the days that were taken up."""

    def score(self, moment: Moment) -> None:
        """The log ratio to the record of each window that holds enough."""
        values, z, state = self.values, self.z, self.state
        speaks = state[2 * COUNT] >= AFTER_DAYS and moment.excess >= moment.min_excess
        maturity = min(moment.active_days / MATURE_DAYS, 1.0)
        residuals = moment.residuals
        offset = OFFSET_CALLS * moment.baseline.call_tokens.value + OFFSET_EXCESS * moment.min_excess
        for i, h in enumerate(WINDOWS):
            z[i] = values[i] = 0.0
            if speaks and residuals.calls[h] >= moment.min_calls:
                held = residuals.observed[h] * residuals.horizons.buckets[h]
                z[i] = math.log((held + offset) / (state[i] + offset))
                values[i] = min(max(z[i], 0.0), MOST)
            z[COUNT + i] = z[i]
            values[COUNT + i] = values[i] * maturity

    def learn(self, moment: Moment) -> None:
        """Note the day's highest."""
        state, residuals = self.state, moment.residuals
        for i, h in enumerate(WINDOWS):
            held = residuals.observed[h] * residuals.horizons.buckets[h]
            if held > state[COUNT + i]:
                state[COUNT + i] = held

    def learn_day(self) -> None:
        """Records fade, or are broken."""
        state = self.state
        for i in range(COUNT):
            state[i] = max(FADING * state[i], state[COUNT + i])
            state[COUNT + i] = 0.0
        state[2 * COUNT] += 1

    def forget_day(self) -> None:
        """An incident breaks no record."""
        for i in range(COUNT):
            self.state[COUNT + i] = 0.0

    def pack(self) -> bytes:
        """28 bytes."""
        return self.state.tobytes()

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        return take_arrays(data, self.state)
