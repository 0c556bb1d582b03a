"""How far a partition of the intake may run ahead of the others in event time. No clock of its own, no I/O.

Partitions are read at different speeds, above all where there is a backlog. But what one of them writes into the source
moves the watermarks there, and what another one writes later would be late. So a partition waits for those that lag
behind, in this worker and in others; those that have reached their end hold nobody up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

LEAST_ALLOWANCE_SECONDS = 1.0
"""Also with no allowed lateness: else the partitions would take turns record by record."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a partition has come: the first offset that is not done, and its largest event time (-inf: unknown)."""

    offset: int
    front: float = -math.inf


class Alignment:
    """Tells how far partitions may go. `now` is a monotonic clock in seconds.

    >>> alignment = Alignment(allowance=30, patience=60)
    >>> alignment.see_ends({0: 100, 1: 100})
    >>> alignment.limit(0, {1: Reach(7, front=500.0)}, now=1.0)
    (530.0, {1})
    """

    def __init__(self, allowance: float, patience: float) -> None:
        self._allowance = max(allowance, LEAST_ALLOWANCE_SECONDS)
        self._patience = patience
        self._ends: dict[int, int] = {}
        self._ends_before: dict[int, int] = {}
        self._still: dict[int, tuple[int, float]] = {}

    @property
    def partitions(self) -> set[int]:
        """Partitions that have records."""
        return {partition for partition, end in self._ends.items() if end > 0}

    def see_ends(self, ends: Mapping[int, int]) -> None:
        """Take up the end offsets of all partitions, looked at about once a second."""
        # who has reached what was the end a look ago is not behind: it just has not seen the newest
        self._ends_before, self._ends = self._ends or dict(ends), dict(ends)

    def limit(self, partition: int, reached: Mapping[int, Reach], now: float) -> tuple[float, set[int]]:
        """The event time up to which a partition may go, and who sets that limit; inf while nobody lags behind.

        Nobody waits for a partition that has not moved for the time of patience.
        """
        lowest, slowest = math.inf, set[int]()
        for other, end in self._ends_before.items():
            if other == partition:
                continue
            reach = reached.get(other)
            offset = reach.offset if reach is not None else 0
            if offset >= end or self._is_stuck(other, offset, now):
                continue
            front = reach.front if reach is not None else -math.inf
            if front < lowest:
                lowest, slowest = front, {other}
            elif front == lowest:
                slowest.add(other)
        return lowest + self._allowance, slowest

    def _is_stuck(self, partition: int, offset: int, now: float) -> bool:
        known = self._still.get(partition)
        if known is None or known[0] != offset:
            self._still[partition] = (offset, now)
            return False
        return now - known[1] > self._patience
