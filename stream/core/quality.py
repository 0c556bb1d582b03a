"""How far a shard's data can be trusted now, and by how much the bar is raised where it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from stream.alerts import DataQuality

HALF_LIFE_SECONDS: Final = 3600.0
"""Of event time: what was wrong an hour ago counts half, so that a fault shows within minutes and is over in hours."""
STEADY: Final = 100.0
"""Calls, or records, without a fault that are added to what was seen: three bad ones of five are no poor data."""
FREE_SHARE: Final = 0.05
"""Of calls without usage and of late records: up to here nothing is raised. Every gateway loses some."""
FULL_SHARE: Final = 0.5
"""From here on the bar is raised by MOST_CAUTION: half of what is judged is estimated, or came too late to be."""
MOST_CAUTION: Final = 1.0
"""In decades of the score: a tenth of the false alerts. Whoever has a key can hide its usage by breaking off answers,
so that hiding must not cost more than this."""
COUNTS: Final = 5
"""Of `Step.counts`: accepted, duplicates, late, out of order, without tokens."""
OUT_OF_ORDER_SECONDS: Final = 1.0
"""A record so much older than the newest one came out of order: several gateways are never in step by less."""


def caution_of(missing: float, calls: float, late: float, records: float) -> float:
    """By how many decades of its score the bar for an alert is raised, from 0 to MOST_CAUTION.

    Linear in the share of data that cannot be trusted, between FREE_SHARE and FULL_SHARE: that of `calls` without usage
    and that of `records` that came too late, each beside STEADY good ones.

    >>> caution_of(0, 1000, 50, 1000), round(caution_of(300, 1000, 0, 1000), 2), caution_of(1000, 1000, 500, 1000)
    (0.0, 0.49, 1.0)
    """
    poor = missing / (calls + STEADY) + late / (records + STEADY)
    return MOST_CAUTION * min(1.0, max(0.0, (poor - FREE_SHARE) / (FULL_SHARE - FREE_SHARE)))


class Quality:
    """Recent counts of a shard, which fade with event time as its buckets close.

    What lies in a bucket, its calls and those without usage, counts when the bucket closes, bucket by bucket: neither
    the order of its records nor how many buckets close at once can matter. The rest (duplicates, late, out of order)
    counts as it comes. `totals` are `Step.counts` since the shard's first record. `caution` is in force until the first
    close.
    """

    __slots__ = ("_at", "_calls", "_cautions", "_counted", "_faded", "_missing", "bucket_seconds", "missing")

    def __init__(self, bucket_seconds: float, caution: float = 0.0) -> None:
        self.bucket_seconds = bucket_seconds
        self.missing: dict[int, int] = {}
        """Answered calls without usage, by open bucket."""
        self._faded = [0.0] * COUNTS
        self._counted: tuple[int, ...] = (0,) * COUNTS
        """The totals at the last close."""
        self._at = 0
        """The last closed bucket that held calls."""
        self._calls = self._missing = 0.0
        """Calls up to that bucket, and those without usage; faded."""
        self._cautions: list[tuple[int, float]] = [(-1, caution)]
        """What was in force before the last close, then by each bucket with calls that it closed."""

    @property
    def caution(self) -> float:
        """In force since the last close; see `caution_of`."""
        return self._cautions[-1][1]

    def caution_at(self, bucket: int) -> float:
        """What was in force when a bucket of the last close was judged: by what it and those before it held."""
        return next((caution for at, caution in reversed(self._cautions) if at <= bucket), self._cautions[0][1])

    def miss(self, bucket: int, calls: int) -> None:
        """Calls of an open bucket had an answer and no usage."""
        self.missing[bucket] = self.missing.get(bucket, 0) + calls

    def close(self, buckets: int, calls: Mapping[int, int], totals: Sequence[int]) -> None:
        """`buckets` buckets close; `calls` are those of each that holds any."""
        weight = self._weight(buckets)
        self._faded = [
            old * weight + (now - before) for old, now, before in zip(self._faded, totals, self._counted, strict=True)
        ]
        self._counted = tuple(totals)
        del self._cautions[:-1]
        for bucket in sorted(calls):
            weight = self._weight(bucket - self._at)
            self._calls = self._calls * weight + calls[bucket]
            self._missing = self._missing * weight + self.missing.pop(bucket, 0)
            self._at = bucket
            self._cautions.append((bucket, self._caution()))

    def _weight(self, buckets: int) -> float:
        return float(0.5 ** (max(0, buckets) * self.bucket_seconds / HALF_LIFE_SECONDS))

    def _caution(self) -> float:
        accepted, duplicates, late, *_ = self._faded
        return caution_of(self._missing, self._calls, late, accepted + duplicates + late)

    def shares(self, totals: Sequence[int]) -> DataQuality:
        """The recent shares; what came since the last close is in them, but for usage, which counts by bucket."""
        accepted, duplicates, late, out_of_order, zero = (
            old + now - before for old, now, before in zip(self._faded, totals, self._counted, strict=True)
        )
        seen = max(1.0, accepted + duplicates + late)
        return DataQuality(
            missing_usage=self._missing / max(1.0, self._calls),
            late=late / seen,
            duplicates=duplicates / seen,
            lag_seconds=0.0,
            out_of_order=out_of_order / max(1.0, accepted),
            zero_usage=zero / max(1.0, accepted),
            caution=self.caution,
        )

    def pack(self) -> tuple[list[float], list[int], dict[int, int]]:
        """What is stored: faded counts, whole ones, and what open buckets hold."""
        return (
            [*self._faded, self._calls, self._missing, self.caution],
            [*self._counted, self._at],
            dict(self.missing),
        )

    def restore(
        self, faded: Sequence[float], counted: Sequence[int], missing: Mapping[int, int], now: Sequence[int]
    ) -> None:
        """Take up what was stored; a state that holds none begins with the totals of `now`, and knows of no fault."""
        if len(faded) != COUNTS + 3 or len(counted) != COUNTS + 1:
            self._counted = tuple(now)
            return
        self._faded = list(faded[:COUNTS])
        self._calls, self._missing, caution = faded[COUNTS:]
        self._counted, self._at = tuple(counted[:COUNTS]), counted[COUNTS]
        self.missing = dict(missing)
        self._cautions = [(-1, caution)]
