"""Chains of incidents: habits that have changed are news day by day, until they are accepted as the new normal."""

from __future__ import annotations


class Chain:
    """The last chain of incidents of a key, in buckets; incidents that follow one another closely are one.

    start, last: where it began, and its last bucket with an open incident; -1: there never was any
    open: its buckets with an open incident
    accepted: where one was accepted last, -1: never
    """

    __slots__ = ("accepted", "last", "open", "start")

    def __init__(self) -> None:
        self.start = self.last = self.accepted = -1
        self.open = 0

    def goes_on(self, started: int, bucket: int, accept: int, gap: int) -> tuple[bool, bool]:
        """An incident that began at `started` is open in `bucket`: whether it is to be guarded, and if it is newly not.

        Guarded: kept out of what is learned. No longer so once the chain has lasted for `accept` buckets, with an
        incident open in half as many; after as long again a new chain begins, as it does after more than `gap` buckets.
        """
        if self.last < 0 or bucket - self.last > gap or (self.last - self.start > 2 * accept and started > self.last):
            self.start, self.open = started, 0
        known = self.open
        self.last, self.open = bucket, known + 1
        if bucket - self.start <= accept or 2 * known < accept:
            return True, False
        news = self.accepted < self.start
        if news:
            self.accepted = bucket
        return False, news

    def pack(self, first: int) -> tuple[int, int, int, int] | None:
        """As buckets before `first`, the next one: start, last, acceptance (0: none); then `open`. None: no chain."""
        if self.last < 0:
            return None
        accepted = first - self.accepted if self.accepted >= 0 else 0
        return first - self.start, first - self.last, accepted, self.open

    def unpack(self, packed: tuple[int, int, int, int], first: int) -> None:
        """The inverse of `pack`."""
        since_start, since_last, since_accepted, self.open = packed
        self.start, self.last = first - since_start, first - since_last
        self.accepted = first - since_accepted if since_accepted else -1
