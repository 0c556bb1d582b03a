"""The shards of this worker: the partitions of the source, and what only they do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from stream.core.state import StateError
from stream.worker.acquire import SourceRole
from stream.worker.feed import gone, lost
from stream.worker.live import Flush, LiveShard
from stream.worker.partitions import Partitions
from stream.worker.recovery import StateLog
from stream.worker.takeover import report
from stream.worker.tools import EXIT_BAD_STATE, Tools, line_of, name_of

log = logging.getLogger(__name__)


class Shards(Partitions[LiveShard]):
    """Every shard of this worker."""

    def __init__(self, tools: Tools) -> None:
        role = SourceRole(tools)
        super().__init__(tools, role)
        self.reading: Mapping[int, StateLog] = role.reading
        """How far the recoveries that are under way have read, by partition."""
        self.parting: list[LiveShard] = []
        """Shards that went with an assignment that left this worker nothing: kept open until it is known why."""
        self._grounds = role.grounds
        self._large = asyncio.Lock()
        """Held by the one large flush at a time."""

    def _assigned(self, mine: set[int]) -> None:
        self._tools.observer.rebalanced()
        if mine:
            self.part()
            self._grounds.keep(mine)

    def _lost(self, shard: LiveShard) -> None:
        self.parting.append(shard)

    def part(self) -> list[asyncio.Task[Any]]:
        """Close the shards that this worker has no more; returns the tasks that do it."""
        parting, self.parting = self.parting, []
        for shard in parting:
            shard.broken = True
        return [self.spawn(shard.journal.close()) for shard in parting]

    def _kept(self, shard: LiveShard) -> None:
        shard.held = False

    def _recovered(self, shard: LiveShard, read: StateLog, seconds: float) -> None:
        self._tools.observer.recovered(shard, read, seconds)
        self._grounds.tell(shard)
        log.info(
            "partition %d: live at offset %d with %d keys, after %.0f ms (%d records, %.1f MB read, epoch %d)",
            shard.partition, shard.sequencer.next, len(shard.core), seconds * 1000, read.records, read.bytes / 1e6,
            shard.journal.epoch, extra={"seldom": shard.partition},
        )  # fmt: skip

    # ------------------------------------------------------------------ what the log has lost

    def passed_over(self, shard: LiveShard, offsets: int) -> None:
        """See `Partitions`; what is only read again cannot be missed."""
        super().passed_over(shard, min(offsets, shard.sequencer.next - shard.core.applied - 1))

    def _mind_gap(self, shard: LiveShard, offsets: int) -> None:
        if offsets:
            report(self._tools, shard, lost(offsets), offsets)

    async def renew(self, shard: LiveShard, why: str, *, unread: int = 0, cut_at: int | None = None) -> None:
        """The shard's log is another one by now: write what was applied, and take the shard over again.

        unread: records of the old log that are known never to have been read
        cut_at: the offset at which it was cut; None: it was not
        """
        held = shard.live  # else it is in a rebalance, or was taken away by one
        if held:
            await self._last_flush(shard, why)
        self._grounds.unread[shard.partition] = unread
        if cut_at is not None:
            self._grounds.cuts[shard.partition] = cut_at
        if held:
            self._begin_anew(shard, why)

    async def give_up(self, name: str, unread: dict[int, int]) -> None:
        """A topic is gone: say so on every partition where that can still be written, and close everything.

        name: the topic
        unread: records of each partition that are known never to have been read
        """
        self.live.update({shard.partition: shard for shard in self.parting})
        self.parting.clear()
        for partition, shard in self.live.items():
            missing = unread.get(partition, 0)
            shard.holes.clear()  # there is nothing left to look into
            shard.find("gone", gone(name, missing))
            self._tools.observer.gap(missing)
        await self.stop()

    def refuse(self, shard: LiveShard, error: StateError) -> None:
        """A key's state turned out to be damaged when it was needed: to go on would leave it out in silence."""
        self._tools.die(EXIT_BAD_STATE, f"partition {shard.partition} of {self._tools.settings.state_topic}: {error}")

    # ------------------------------------------------------------------ back-pressure

    def hold(self, shard: LiveShard) -> None:
        """Too much waits for its transaction: read no more of this partition until some of it is written.

        The others go on. What was fetched already is passed over and read again, which costs less than to keep it.
        """
        shard.held = True
        self.group.pause(shard.partition)
        self.flush_soon(shard)
        log.info(
            "partition %d: reads no more until some of %d records are written", shard.partition, shard.unflushed,
            extra={"seldom": shard.partition},
        )  # fmt: skip

    async def _release(self, shard: LiveShard) -> None:
        await self._seek(shard)
        if shard.live:
            shard.held = False
            self.group.resume(shard.partition)

    # ------------------------------------------------------------------ writing

    async def _write(self, shard: LiveShard) -> None:
        async with self._large if shard.is_large else nullcontext():
            await super()._write(shard)
        if shard.held and shard.live and not shard.is_full:
            self.spawn(self._release(shard))

    async def _commit(self, shard: LiveShard, flush: Flush) -> None:
        if flush.records:
            begun = time.monotonic()
            await shard.journal.write(flush.records)
            self._tools.observer.flushed(shard, flush, time.monotonic() - begun)
            self._grounds.settled(shard.partition)

    async def step_idle(self, shard: LiveShard, watermark: float) -> bool:
        """Move an idle shard's watermark: persisted first, effective then. True if it has moved."""
        async with shard.turn:  # no record may be applied between the two
            if not shard.live:
                return False
            before = shard.core.watermark
            shard.core.announce(watermark)
            if not await self.flush(shard) or shard.broken:
                return False
            try:
                shard.owe(shard.core.advance())
            except StateError as error:
                self.refuse(shard, error)
                return False
            except Exception as error:
                self.drop(shard, line_of(error))  # it is half done
                raise
            return shard.core.watermark > before

    # ------------------------------------------------------------------ the end

    async def close(self) -> bool:
        """See `Partitions`; those that went with the last assignment are closed too."""
        written = await super().close()
        await asyncio.gather(*self.part())
        return written

    async def leave(self) -> None:
        """Leave the group, so that others take over at once."""
        try:
            await self.group.leave()
        except Exception as error:
            log.warning("the group was not left, others take over after the session timeout: %s", name_of(error))

    async def stop(self) -> bool:
        """Close everything and leave the group; True if all that was applied is written."""
        written = await self.close()
        await self.leave()
        return written
