"""The shards of this worker: taking them over, flushing them, giving them up. The order of the steps was paid for.

1. *Assigned*: a task per partition, for the callback sends no heartbeats. One heartbeat asks the coordinator whether
   we are still of this generation; opening the journal fences the old owner; only then is the state topic read, to its
   high watermark; the intake seeks to where the shard reads on; the shard is live.
2. *Flush*: packed in one moment, written in one transaction. Any failure drops the shard: it comes back from the log.
3. *Revoked*: one last, bounded flush. A shard that is assigned again is kept: the epoch of its next transaction proves
   that nobody had it in between.
4. *Dropped*: acquired again after two heartbeats, else a ghost would fence the rightful owner.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol

from stream.alerts import Alert
from stream.core.shard import Shard
from stream.core.state import StateError
from stream.settings import Settings
from stream.worker.feed import lost
from stream.worker.group import Group
from stream.worker.journal import Journal
from stream.worker.live import Flush, LiveShard, Owner
from stream.worker.outbox import as_found
from stream.worker.recovery import FEED_KEY, OWNER_KEY, StateLog, read_state

LAST_FLUSH_SECONDS = 3.0
NOT_MEMBER_SECONDS = 0.3
MOVED_ON = "the partition was taken away meanwhile"
EXIT_TWIN = 70
EXIT_BAD_STATE = 2

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Who is told what became true: the metrics."""

    def flushed(self, shard: LiveShard, flush: Flush, seconds: float) -> None:
        """A transaction was committed; called before the shard takes note of its alerts."""

    def recovered(self, shard: LiveShard, state: StateLog, seconds: float) -> None:
        """A shard is live."""

    def dropped(self) -> None:
        """A shard was thrown away after a failure."""

    def holed(self, offsets: int) -> None:
        """Offsets were passed over that hold no records."""

    def gap(self, offsets: int) -> None:
        """Offsets were deleted before they were read."""

    def rebalanced(self) -> None:
        """The group assigned partitions anew."""

    def aged(self, times: Any, now: float) -> None:
        """Events with these times were applied at `now`."""


