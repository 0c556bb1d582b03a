"""One key's part of a bucket: what was known of it before it opened, its sums, and what closing it showed."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Final

from stream.core.baseline import cap_of

if TYPE_CHECKING:
    from stream.core.channels.base import Finding

Plan = array  # of five 32-bit floats
"""What was known of a bucket before it could be open: early threshold, expected tokens, estimated input and output
tokens per call, and the cap per usual call. 32-bit floats, so that what is stored is what is used."""

LOG_SCALE: Final = 1024
"""Sums of logarithms are held as whole multiples of 1/1024: sums of integers do not depend on their order."""

MAX_MODELS: Final = 8
"""Models of a bucket that are counted each by itself: few keys use more within minutes."""
OTHER_MODELS: Final = -1
"""The class under which the calls to all further ones are counted together; it is below all others."""

THRESHOLD: Final = 0
EXPECTED: Final = 1
ESTIMATED_INPUT: Final = 2
ESTIMATED_OUTPUT: Final = 3
USUAL: Final = 4


class OpenBucket:
    """Sums of one key's records in one open bucket, all integers; tokens hold estimates where usage was missing.

    What tells the shape of use is summed over the known calls only: those that were answered and whose usage the
    gateway gave. `vague_calls` are the others, with `vague_input` and `vague_output` as their tokens.
    """

    __slots__ = (
        "cached_input_tokens", "calls", "cost_micros", "early", "index", "input_tokens", "links", "log_output",
        "log_output_squares", "missing", "models", "output_tokens", "plan", "reasoning_tokens", "refused", "saturated",
        "threshold", "vague_calls", "vague_input", "vague_output",
    )  # fmt: skip

    def __init__(self, index: int, plan: Plan[float]) -> None:
        self.index = index
        self.plan = plan
        self.threshold: float = plan[THRESHOLD]
        """The plan's, at hand for every call."""
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_micros = 0
        self.missing = 0
        self.early = False
        # the few that are not known are counted, not the many that are: here the time of a busy shard goes
        self.vague_calls = 0
        self.vague_input = 0
        self.vague_output = 0
        self.reasoning_tokens = 0
        self.cached_input_tokens = 0
        """Both of known calls."""
        self.saturated = 0
        """Known calls whose output reached the limit that the caller had set."""
        self.log_output = 0
        """Sum over known calls of ln(1 + output tokens), each rounded to whole multiples of 1 / LOG_SCALE."""
        self.log_output_squares = 0
        """The same of its square."""
        self.models: dict[int, int] = {}
        """Known calls per class of model (16 bit of its name's CRC): at most MAX_MODELS and OTHER_MODELS."""
        self.links = 0
        """Which of the key's sets of traits the calls had, as a bit mask; see `Links`."""
        self.refused = 0
        """Calls that the gateway refused: their key was not, or no longer, valid."""

    @property
    def known_calls(self) -> int:
        """Calls that were answered and whose usage the gateway gave."""
        return self.calls - self.vague_calls

    @property
    def known_input(self) -> int:
        """Input tokens of the known calls."""
        return self.input_tokens - self.vague_input

    @property
    def known_output(self) -> int:
        """Output tokens of the known calls."""
        return self.output_tokens - self.vague_output

    def same_model(self) -> int:
        """Sum over models of n (n - 1), where n are the known calls to that model; OTHER_MODELS count as one model.

        Over known_calls (known_calls - 1) it is the chance that two calls went to the same model.
        """
        return sum(n * (n - 1) for n in self.models.values())

    def is_over(self, min_calls: int) -> bool:
        """True if the sums are over the full bucket's threshold. Sums only grow: once true, always true."""
        plan = self.plan
        tokens = self.input_tokens + self.output_tokens
        if tokens < plan[THRESHOLD] or self.calls < min_calls:
            return False
        usual = plan[USUAL]
        return usual <= 0 or cap_of(usual, self.calls) >= plan[THRESHOLD]


class Verdict:
    """What closing one bucket showed.

    expected, slow: tokens by the two seasons; quick, slow_score: scores by the windows of minutes and by all channels,
    the latter 0 unless a step ended; findings: what the channels see, the strongest first, once the score
    is worth it; bar: the score that opens an incident of this key
    """

    __slots__ = (
        "anomalous", "bar", "bucket", "expected", "findings", "quick", "score", "slow", "slow_score", "sums",
        "upper",
    )  # fmt: skip

    def __init__(self, bucket: int, sums: OpenBucket | None, expected: float, slow: float) -> None:
        self.bucket = bucket
        self.sums = sums
        self.expected = expected
        self.slow = slow
        self.upper = self.bar = math.inf
        self.findings: list[Finding] = []
        self.quick = self.slow_score = self.score = 0.0
        self.anomalous = False
