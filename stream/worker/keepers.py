"""The keeper of the groups in this worker's hands, if the evidence topic is assigned to it, and how long it waits.

Hours wait for every shard. One that tells nothing for `group_patience_seconds` while others have come further is given
up for the hours that only it holds up: announced on the state topic first, effective then, and told in their alerts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from stream.alerts import Alert, rfc3339
from stream.worker.agents import slices
from stream.worker.group import Group
from stream.worker.keeper import Keeper, KeeperFlush, KeeperRole, tools_of
from stream.worker.logs import likewise
from stream.worker.partitions import Partitions
from stream.worker.recovery import StateLog
from stream.worker.tools import Tools, line_of
from stream.worker.transport import Chunk

MOST_WAITING = 250_000
"""Cells of evidence that are held in memory while hours wait, some 500 MB; beyond it patience is over at once."""
NAMED = 10

log = logging.getLogger(__name__)


class Keepers(Partitions[Keeper]):
    """The evidence topic's only partition, as one of this worker's. `clock` is monotonic, in seconds."""

    def __init__(self, tools: Tools, group: Group, clock: Callable[[], float] = time.monotonic) -> None:
        own = tools_of(tools, group)
        role = KeeperRole(own)
        super().__init__(own, role)
        self._cuts = role.cuts
        self._monotonic = clock
        self._since: dict[int, tuple[int, float]] = {}
        """Of the shards that hours wait for: the bucket that each has come to, and since when it stands there."""
        self._shown: set[str] = set()
        """Failures whose traceback is in the log: the same record fails again after every takeover."""

    @property
    def keeper(self) -> Keeper | None:
        """The live keeper; None if this worker has none now."""
        return self.ready(0)

    def open_alerts(self) -> Iterator[Alert]:
        """The last alert of every open campaign, if this worker keeps the groups."""
        held = self.live.get(0)
        return iter(held.open.values() if held is not None else ())

    # ------------------------------------------------------------------ what the life cycle asks

    def _recovered(self, shard: Keeper, read: StateLog, seconds: float) -> None:
        self._since.clear()
        log.info(
            "groups: live at offset %d of %s with %d groups and %d open campaigns, after %.0f ms (%d records, %.1f MB "
            "read, epoch %d)",
            shard.sequencer.next, shard.source.topic, shard.tracked, len(shard.open), seconds * 1000, read.records,
            read.bytes / 1e6, shard.journal.epoch, extra={"seldom": "groups"},
        )  # fmt: skip
        lost, shard.lost = shard.lost, 0
        self._mind_gap(shard, lost)

    def _mind_gap(self, shard: Keeper, offsets: int) -> None:
        if offsets <= 0:
            return
        shard.core.lack()
        self._tools.observer.gap(offsets)
        topic = shard.source.topic
        log.error(
            "groups: %d offsets were deleted from %s before they were read: the hours that they were about are judged "
            "without them; raise the topic's retention above the longest stop of the workers", offsets, topic,
            extra=likewise(shard.partition, "offsets were deleted", self.noun),
        )  # fmt: skip
        self._tools.lose(f"groups: {offsets} offsets of {topic} were deleted before they were read")

    async def _commit(self, shard: Keeper, flush: KeeperFlush) -> None:
        if flush.records:
            await shard.journal.write(flush.records)
            self._cuts.pop(shard.partition, None)  # the state says so by now
        self._tools.observer.kept(shard, flush)

    async def renew(self, shard: Keeper, why: str, *, cut_at: int | None = None) -> None:
        """The log of evidence is another one by now: write what was applied, and take it over again.

        cut_at: the offset at which the log was cut; None: it was not
        """
        await self._last_flush(shard, why)
        if cut_at is not None:
            self._cuts[shard.partition] = cut_at
        self._begin_anew(shard, why)

    # ------------------------------------------------------------------ evidence

    async def take(self, event: Any) -> None:
        """Apply one chunk. Nothing escapes but a cancel: Faust would restart the agent and go on behind the failure."""
        keeper = self.ready(event.message.partition)
        if keeper is None:  # not taken over yet, or dropped: it is read again
            event.ack()
            return
        try:
            await self._apply(keeper, event.value)
        except Exception as error:
            why = line_of(error)
            log.error(
                "groups: what shards told could not be applied: %s", why,
                exc_info=error if why not in self._shown else None, extra=likewise(keeper.partition, why, self.noun),
            )  # fmt: skip
            self._shown.add(why)
            self.drop(keeper, why)
        if not keeper.live:
            event.ack()
            return
        keeper.acknowledge_later(event)

    async def _apply(self, keeper: Keeper, chunk: Chunk) -> None:
        take = keeper.sequencer.take(chunk.begin, chunk[0].offset, chunk[-1].offset, time.monotonic())
        if take.seek is not None:
            self.rewind(keeper)
        if take.skipped:
            self.passed_over(keeper, min(take.skipped, keeper.sequencer.next - keeper.core.applied - 1))
        if take.start is None:
            return
        for records in slices(chunk, take.start):
            async with keeper.turn:
                if not keeper.live:
                    return
                await self._beside(keeper, lambda records=records: keeper.apply(records))  # type: ignore[misc]
            if keeper.owner_due:
                self.flush_soon(keeper)

    async def _beside(self, keeper: Keeper, work: Callable[[], None]) -> None:
        """Work on the groups in a thread: an hour of a million keys takes a minute, in which the shards go on."""
        running = asyncio.ensure_future(asyncio.to_thread(work))
        keeper.busy = True
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            self.drop(keeper, "it was broken off in the middle of its work")
            raise
        finally:
            keeper.busy = not running.done()

    # ------------------------------------------------------------------ patience

    def mind(self, keeper: Keeper, *, at_end: bool) -> None:
        """See whether hours have waited for a shard long enough; about once a second.

        at_end: all that shards have told so far is applied
        """
        if keeper.busy or keeper.turn.locked():
            return
        overdue = self._overdue(keeper, at_end)
        hour = keeper.core.done_without(overdue)
        if overdue and hour > keeper.core.oldest:
            self.spawn(self._give_up(keeper, hour, overdue))

    def _overdue(self, keeper: Keeper, at_end: bool) -> set[int]:
        """The shards that hours have waited for without a word for too long."""
        now, behind = self._monotonic(), keeper.core.behind()
        since: dict[int, tuple[int, float]] = {}
        for shard, bucket in behind.items():
            known = self._since.get(shard)
            since[shard] = known if at_end and known is not None and known[0] == bucket else (bucket, now)
        self._since = since
        if keeper.core.waiting > MOST_WAITING and keeper.core.front - keeper.core.oldest > 1:
            return set(behind)
        patience = self._tools.settings.group_patience_seconds
        return {shard for shard, (_, begun) in since.items() if now - begun > patience}

    async def _give_up(self, keeper: Keeper, hour: int, without: set[int]) -> None:
        """Close the hours before `hour` without some shards: persisted first, effective then."""
        async with keeper.turn:  # no evidence may be applied between the two
            if not keeper.live:
                return
            keeper.core.announce(hour)
            if not await self.flush(keeper) or keeper.broken:
                return
            try:
                await self._beside(keeper, keeper.advance)
            except Exception as error:
                self.drop(keeper, line_of(error))  # it is half done
                raise
        named = ", ".join(map(str, sorted(without)[:NAMED])) + (" and others" if len(without) > NAMED else "")
        log.error(
            "groups: the hours before %s are judged without partition %s, which told nothing for long: see why it is "
            "not read (overdraw_consumer_lag_events, /readyz of the workers)", rfc3339(hour * 3600.0), named,
            extra=likewise(keeper.partition, f"without partition {named}", self.noun),
        )  # fmt: skip
