"""Where a record of the source came from, if an intake wrote it: what was written twice is counted once.

The intake reads a topic that is not keyed by key id, and writes each of its elements into the source with its origin.
It writes every partition of its topic in order. So an origin that is not above the last one that was applied is a
replay: the intake began again further back than it had got, for its own place was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MAX_TOPICS = 8
"""Intake topics that are remembered; whoever has used more takes the oldest one's for new ones."""


class Origin(NamedTuple):
    """The place of an element: `topic` is some bytes that tell topics apart, and a topic that was made anew too.

    `element` is its position in the record's array, 0 where the record is no array.
    """

    topic: bytes
    partition: int
    offset: int
    element: int


class Origins:
    """The last origin of every partition of every intake topic. They arrive in order, but for replays.

    >>> origins = Origins()
    >>> [origins.is_new(Origin(b"t", 0, offset, 0)) for offset in (1, 2, 1, 2, 3)]
    [True, True, False, False, True]
    """

    __slots__ = ("_last",)

    def __init__(self, last: Iterable[tuple[bytes, int, int, int]] = ()) -> None:
        self._last: dict[bytes, dict[int, tuple[int, int]]] = {}
        for topic, partition, offset, element in last:
            self._last.setdefault(topic, {})[partition] = (offset, element)

    def is_new(self, origin: Origin) -> bool:
        """Whether an element was not applied before; from now on it was."""
        last = self._last.get(origin.topic)
        if last is None:
            if len(self._last) >= MAX_TOPICS:
                del self._last[next(iter(self._last))]
            last = self._last[origin.topic] = {}
        place = (origin.offset, origin.element)
        if place <= last.get(origin.partition, (-1, -1)):
            return False
        last[origin.partition] = place
        return True

    def pack(self) -> list[tuple[bytes, int, int, int]]:
        """All of them, for the shard's record; the constructor takes them up."""
        return [(topic, partition, *place) for topic, last in self._last.items() for partition, place in last.items()]
