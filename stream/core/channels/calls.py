"""Calls: more of them than the expected tokens are worth, and calls whose usage nobody says.

A gateway that gives no token counts must hide nothing: the number of calls is always known.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, ClassVar, Final

from stream.core.baseline import CAP_CALLS_PER_CALL, cap_of
from stream.core.bucket import USUAL
from stream.core.calendar import HOURS
from stream.core.channels.base import LITTLE_Z, Channel, Laws, Moment, Step, pack_sparse, take_arrays, take_sparse
from stream.core.scales import ALARM_RATE, Scales, rate_of

if TYPE_CHECKING:
    from stream.core.bucket import OpenBucket
    from stream.core.priors import Priors
    from stream.core.residuals import Horizons

WINDOWS = (2, 3)
PRIOR_SCALES = (0.5, 0.3, 0.7)
CALLS_OFFSET: Final = 6.0
"""Calls on both sides of the ratio: a window holds that many before a rise means anything."""
UNKNOWN_OFFSET: Final = 3.0
SHARE_PER_DAY: Final = 0.05
"""How quickly the usual share of tokens that had to be estimated is learned."""
CALLS_4H: Final = 0
CALLS_1D: Final = 1
VAGUE: Final = 2
TOKENS: Final = 3
SHARE: Final = 4


class Calls(Channel):
    """Answered calls of 4 hours and a day against expected ones; a day's estimated tokens against their usual share.

    A call that failed took nothing: a storm of retries is no extraction.
    """

    name: ClassVar[str] = "calls"
    statistics: ClassVar[tuple[str, ...]] = ("calls_4h", "calls_1d", "unknown_usage")
    standardised: ClassVar[tuple[str, ...]] = statistics
    kinds: ClassVar[tuple[str, ...]] = ("surge", "drift", "drift")
    horizons: ClassVar[tuple[int, ...]] = (2, 3, 3)
    __slots__ = ("decay", "laws", "per_day", "residuals", "scales", "state")

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.scales = Scales(PRIOR_SCALES)
        self.laws = Laws(priors, self.standardised)
        self.per_day = horizons.steps_per_day
        self.decay = tuple(horizons.decay[h] for h in WINDOWS)
        self.state = array("f", bytes(20))
        """Answered calls of four hours and of a day; of a day, estimated tokens and all; the usual share of those."""
        self.residuals = [0.0, 0.0, 0.0]

    def add(self, sums: OpenBucket) -> None:
        """Count them."""
        state = self.state
        calls = sums.known_calls
        tokens = sums.input_tokens + sums.output_tokens
        if sums.vague_calls:
            vague = sums.vague_input + sums.vague_output
            usual = sums.plan[USUAL]
            # what half a record says of a giant prompt is no rate either
            state[VAGUE] += min(vague, CAP_CALLS_PER_CALL * usual * sums.vague_calls) if usual > 0 else vague
            if vague:
                calls += sums.vague_calls
        state[CALLS_4H] += calls
        state[CALLS_1D] += calls
        state[TOKENS] += min(tokens, cap_of(sums.plan[USUAL], sums.calls)) if sums.plan[USUAL] > 0 else tokens

    def step(self, step: Step, frozen: bool) -> None:
        """The windows fade; the usual share is learned."""
        state = self.state
        state[CALLS_4H] *= self.decay[0]
        state[CALLS_1D] *= self.decay[1]
        state[VAGUE] *= self.decay[1]
        state[TOKENS] *= self.decay[1]
        if step.calls and state[TOKENS] > 0 and not frozen:
            state[SHARE] += SHARE_PER_DAY / self.per_day * (state[VAGUE] / state[TOKENS] - state[SHARE])

    def score(self, moment: Moment) -> None:
        """Log ratios, standardised by their own scales."""
        values, z, found, state = self.values, self.z, self.residuals, self.state
        residuals = moment.residuals
        usual = max(moment.baseline.call_tokens.value, 1.0)
        more = [0.0, 0.0, state[VAGUE] - state[SHARE] * state[TOKENS]]
        for i, h in enumerate(WINDOWS):
            due = residuals.expected[h] * residuals.horizons.buckets[h] / usual
            found[i] = math.log((state[i] + CALLS_OFFSET) / (due + CALLS_OFFSET))
            more[i] = (state[i] - due) * usual
        offset = UNKNOWN_OFFSET * usual
        found[2] = math.log((state[VAGUE] + offset) / (state[SHARE] * state[TOKENS] + offset))
        for i in range(3):
            z[i] = self.scales.standardise(i, found[i]) if moment.warm else 0.0
            # calls above the expectation matter if they would be worth the least excess at the key's usual size
            speaks = z[i] > 0.0 and more[i] >= moment.min_excess and state[CALLS_1D] >= moment.min_calls
            values[i] = self.laws.value(i, z[i]) if speaks else 0.0

    def learn(self, moment: Moment) -> None:
        """Scales learn while no incident is open."""
        rate = rate_of(moment.age_days, HOURS) * (ALARM_RATE if moment.alarm else 1.0)
        for i in range(3):
            if moment.warm:
                self.laws.see(i, self.z[i] if self.values[i] > 0 else min(self.z[i], LITTLE_Z))
            if moment.learning and moment.hourly:
                self.scales.learn(i, self.residuals[i], self.z[i], rate)

    def learn_day(self) -> None:
        """Take the day's maxima up."""
        self.laws.learn_day()

    def forget_day(self) -> None:
        """Leave the day's maxima out."""
        self.laws.forget_day()

    def settle(self) -> None:
        """What the incident left in the windows goes."""
        state = self.state
        state[CALLS_4H] = state[CALLS_1D] = 0.0
        state[VAGUE] = min(state[VAGUE], state[SHARE] * state[TOKENS])

    def pack(self) -> bytes:
        """At most 66 bytes."""
        scales = self.scales
        return b"".join((scales.mean, scales.variance, pack_sparse(self.state), self.laws.pack()))

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        data = take_arrays(data, self.scales.mean, self.scales.variance)
        return self.laws.unpack(take_sparse(data, self.state))
