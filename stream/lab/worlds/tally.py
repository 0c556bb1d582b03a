"""Sums of a world while it is being made: keys x buckets, so that a key's run lies together in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.core.bucket import LOG_SCALE
from stream.lab.worlds.draws import MODELS, RequestShape, Usage
from stream.lab.worlds.world import Episode, Sums, World, scaled

BUCKET_SECONDS = 300
PER_DAY = 86_400 // BUCKET_SECONDS
START = 1_736_121_600.0
"""Monday 2025-01-06 00:00 UTC: no switch to or from summer time for weeks."""

_USAGE = ("input_tokens", "output_tokens", "reasoning_tokens", "saturated", "log_output", "log_output_squares")


class Tally:
    """Calls per model and sums of usage, keys x buckets; calls per model are keys x MODELS x buckets."""

    def __init__(self, keys: int, buckets: int) -> None:
        self.models = np.zeros((keys, MODELS, buckets), np.int32)
        self.known = np.zeros((keys, buckets), np.int32)
        self.attack_tokens = np.zeros((keys, buckets), np.int64)
        size = (keys, buckets)
        self.usage = Usage(
            input_tokens=np.zeros(size, np.int64),
            output_tokens=np.zeros(size, np.int64),
            reasoning_tokens=np.zeros(size, np.int64),
            saturated=np.zeros(size, np.int64),
            log_output=np.zeros(size),
            log_output_squares=np.zeros(size),
        )

    @property
    def keys(self) -> int:
        """Number of keys."""
        return self.known.shape[0]

    @property
    def buckets(self) -> int:
        """Number of buckets."""
        return self.known.shape[1]

    def add(self, key: int, first: int, by_model: Sums, known: Sums, usage: Usage) -> None:
        """Add calls (MODELS x n) in the n buckets from `first` on; `usage` holds the sums of the `known` ones."""
        span = slice(first, first + len(known))
        self.models[key, :, span] += by_model.astype(np.int32)
        self.known[key, span] += known.astype(np.int32)
        for name in _USAGE:
            getattr(self.usage, name)[key, span] += getattr(usage, name)

    def add_unknown(self, key: int, first: int, by_model: Sums) -> None:
        """Add calls (MODELS x n) from bucket `first` on whose usage the gateway did not give."""
        self.models[key, :, first : first + by_model.shape[1]] += by_model.astype(np.int32)

    def clear(self, key: int, first: int, last: int) -> None:
        """Take a key's calls in [first, last) out, so that others can take their place."""
        self.models[key, :, first:last] = 0
        self.known[key, first:last] = 0
        for name in _USAGE:
            getattr(self.usage, name)[key, first:last] = 0

    def world(
        self,
        name: str,
        key_ids: tuple[str, ...],
        lost: NDArray[np.bool_],
        attacks: tuple[Episode, ...],
        lookalikes: tuple[Episode, ...],
        first_day: int,
        start: float = START,
    ) -> World:
        """The world of these sums; `lost` is keys x buckets. What was lost is still among the attacks' tokens."""
        calls = self.models.sum(axis=1, dtype=np.int64)
        pairs = -calls
        for model in range(MODELS):
            pairs += self.models[:, model].astype(np.int64) ** 2
        logs = scaled(self.usage.log_output)
        # rounding must not push the squares below what sum and number of calls allow
        least = -(-logs * logs // (np.maximum(self.known, 1) * LOG_SCALE))
        squares = np.maximum(scaled(self.usage.log_output_squares), least)

        def finished(sums: Sums | NDArray[np.int32]) -> Sums:
            return np.ascontiguousarray(np.where(lost, 0, sums).T, dtype=np.int64)

        return World(
            name=name,
            start=start,
            bucket_seconds=BUCKET_SECONDS,
            key_ids=key_ids,
            calls=finished(calls),
            known_calls=finished(self.known),
            input_tokens=finished(self.usage.input_tokens),
            output_tokens=finished(self.usage.output_tokens),
            reasoning_tokens=finished(self.usage.reasoning_tokens),
            saturated=finished(self.usage.saturated),
            log_output=finished(logs),
            log_output_squares=finished(squares),
            same_model=finished(pairs),
            lost=np.ascontiguousarray(lost.T),
            attack_tokens=np.ascontiguousarray(self.attack_tokens.T),
            attacks=attacks,
            lookalikes=lookalikes,
            first_day=first_day,
        )


@dataclass(frozen=True, slots=True)
class Background:
    """Keys as they are without an attack: their sums, and what an attacker of them would have to know.

    level: expected calls, keys x buckets; born: a key's first bucket, 0 if it was there from the start
    newcomers: keys that were made to begin in the run, and may be an attacker's own
    busy: keys that hold a look-alike already
    """

    tally: Tally
    level: NDArray[np.float32]
    shapes: tuple[RequestShape, ...]
    born: Sums
    newcomers: Sums
    busy: frozenset[int] = frozenset()
