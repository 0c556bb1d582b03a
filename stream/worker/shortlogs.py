"""Logs that end before what was read of them: when that is no moment's confusion, but a cut. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from stream.worker.acquire import H

SHORT_SECONDS = 5.0
"""A log was cut once it has ended before the next offset for this long: a new leader may need a moment."""


class ShortLogs:
    """Watches the logs of the partitions in hand; times are one monotonic clock's seconds."""

    def __init__(self) -> None:
        self._short: dict[int, tuple[float, int]] = {}

    def look(self, live: Mapping[int, H], ends: Mapping[int, int], now: float) -> list[tuple[H, int, int]]:
        """The partitions whose logs were cut, each with its end now and the lowest that was seen; told once."""
        short: dict[int, tuple[float, int]] = {}
        cut: list[tuple[H, int, int]] = []
        for partition, held in live.items():
            end = ends.get(partition, held.sequencer.next)
            if not held.live or end >= held.sequencer.next:
                continue
            since, lowest = self._short.get(partition, (now, end))
            lowest = min(lowest, end)
            if now - since >= SHORT_SECONDS:
                cut.append((held, end, lowest))
            else:
                short[partition] = since, lowest
        self._short = short
        return cut
