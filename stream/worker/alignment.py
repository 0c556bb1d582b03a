"""How far a partition of the intake may run ahead of the others in event time. No clock of its own, no I/O.

Partitions are read at different speeds, above all where there is a backlog. But what one of them writes into the source
moves the watermarks there, and what another one writes later would be late. So a partition waits for those that lag
behind, in this worker and in others; those that have reached their end hold nobody up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

LEAST_ALLOWANCE_SECONDS = 1.0
"""Also with no allowed lateness: else the partitions would take turns record by record."""


class Reach(NamedTuple):
    """How far a partition has come: the first offset that is not done, and its largest event time (-inf: unknown)."""

    offset: int
    front: float = -math.inf


NOWHERE = Reach(0)


class Limit(NamedTuple):
    """An event time, and the partitions that set it; none of them: a fresh look at the ends may move it."""

    time: float
    slowest: set[int]


@dataclass(slots=True)
class _Look:
    """A partition's `end` as it was seen once, and how far the partitions in hand had been by then (`asked`).

    clear: the event time up to which all that was written to it before somebody was there lies in the source
    """

    end: int
    asked: float
    passed: bool = False
    clear: float = -math.inf

    def pass_by(self, offset: int) -> None:
        """The partition is done up to `offset`."""
        if offset >= self.end:
            self.passed, self.clear = True, max(self.clear, self.asked)


class Alignment:
    """Tells how far partitions may go. `now` is a monotonic clock in seconds.

    Where another partition lags behind, its largest event time and the allowance are the limit. Of one that does not,
    it is not known what has been written to it since its end was looked at: so that look is good for the allowance
    too, from the event time on that had been reached by then. A partition that is written to all the time never is at
    its end: it is enough that it comes to where its end was. Until then a new end says nothing, so it is not taken up;
    and what it writes by a clock that lags for hours, or what cannot be read, holds nobody up.

    >>> alignment = Alignment(allowance=30, patience=60)
    >>> alignment.see_ends({0: 100, 1: 100}, front=900.0)
    >>> alignment.limit(0, {1: Reach(7, front=500.0)}, now=1.0)
    Limit(time=530.0, slowest={1})
    >>> alignment.limit(0, {1: Reach(100, front=500.0)}, now=2.0)
    Limit(time=930.0, slowest=set())
    """

    def __init__(self, allowance: float, patience: float) -> None:
        self._allowance = max(allowance, LEAST_ALLOWANCE_SECONDS)
        self._patience = patience
        self._looks: dict[int, _Look] = {}
        self._seen_at = -math.inf
        self._still: dict[int, tuple[int, float]] = {}

    @property
    def partitions(self) -> set[int]:
        """All partitions of the topic, as far as they are known."""
        return set(self._looks)

    def see_ends(self, ends: Mapping[int, int], front: float, reached: Mapping[int, Reach] | None = None) -> None:
        """Take up the end offsets of all partitions, and how far they have come.

        front: what had been reached by those in hand before the ends were asked for
        """
        self._seen_at = max(front, self._seen_at)
        self._looks = {partition: look for partition, look in self._looks.items() if partition in ends}
        for partition, end in ends.items():
            look = self._looks.get(partition)
            if look is None:
                self._looks[partition] = _Look(end, self._seen_at)
                continue
            look.pass_by((reached or {}).get(partition, NOWHERE).offset)
            if look.passed or end < look.end:
                look.end, look.asked, look.passed = end, self._seen_at, False

    def limit(self, partition: int, reached: Mapping[int, Reach], now: float) -> Limit:
        """How far a partition may go, where the others have reached so far; inf if there are no others.

        Nobody waits for a partition that has not moved for the time of patience.
        """
        lowest, slowest = math.inf, set[int]()
        for other, look in self._looks.items():
            if other == partition:
                continue
            offset, front = reached.get(other, NOWHERE)
            look.pass_by(offset)
            lags = not look.passed
            bound = max(front, look.clear)
            if lags and self._is_stuck(other, offset, now):
                lags, bound = False, max(bound, self._seen_at)
            if bound < lowest:
                lowest, slowest = bound, set()
            if bound == lowest and lags:
                slowest.add(other)
        return Limit(lowest + self._allowance, slowest)

    def _is_stuck(self, partition: int, offset: int, now: float) -> bool:
        known = self._still.get(partition)
        if known is None or known[0] != offset:
            self._still[partition] = (offset, now)
            return False
        return now - known[1] > self._patience
