"""How far a notifier has told: the offset to commit, and in its metadata what was told beyond it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_METADATA = 3500
"""Bytes; a broker takes 4,096 as it comes (`offset.metadata.max.bytes`)."""
MAX_DONE_BYTES = 1200


@dataclass(frozen=True, slots=True)
class Place:
    """What was committed for a partition.

    `done` are ranges of offsets, ends included, at or beyond `offset` that need not be told again; `told` the short ids
    of open incidents that were told one by one, None where all were; `more`: `told` lacks some for want of room.
    """

    offset: int
    done: tuple[tuple[int, int], ...] = ()
    told: frozenset[str] | None = None
    more: bool = False

    @property
    def end(self) -> int:
        """The first offset beyond all that is known to be told: who has not read so far would commit less."""
        return max(self.offset, self.done[-1][1] + 1) if self.done else self.offset

    def is_done(self, offset: int) -> bool:
        """Whether the record at this offset was told."""
        return offset < self.offset or any(first <= offset <= last for first, last in self.done)


def read_place(offset: int, metadata: str) -> Place:
    """The place that was committed; metadata that is not ours says nothing.

    >>> read_place(7, '{"v":1,"done":[[9,11]],"told":["ab"]}')
    Place(offset=7, done=((9, 11),), told=frozenset({'ab'}), more=False)
    """
    try:
        said = json.loads(metadata)
        if said["v"] != 1:
            return Place(offset)
        done = tuple((int(first), int(last)) for first, last in said.get("done", []))
        told = frozenset(map(str, said["told"])) if "told" in said else None
        return Place(offset, done, told, bool(said.get("more", False)))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Place(offset)


def metadata_of(done: Sequence[tuple[int, int]], told: Sequence[str] | None) -> str:
    """The metadata of a place, at most MAX_METADATA bytes.

    What finds no room is the furthest of `done`, which is then told again after a restart, and the oldest of `told`.
    """
    said: dict[str, object] = {"v": 1}
    kept: list[tuple[int, int]] = []
    room = MAX_DONE_BYTES
    for one in done:
        room -= len(json.dumps(one))
        if room < 0:
            break
        kept.append(one)
    if kept:
        said["done"] = kept
    if told is not None:
        most = (MAX_METADATA - MAX_DONE_BYTES - 100) // 15
        said["told"] = list(told[-most:])
        if len(told) > most:
            said["more"] = True
    return json.dumps(said, separators=(",", ":")) if len(said) > 1 else ""


@dataclass(slots=True)
class Progress:
    """The records of one partition that were taken up and are not told yet."""

    next: int
    waiting: set[int] = field(default_factory=set)
    _done: set[int] = field(default_factory=set)

    def take(self, offset: int, *, done: bool = False) -> None:
        """Take up a record; `done`: there is nothing to tell."""
        self.next = offset + 1
        if not done:
            self.waiting.add(offset)
        elif self.waiting:
            self._done.add(offset)

    def finish(self, *offsets: int) -> None:
        """These records were told, or given up."""
        self.waiting.difference_update(offsets)
        self._done.update(offsets)
        if not self.waiting:
            self._done.clear()

    @property
    def offset(self) -> int:
        """What to commit: the first record that is not told."""
        return min(self.waiting, default=self.next)

    def done(self) -> list[tuple[int, int]]:
        """What was told beyond `offset`, as ranges with both ends, in order; gaps without records are bridged."""
        ranges: list[tuple[int, int]] = []
        waiting = sorted(self.waiting)
        low = self.offset
        place = 0
        for offset in sorted(self._done):
            if offset < low:
                continue
            while place < len(waiting) and waiting[place] < offset:
                place += 1
            before = waiting[place - 1] if place else -1
            if ranges and ranges[-1][1] > before:
                ranges[-1] = (ranges[-1][0], offset)
            else:
                ranges.append((offset, offset))
        self._done = {end for ends in ranges for end in ends}  # the same ranges come of their ends
        return ranges
