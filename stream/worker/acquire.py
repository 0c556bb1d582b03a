"""Taking a partition over: fence first, then read, then seek. Reading first would wait for a hanging transaction.

What is read differs: a shard's state from the state topic, the place of a partition of the intake from the group's
offsets. That is its `Role`; the order of the steps, and the care, are the same for both.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from stream.alerts import Alert
from stream.core.shard import Shard
from stream.core.state import StateError
from stream.settings import Settings
from stream.worker.group import Group
from stream.worker.journal import Journal
from stream.worker.live import LiveShard, Owner
from stream.worker.logs import likewise
from stream.worker.outbox import as_found
from stream.worker.recovery import FEED_KEY, OWNER_KEY, Pair, StateLog
from stream.worker.rights import Refusals
from stream.worker.sequencer import Sequencer
from stream.worker.takeover import Grounds, begin_with
from stream.worker.tools import EXIT_BAD_STATE, EXIT_TWIN, Tools, line_of

NOT_MEMBER_SECONDS = 0.3
MOST_PATIENCE_SECONDS = 5.0
PROGRESS_SECONDS = 3.0
"""Between two lines of the log about one recovery."""

log = logging.getLogger(__name__)


class Held(Protocol):
    """A partition in this worker's hands, as its life cycle sees it: a shard, or a partition of the intake."""

    partition: int
    journal: Journal
    sequencer: Sequencer
    live: bool
    broken: bool
    owner_due: bool
    recovery_seconds: float
    unflushed: int
    flushing: asyncio.Lock
    holes: list[tuple[int, int]]
    """Stretches of offsets [first, next) without records that nobody has looked into yet."""

    @property
    def committed(self) -> int:
        """Last offset whose outcome is committed, -1 before the first."""

    def snapshot(self, now: float) -> Any:
        """Everything that is owed, packed at one moment; None if that is nothing."""

    def written(self, flush: Any) -> None:
        """A flush is committed."""


H = TypeVar("H", bound=Held)
H_co = TypeVar("H_co", bound=Held, covariant=True)


class Role(Protocol[H_co]):
    """What differs between the partitions of the source and those of the intake; `noun` is for log lines."""

    noun: str
    group: Group

    def journal(self, partition: int) -> Journal:
        """A new journal for a partition."""

    async def owner(self, partition: int) -> Owner | None:
        """Who owned the partition last, as far as finished transactions tell; None: nobody."""

    async def load(self, partition: int, journal: Journal, owner: Owner, check: Callable[[], None]) -> tuple[H_co, Any]:
        """Read, behind the fence, what was committed; also what there was to read. `check` raises if it is in vain."""


class Acquirer(Generic[H]):
    """One task per wanted partition, until it is delivered or no longer wanted."""

    def __init__(
        self,
        tools: Tools,
        owner: Owner,
        role: Role[H],
        *,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        held: Callable[[int], bool],
        deliver: Callable[[H, Any, float], None],
    ) -> None:
        self.suspicious = False
        """A partition was lost to a failure: from now on look for a younger process of our name before fencing."""
        self.refusals = Refusals(tools.settings, tools.missing_rights)
        """What Kafka refuses for want of a right: nothing is taken over before it is granted."""
        self._tools = tools
        self._owner = owner
        self._role = role
        self._spawn = spawn
        self._held = held
        self._deliver = deliver
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def want(self, partition: int, delay: float = 0.0) -> None:
        """Acquire a partition, after a delay; harmless while that is under way."""
        task = self._tasks.get(partition)
        if task is None or task.done():
            self._tasks[partition] = self._spawn(self._acquire(partition, delay))

    def want_now(self, partition: int) -> None:
        """Acquire a partition of a fresh assignment, also if a failure had put it off."""
        self.forget(partition)
        self.want(partition)

    def forget(self, partition: int) -> None:
        """No longer acquire a partition."""
        task = self._tasks.pop(partition, None)
        if task is not None:
            task.cancel()

    def cancel(self) -> None:
        """No longer acquire anything."""
        for partition in list(self._tasks):
            self.forget(partition)

    async def _acquire(self, partition: int, delay: float) -> None:
        me = asyncio.current_task()

        def check() -> None:
            # cancel() alone is not enough: wait_for of Python 3.11 can swallow it, and two acquirers of one process
            # would fence each other
            if self._tasks.get(partition) is not me:
                raise asyncio.CancelledError

        failures = 0
        while True:
            if delay:
                await asyncio.sleep(delay)
            check()
            await self.refusals.over()
            check()
            if self._held(partition):
                return
            try:
                if not await self._role.group.is_member(partition):
                    check()
                    if partition not in self._role.group.assignment():
                        return
                    delay = NOT_MEMBER_SECONDS
                    continue
                check()
                if await self._take_over(partition, check):
                    return
            except StateError as error:
                topic = self._tools.settings.state_topic
                self._tools.die(EXIT_BAD_STATE, f"partition {partition} of {topic}: {error}")
                return
            except Exception as error:
                self.refusals.take(error)
                why, noun = line_of(error), self._role.noun
                log.warning(
                    "%s %d: not taken over (will try again): %s", noun, partition, why,
                    extra=likewise(partition, why, noun),
                )  # fmt: skip
            delay = min(1.0 + failures, MOST_PATIENCE_SECONDS)
            failures += 1

    async def _take_over(self, partition: int, check: Callable[[], None]) -> bool:
        """One attempt; False if the partition was taken away meanwhile."""
        role, begun = self._role, time.monotonic()
        if self.suspicious and await self._has_younger_twin(partition):
            return True
        check()
        journal = role.journal(partition)
        try:
            await journal.open()
            check()
            held, read = await role.load(partition, journal, self._owner, check)
            check()
            if self._held(partition) or partition not in role.group.assignment():
                self._spawn(journal.close(fast=True))
                return False
            await role.group.seek(partition, held.sequencer.next)
            check()
        except BaseException:
            self._spawn(journal.close(fast=True))
            raise
        self._deliver(held, read, time.monotonic() - begun)
        return True

    async def _has_younger_twin(self, partition: int) -> bool:
        """Whether another process was started under our name after this one: then this one is the ghost."""
        if not self._owner.instance:
            return False
        other = await self._role.owner(partition)
        if other is None or other.instance != self._owner.instance or other.started_ms <= self._owner.started_ms:
            return False
        text = f"instance {self._owner.instance} also runs in a newer process: this one leaves the work to it"
        self._tools.die(EXIT_TWIN, text)
        return True


