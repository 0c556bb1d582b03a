"""Quiet hours: use in hours that the key hardly ever uses, and use round the clock."""

from __future__ import annotations

import math
from array import array
from typing import ClassVar, Final

from stream.core.calendar import HOURS
from stream.core.channels.base import LITTLE_Z, Channel, Laws, Moment, Step, take_arrays
from stream.core.priors import Priors
from stream.core.residuals import OFFSET_CALLS, OFFSET_LEVEL, Horizons
from stream.core.scales import ALARM_RATE, Scales, rate_of

QUIET_SHARE: Final = 0.5
"""A quiet hour is one for which the slow season expects less than half the level."""
MEMORY_DAYS: Final = 0.5
"""Of quiet time alone: a night or two."""
PRIOR_SCALE: Final = 0.6
TOKENS: Final = 0
EXPECTED: Final = 1
CALLS: Final = 2
IS_QUIET: Final = 3
DAY_RECORD: Final = 4
DAY_PEAK: Final = 5
DAYS: Final = 6
RECORD_FADING: Final = 0.97
"""Per day, of the record of a day's active share."""
MOST_RECORD: Final = 4.0
SHARE_OFFSET: Final = 0.05
RECORD_AFTER_DAYS: Final = 2


class Quiet(Channel):
    """Tokens in quiet hours against what the slow season expects of them; the day's active share against its record."""

    name: ClassVar[str] = "quiet"
    statistics: ClassVar[tuple[str, ...]] = ("quiet_hours", "active_record")
    standardised: ClassVar[tuple[str, ...]] = statistics[:1]
    kinds: ClassVar[tuple[str, ...]] = ("quiet_hours", "quiet_hours")
    horizons: ClassVar[tuple[int, ...]] = (3, 3)
    __slots__ = ("decay", "gain", "laws", "offset", "per_step", "scales", "state")

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.scales = Scales((PRIOR_SCALE,))
        self.laws = Laws(priors, self.standardised)
        self.per_step = horizons.per_step
        steps = MEMORY_DAYS * horizons.steps_per_day
        self.decay = math.exp(-1 / steps)
        self.gain = 1 - self.decay
        self.offset = 1500.0 * horizons.calendar.bucket_seconds / 300 / math.sqrt(steps * self.per_step)
        self.state = array("f", bytes(28))
        """Quiet tokens and expectation (per bucket), calls (sum), whether the last step was quiet; record and today's
        peak of the active share, and the days that were taken up."""

    def step(self, step: Step, frozen: bool) -> None:
        """The window moves in quiet hours alone."""
        state = self.state
        state[IS_QUIET] = step.slow < QUIET_SHARE * step.level * step.buckets
        if state[IS_QUIET]:
            decay = self.decay
            gain = self.gain / step.buckets
            state[TOKENS] = decay * state[TOKENS] + gain * step.tokens
            state[EXPECTED] = decay * state[EXPECTED] + gain * step.slow
            state[CALLS] = decay * state[CALLS] + step.calls

    def score(self, moment: Moment) -> None:
        """In a quiet hour: the log ratio of what was used; at any time: how much of the day was used at all."""
        values, z, state = self.values, self.z, self.state
        values[0] = values[1] = z[0] = z[1] = 0.0
        if moment.warm and state[IS_QUIET]:
            z[0] = raw = self.scales.standardise(0, self._ratio(moment))
            excess = (state[TOKENS] - state[EXPECTED]) * self.per_step / self.gain
            if raw > 0.0 and state[CALLS] >= moment.min_calls and excess >= moment.min_excess:
                values[0] = self.laws.value(0, raw)
        if state[DAYS] >= RECORD_AFTER_DAYS and moment.excess >= moment.min_excess:
            z[1] = math.log((moment.presence.day_share + SHARE_OFFSET) / (state[DAY_RECORD] + SHARE_OFFSET))
            values[1] = min(max(z[1], 0.0), MOST_RECORD)

    def _ratio(self, moment: Moment) -> float:
        baseline, state = moment.baseline, self.state
        buckets = self.per_step / self.gain
        offset = OFFSET_CALLS * baseline.call_tokens.value / buckets + OFFSET_LEVEL * baseline.level.value + self.offset
        return math.log((state[TOKENS] + offset) / (state[EXPECTED] + offset))

    def learn(self, moment: Moment) -> None:
        """The scale learns in quiet hours, while no incident is open."""
        state = self.state
        if moment.presence.day_share > state[DAY_PEAK]:
            state[DAY_PEAK] = moment.presence.day_share
        if not (moment.warm and state[IS_QUIET]):
            return
        raw = self.z[0]
        self.laws.see(0, raw if self.values[0] > 0 else min(raw, LITTLE_Z))
        if moment.learning and moment.hourly:
            rate = 2 * rate_of(moment.age_days, HOURS) * (ALARM_RATE if moment.alarm else 1.0)
            self.scales.learn(0, self._ratio(moment), raw, rate)

    def learn_day(self) -> None:
        """Take the day up: its maximum, and its active share."""
        self.laws.learn_day()
        state = self.state
        state[DAY_RECORD] = max(RECORD_FADING * state[DAY_RECORD], state[DAY_PEAK])
        state[DAY_PEAK] = 0.0
        state[DAYS] += 1

    def forget_day(self) -> None:
        """Leave the day out."""
        self.laws.forget_day()
        self.state[DAY_PEAK] = 0.0

    def settle(self) -> None:
        """What the incident left in the quiet window goes."""
        self.state[TOKENS] = min(self.state[TOKENS], self.state[EXPECTED])

    def pack(self) -> bytes:
        """50 bytes."""
        scales = self.scales
        return scales.mean.tobytes() + scales.variance.tobytes() + self.state.tobytes() + self.laws.pack()

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        scales = self.scales
        targets = (scales.mean, scales.variance, self.state)
        return self.laws.unpack(take_arrays(data, *targets))
