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
from collections.abc import Coroutine, Iterable
from typing import Any

from stream.core.state import StateError
from stream.worker.acquire import Acquirer
from stream.worker.feed import gone, lost
from stream.worker.live import LiveShard, Owner
from stream.worker.recovery import StateLog
from stream.worker.takeover import report
from stream.worker.tools import EXIT_BAD_STATE, Tools, line_of, name_of

LAST_FLUSH_SECONDS = 3.0

log = logging.getLogger(__name__)


class Shards:
    """Every shard of this worker, on one event loop."""

    def __init__(self, tools: Tools) -> None:
        self.live: dict[int, LiveShard] = {}
        self.assigned: set[int] | None = None
        """Partitions of the last assignment; None before the first one and while the group rebalances."""
        self.parting: list[LiveShard] = []
        """Shards that went with an assignment that left this worker nothing: kept open until it is known why."""
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
                shard.live = False
                del self.live[partition]
                self.parting.append(shard)
        if mine:
            self.part()
        for partition in sorted(mine - set(self.live)):
            self._acquirer.want_now(partition)

    def part(self) -> list[asyncio.Task[Any]]:
        """Close the shards that this worker has no more; returns the tasks that do it."""
        parting, self.parting = self.parting, []
        for shard in parting:
            shard.broken = True
        return [self.spawn(shard.journal.close()) for shard in parting]

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
            "partition %d: live at offset %d with %d keys, after %.0f ms (%d records read, epoch %d)",
            shard.partition, shard.sequencer.next, len(shard.core), seconds * 1000, state.read, shard.journal.epoch,
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
        end = shard.sequencer.next
        begin = max(end - offsets, shard.core.applied + 1)  # what is only read again cannot be missed
        if begin < end:
            shard.holes.append((begin, end))

    async def _look_into_holes(self, shard: LiveShard) -> None:
        """Find out what was deleted, before anything behind it is committed: afterwards nobody could know of it."""
        holes = list(shard.holes)
        start = await self._tools.group.start(shard.partition)
        deleted = sum(max(0, min(end, start) - begin) for begin, end in holes)
        self._tools.observer.holed(sum(end - begin for begin, end in holes) - deleted)
        if deleted:
            report(self._tools, shard, lost(deleted), deleted)
        del shard.holes[: len(holes)]

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
        while shard.holes:  # further ones may come while the broker is asked
            await self._look_into_holes(shard)
        flush = shard.snapshot(self._tools.clock())
        if flush is None:
            return
        if flush.records:
            begun = time.monotonic()
            await shard.journal.write(flush.records)
            self._tools.observer.flushed(shard, flush, time.monotonic() - begun)
            self._acquirer.grounds.settled(shard.partition)
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

    def refuse(self, shard: LiveShard, error: StateError) -> None:
        """A key's state turned out to be damaged when it was needed: to go on would leave it out in silence."""
        self._tools.die(EXIT_BAD_STATE, f"partition {shard.partition} of {self._tools.settings.state_topic}: {error}")

    async def renew(self, shard: LiveShard, why: str, *, unread: int = 0, cut_at: int | None = None) -> None:
        """The shard's log is another one by now: write what was applied, and take the shard over again.

        unread: records of the old log that are known never to have been read
        cut_at: the offset at which it was cut; None: it was not
        """
        held = shard.live  # else it is in a rebalance, or was taken away by one
        if held:
            await self._last_flush(shard, why)
        self._acquirer.grounds.unread[shard.partition] = unread
        if cut_at is not None:
            self._acquirer.grounds.cuts[shard.partition] = cut_at
        if not held:
            return
        if shard.broken:  # by that flush, which leaves it at that
            self._acquirer.want(shard.partition, 2 * self._tools.heartbeat_seconds + 0.5)
        self.drop(shard, why)

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
        await asyncio.gather(*self.part())
        try:
            await self._tools.group.leave()
        except Exception as error:
            log.warning("the group was not left, others take over after the session timeout: %s", name_of(error))
        return all(written)
