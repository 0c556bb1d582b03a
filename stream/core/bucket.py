"""One key's part of a bucket: what was known of it before it opened, its sums, and what closing it showed."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from stream.core.baseline import cap_of

if TYPE_CHECKING:
    from stream.core.channels.base import Finding

Plan = array  # of five 32-bit floats
"""What was known of a bucket before it could be open: early threshold, expected tokens, estimated input and output
tokens per call, and the cap per usual call. 32-bit floats, so that what is stored is what is used."""

LOG_SCALE = 1024
"""Sums of logarithms are held as whole multiples of 1/1024: sums of integers do not depend on their order."""

THRESHOLD, EXPECTED, ESTIMATED_INPUT, ESTIMATED_OUTPUT, USUAL = range(5)


class OpenBucket:
    """Sums of one key's records in one open bucket, all integers; tokens hold estimates where usage was missing."""

    __slots__ = (
        "calls", "cost_micros", "early", "index", "input_tokens", "missing", "output_tokens", "plan", "threshold",
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

    def is_over(self, min_calls: int) -> bool:
        """True if the sums are over the full bucket's threshold. Sums only grow: once true, always true."""
        plan = self.plan
        tokens: float = self.input_tokens + self.output_tokens
        if tokens < plan[THRESHOLD] or self.calls < min_calls:
            return False
        usual = plan[USUAL]
        return usual <= 0 or cap_of(usual, self.calls) >= plan[THRESHOLD]


class Verdict:
    """What closing one bucket showed.

    expected, slow: tokens by the two seasons; quick, slow_score: scores by the windows of minutes and by all channels,
    the latter 0 unless a step ended (`is_step`); findings: what the channels see, the strongest first, once the score
    is worth it
    """

    __slots__ = (
        "anomalous", "bucket", "expected", "findings", "is_step", "quick", "score", "slow", "slow_score", "sums",
        "upper",
    )  # fmt: skip

    def __init__(self, bucket: int, sums: OpenBucket | None, expected: float, slow: float) -> None:
        self.bucket = bucket
        self.sums = sums
        self.expected = expected
        self.slow = slow
        self.upper = math.inf
        self.findings: list[Finding] = []
        self.quick = self.slow_score = self.score = 0.0
        self.is_step = False
        self.anomalous = False