class Shards:
    """Every shard of this worker. One event loop; nothing here is safe from other threads but the positions."""

    def __init__(
        self,
        settings: Settings,
        group: Group,
        observer: Observer,
        *,
        core: Callable[[int], Shard],
        die: Callable[[int, str], None],
        heartbeat_seconds: float,
        journal: Callable[[Settings, int], Journal] = Journal,
        read: Callable[..., Awaitable[StateLog]] = read_state,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.live: dict[int, LiveShard] = {}
        self.assigned: set[int] | None = None
        """Partitions of the last assignment; None before the first one and while the group rebalances."""
        self.owner = Owner(settings.instance_id or "", int(clock() * 1000))
        self.stopping = False
        self.failed_once = False
        self._settings = settings
        self._group = group
        self._observer = observer
        self._core = core
        self._die = die
        self._patience = 2 * heartbeat_seconds + 0.5
        self._journal = journal
        self._read = read
        self._clock = clock
        self._acquiring: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._assignments = 0

    # ---------------------------------------------------------------- what the transport asks (`Positions`)

    def next_offset(self, partition: int) -> int | None:
        """Where a live shard reads on."""
        shard = self.live.get(partition)
        return shard.sequencer.next if shard is not None and shard.live else None

    def committed_offset(self, partition: int) -> int | None:
        """The group's offset of a live shard: only for others to look at."""
        shard = self.live.get(partition)
        return shard.committed + 1 if shard is not None and shard.live and shard.committed >= 0 else None

    def ready(self, partition: int) -> LiveShard | None:
        """The shard that may apply records of a partition now."""
        shard = self.live.get(partition)
        return shard if shard is not None and shard.live else None

    # ---------------------------------------------------------------- tasks

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the callers; what it raises is logged, never lost."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task failed: %s: %s", type(error).__name__, error, exc_info=error)

    # ---------------------------------------------------------------- rebalances

    def on_assigned(self, partitions: Iterable[int]) -> None:
        """Take up an assignment: keep what is held, close what is lost, acquire the rest."""
        mine = set(partitions)
        self.assigned = mine
        self._assignments += 1
        self._observer.rebalanced()
        log.info("assigned partitions: %s", ", ".join(map(str, sorted(mine))) or "none")
        for partition, shard in list(self.live.items()):
            if partition in mine:
                self.spawn(self._keep(shard, self._assignments))
            else:
                shard.live, shard.broken = False, True
                del self.live[partition]
                self.spawn(shard.journal.close())
        for partition in sorted(mine - set(self.live)):
            postponed = self._acquiring.pop(partition, None)  # by a drop: now there is a fresh assignment
            if postponed is not None:
                postponed.cancel()
            self._want(partition)

    async def on_revoked(self) -> None:
        """Within the group's barrier nobody else owns the shards yet: flush them for the last time, within 3 s."""
        self.assigned = None
        self._assignments += 1
        self._cancel_acquiring()
        await asyncio.gather(*(self._last_flush(shard, "revoked") for shard in list(self.live.values())))

    async def _last_flush(self, shard: LiveShard, why: str) -> None:
        shard.live = False  # the intake passes over what still comes
        try:
            await asyncio.wait_for(self.flush(shard), LAST_FLUSH_SECONDS)
        except Exception as error:
            self.drop(shard, f"{why}, {_name(error)}", again=False)

    async def _keep(self, shard: LiveShard, assignment: int) -> None:
        try:
            await self._group.seek(shard.partition, shard.sequencer.next)
        except Exception as error:  # the sequencer asks again for what this seek did not reach
            log.warning("partition %d: no seek to %d: %s", shard.partition, shard.sequencer.next, _name(error))
        if shard.broken or assignment != self._assignments or self.stopping:
            return
        shard.owner_due = True  # so that there is a flush at once, which shows whether the epoch is still ours
        shard.live = True
        self._group.resume(shard.partition)

    def _cancel_acquiring(self) -> None:
        for task in self._acquiring.values():
            task.cancel()
        self._acquiring.clear()

    # ---------------------------------------------------------------- taking over

    def _want(self, partition: int, delay: float = 0.0) -> None:
        task = self._acquiring.get(partition)
        if task is None or task.done():
            self._acquiring[partition] = self.spawn(self._acquire(partition, delay))

    async def _acquire(self, partition: int, delay: float) -> None:
        tries = 0
        me = asyncio.current_task()

        def check() -> None:
            # cancel() alone is not enough: wait_for of Python 3.11 can swallow it, and two acquirers of one process
            # would fence each other
            if self._acquiring.get(partition) is not me:
                raise asyncio.CancelledError

        while not self.stopping:
            if delay:
                await asyncio.sleep(delay)
            check()
            if partition in self.live:
                return
            journal = self._journal(self._settings, partition)
            step = "ask the group's coordinator"
            begun = time.monotonic()
            try:
                member = await self._group.is_member(partition)
                check()
                if not member:
                    if partition not in self._group.assignment():
                        return
                    delay = NOT_MEMBER_SECONDS
                    continue
                if self.failed_once and self.owner.instance:
                    step = "look for a twin"
                    if await self._has_younger_twin(partition):
                        return
                    check()
                step = "fence the former owner"
                await journal.open()
                check()
                step = "read the state topic"
                state = await self._read(self._settings, partition)
                check()
                shard = await self._load(partition, journal, state)
                check()
                step = "seek"
                if partition in self.live or partition not in self._group.assignment():
                    raise RuntimeError(MOVED_ON)
                await self._group.seek(partition, shard.sequencer.next)
                check()
            except asyncio.CancelledError:
                self.spawn(journal.close(fast=True))
                raise
            except StateError as error:
                self.spawn(journal.close(fast=True))
                self._die(EXIT_BAD_STATE, f"partition {partition} of {self._settings.state_topic}: {error}")
                return
            except Exception as error:
                log.warning("partition %d: could not %s (will try again): %s", partition, step, _line(error))
                self.spawn(journal.close(fast=True))
                delay = min(1.0 + tries, 5.0)
                tries += 1
                continue
            self._go_live(shard, state, time.monotonic() - begun)
            return

    async def _has_younger_twin(self, partition: int) -> bool:
        """Whether another process was started as the same instance after this one: then this one is the ghost."""
        packed = (await self._read(self._settings, partition, stable=True)).worker.get(OWNER_KEY)
        if packed is None:
            return False
        other = Owner.unpack(packed)
        if other.instance != self.owner.instance or other.started_ms <= self.owner.started_ms:
            return False
        self._die(EXIT_TWIN, f"instance {self.owner.instance} runs in a newer process: this one leaves the work to it")
        return True

    async def _load(self, partition: int, journal: Journal, state: StateLog) -> LiveShard:
        core = self._core(partition)
        step = await asyncio.to_thread(core.load, list(state.states.items()))
        if core.applied >= state.source_end:
            raise StateError(
                f"the state has applied offset {core.applied} of {self._settings.source_topic}, which ends at "
                f"{state.source_end}: the source was created anew; delete the state topic too, or set another app_id "
                "and state_topic"
            )
        packed_feed = state.worker.get(FEED_KEY)
        shard = LiveShard(
            partition,
            core,
            journal,
            self._settings,
            self.owner,
            next_offset=max(core.read_from, state.source_start),
            last_feed=Alert.model_validate_json(packed_feed) if packed_feed is not None else None,
            watch=self._observer.aged,
        )
        shard.owe(step)
        behind = self._clock() - core.newest > self._settings.backlog_seconds
        for alert in core.open_alerts():
            # an incident of an hour ago is live if the shard is: it just has not ended
            shown = as_found(alert, self._clock(), self._settings.backlog_seconds) if behind else alert
            shard.open[alert.fingerprint] = shown
        if shard.feed.open is not None:
            shard.open[shard.feed.open.fingerprint] = shard.feed.open
        if core.applied >= 0:
            self._mind_gap(shard, state.source_start - core.applied - 1)
        return shard

    def _go_live(self, shard: LiveShard, state: StateLog, seconds: float) -> None:
        shard.recovery_seconds = seconds
        shard.live = True
        self.live[shard.partition] = shard
        self._observer.recovered(shard, state, seconds)
        self._group.resume(shard.partition)
        log.info(
            "partition %d: live at offset %d with %d keys, after %.0f ms (%d records read)",
            shard.partition,
            shard.sequencer.next,
            len(shard.core),
            seconds * 1000,
            state.read,
        )

    # ---------------------------------------------------------------- reading on

    def rewind(self, shard: LiveShard) -> None:
        """The sequencer asked for one seek back."""
        log.info("partition %d: seek back to %d", shard.partition, shard.sequencer.next)
        self.spawn(self._rewind(shard))

    async def _rewind(self, shard: LiveShard) -> None:
        try:
            await self._group.seek(shard.partition, shard.sequencer.next)
        except Exception as error:  # the next chunk asks again
            log.warning("partition %d: no seek to %d: %s", shard.partition, shard.sequencer.next, _name(error))

    def passed_over(self, shard: LiveShard, offsets: int) -> None:
        """The log holds nothing where records were expected: markers and compaction do that, and so does retention."""
        self._observer.holed(offsets)
        log.info("partition %d: %d offsets hold no records (accepted)", shard.partition, offsets)
        self.spawn(self._look_for_gap(shard, offsets))

    async def _look_for_gap(self, shard: LiveShard, offsets: int) -> None:
        upto = shard.sequencer.next
        start = await self._group.start(shard.partition)
        self._mind_gap(shard, min(offsets, start - (upto - offsets)))

    def _mind_gap(self, shard: LiveShard, offsets: int) -> None:
        if offsets <= 0:
            return
        self._observer.gap(offsets)
        finding = lost(offsets)
        shard.find("gap", finding)
        log.error("partition %d: %s; %s", shard.partition, finding.text, finding.action)

    # ---------------------------------------------------------------- writing

    async def flush(self, shard: LiveShard) -> bool:
        """Write what a shard owes in one transaction; False if it was or is dropped."""
        async with shard.flushing:
            if shard.broken:
                return False
            flush = shard.snapshot(self._clock())
            if flush is None:
                return True
            begun = time.monotonic()
            if flush.records:
                try:
                    await shard.journal.write(flush.records)
                except asyncio.CancelledError:
                    self.drop(shard, "cancelled", again=False)
                    raise
                except Exception as error:
                    self.drop(shard, _line(error))
                    return False
            if shard.broken:
                return False
            self._observer.flushed(shard, flush, time.monotonic() - begun)
            shard.written(flush)
            return True

    async def step_idle(self, shard: LiveShard, watermark: float) -> bool:
        """Move an idle shard's watermark: persisted first, effective then. True if it was done."""
        async with shard.turn:  # no record may be applied between the two
            if not shard.live:
                return False
            shard.core.announce(watermark)
            if not await self.flush(shard) or shard.broken:
                return False
            shard.owe(shard.core.advance())
            return True

    async def run(self) -> None:
        """Flush every live shard at its pace, for ever."""
        due = time.monotonic()
        while not self.stopping:
            due = max(due + self._settings.flush_seconds, time.monotonic() + 0.01)
            await asyncio.sleep(max(0.01, due - time.monotonic()))
            for shard in list(self.live.values()):
                if shard.live and not shard.flushing.locked():
                    self.spawn(self.flush(shard))

    # ---------------------------------------------------------------- giving up

    def drop(self, shard: LiveShard, why: str, *, again: bool = True) -> None:
        """Throw a shard away: its state comes back only from the log."""
        if shard.broken:
            return
        shard.live, shard.broken = False, True
        if self.live.get(shard.partition) is shard:
            del self.live[shard.partition]
        self.failed_once = True
        self._observer.dropped()
        try:
            self._group.pause(shard.partition)
        except Exception as error:  # the intake passes over what comes for a shard that is not live
            log.debug("partition %d: not paused: %s", shard.partition, _name(error))
        log.warning(
            "partition %d: dropped with %d records that are not yet written, to be read again: %s",
            shard.partition,
            shard.unflushed,
            why,
        )
        self.spawn(shard.journal.close())
        if again and not self.stopping:
            self._want(shard.partition, self._patience)

    async def stop(self) -> None:
        """Flush and close everything, within some 7 s, and leave the group."""
        self.stopping = True
        self._cancel_acquiring()

        async def end(shard: LiveShard) -> None:
            await self._last_flush(shard, "stopping")
            shard.broken = True
            await shard.journal.close()

        await asyncio.gather(*(end(shard) for shard in list(self.live.values())), return_exceptions=True)
        self.live.clear()
        try:
            await self._group.leave()
        except Exception as error:
            log.warning("the group was not left, others take over after the session timeout: %s", _name(error))


def _name(error: BaseException) -> str:
    return type(error).__name__


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300] if str(error) else type(error).__name__
