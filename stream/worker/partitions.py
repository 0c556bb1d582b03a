"""The partitions of a topic in this worker's hands: acquiring, flushing, giving them up. The order was paid for.

Shards, and partitions of the intake, live alike:

- *Assigned*: every partition is acquired by a task of its own, for the callback sends no heartbeats. One that is
  assigned again is kept: the epoch of its next transaction proves that nobody had it in between.
- *Flush*: packed in one moment, written in one transaction. Any failure drops it: it comes back from the log.
- *Revoked*: one last, bounded flush.
- *Dropped*: acquired again after two heartbeats, else a ghost would fence the rightful owner.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable
from typing import Any, Generic

from stream.worker.acquire import Acquirer, H, Role
from stream.worker.live import Owner
from stream.worker.logs import likewise
from stream.worker.rights import NO_GROUP, group_problem
from stream.worker.tools import EXIT_STUCK, Tools, line_of, name_of

LAST_FLUSH_SECONDS = 3.0
AFTER_DROP_SECONDS = 0.5
"""Beside two heartbeats: what their answers may take."""
CLOSE_SECONDS = 5.0
"""For all partitions together at a stop; with leaving the group that is 7 s of the 9 that a stop may take."""

log = logging.getLogger(__name__)


class Partitions(Generic[H]):
    """Every partition of one topic that this worker holds, on one event loop."""

    def __init__(self, tools: Tools, role: Role[H]) -> None:
        self.live: dict[int, H] = {}
        self.assigned: set[int] | None = None
        """Partitions of the last assignment; None before the first one and while the group rebalances."""
        self.stopping = False
        settings = tools.settings
        self.owner = Owner(settings.instance_id or "", int(tools.clock() * 1000))
        self.noun = role.noun
        self.group = role.group
        self._tools = tools
        self._tasks: set[asyncio.Task[Any]] = set()
        self._assignments = 0
        self._acquirer = Acquirer(
            tools, self.owner, role, spawn=self.spawn, held=self.live.__contains__, deliver=self._go_live
        )

    # ------------------------------------------------------------------ what the transport asks (`Positions`)

    def next_offset(self, partition: int) -> int | None:
        """Where a live partition reads on."""
        shard = self.ready(partition)
        return shard.sequencer.next if shard is not None else None

    def committed_offset(self, partition: int) -> int | None:
        """The group's offset of a live shard: only for others to look at."""
        shard = self.ready(partition)
        return shard.committed + 1 if shard is not None and shard.committed >= 0 else None

    def ready(self, partition: int) -> H | None:
        """What may apply records of a partition now."""
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
        log.info("assigned %ss: %s", self.noun, ", ".join(map(str, sorted(mine))) or "none")
        for partition, shard in list(self.live.items()):
            if partition in mine:
                self.spawn(self._keep(shard, self._assignments))
            else:
                shard.live = False
                del self.live[partition]
                self._lost(shard)
        self._assigned(mine)
        for partition in sorted(mine - set(self.live)):
            self._acquirer.want_now(partition)

    def _lost(self, shard: H) -> None:
        """A partition went to somebody else."""
        shard.broken = True
        self.spawn(shard.journal.close())

    def _assigned(self, mine: set[int]) -> None:
        """These partitions are this worker's now; what it had and has no more was given up."""

    async def on_revoked(self) -> None:
        """Within the group's barrier nobody else owns the partitions yet: flush them for the last time, within 3 s."""
        self.assigned = None
        self._assignments += 1
        self._acquirer.cancel()
        await asyncio.gather(*(self._last_flush(shard, "revoked") for shard in list(self.live.values())))

    async def _last_flush(self, shard: H, why: str) -> None:
        shard.live = False  # the intake passes over what still comes
        try:
            await asyncio.wait_for(self.flush(shard), LAST_FLUSH_SECONDS)
        except Exception as error:
            self.drop(shard, f"{why}, {line_of(error)}", again=False)

    async def _keep(self, shard: H, assignment: int) -> None:
        await self._seek(shard)
        if shard.broken or assignment != self._assignments or self.stopping:
            return
        self._kept(shard)
        shard.owner_due = True  # so that there is a flush at once, which shows whether the epoch is still ours
        shard.live = True
        self.group.resume(shard.partition)

    def _kept(self, shard: H) -> None:
        """A partition was assigned again, and reads on where it was."""

    def _go_live(self, shard: H, read: Any, seconds: float) -> None:
        shard.recovery_seconds = seconds
        shard.live = True
        self.live[shard.partition] = shard
        self._recovered(shard, read, seconds)
        self.group.resume(shard.partition)

    def _recovered(self, shard: H, read: Any, seconds: float) -> None:
        """Tell that a partition is live; `read` is what its role has read."""
        raise NotImplementedError

    # ------------------------------------------------------------------ reading on

    def rewind(self, shard: H) -> None:
        """The sequencer asked for one seek back."""
        log.info(
            "%s %d: seek back to %d", self.noun, shard.partition, shard.sequencer.next,
            extra=likewise(shard.partition, "seek back", self.noun),
        )  # fmt: skip
        self.spawn(self._seek(shard))

    async def _seek(self, shard: H) -> None:
        try:
            await self.group.seek(shard.partition, shard.sequencer.next)
        except Exception as error:  # the sequencer asks again for what this seek did not reach
            why = name_of(error)
            log.warning(
                "%s %d: no seek to %d: %s", self.noun, shard.partition, shard.sequencer.next, why,
                extra=likewise(shard.partition, f"no seek: {why}", self.noun),
            )  # fmt: skip

    async def denied(self, error: Exception) -> None:
        """The topic may not be read any more: wait until it may. Without the group there is no way but a new start."""
        if isinstance(error, NO_GROUP):  # aiokafka's coordination has ended with it
            problem = group_problem(self._tools.settings)
            self._tools.die(EXIT_STUCK, f"{problem}; this process ends, to be started again")
        self._acquirer.refusals.take(error)
        await self._acquirer.refusals.over()

    def passed_over(self, shard: H, offsets: int) -> None:
        """The log holds nothing where records were expected: markers and compaction do that, and so does retention."""
        end = shard.sequencer.next
        if offsets > 0:
            shard.holes.append((end - offsets, end))

    async def _look_into_holes(self, shard: H) -> None:
        """Find out what was deleted, before anything behind it is committed: afterwards nobody could know of it.

        Of a hole that retention has reached all offsets count as deleted, markers too: an upper bound.
        """
        holes = list(shard.holes)
        start = await self.group.start(shard.partition)
        deleted = sum(max(0, min(end, start) - begin) for begin, end in holes)
        self._tools.observer.holed(sum(end - begin for begin, end in holes) - deleted)
        self._mind_gap(shard, deleted)
        del shard.holes[: len(holes)]

    def _mind_gap(self, shard: H, offsets: int) -> None:
        """Say that offsets were deleted before they were read; nothing to say for 0."""
        raise NotImplementedError

    # ------------------------------------------------------------------ writing

    def flush_soon(self, shard: H) -> None:
        """Flush now, without waiting for it; harmless while a flush is under way."""
        if not shard.flushing.locked():
            self.spawn(self.flush(shard))

    async def flush(self, shard: H) -> bool:
        """Write what a partition owes in one transaction; False if it was or is dropped."""
        async with shard.flushing:
            if shard.broken:
                return False
            try:
                await self._write(shard)
            except asyncio.CancelledError:
                self.drop(shard, "the flush was broken off", again=False)
                raise
            except Exception as error:
                if self._acquirer.refusals.take(error) and not self.stopping:
                    self.spawn(self._acquirer.refusals.over())  # names the right now, and not when it is tried again
                self.drop(shard, line_of(error))
                return False
            return True

    async def _write(self, shard: H) -> None:
        while shard.holes:  # further ones may come while the broker is asked
            await self._look_into_holes(shard)
        flush = shard.snapshot(self._tools.clock())
        if flush is None:
            return
        await self._commit(shard, flush)
        shard.written(flush)

    async def _commit(self, shard: H, flush: Any) -> None:
        """One transaction; then tell the observer."""
        raise NotImplementedError

    async def run(self) -> None:
        """Flush every live partition at its pace, for ever."""
        pace = self._tools.settings.flush_seconds
        due = time.monotonic()
        while not self.stopping:
            due = max(due + pace, time.monotonic() + 0.01)
            await asyncio.sleep(due - time.monotonic())
            for shard in list(self.live.values()):
                if shard.live:
                    self.flush_soon(shard)

    # ------------------------------------------------------------------ giving up

    def drop(self, shard: H, why: str, *, again: bool = True) -> None:
        """Throw a shard away: its state comes back only from the log."""
        if shard.broken:
            return
        shard.live, shard.broken = False, True
        if self.live.get(shard.partition) is shard:
            del self.live[shard.partition]
        self._acquirer.suspicious = True
        self._tools.observer.dropped()
        try:
            self.group.pause(shard.partition)
        except Exception as error:  # the agent passes over what comes for a partition that is not live
            log.debug("%s %d: not paused: %s", self.noun, shard.partition, name_of(error))
        log.warning(
            "%s %d: dropped with %d records not yet written, they are read again: %s",
            self.noun, shard.partition, shard.unflushed, why,
            extra=likewise(shard.partition, f"dropped: {why}", self.noun),
        )  # fmt: skip
        self.spawn(shard.journal.close())
        if again and not self.stopping:
            self._want_again(shard)

    def _begin_anew(self, shard: H, why: str) -> None:
        """Take a partition over again after its last flush."""
        if shard.broken:  # by that flush, which leaves it at that
            self._want_again(shard)
        self.drop(shard, why)

    def _want_again(self, shard: H) -> None:
        self._acquirer.want(shard.partition, 2 * self._tools.heartbeat_seconds + AFTER_DROP_SECONDS)

    async def close(self) -> bool:
        """Flush and close everything, within some 5 s; True if all that was applied is written."""
        self.stopping = True
        self._acquirer.cancel()

        async def end(shard: H) -> bool:
            await self._last_flush(shard, "stopping")
            written, shard.broken = not shard.broken, True
            await shard.journal.close()
            return written

        ends = [asyncio.ensure_future(end(shard)) for shard in list(self.live.values())]
        if ends:  # each is bounded, but of a broker that hangs each of its steps takes all of its time
            await asyncio.wait(ends, timeout=CLOSE_SECONDS)
        written = [task.done() and not task.cancelled() and not task.exception() and task.result() for task in ends]
        self.live.clear()
        return all(written)
