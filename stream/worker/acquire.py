"""Taking a shard over: fence first, then read, then seek. Reading first would wait for a hanging transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from stream.alerts import Alert
from stream.core.state import StateError
from stream.worker.journal import Journal
from stream.worker.live import LiveShard, Owner
from stream.worker.outbox import as_found
from stream.worker.recovery import FEED_KEY, OWNER_KEY, StateLog
from stream.worker.takeover import Grounds, report, take_up
from stream.worker.tools import EXIT_BAD_STATE, EXIT_TWIN, Tools, line_of

NOT_MEMBER_SECONDS = 0.3
MOST_PATIENCE_SECONDS = 5.0

log = logging.getLogger(__name__)

Deliver = Callable[[LiveShard, StateLog, float], None]


class Acquirer:
    """One task per wanted partition, until its shard is delivered or no longer wanted."""

    def __init__(
        self,
        tools: Tools,
        owner: Owner,
        *,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        held: Callable[[int], bool],
        deliver: Deliver,
    ) -> None:
        self.suspicious = False
        """A shard was lost to a failure: from now on look for a younger process of our name before fencing."""
        self.grounds = Grounds(tools)
        self._tools = tools
        self._owner = owner
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
            if self._held(partition):
                return
            try:
                if not await self._tools.group.is_member(partition):
                    check()
                    if partition not in self._tools.group.assignment():
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
                log.warning("partition %d: not taken over (will try again): %s", partition, line_of(error))
            delay = min(1.0 + failures, MOST_PATIENCE_SECONDS)
            failures += 1

    async def _take_over(self, partition: int, check: Callable[[], None]) -> bool:
        """One attempt; False if the partition was taken away meanwhile."""
        tools, begun = self._tools, time.monotonic()
        if self.suspicious and await self._has_younger_twin(partition):
            return True
        check()
        journal = tools.journal(tools.settings, partition)
        try:
            await journal.open()
            check()
            state = await tools.read(tools.settings, partition)
            check()
            shard = await self._load(partition, journal, state)
            check()
            if self._held(partition) or partition not in tools.group.assignment():
                self._spawn(journal.close(fast=True))
                return False
            await tools.group.seek(partition, shard.sequencer.next)
            check()
        except BaseException:
            self._spawn(journal.close(fast=True))
            raise
        self._deliver(shard, state, time.monotonic() - begun)
        return True

    async def _has_younger_twin(self, partition: int) -> bool:
        """Whether another process was started under our name after this one: then this one is the ghost."""
        if not self._owner.instance:
            return False
        packed = (await self._tools.read(self._tools.settings, partition, stable=True)).worker.get(OWNER_KEY)
        if packed is None:
            return False
        other = Owner.unpack(packed)
        if other.instance != self._owner.instance or other.started_ms <= self._owner.started_ms:
            return False
        text = f"instance {self._owner.instance} also runs in a newer process: this one leaves the work to it"
        self._tools.die(EXIT_TWIN, text)
        return True

    async def _load(self, partition: int, journal: Journal, state: StateLog) -> LiveShard:
        settings, now = self._tools.settings, self._tools.clock()
        core, step, rebuild = await take_up(self._tools, partition, journal, self._tools.core(partition), state)
        ground = self.grounds.find(partition, core, rebuild, state)
        packed = state.worker.get(FEED_KEY)
        shard = LiveShard(
            partition,
            core,
            journal,
            settings,
            self._owner,
            next_offset=max(core.read_from, state.source_start),
            last_feed=Alert.model_validate_json(packed) if packed is not None else None,
            source=ground.source,
            source_kept=ground.kept,
            ground=ground.name,
            rebuild=ground.rebuild,
            watch=self._tools.observer.aged,
        )
        shard.owe(step)
        shard.weigh(state.states.items())
        # an old incident of a shard that is up to date is live: it just has not ended
        behind = now - core.newest > settings.backlog_seconds
        for alert in core.open_alerts():
            shown = as_found(alert, now, settings.backlog_seconds) if behind else alert
            shard.open[alert.fingerprint] = shown
        if shard.feed.open is not None:
            shard.open[shard.feed.open.fingerprint] = shard.feed.open
        if ground.finding is not None:
            report(self._tools, shard, ground.finding, ground.unread)
        if ground.rebuild is not None and max(core.applied + 1, state.source_start) >= ground.rebuild.until:
            shard.speak_again()
        return shard
