"""One notifier at work: what becomes of a record of the alert topic, and of each message."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from pydantic import ValidationError

from stream.alerts import Alert
from stream.notify.config import NotifyConfig
from stream.notify.delivery import Deliverer
from stream.notify.desk import Decision, Desk
from stream.notify.digest import Digest
from stream.notify.hold import Holds, may_wait
from stream.notify.hush import Hush
from stream.notify.message import Message
from stream.notify.routing import Routing
from stream.notify.service import Notifier, Request
from stream.settings import Settings
from stream.worker.notifier.consumer import consumer_of
from stream.worker.notifier.lane import Item, Lane, lanes_of
from stream.worker.notifier.places import Places
from stream.worker.notifier.progress import Place
from stream.worker.notifier.reader import BATCH_RECORDS, Reader
from stream.worker.notifier.repeats import say_again
from stream.worker.notifier.storm import Records, Storm

MAX_QUEUE = 2 * BATCH_RECORDS
"""Messages that wait in this process; the others wait in Kafka."""

log = logging.getLogger(__name__)


class Line:
    """Judges and sends what its reader reads. What it needs of the world is handed in; `told(outcome)` counts,
    `pages(names)` says whether one of these notifiers is a pager that works.
    """  # noqa: D205

    def __init__(
        self,
        name: str,
        settings: Settings,
        config: NotifyConfig,
        notifier: Notifier,
        deliverer: Deliverer,
        *,
        told: Callable[[str], None],
        hush: Hush | None = None,
        clock: Callable[[], float] = time.time,
        consumer: Callable[[Settings, str], Any] = consumer_of,
        pages: Callable[[Collection[str]], bool] = lambda names: False,
    ) -> None:
        self.name = name
        self.trouble: Callable[[], str | None] = lambda: deliverer.trouble
        self.notifier, self.deliverer, self.told, self.clock = notifier, deliverer, told, clock
        self._settings, self._config, self._hush = settings, config, hush or Hush()
        self._pages = pages
        self._routing = Routing(config)
        self._lanes = [Lane(clock) for _ in range(lanes_of(notifier))]
        self.storm = Storm(settings.app_id, config.notifiers[name], clock, self._send_digest, self._finish_digest)
        self.reader = Reader(self, settings, consumer)
        self.generation = 0
        self._room = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Forget all that belongs to an assignment."""
        self.generation += 1
        self.desk = Desk(
            dedupes=self.notifier.dedupes,
            every_update=self.notifier.every_update,
            keeps=self.notifier.resend_seconds is not None,
            hush=self._hush,
            clock=self.clock,
        )
        self.storm.reset()
        self.holds = Holds(self._config.hold_seconds(self.name))
        self.places = Places()
        self._under_way: dict[tuple[int, int], float] = {}
        for lane in self._lanes:
            lane.clear()
        self._room.set()

    def halt(self) -> None:
        """Begin no message any more; what is under way goes on."""
        self.generation += 1

    def begin(self) -> list[asyncio.Task[None]]:
        """Begin to send, until these tasks are cancelled."""
        tasks = [asyncio.create_task(self._deliver(lane)) for lane in self._lanes]
        if self.notifier.resend_seconds is not None:
            tasks.append(asyncio.create_task(say_again(self, self.notifier.resend_seconds)))
        return tasks

    async def run(self) -> None:
        """Work until cancelled."""
        await self.reader.run()

    @property
    def full(self) -> bool:
        """Whether to read no more for now."""
        return self.waiting > MAX_QUEUE // 2 or self.storm.full

    async def room(self, seconds: float) -> bool:
        """Wait so long for room; whether there may be some."""
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), seconds)
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------------ what it tells of itself

    @property
    def down(self) -> str | None:
        """Why it does not read the topic; None while it does."""
        return self.reader.down

    @property
    def waiting(self) -> int:
        """Messages that are queued or being tried."""
        return len(self._under_way)

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest of them."""
        return max(0.0, self.clock() - min(self._under_way.values())) if self._under_way else 0.0

    @property
    def aside(self) -> int:
        """Those of them that have stepped aside."""
        return sum(lane.aside for lane in self._lanes)

    # ------------------------------------------------------------------ a record

    def take(self, record: Any) -> None:
        """Decide what to do with the next record of the alert topic."""
        partition, offset = record.partition, record.offset
        place = self.places.read(partition, offset)
        if place is None:
            return
        told_before = place.is_done(offset)
        try:
            alert = Alert.model_validate_json(record.value or b"")
        except ValidationError:
            if not told_before:
                self.told("unreadable")
                log.warning(
                    "notifier %s: partition %d, offset %d is no alert of this version: passed over",
                    self.name, partition, offset, extra={"seldom": self.name},
                )  # fmt: skip
                self.places.take(partition, offset, done=True)
            return
        waited = alert in self.holds
        if waited and not may_wait(alert):
            told_before = False  # it ends the waiting of a ticket that was never told: say, its digest never went
        at = record.timestamp / 1000
        source = f"/overdraw/{self._settings.app_id}/{partition}"
        names = self._routing.names(alert)
        matched = self.name in names
        if told_before:
            self._remember(alert, matched, place, source, partition, at)
            self.places.take(partition, offset, done=True)
            return
        known, digested = self.desk.knows(alert), self.desk.digested()
        paged = self._pages(names)
        hold = self.holds.has_room(partition) and self._routing.is_pager_too(self.name, alert)
        needs_leave = self.desk.needs_leave(alert, matched, paged=paged, hold=hold)
        may_send = not needs_leave or self.storm.leave(self.clock())
        decision = self.desk.judge(
            alert, matched, may_send, source=source, partition=partition, at=at, paged=paged, hold=hold
        )
        # of the ends of what a digest told, only the last one is news
        is_end = alert.status == "resolved" and not waited
        between = decision is Decision.DIGEST and is_end and self.desk.digested() > 0
        done = between or decision is Decision.SILENT or (waited and decision is Decision.HOLD)
        self.places.take(partition, offset, done=done)
        opener = self._hold(alert, decision, source, partition, offset, at)
        if decision is Decision.SEND:
            self._queue(Item(partition, offset, self.generation, at, self.message(alert, source), opener))
            if digested and not self.desk.digested() and self.notifier.dedupes:
                self.storm.move()  # else the digest would be left open
        elif decision is Decision.DIGEST:
            self.told("digested")
            records = [] if between else [(partition, offset), *opener]
            self.storm.gather(alert, records, known=known and not waited)
        elif opener:
            self._finish(opener)

    def _hold(
        self, alert: Alert, decision: Decision, source: str, partition: int, offset: int, at: float
    ) -> tuple[tuple[int, int], ...]:
        """A ticket waits, goes on waiting, or has no longer to: then the record that opened it, done with as this is.

        Not before: who begins anew would take the ticket as told, and its update as no news.
        """
        over = decision in (Decision.SEND, Decision.DIGEST) or alert.status == "resolved"
        if over and (held := self.holds.release(alert)) is not None:
            return ((held.partition, held.offset),)
        if not over and (decision is Decision.HOLD or alert in self.holds):
            self.holds.keep(alert, source, partition, offset, at)
        return ()

    def _remember(self, alert: Alert, matched: bool, place: Place, source: str, partition: int, at: float) -> None:
        """Take up an alert that was told before this process began."""
        told = None if place.more and self.notifier.dedupes else place.told
        is_new = self.desk.needs_leave(alert, matched)
        one_by_one = self.desk.remember(alert, matched, told, source=source, partition=partition, at=at)
        if alert in self.holds:
            self.holds.keep(alert, source, partition, -1, at)
        if is_new and one_by_one:
            self.storm.leave(at)  # else each restart in a storm would give leave for as many messages again

    def message(self, alert: Alert, source: str) -> Message:
        """What is said of an alert."""
        return Message(alert, source, self._routing.owner_of(alert.entity), self._config.silence_base())

    def request(self, message: Message) -> Request:
        """What is sent of it now."""
        return self.notifier.alert(message, self.clock())

    def _queue(self, item: Item) -> None:
        self._under_way[item.partition, item.offset] = item.written_at
        # what concerns one entity goes one by one, in its order
        lane = zlib.crc32(item.entity.encode("utf-8", "surrogatepass")) % len(self._lanes)
        self._lanes[lane].put(item)

    async def _deliver(self, lane: Lane) -> None:
        while True:
            item, attempts = await lane.next()
            outcome = await self.deliverer.deliver(
                partial(self.request, item.message),
                item.written_at,
                self.clock,
                partial(self._is_of, item.generation),
                trial=item.trial,
                attempts=attempts,
            )
            if outcome is None or (item.partition, item.offset) not in self._under_way:
                continue
            if outcome == "failed":
                if self._is_of(item.generation):
                    lane.failed(item)
                continue
            lane.passed(item)
            self._finish([(item.partition, item.offset), *item.also])
            if not self.notifier.dedupes:
                await self.reader.commit()  # a repeat would be seen: so none but the last message can be one

    def _is_of(self, generation: int) -> bool:
        return generation == self.generation

    def _finish(self, records: Iterable[tuple[int, int]]) -> None:
        records = list(records)
        for record in records:
            self._under_way.pop(record, None)
        self.places.finish(records)
        self._room.set()

    # ------------------------------------------------------------------ what waits

    def say_due(self) -> None:
        """Begin to tell the tickets that have waited for long enough, and what is gathered, if it is time."""
        for held in self.holds.due(now := self.clock()):
            decision = self.desk.is_time(held.alert, partial(self.storm.leave, now))
            record = (held.partition, held.offset)
            if decision is Decision.SEND:
                self._queue(Item(*record, self.generation, now, self.message(held.alert, held.source)))
            elif decision is Decision.DIGEST:
                self.told("digested")
                self.storm.gather(held.alert, [record], known=False)
            else:
                self._finish([record])
        self.storm.say(self.desk, self.places.partitions)

    async def _send_digest(self, digest: Digest) -> bool:
        outcome = await self.deliverer.deliver(
            lambda: self.notifier.digest(digest, self.clock()),
            self.clock(),
            self.clock,
            partial(self._is_of, self.generation),
        )
        return outcome is not None

    async def _finish_digest(self, records: Records) -> None:
        self._finish(records)
        await self.reader.commit()

    def firing_digest(self) -> Request | None:
        """What is said again of a digest; None if no incident of one is open."""
        return self.storm.firing(
            self.desk, self.places.partitions, lambda digest: self.notifier.digest(digest, self.clock())
        )
