"""Silence: when an idle shard's watermark may move on, when silence is an outage, and when it is none at all, for an
open transaction hides what comes. No clock, no I/O.
"""  # noqa: D205

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

OUTAGE_CALLS = 50.0
"""Calls that must be missing before silence is an outage: by chance that happens once in e^50 times."""
LEAST_QUIET_SECONDS = 5.0
"""Also with no allowed lateness: jitter of a gateway's delivery must not make its next record late."""
PATIENCE = 2.0
"""In allowed latenesses (CONTRACT §9)."""


def quiet_needed(allowed_lateness_seconds: float) -> float:
    """Seconds at the end of its log before a shard is idle."""
    return max(PATIENCE * allowed_lateness_seconds, LEAST_QUIET_SECONDS)


class Idle:
    """One shard's silence at the end of its log. All times are one monotonic clock's seconds.

    >>> idle = Idle(bucket_seconds=60, needed=120)
    >>> idle.step(at_end=True, watermark=600.0, now=0.0) is None
    True
    >>> idle.step(at_end=True, watermark=600.0, now=179.0) is None, idle.step(at_end=True, watermark=600.0, now=180.0)
    (True, 660.0)
    """

    def __init__(self, bucket_seconds: float, needed: float) -> None:
        self._bucket = bucket_seconds
        self._needed = needed
        self._since: float | None = None
        self._base = 0.0

    def disturb(self) -> None:
        """A record came, or silence was an outage: begin anew."""
        self._since = None

    def step(self, *, at_end: bool, watermark: float, now: float) -> float | None:
        """The watermark to announce, if a bucket's end is passed by now; None: nothing to do.

        The watermark moves at the pace of the clock from where it stood, once the silence has lasted long enough:
        it never jumps, so what a gateway sends a little later is not late.
        """
        if not at_end or not math.isfinite(watermark):
            self._since = None
            return None
        if self._since is None:
            self._since, self._base = now, watermark
            return None
        target = self._base + now - self._since - self._needed
        if math.floor(target / self._bucket) <= math.floor(watermark / self._bucket):
            return None
        return target


class Hidden:
    """Whether a partition's last stable offset stands still while there is something behind it.

    A gateway that writes in transactions hides its newest records for moments. It hangs when that lasts.

    >>> hidden = Hidden(needed=60)
    >>> hidden.look(end=10, offsets=5, now=0.0), hidden.look(end=10, offsets=7, now=61.0), hidden.look(17, 0, now=62.0)
    (0.0, 61.0, 0.0)
    """

    def __init__(self, needed: float) -> None:
        self._needed = needed
        self._end = -1
        self._since = 0.0

    def look(self, end: int, offsets: int, now: float) -> float:
        """Seconds for which `offsets` behind the last stable one have been hidden, once that is too long, else 0."""
        if not offsets or end != self._end:
            self._end, self._since = end, now
            return 0.0
        seconds = now - self._since
        return seconds if seconds >= self._needed else 0.0


class Outage:
    """Whether all partitions of the source are silent though calls are expected; only records end that.

    `active` may also be set by whoever knows of an outage that a former owner had found.
    """

    def __init__(self, needed: float) -> None:
        self.active = False
        self.silent_seconds = 0.0
        self._needed = needed
        self._ends: dict[int, int] = {}
        self._since: float | None = None

    def disturb(self) -> None:
        """The source could not be looked at: silence is counted anew."""
        self._since = None

    def look(self, ends: Mapping[int, int], *, moved: bool, expected: Callable[[float], float], now: float) -> bool:
        """Judge the end offsets of all partitions at `now`; True when an outage begins or ends.

        `moved`: own shards have applied records since the last look; `expected(seconds)`: usual calls in that time.
        """
        came = moved or (bool(self._ends) and dict(ends) != self._ends)
        if came or self._since is None:
            self._ends, self._since, self.silent_seconds = dict(ends), now, 0.0
            ended, self.active = self.active and came, self.active and not came
            return ended
        self.silent_seconds = now - self._since
        if self.active or self.silent_seconds < self._needed or expected(self.silent_seconds) < OUTAGE_CALLS:
            return False
        self.active = True
        return True
