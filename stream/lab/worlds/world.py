"""A labelled world: sums per bucket and key, the attacks in them, and what only looks like one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.core.bucket import LOG_SCALE

Sums = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Episode:
    """An attack on one key in the buckets [first, last), or what only looks like one (`family` then says what).

    `intensity` names the row of a table ("x10", "+50%"); `mimic`: the attacker copies the key's own request shape, so
    that only volume and timing give it away; `tokens`: what the attack took in all (0 for a look-alike).
    """

    key: int
    first: int
    last: int
    family: str
    intensity: str
    mimic: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class World:
    """Sums of buckets x keys, attacks included. Bucket 0 begins at `start` (epoch seconds), a Monday 00:00 UTC.

    calls, input_tokens, output_tokens, reasoning_tokens: as they are
    known_calls: calls whose usage the gateway gave; tokens hold only those
    saturated: calls whose output reached the limit that the caller had set
    log_output, log_output_squares: sums over calls of ln(1 + output) and of its square, times LOG_SCALE, rounded
    same_model: sum over models of n (n - 1), where n are the bucket's calls to that model
    lost: telemetry that never came (the sums are 0 there)
    attack_tokens: tokens of the attacks alone
    first_day: days before this one are warm-up and are not counted
    """

    name: str
    start: float
    bucket_seconds: int
    key_ids: tuple[str, ...]
    calls: Sums
    known_calls: Sums
    input_tokens: Sums
    output_tokens: Sums
    reasoning_tokens: Sums
    saturated: Sums
    log_output: Sums
    log_output_squares: Sums
    same_model: Sums
    lost: NDArray[np.bool_]
    attack_tokens: Sums
    attacks: tuple[Episode, ...]
    lookalikes: tuple[Episode, ...]
    first_day: int = 0

    @property
    def per_day(self) -> int:
        """Buckets in a day."""
        return 86_400 // self.bucket_seconds

    @property
    def first_bucket(self) -> int:
        """Index of row 0 in event time: bucket i covers [i, i + 1) x bucket_seconds."""
        return int(self.start // self.bucket_seconds)


def scaled(values: NDArray[Any]) -> Sums:
    """Sums of logarithms as the detector holds them: whole multiples of 1 / LOG_SCALE."""
    rounded: Sums = np.rint(values * LOG_SCALE).astype(np.int64)
    return rounded
