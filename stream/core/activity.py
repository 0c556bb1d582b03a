"""How busy a shard usually is: what silence has to be measured against."""

from __future__ import annotations

from typing import Final

from stream.core.adaptivemean import AdaptiveMean

RATE: Final = 1 / 144
"""Half a day of 5-minute buckets."""


class Activity:
    """Mean calls per bucket of a shard, learned from the buckets between its first and its newest."""

    __slots__ = ("buckets", "mean")

    def __init__(self, buckets: int = 0, mean: float = 0.0) -> None:
        self.buckets = buckets
        self.mean = AdaptiveMean(mean, RATE)

    def learn(self, calls: float) -> None:
        """One closed bucket of the shard."""
        self.buckets += 1
        self.mean.learn(calls, max(RATE, 1 / self.buckets))

    def expected(self, buckets: float, least: int) -> float:
        """Calls expected in so many buckets; 0 before `least` buckets are known."""
        return float(self.mean.get()) * buckets if self.buckets >= least else 0.0
