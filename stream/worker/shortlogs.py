"""Logs that end before what was read of them: when that is no moment's confusion, but a cut. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from stream.worker.acquire import H

SHORT_SECONDS = 5.0
"""A log was cut once it has ended before what was read for this long: a new leader may need a moment."""


class ShortLogs:
    """Watches the logs of the partitions in hand; times are one monotonic clock's seconds.

    An answer is as old as the slowest broker's, seconds where one has just died, and meanwhile the others' records are
    read on. So an end has to reach only what had been read when it was asked for: what had been by the last look.
    """

    def __init__(self) -> None:
        self._read: dict[int, tuple[object, int]] = {}
        """Who had each partition at the last look, and the next offset it had to read then."""
        self._short: dict[int, tuple[float, int]] = {}

    def look(self, live: Mapping[int, H], ends: Mapping[int, int], now: float) -> list[tuple[H, int, int]]:
        """The partitions whose logs were cut, each with its end now and the lowest that was seen; told once.

        ends: asked for since the last look
        """
        short: dict[int, tuple[float, int]] = {}
        cut: list[tuple[H, int, int]] = []
        before, self._read = self._read, {partition: (held, held.sequencer.next) for partition, held in live.items()}
        for partition, held in live.items():
            owner, read = before.get(partition, (None, 0))
            end = ends.get(partition, read)
            if not held.live or owner is not held or end >= read:
                continue
            since, lowest = self._short.get(partition, (now, end))
            lowest = min(lowest, end)
            if now - since >= SHORT_SECONDS:
                cut.append((held, end, lowest))
            else:
                short[partition] = since, lowest
        self._short = short
        return cut