class SourceRole:
    """A partition of the source: a shard, whose state stands on the state topic."""

    noun = "partition"

    def __init__(self, tools: Tools) -> None:
        self.group = tools.group
        self.grounds = Grounds(tools)
        self.reading: dict[int, StateLog] = {}
        """How far the takeovers that are under way have read, and deleted."""
        self._tools = tools

    def journal(self, partition: int) -> Journal:
        """See `Role`."""
        return self._tools.journal(self._tools.settings, partition)

    async def owner(self, partition: int) -> Owner | None:
        """See `Role`."""
        only_worker = StateLog(lambda _: None, purpose="owner")
        with self._watched(partition) as tools:
            state = await tools.read(tools.settings, partition, only_worker, stable=True)
        packed = state.worker.get(OWNER_KEY)
        return Owner.unpack(packed) if packed is not None else None

    async def load(
        self, partition: int, journal: Journal, owner: Owner, check: Callable[[], None]
    ) -> tuple[LiveShard, StateLog]:
        """See `Role`."""
        core = self._tools.core(partition)
        with self._watched(partition) as tools:
            state = await self._read(tools, partition, core)
            check()
            return await self._load(tools, partition, core, journal, owner, state), state

    @contextmanager
    def _watched(self, partition: int) -> Iterator[Tools]:
        """The tools, whose readings of this partition are seen by the watchdog until all is done with them."""
        last: StateLog | None = None

        async def read(settings: Settings, number: int, log: StateLog, *, stable: bool = False) -> StateLog:
            nonlocal last
            last = self.reading[partition] = log
            return await self._tools.read(settings, number, log, stable=stable)

        try:
            yield replace(self._tools, read=read)
        finally:
            if last is not None and self.reading.get(partition) is last:  # else another takeover has begun
                del self.reading[partition]

    async def _read(self, tools: Tools, partition: int, core: Shard) -> StateLog:
        """Read a shard's state into its core, saying now and then how far it is."""
        begun = told = time.monotonic()

        def take_up(records: list[Pair]) -> None:
            nonlocal told
            core.take_up(records)
            now = time.monotonic()
            if now - told > PROGRESS_SECONDS:
                told = now
                log.info("partition %d: recovering: %s, %d keys, %.0f s", partition, state, len(core), now - begun)

        state = StateLog(take_up)
        return await tools.read(tools.settings, partition, state)

    async def _load(
        self, tools: Tools, partition: int, core: Shard, journal: Journal, owner: Owner, state: StateLog
    ) -> LiveShard:
        settings, now = tools.settings, tools.clock()
        core, step, rebuild = await begin_with(tools, partition, journal, core, state)
        ground = self.grounds.find(partition, core, rebuild, state)
        alerts = await asyncio.to_thread(lambda: list(core.open_alerts()))
        packed = state.worker.get(FEED_KEY)
        shard = LiveShard(
            partition,
            core,
            journal,
            settings,
            owner,
            next_offset=max(core.read_from, state.source_start),
            last_feed=Alert.model_validate_json(packed) if packed is not None else None,
            source=ground.source,
            source_kept=ground.kept,
            ground=ground.name,
            rebuild=ground.rebuild,
            watch=tools.observer.aged,
        )
        shard.owe(step)
        shard.weigh(state.sample)
        # an old incident of a shard that is up to date is live: it just has not ended
        behind = now - core.newest > settings.backlog_seconds
        for alert in alerts:
            shown = as_found(alert, now, settings.backlog_seconds) if behind else alert
            shard.open[alert.fingerprint] = shown
        if shard.feed.open is not None:
            shard.open[shard.feed.open.fingerprint] = shard.feed.open
        if ground.rebuild is not None and max(core.applied + 1, state.source_start) >= ground.rebuild.until:
            shard.speak_again()
        return shard
