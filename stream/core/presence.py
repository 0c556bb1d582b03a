"""When a key is used at all: the share of its time, and how long it had slept before it woke."""

from __future__ import annotations

import math
from array import array
from typing import Final

DAY_SHARE: Final = 0
LONG_SHARE: Final = 1
IDLE_DAYS: Final = 2
WAKE_DAYS: Final = 3
SEEN: Final = 4
LONG_DAYS: Final = 10.0
WAKE_AFTER_DAYS: Final = 0.25
"""A key that was silent for six hours has slept."""
WAKE_FADING_PER_DAY: Final = 0.056
"""A wake-up matters less from hour to hour: what is left of it after a day (0.99 per five minutes)."""


class Presence:
    """Of one key, moved step by step: shares of buckets with calls over a day and over ten, sleep and waking."""

    __slots__ = ("day_gain", "long_gain", "state", "step_days", "wake_fading")

    def __init__(self, steps_per_day: int) -> None:
        self.step_days = 1 / steps_per_day
        self.day_gain = 1 - math.exp(-self.step_days)
        self.long_gain = self.step_days / LONG_DAYS
        self.wake_fading = WAKE_FADING_PER_DAY**self.step_days
        self.state = array("f", bytes(20))

    def step(self, share: float) -> None:
        """A step in `share` of whose buckets there were calls."""
        state = self.state
        state[SEEN] += 1
        state[DAY_SHARE] += self.day_gain * (share - state[DAY_SHARE])
        state[LONG_SHARE] += max(self.long_gain, 1 / state[SEEN]) * (share - state[LONG_SHARE])
        if state[WAKE_DAYS]:
            state[WAKE_DAYS] *= self.wake_fading
        if share:
            if state[IDLE_DAYS] >= WAKE_AFTER_DAYS:
                state[WAKE_DAYS] = state[IDLE_DAYS]
            state[IDLE_DAYS] = 0.0
        else:
            state[IDLE_DAYS] += self.step_days

    @property
    def day_share(self) -> float:
        """Share of buckets with calls over the last day."""
        return self.state[DAY_SHARE]

    @property
    def long_share(self) -> float:
        """The same over the last ten days."""
        return self.state[LONG_SHARE]

    @property
    def wake_days(self) -> float:
        """How many days the key had slept before it woke, fading."""
        return self.state[WAKE_DAYS]
