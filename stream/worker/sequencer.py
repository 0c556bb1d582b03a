"""Which records of a chunk are next: after a seek, a rebalance or a crash the intake hands out chunks in any order."""

from __future__ import annotations

from dataclasses import dataclass

SEEK_PATIENCE_SECONDS = 2.0
"""How long chunks behind a hole are passed over before the seek is asked for again: a seek takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Take:
    """What to do with a chunk: apply its records from `start` on (None: none of them), and perhaps seek first.

    `skipped` counts offsets that were passed over because the log holds no records there.
    """

    start: int | None = None
    seek: int | None = None
    skipped: int = 0


class Sequencer:
    """Keeps one partition in order: every record exactly once, whatever the order in which chunks arrive. No I/O.

    A chunk says where its fetch began: between `begin` and its first record the log holds nothing (transaction
    markers, compaction, retention). So a hole behind `begin` is none, and is accepted at once; a chunk that begins
    ahead of the next expected offset has overtaken a seek or lost its predecessor on the way: it is passed over and
    one seek back is asked for.

    >>> s = Sequencer(10)
    >>> s.take(begin=30, first=30, last=39, now=0.0)
    Take(start=None, seek=10, skipped=0)
    >>> s.take(begin=10, first=12, last=19, now=0.1)
    Take(start=12, seek=None, skipped=2)
    """

    __slots__ = ("_asked_at", "holes", "next", "seeks", "skipped")

    def __init__(self, next_offset: int) -> None:
        self.next = next_offset
        """First offset that has not been applied."""
        self.seeks = 0
        self.holes = 0
        self.skipped = 0
        self._asked_at: float | None = None

    def take(self, begin: int, first: int, last: int, now: float) -> Take:
        """Judge a chunk of records `first` to `last`, fetched from `begin` on; `now` is a monotonic clock in seconds.

        The caller applies the records from `start` on and reports each slice with `applied`.
        """
        if last < self.next:
            return Take()
        if first <= self.next:
            self._asked_at = None
            return Take(start=self.next)
        if begin <= self.next:
            skipped = first - self.next
            self.holes += 1
            self.skipped += skipped
            self.next = first
            self._asked_at = None
            return Take(start=first, skipped=skipped)
        if self._asked_at is not None and now - self._asked_at < SEEK_PATIENCE_SECONDS:
            return Take()
        self._asked_at = now
        self.seeks += 1
        return Take(seek=self.next)

    def applied(self, offset: int) -> None:
        """All records up to and including `offset` have been applied."""
        self.next = offset + 1
