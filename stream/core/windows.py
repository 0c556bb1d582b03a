"""Event time of one shard: buckets, watermark, lateness, duplicates."""

from __future__ import annotations

import math
from typing import Final

LATE: Final = -1
DUPLICATE: Final = -2
FUTURE: Final = -3

JUMP_SECONDS: Final = 86_400.0
"""In a file, a jump of more than a day must be confirmed by a later record before it moves the watermark."""
MAX_UNCONFIRMED: Final = 16
"""Buckets beyond a jump that nobody has confirmed; further ones are refused."""
JUMPS_IN_A_ROW: Final = 3
"""So many jumps with nothing between them are no wrong clocks but seldom use: each confirms the one before it."""


class Windows:
    """Which buckets are open, and which ids they have seen.

    A bucket `i` covers event times [i, i + 1) × bucket_seconds and closes when the watermark, the largest event time
    less the allowed lateness, passes its end. The watermark moves record by record, so how records were fetched
    cannot matter.
    """

    __slots__ = (
        "began", "bucket_seconds", "closing_at", "confirm_jumps", "first_open", "first_positions", "ids", "jump",
        "jumps", "lateness", "max_ids", "newest", "watermark",
    )  # fmt: skip

    def __init__(self, bucket_seconds: int, lateness: float, max_ids: int, confirm_jumps: bool) -> None:
        self.bucket_seconds = bucket_seconds
        self.lateness = lateness
        self.max_ids = max_ids
        self.confirm_jumps = confirm_jumps
        self.newest = -math.inf
        self.watermark = -math.inf
        self.first_open = 0
        self.began = 0
        """The first bucket that was open at the first record, once there was one; not kept when a state is taken up."""
        self.closing_at = -math.inf
        """A watermark before this time closes nothing; one at or after it does."""
        self.ids: dict[int, set[int]] = {}
        self.first_positions: dict[int, int] = {}
        self.jump = -math.inf
        """The last jump that waits for its confirmation."""
        self.jumps = 0
        """Jumps since the last record that moved the watermark as usual."""

    def place(self, time: float, id_hash: int, position: int) -> int:
        """The open bucket of a record, or LATE, DUPLICATE or FUTURE; its id is remembered there."""
        bucket = int(time // self.bucket_seconds)
        if bucket < self.first_open:
            return LATE
        duplicate = False
        for seen in self.ids.values():
            if id_hash in seen:
                duplicate = True
                break
        ids = self.ids.get(bucket)
        if ids is None:
            if self.is_far(time) and self._refuses(time):
                # the next record may still confirm it: what is refused must not cut off all that follows
                self.jump = time
                self.jumps += 1
                return FUTURE
            ids = self.ids[bucket] = set()
            self.first_positions[bucket] = position
        if len(ids) < self.max_ids:
            # a duplicate is remembered in its own bucket too: the other one may close first
            ids.add(id_hash)
        return DUPLICATE if duplicate else bucket

    def is_far(self, time: float) -> bool:
        """True for a jump that needs confirmation, in a file, before it moves the watermark."""
        return self.confirm_jumps and time > self.newest + JUMP_SECONDS and self.newest > -math.inf

    def _refuses(self, time: float) -> bool:
        """True if a jump would hold yet another bucket open, and neither is confirmed nor confirms one."""
        if abs(time - self.jump) <= JUMP_SECONDS or self._in_a_row:
            return False
        beyond = (self.newest + JUMP_SECONDS) // self.bucket_seconds
        return sum(bucket > beyond for bucket in self.ids) >= MAX_UNCONFIRMED

    @property
    def _in_a_row(self) -> bool:
        return self.jumps + 1 >= JUMPS_IN_A_ROW

    def see(self, time: float) -> bool:
        """Let a record's time move the watermark; True if buckets are to be closed now (`close` says which)."""
        if time <= self.newest:
            return False
        if self.confirm_jumps and self.is_far(time):
            near = abs(time - self.jump) <= JUMP_SECONDS
            confirmed = near or self._in_a_row
            time, self.jump = min(time, self.jump), time
            self.jumps = 0 if near else self.jumps + 1
            if not confirmed:
                return False
        else:
            self.jumps = 0
        self.newest = time
        watermark = time - self.lateness
        if watermark < self.closing_at:
            # most records: nothing closes
            if watermark > self.watermark:
                self.watermark = watermark
            return False
        return self.raise_watermark(watermark)

    def raise_watermark(self, watermark: float) -> bool:
        """Move the watermark, never back; True if it passes the end of an open bucket."""
        if watermark <= self.watermark:
            return False
        first = self.watermark == -math.inf
        self.watermark = watermark
        limit = int(watermark // self.bucket_seconds)
        if first:
            # nothing before the first record is open, save what lies within the lateness
            self.first_open = self.began = max(self.first_open, limit)
            return False
        return limit > self.first_open

    @property
    def now(self) -> float:
        """The shard's present in event time: the newest record's, or where idle steps have brought it beyond that."""
        return self.newest if self.watermark <= self.newest - self.lateness else self.watermark + self.lateness

    @property
    def limit(self) -> int:
        """The first bucket that the watermark leaves open."""
        if self.watermark == -math.inf:
            return self.first_open
        return max(self.first_open, int(self.watermark // self.bucket_seconds))

    def close(self) -> int:
        """Close what the watermark has passed: forget its ids; returns the first bucket that stays open."""
        self.first_open = limit = self.limit
        self.closing_at = float((limit + 1) * self.bucket_seconds)
        for bucket in [bucket for bucket in self.ids if bucket < limit]:
            del self.ids[bucket], self.first_positions[bucket]
        return limit

    def oldest_position(self) -> int | None:
        """Position of the first record in an open bucket, where ids are to be read again after a restart."""
        return min(self.first_positions.values(), default=None)

    def forget_ids(self, position: int) -> None:
        """Forget the ids of the buckets whose first record stood at `position` or behind it."""
        for bucket in [bucket for bucket, first in self.first_positions.items() if first >= position]:
            del self.ids[bucket], self.first_positions[bucket]
