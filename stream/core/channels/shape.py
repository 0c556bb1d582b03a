"""Extraction shape: volume unchanged, but answers longer, more alike, cut at the limit, reasoned, from one model.

Each aspect is compared with its own wander: the mean and variance of the key's 6-hour blocks, shrunk to the population
while they are few, sampling noise apart. Aspects are added after a Student-t compression, so that one alone cannot win
and evidence to the contrary counts.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, ClassVar, Final

from stream.core.bucket import LOG_SCALE
from stream.core.channels.base import Channel, Laws, Moment, Step, pack_sparse, take_arrays, take_sparse

if TYPE_CHECKING:
    from stream.core.bucket import OpenBucket
    from stream.core.priors import Priors
    from stream.core.residuals import Horizons

CALLS: Final = 0
SATURATED: Final = 1
LOGS: Final = 2
SQUARES: Final = 3
INPUT: Final = 4
OUTPUT: Final = 5
REASONING: Final = 6
SAME: Final = 7
PAIRS: Final = 8
COUNT: Final = 9
RATIO: Final = 0
UNIFORM: Final = 1
LENGTH: Final = 2
LIMIT: Final = 3
REASONED: Final = 4
FOCUS: Final = 5
ASPECTS = ("output_ratio", "uniformity", "output_length", "at_limit", "reasoning", "model_focus")
WINDOW_DAYS = (0.25, 1.0)
BLOCKS_PER_DAY: Final = 4
PRIOR_VARIANCE = (0.2, 0.35, 0.2, 0.3, 0.3, 0.3)
"""Variance over a key's 6-hour blocks before it has shown its own (measured on real clients, the last two chosen)."""
PRIOR_BLOCKS: Final = 6.0
BLOCK_MEMORY: Final = 40.0
BLOCK_CLIP: Final = 3.0
LEAST_BLOCK_CALLS: Final = 8
LEAST_BLOCKS: Final = 4
LEAST_WINDOW_CALLS: Final = 12.0
WANDER_WEIGHT = (2.0, 1.2)
"""A window ends anywhere, not at a block's end, and shifts last: more than a block's variance; a day averages some."""
FREEDOM: Final = 4.0
"""Degrees of freedom of the compression."""
LEAST_T: Final = -2.0
OUTPUT_GATE: Final = 0.2
"""The window's output must be this share of the least excess to matter."""
SMALL: Final = 0.02
RECORD_FADING: Final = 0.02
"""Per day, of the record of the 6-hour output/input ratio."""
RECORD_AFTER_DAYS: Final = 2
MOST_RECORD: Final = 4.0
NEWCOMER_DAYS: Final = 7.0
"""So long a key is compared with others: the newcomer channel wants the shape of its day, however few the calls."""
NO_RECORD: Final = -9.0
MOST_LOG_FACTOR: Final = 20.0


def compressed(z: float) -> float:
    """Student-t compression: z for small z, its logarithm's root for large ones; at least LEAST_T.

    >>> round(compressed(1.0), 2), round(compressed(10.0), 2), compressed(-5.0)
    (0.94, 3.61, -2.0)
    """
    return math.sqrt(FREEDOM * math.log1p(z * z / FREEDOM)) if z > 0 else max(z, LEAST_T)


def logit(share: float) -> float:
    """Log odds, finite at 0 and 1."""
    return math.log((share + SMALL) / (1 + SMALL - share))


_NEVER = logit(0.0)
_ALWAYS = logit(1.0)


def aspects_of(sums: array[float]) -> list[float]:
    """The six aspects of some calls, each rising with suspicion; needs calls, input and output above 0."""
    n, saturated, logs, squares, inputs, outputs, reasoning, same, pairs = sums
    log = math.log
    mean = logs / n
    variance = squares / n - mean * mean
    return [
        log(outputs / inputs),
        -log((variance if variance > 0 else 0.0) + SMALL),
        mean,
        log((saturated + 0.5) / (n + 10.0)),
        logit(reasoning / outputs if reasoning < outputs else 1.0) if reasoning else _NEVER,
        logit(same / pairs if same < pairs else 1.0) if pairs > 0 else _ALWAYS,
    ]


def noise_of(sums: array[float]) -> tuple[float, ...]:
    """Sampling variance of each aspect at so many calls."""
    n = sums[CALLS]
    return (2.5 / n, 2.0 / n, 1.0 / n, 1.0 / (sums[SATURATED] + 1.0), 2.5 / n, 4.0 / (math.sqrt(sums[PAIRS]) + 1.0))


