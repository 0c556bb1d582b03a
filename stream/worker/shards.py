"""The shards of this worker: the partitions of the source, and what only they do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext

from stream.worker.acquire import SourceRole, mind_gap
from stream.worker.live import Flush, LiveShard
from stream.worker.partitions import Partitions
from stream.worker.recovery import StateLog
from stream.worker.tools import Tools, name_of

log = logging.getLogger(__name__)


class Shards(Partitions[LiveShard]):
    """Every shard of this worker."""

    def __init__(self, tools: Tools) -> None:
        role = SourceRole(tools)
        super().__init__(tools, role)
        self.reading: Mapping[int, StateLog] = role.reading
        """How far the recoveries that are under way have read, by partition."""
        self._large = asyncio.Lock()
        """Held by the one large flush at a time."""

    def _rebalanced(self) -> None:
        self._tools.observer.rebalanced()

    def _kept(self, shard: LiveShard) -> None:
        shard.held = False

    def _recovered(self, shard: LiveShard, read: StateLog, seconds: float) -> None:
        self._tools.observer.recovered(shard, read, seconds)
        log.info(
            "partition %d: live at offset %d with %d keys, after %.0f ms (%d records, %.1f MB read, epoch %d)",
            shard.partition, shard.sequencer.next, len(shard.core), seconds * 1000, read.records, read.bytes / 1e6,
            shard.journal.epoch, extra={"seldom": shard.partition},
        )  # fmt: skip

    def _mind_gap(self, shard: LiveShard, offsets: int) -> None:
        mind_gap(self._tools, shard, offsets)

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

    async def step_idle(self, shard: LiveShard, watermark: float) -> bool:
        """Move an idle shard's watermark: persisted first, effective then. True if it has moved."""
        async with shard.turn:  # no record may be applied between the two
            if not shard.live:
                return False
            before = shard.core.watermark
            shard.core.announce(watermark)
            if not await self.flush(shard) or shard.broken:
                return False
            shard.owe(shard.core.advance())
            return shard.core.watermark > before

    # ------------------------------------------------------------------ the end

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
