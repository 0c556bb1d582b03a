"""The shards of this worker: acquiring, flushing and giving them up. The order of the steps was paid for.

- *Assigned*: every partition is acquired by a task of its own, for the callback sends no heartbeats. A shard that is
  assigned again is kept: the epoch of its next transaction proves that nobody had it in between.
- *Flush*: packed in one moment, written in one transaction. Any failure drops the shard: it comes back from the log.
- *Revoked*: one last, bounded flush.
- *Dropped*: acquired again after two heartbeats, else a ghost would fence the rightful owner.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from stream.worker.acquire import Acquirer, mind_gap
from stream.worker.live import LiveShard, Owner
from stream.worker.recovery import StateLog
from stream.worker.tools import Tools, line_of, name_of

LAST_FLUSH_SECONDS = 3.0

log = logging.getLogger(__name__)


class Shards:
    """Every shard of this worker, on one event loop."""

    def __init__(self, tools: Tools) -> None:
        self.live: dict[int, LiveShard] = {}
        self.assigned: set[int] | None = None
        """Partitions of the last assignment; None before the first one and while the group rebalances."""
        self.stopping = False
        settings = tools.settings
        self.owner = Owner(settings.instance_id or "", int(tools.clock() * 1000))
        self._tools = tools
        self._tasks: set[asyncio.Task[Any]] = set()
        self._assignments = 0
        self._acquirer = Acquirer(
            tools, self.owner, spawn=self.spawn, held=self.live.__contains__, deliver=self._go_live
        )

    # ------------------------------------------------------------------ what the transport asks (`Positions`)

    def next_offset(self, partition: int) -> int | None:
        """Where a live shard reads on."""
        shard = self.ready(partition)
        return shard.sequencer.next if shard is not None else None

    def committed_offset(self, partition: int) -> int | None:
        """The group's offset of a live shard: only for others to look at."""
        shard = self.ready(partition)
        return shard.committed + 1 if shard is not None and shard.committed >= 0 else None

    def ready(self, partition: int) -> LiveShard | None:
        """The shard that may apply records of a partition now."""
        shard = self.live.get(partition)
        return shard if shard is not None and shard.live else None

    @property
    def reading(self) -> Mapping[int, StateLog]:
        """How far the recoveries that are under way have read, by partition."""
        return self._acquirer.reading

    # ------------------------------------------------------------------ tasks

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the callers; what it raises is logged, never lost."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed: %s", line_of(error), exc_info=error)

    # ------------------------------------------------------------------ rebalances

    def on_assigned(self, partitions: Iterable[int]) -> None:
        """Take up an assignment: keep what is held, close what is lost, acquire the rest."""
        mine = set(partitions)
        self.assigned = mine
        self._assignments += 1
        self._tools.observer.rebalanced()
        log.info("assigned partitions: %s", ", ".join(map(str, sorted(mine))) or "none")
        for partition, shard in list(self.live.items()):
            if partition in mine:
                self.spawn(self._keep(shard, self._assignments))
            else:
                shard.live, shard.broken = False, True
                del self.live[partition]
                self.spawn(shard.journal.close())
        for partition in sorted(mine - set(self.live)):
            self._acquirer.want_now(partition)

    async def on_revoked(self) -> None:
        """Within the group's barrier nobody else owns the shards yet: flush them for the last time, within 3 s."""
        self.assigned = None
        self._assignments += 1
        self._acquirer.cancel()
        await asyncio.gather(*(self._last_flush(shard, "revoked") for shard in list(self.live.values())))

    async def _last_flush(self, shard: LiveShard, why: str) -> None:
        shard.live = False  # the intake passes over what still comes
        try:
            await asyncio.wait_for(self.flush(shard), LAST_FLUSH_SECONDS)
        except Exception as error:
            self.drop(shard, f"{why}, {line_of(error)}", again=False)

    async def _keep(self, shard: LiveShard, assignment: int) -> None:
        await self._seek(shard)
        if shard.broken or assignment != self._assignments or self.stopping:
            return
        shard.owner_due = True  # so that there is a flush at once, which shows whether the epoch is still ours
        shard.live = True
        self._tools.group.resume(shard.partition)

    def _go_live(self, shard: LiveShard, state: StateLog, seconds: float) -> None:
        shard.recovery_seconds = seconds
        shard.live = True
        self.live[shard.partition] = shard
        self._tools.observer.recovered(shard, state, seconds)
        self._tools.group.resume(shard.partition)
        log.info(
            "partition %d: live at offset %d with %d keys, after %.0f ms (%d records, %.1f MB read, epoch %d)",
            shard.partition, shard.sequencer.next, len(shard.core), seconds * 1000, state.records, state.bytes / 1e6,
            shard.journal.epoch,
        )  # fmt: skip

    # ------------------------------------------------------------------ reading on

    def rewind(self, shard: LiveShard) -> None:
        """The sequencer asked for one seek back."""
        log.info("partition %d: seek back to %d", shard.partition, shard.sequencer.next)
        self.spawn(self._seek(shard))

    async def _seek(self, shard: LiveShard) -> None:
        try:
            await self._tools.group.seek(shard.partition, shard.sequencer.next)
        except Exception as error:  # the sequencer asks again for what this seek did not reach
            log.warning("partition %d: no seek to %d: %s", shard.partition, shard.sequencer.next, name_of(error))

    def passed_over(self, shard: LiveShard, offsets: int) -> None:
        """The log holds nothing where records were expected: markers and compaction do that, and so does retention."""
        self._tools.observer.holed(offsets)
        log.info("partition %d: accepted a hole of %d offsets that hold no records", shard.partition, offsets)
        self.spawn(self._look_for_gap(shard, shard.sequencer.next, offsets))

    async def _look_for_gap(self, shard: LiveShard, upto: int, offsets: int) -> None:
        try:
            start = await self._tools.group.start(shard.partition)
        except Exception as error:
            log.warning("partition %d: the source's first offset is not known: %s", shard.partition, line_of(error))
            return
        mind_gap(self._tools, shard, min(offsets, start - (upto - offsets)))

    # ------------------------------------------------------------------ writing

    async def flush(self, shard: LiveShard) -> bool:
        """Write what a shard owes in one transaction; False if the shard was or is dropped."""
        async with shard.flushing:
            if shard.broken:
                return False
            try:
                await self._write(shard)
            except asyncio.CancelledError:
                self.drop(shard, "the flush was broken off", again=False)
                raise
            except Exception as error:
                self.drop(shard, line_of(error))
                return False
            return True

    async def _write(self, shard: LiveShard) -> None:
        flush = shard.snapshot(self._tools.clock())
        if flush is None:
            return
        if flush.records:
            begun = time.monotonic()
            await shard.journal.write(flush.records)
            self._tools.observer.flushed(shard, flush, time.monotonic() - begun)
        shard.written(flush)

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

    async def run(self) -> None:
        """Flush every live shard at its pace, for ever."""
        pace = self._tools.settings.flush_seconds
        due = time.monotonic()
        while not self.stopping:
            due = max(due + pace, time.monotonic() + 0.01)
            await asyncio.sleep(due - time.monotonic())
            for shard in list(self.live.values()):
                if shard.live and not shard.flushing.locked():
                    self.spawn(self.flush(shard))

    # ------------------------------------------------------------------ giving up

    def drop(self, shard: LiveShard, why: str, *, again: bool = True) -> None:
        """Throw a shard away: its state comes back only from the log."""
        if shard.broken:
            return
        shard.live, shard.broken = False, True
        if self.live.get(shard.partition) is shard:
            del self.live[shard.partition]
        self._acquirer.suspicious = True
        self._tools.observer.dropped()
        try:
            self._tools.group.pause(shard.partition)
        except Exception as error:  # the intake passes over what comes for a shard that is not live
            log.debug("partition %d: not paused: %s", shard.partition, name_of(error))
        log.warning(
            "partition %d: dropped with %d records not yet written, they are read again: %s",
            shard.partition, shard.unflushed, why,
        )  # fmt: skip
        self.spawn(shard.journal.close())
        if again and not self.stopping:
            self._acquirer.want(shard.partition, 2 * self._tools.heartbeat_seconds + 0.5)

    async def stop(self) -> bool:
        """Flush and close everything, within some 8 s, and leave the group; True if all that was applied is written."""
        self.stopping = True
        self._acquirer.cancel()

        async def end(shard: LiveShard) -> bool:
            await self._last_flush(shard, "stopping")
            written, shard.broken = not shard.broken, True
            await shard.journal.close()
            return written

        written = await asyncio.gather(*(end(shard) for shard in list(self.live.values())))
        self.live.clear()
        try:
            await self._tools.group.leave()
        except Exception as error:
            log.warning("the group was not left, others take over after the session timeout: %s", name_of(error))
        return all(written)