class Shape(Channel):
    """Windows of 6 hours and a day over six aspects of the calls; the 6-hour ratio against its record."""

    name: ClassVar[str] = "shape"
    statistics: ClassVar[tuple[str, ...]] = ("shape_6h", "shape_1d", "ratio_record")
    standardised: ClassVar[tuple[str, ...]] = statistics[:2]
    kinds: ClassVar[tuple[str, ...]] = ("shape", "shape", "shape")
    horizons: ClassVar[tuple[int, ...]] = (2, 3, 2)
    __slots__ = (
        "_usual_wander",
        "all_sums",
        "blocks",
        "decay",
        "laws",
        "mean",
        "per_block",
        "record",
        "sums",
        "variance",
        "windows",
    )

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.laws = Laws(priors, self.standardised)
        self.per_block = horizons.calendar.per_day // BLOCKS_PER_DAY
        steps = horizons.steps_per_day
        self.decay = tuple(math.exp(-1 / (days * steps)) for days in WINDOW_DAYS)
        self.windows = (array("f", bytes(4 * COUNT)), array("f", bytes(4 * COUNT)))
        self.sums = array("f", bytes(4 * COUNT))
        """Of the block so far."""
        self.all_sums = (*self.windows, self.sums)
        self.mean = array("f", bytes(4 * len(ASPECTS)))
        self.variance = array("f", PRIOR_VARIANCE)
        self.blocks = array("f", bytes(4))
        self._usual_wander: list[float] | None = None
        """`_wander` of each aspect, as it has been since the last block."""
        self.record = array("f", (NO_RECORD, NO_RECORD, 0.0))
        """Of the ratio: the record, today's peak, and the days that were taken up."""

    def add(self, sums: OpenBucket) -> None:
        """Only calls whose usage is known have a shape."""
        calls = sums.known_calls
        if not calls:
            return
        logs, squares = sums.log_output / LOG_SCALE, sums.log_output_squares / LOG_SCALE
        inputs, outputs = sums.input_tokens - sums.vague_input, sums.output_tokens - sums.vague_output
        saturated, reasoning = sums.saturated, sums.reasoning_tokens
        pairs = calls * (calls - 1)
        same = pairs if len(sums.models) == 1 else sums.same_model()
        for window in self.all_sums:
            window[CALLS] += calls
            window[LOGS] += logs
            window[SQUARES] += squares
            window[INPUT] += inputs
            window[OUTPUT] += outputs
            if pairs:
                window[SAME] += same
                window[PAIRS] += pairs
            if saturated:
                window[SATURATED] += saturated
            if reasoning:
                window[REASONING] += reasoning

    def step(self, step: Step, frozen: bool) -> None:
        """The windows fade; at the end of six hours, learn from the block."""
        for window, decay in zip(self.windows, self.decay, strict=True):
            if window[CALLS]:
                window[:] = array("f", [value * decay for value in window])
        if (step.last + 1) % self.per_block == 0:
            block = self.sums
            if block[CALLS] >= LEAST_BLOCK_CALLS and block[INPUT] > 0 and block[OUTPUT] > 0 and not frozen:
                self._learn_block()
            for i in range(COUNT):
                block[i] = 0.0

    def _learn_block(self) -> None:
        mean, variance = self.mean, self.variance
        values, noise = aspects_of(self.sums), noise_of(self.sums)
        self._usual_wander = None
        blocks = self.blocks[0]
        self.blocks[0] = blocks + 1
        if blocks == 0:
            for a, value in enumerate(values):
                mean[a] = value
            return
        rate = max(1 / (blocks + 1), 1 / BLOCK_MEMORY)
        spread_rate = max(1 / blocks, 1 / BLOCK_MEMORY)
        for a, value in enumerate(values):
            limit = BLOCK_CLIP * math.sqrt(self._wander(a) + noise[a])
            deviation = max(-limit, min(limit, value - mean[a]))
            variance[a] += spread_rate * (max(deviation * deviation - noise[a], 0.0) - variance[a])
            mean[a] += rate * deviation

    def _wander(self, a: int) -> float:
        """Variance of the key's own blocks, shrunk to the population's."""
        own = min(max(self.blocks[0] - 1, 0.0), BLOCK_MEMORY)
        return (PRIOR_BLOCKS * PRIOR_VARIANCE[a] + own * self.variance[a]) / (PRIOR_BLOCKS + own)

    def deviations(self, q: int) -> list[float]:
        """The z of each aspect in window q, from what is usual for the key."""
        window = self.windows[q]
        return self._deviations(q, aspects_of(window), noise_of(window))

    def _deviations(self, q: int, aspects: list[float], noise: tuple[float, ...]) -> list[float]:
        wander = self._usual_wander
        if wander is None:
            wander = self._usual_wander = [self._wander(a) for a in range(len(ASPECTS))]
        weight = WANDER_WEIGHT[q]
        sqrt = math.sqrt
        return [
            (value - usual) / sqrt(weight * width + error)
            for value, usual, width, error in zip(aspects, self.mean, wander, noise, strict=True)
        ]

    def factors(self) -> dict[str, float]:
        """By how much each aspect of the day's calls differs from what is usual, as a factor; 1: not at all.

        Of output over input, of an answer's length, of the odds of reaching the limit, of reasoning and of one model,
        and of how much alike lengths are (the inverse of their log variance). Empty while too few calls are known.
        """
        window = self.windows[1]
        known = window[CALLS] > LEAST_WINDOW_CALLS and window[INPUT] > 0 and window[OUTPUT] > 0
        if not known or self.blocks[0] < LEAST_BLOCKS:
            return {}
        return {
            name: math.exp(max(-MOST_LOG_FACTOR, min(MOST_LOG_FACTOR, value - usual)))
            for name, value, usual in zip(ASPECTS, aspects_of(window), self.mean, strict=True)
        }

    def score(self, moment: Moment) -> None:
        """Half the sum of the compressed deviations, per window; the ratio of six hours against its record."""
        values, z = self.values, self.z
        least = OUTPUT_GATE * moment.min_excess
        for q, window in enumerate(self.windows):
            values[q] = z[q] = 0.0
            if window[CALLS] <= LEAST_WINDOW_CALLS or window[INPUT] <= 0 or window[OUTPUT] <= 0:
                continue
            speaks = self.blocks[0] >= LEAST_BLOCKS and window[OUTPUT] >= least
            if not speaks and (q == 0 or moment.age_days > NEWCOMER_DAYS):
                continue
            aspects = aspects_of(window)
            if q == 1:
                moment.aspects = aspects
            if speaks:
                total = 0.0
                for each in self._deviations(q, aspects, noise_of(window)):
                    # `compressed`, written out: it is asked twelve times a step
                    if each > 0:
                        total += math.sqrt(FREEDOM * math.log1p(each * each / FREEDOM))
                    else:
                        total += each if each > LEAST_T else LEAST_T
                z[q] = total / 2
                values[q] = self.laws.value(q, z[q])
        values[2] = z[2] = 0.0
        record = self.record
        if z[0] and record[2] >= RECORD_AFTER_DAYS and record[0] > NO_RECORD:
            z[2] = math.log(self.windows[0][OUTPUT] / self.windows[0][INPUT]) - record[0]
            values[2] = min(max(z[2], 0.0), MOST_RECORD)

    def learn(self, moment: Moment) -> None:
        """Note the day's highest."""
        for q in (0, 1):
            if self.z[q]:
                self.laws.see(q, self.z[q])
        if self.z[0]:
            window = self.windows[0]
            ratio = math.log(window[OUTPUT] / window[INPUT])
            if ratio > self.record[1]:
                self.record[1] = ratio

    def learn_day(self) -> None:
        """Take the day up."""
        self.laws.learn_day()
        record = self.record
        if record[1] > NO_RECORD:
            record[0] = max(record[0] - RECORD_FADING, record[1])
        record[1] = NO_RECORD
        record[2] += 1

    def forget_day(self) -> None:
        """Leave the day out."""
        self.laws.forget_day()
        self.record[1] = NO_RECORD

    def accept(self) -> None:
        """What few blocks have shown is soon learned anew."""
        self.blocks[0] = min(self.blocks[0], LEAST_BLOCKS)
        self._usual_wander = None

    def settle(self) -> None:
        """The windows begin anew."""
        for window in self.windows:
            for i in range(COUNT):
                window[i] = 0.0

    def _learned(self) -> tuple[array[float], ...]:
        return self.mean, self.variance, self.blocks, self.record

    def pack(self) -> bytes:
        """At most 190 bytes: few keys reason, reach limits, or use many models."""
        six, day = self.windows
        sums = pack_sparse(six + day + self.sums)
        return b"".join((sums, *self._learned(), self.laws.pack()))

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        self._usual_wander = None
        data = take_sparse(data, *self.windows, self.sums)
        return self.laws.unpack(take_arrays(data, *self._learned()))
