"""One notifier at work: its consumer of the alert topic, its queues, and the place up to which it has told."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from pydantic import ValidationError

from stream.alerts import Alert
from stream.notify.config import NotifyConfig
from stream.notify.delivery import Deliverer
from stream.notify.desk import STALE_SECONDS, Decision, Desk
from stream.notify.digest import Burst, Digest, Gathered
from stream.notify.message import Message
from stream.notify.routing import Routing
from stream.notify.service import Notifier, Request
from stream.security import client_options
from stream.settings import Settings
from stream.worker.notifier.progress import Place, Progress, metadata_of, read_place
from stream.worker.tools import line_of

POLL_SECONDS = 0.25
MAX_QUEUE = 200
"""Messages that wait in this process; the others wait in Kafka."""
FETCH_BYTES = 256 << 10
AT_ONCE = 4
"""Requests under way to a service that dedupes; one that does not, or is told again and again, gets one at a time."""
GATHER_SECONDS = 10.0
"""From the first incident beyond the limit to the digest: a storm comes within some flushes."""
MAX_GATHERED = 50_000
"""Then the digest does not wait for its time; where one is on its way still, the others wait in Kafka."""
FIRING_BATCH = 100
LAST_SECONDS = 4.0
"""For the attempts that are under way when the process ends or partitions move."""
COMMIT_PAUSE_SECONDS = 1.0
RESTART_SECONDS = (1.0, 30.0)
NO_IDLE_LIMIT_MS = 30 * 86_400_000
"""A consumer that waits for its service to be back is not dead."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """A message on its way, and the record that it came from."""

    partition: int
    offset: int
    generation: int
    written_at: float
    message: Message


def group_of(settings: Settings, name: str) -> str:
    """The consumer group of a notifier."""
    return f"{settings.app_id}-notifier-{name}"


def lanes_of(notifier: Notifier) -> int:
    """How many messages may be under way at once: one where their order, or a repetition, would be seen."""
    return AT_ONCE if notifier.dedupes and notifier.resend_seconds is None else 1


def consumer_of(settings: Settings, name: str) -> Any:
    """The consumer of a notifier."""
    return AIOKafkaConsumer(
        **client_options(settings),
        group_id=group_of(settings, name),
        group_instance_id=settings.instance_id,
        isolation_level="read_committed",  # what a transaction has not committed was never said
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(settings.session_timeout_seconds * 1000),
        max_poll_interval_ms=NO_IDLE_LIMIT_MS,
        max_partition_fetch_bytes=FETCH_BYTES,
    )


class Line(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Reads, judges, sends, commits. What it needs of the world is handed in; `told(outcome)` counts."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        config: NotifyConfig,
        notifier: Notifier,
        deliverer: Deliverer,
        *,
        told: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        consumer: Callable[[Settings, str], Any] = consumer_of,
    ) -> None:
        self.name = name
        self.down: str | None = "not assigned yet"
        """Why it does not read the topic; None while it does."""
        self.trouble: Callable[[], str | None] = lambda: deliverer.trouble
        self._settings, self._config = settings, config
        self._routing = Routing(config)
        self._notifier, self._deliverer = notifier, deliverer
        self._told, self._clock, self._make = told, clock, consumer
        self._lanes = lanes_of(notifier)
        self._queues: list[asyncio.Queue[Item]] = [asyncio.Queue() for _ in range(self._lanes)]
        self._consumer: Any = None
        self._generation = 0
        self._dirty = True
        self._commit_after = 0.0
        self._committing = asyncio.Lock()
        self._failed: Exception | None = None
        """What a change of the partitions failed with: aiokafka logs what a listener raises, and goes on."""
        self._room = asyncio.Event()
        self._reset()
        self._digest_at = -1e18
        self._digesting: asyncio.Task[None] | None = None

    def _reset(self) -> None:
        """Forget all that belongs to an assignment."""
        self._generation += 1
        self.desk = Desk(
            dedupes=self._notifier.dedupes,
            every_update=self._notifier.every_update,
            keeps=self._notifier.resend_seconds is not None,
        )
        chosen = self._config.notifiers[self.name]
        self._burst = Burst(chosen.burst, chosen.burst_seconds, self._clock())
        self._gathered = Gathered()
        self._gathered_offsets: list[tuple[int, int]] = []
        self._largest: tuple[Alert, ...] = ()
        self._places: dict[int, Place] = {}
        self._progress: dict[int, Progress] = {}
        self._positions: dict[int, int] = {}
        self._under_way: dict[tuple[int, int], float] = {}
        self._room.set()

    # ------------------------------------------------------------------ what it tells of itself

    @property
    def waiting(self) -> int:
        """Messages that are queued or being tried."""
        return len(self._under_way)

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest of them."""
        return max(0.0, self._clock() - min(self._under_way.values())) if self._under_way else 0.0

    @property
    def partitions(self) -> list[int]:
        """What it reads."""
        return sorted(self._places)

    # ------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Work until cancelled; a failure of Kafka is told, and tried again."""
        pause = RESTART_SECONDS[0]
        while True:
            begun = self._clock()
            try:
                await self._session()
            except Exception as error:  # one notifier's trouble is not another's
                self.down = line_of(error)
                log.warning("notifier %s: cannot read the alert topic, tried again: %s", self.name, self.down)
            if self._clock() - begun > 2 * RESTART_SECONDS[1]:
                pause = RESTART_SECONDS[0]
            await asyncio.sleep(pause)
            pause = min(2 * pause, RESTART_SECONDS[1])

    async def _session(self) -> None:
        self._reset()
        self._failed = None
        self._consumer = self._make(self._settings, self.name)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._consumer.start()
            self._consumer.subscribe([self._settings.alert_topic], listener=self)
            tasks = [asyncio.create_task(self._deliver(lane)) for lane in range(self._lanes)]
            if self._notifier.resend_seconds is not None:
                tasks.append(asyncio.create_task(self._say_again(self._notifier.resend_seconds)))
            reading = asyncio.create_task(self._read())
            tasks.append(reading)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._end(tasks)

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """What is under way gets a moment, and what it came to is committed."""
        self._generation += 1
        if self._digesting is not None:
            tasks = [*tasks, self._digesting]
        try:
            await self._settle()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._consumer is not None:
                try:
                    await asyncio.wait_for(self._consumer.stop(), LAST_SECONDS / 2)
                except (KafkaError, TimeoutError) as error:
                    log.debug("notifier %s: the consumer's stop: %s", self.name, line_of(error))

    async def _settle(self) -> None:
        await self._deliverer.settle(LAST_SECONDS)
        self._commit_after = 0.0
        await self.commit()

    async def _read(self) -> None:
        while True:
            generation = self._generation
            batches = await self._consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000), max_records=MAX_QUEUE // 2)
            if generation == self._generation:
                for batch in batches.values():
                    for record in batch:
                        self.take(record)
            else:  # fetched before the partitions moved, or after it: nobody can tell, so all is read again
                for partition, position in self._positions.items():
                    self._consumer.seek(TopicPartition(self._settings.alert_topic, partition), position)
            self._say_digest()
            await self.commit()
            self._raise_failed()
            while self.waiting > MAX_QUEUE // 2 or len(self._gathered_offsets) >= MAX_GATHERED:
                self._room.clear()
                try:
                    await asyncio.wait_for(self._room.wait(), POLL_SECONDS)
                except TimeoutError:
                    await self.commit()
                self._say_digest()
                self._raise_failed()

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    # ------------------------------------------------------------------ a record

    def take(self, record: Any) -> None:
        """Decide what to do with the next record of the alert topic."""
        partition, offset = record.partition, record.offset
        place, progress = self._places.get(partition), self._progress.get(partition)
        if place is None or progress is None:
            return
        if offset < self._positions[partition]:
            return
        self._positions[partition] = offset + 1
        told_before = place.is_done(offset)
        self._dirty = self._dirty or offset >= place.offset
        try:
            alert = Alert.model_validate_json(record.value or b"")
        except ValidationError:
            if not told_before:
                self._told("unreadable")
                log.warning(
                    "notifier %s: partition %d, offset %d is no alert of this version: passed over",
                    self.name, partition, offset, extra={"seldom": self.name},
                )  # fmt: skip
                progress.take(offset, done=True)
            return
        at = record.timestamp / 1000
        source = f"/overdraw/{self._settings.app_id}/{partition}"
        matched = self.name in self._routing.names(alert)
        if told_before:
            told = None if place.more and self._notifier.dedupes else place.told
            is_new = self.desk.needs_leave(alert, matched)
            one_by_one = self.desk.remember(alert, matched, told, source=source, partition=partition, at=at)
            if is_new and one_by_one:
                self._burst.take(at)  # else each restart in a storm would give leave for as many messages again
            if offset >= place.offset:
                progress.take(offset, done=True)
            return
        known, digested = self.desk.knows(alert), self.desk.digested()
        may_send = not self.desk.needs_leave(alert, matched) or self._burst.take(self._clock())
        decision = self.desk.judge(alert, matched, may_send, source=source, partition=partition, at=at)
        # of the ends of what a digest told, only the last one is news
        between = decision is Decision.DIGEST and alert.status == "resolved" and self.desk.digested() > 0
        progress.take(offset, done=between or decision is Decision.SILENT)
        if decision is Decision.SEND:
            self._queue(Item(partition, offset, self._generation, at, self._message(alert, source)))
            if digested and not self.desk.digested() and self._notifier.dedupes:
                self._gathered.move(self._clock())  # else the digest would be left open
        elif decision is Decision.DIGEST:
            self._told("digested")
            self._gathered.add(alert, self._clock(), known=known)
            if not between:
                self._gathered_offsets.append((partition, offset))

    def _message(self, alert: Alert, source: str) -> Message:
        return Message(alert, source, self._routing.owner_of(alert.entity), self._config.silence_base())

    def _queue(self, item: Item) -> None:
        self._under_way[item.partition, item.offset] = item.written_at
        # what concerns one entity goes one by one, in its order
        lane = zlib.crc32(item.message.alert.fingerprint.encode("utf-8", "surrogatepass")) % self._lanes
        self._queues[lane].put_nowait(item)

    async def _deliver(self, lane: int) -> None:
        while True:
            item = await self._queues[lane].get()
            if item.generation != self._generation:
                continue
            outcome = await self._deliverer.deliver(
                partial(self._request, item.message),
                item.written_at,
                self._clock,
                partial(self._is_of, item.generation),
            )
            if outcome is None or (item.partition, item.offset) not in self._under_way:
                continue
            self._finish([(item.partition, item.offset)])
            if not self._notifier.dedupes:
                await self.commit()  # a repeat would be seen: so none but the last message can be one

    def _request(self, message: Message) -> Request:
        return self._notifier.alert(message, self._clock())

    def _is_of(self, generation: int) -> bool:
        return generation == self._generation

    def _finish(self, records: Iterable[tuple[int, int]]) -> None:
        by_partition: dict[int, list[int]] = {}
        for partition, offset in records:
            self._under_way.pop((partition, offset), None)
            by_partition.setdefault(partition, []).append(offset)
        for partition, offsets in by_partition.items():
            if (progress := self._progress.get(partition)) is not None:
                progress.finish(*offsets)
        self._dirty = True
        self._room.set()

    # ------------------------------------------------------------------ too many at once

    def _say_digest(self) -> None:
        now, since = self._clock(), self._gathered.since
        if self._digesting is not None or since is None or not (self._gathered_offsets or self._gathered.moved):
            return
        due = max(since + GATHER_SECONDS, self._digest_at + self._config.notifiers[self.name].burst_seconds)
        just_ends = self._gathered.moved > 0 and not self._gathered_offsets
        if now < due and not just_ends and len(self._gathered_offsets) < MAX_GATHERED:
            return
        digest = self._gathered.digest(self._settings.app_id, self.partitions, self.desk.digested(), now)
        self._largest = digest.top or self._largest
        records, self._gathered, self._gathered_offsets = self._gathered_offsets, Gathered(), []
        self._digest_at = now
        self._digesting = asyncio.create_task(self._deliver_digest(digest, records, self._generation))

    async def _deliver_digest(self, digest: Digest, records: list[tuple[int, int]], generation: int) -> None:
        try:
            outcome = await self._deliverer.deliver(
                lambda: self._notifier.digest(digest, self._clock()),
                self._clock(),
                self._clock,
                partial(self._is_of, generation),
            )
            if outcome is not None:
                self._finish(records)
                await self.commit()
        finally:
            self._digesting = None

    # ------------------------------------------------------------------ what has to be said again

    async def _say_again(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            told = [known.fingerprint for known in self.desk.firing(self._clock())]
            for start in range(0, len(told), FIRING_BATCH):
                batch = set(told[start : start + FIRING_BATCH])
                if await self._deliverer.once(partial(self._firing, batch)):
                    self._told("resent")
            if self.desk.digested() and await self._deliverer.once(self._firing_digest):
                self._told("resent")

    def _firing_digest(self) -> Request | None:
        """What is open still of all that only a digest told of."""
        severities, now = self.desk.digested_severities(), self._clock()
        if not severities:
            return None
        digest = Digest(
            self._settings.app_id, min(self.partitions, default=0), now, 0, 0, severities.total(),
            severities=tuple(severities.most_common()), top=self._largest,
        )  # fmt: skip
        return self._notifier.digest(digest, now)

    def _firing(self, fingerprints: set[str]) -> Request | None:
        """Built when its turn has come: what has been resolved in the meantime is not said to fire."""
        now = self._clock()
        known = [one for one in self.desk.firing(now) if one.fingerprint in fingerprints and one.kept is not None]
        messages = [self._message(Alert.model_validate_json(one.kept or b""), one.source) for one in known]
        if not messages:
            return None
        try:
            return self._notifier.firing(messages, now)
        except Exception:  # one of them cannot be told, which was counted when it came
            sound = [message for message in messages if self._can_be_told(message)]
            if len(sound) == len(messages):
                raise
            return self._notifier.firing(sound, now) if sound else None

    def _can_be_told(self, message: Message) -> bool:
        try:
            self._request(message)
        except Exception as error:
            log.debug("notifier %s: nothing can be said again of it: %s", self.name, type(error).__name__)
            return False
        return True

    # ------------------------------------------------------------------ the place in the topic

    async def commit(self) -> None:
        """Commit how far it has told; what fails is tried again."""
        async with self._committing:
            if not self._dirty or self._clock() < self._commit_after or not self._progress:
                return
            self._dirty = False
            offsets = {
                TopicPartition(self._settings.alert_topic, partition): OffsetAndMetadata(
                    progress.offset,
                    metadata_of(progress.done(), self.desk.told(partition) if self.desk.digested(partition) else None),
                )
                for partition, progress in self._progress.items()
                if self._positions[partition] >= self._places[partition].end  # else it does not know all that it told
            }
            if not offsets:
                return
            try:
                await self._consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                log.debug("notifier %s: the partitions have moved: %s", self.name, line_of(error))
            except KafkaError as error:
                self._dirty, self._commit_after = True, self._clock() + COMMIT_PAUSE_SECONDS
                log.warning(
                    "notifier %s: cannot commit, tried again: %s", self.name, line_of(error),
                    extra={"seldom": self.name},
                )  # fmt: skip

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Begin nothing more; commit what is under way. A failure ends the session, which then begins anew."""
        try:
            await self._leave()
        except Exception as error:
            self._failed = error

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Go to where the partitions stand. A failure ends the session, which then begins anew."""
        try:
            await self._enter(list(assigned))
        except Exception as error:
            self._failed = error

    async def _leave(self) -> None:
        if not self._places:
            return
        self._generation += 1
        self.down = "the partitions are being assigned"
        await self._settle()
        if self._digesting is not None:
            self._digesting.cancel()
        self._reset()

    async def _enter(self, wanted: list[TopicPartition]) -> None:
        """Go to where the partitions stand, by way of what has to be remembered."""
        self._reset()
        committed = await self._consumer._coordinator.fetch_committed_offsets(wanted)
        now = self._clock()
        recent = await self._offsets_at(wanted, now - STALE_SECONDS)
        first = await self._offsets_at(wanted, now - self._settings.backlog_seconds)
        self._reset()  # a record may have come meanwhile, from where it does not begin
        for partition in wanted:
            said = committed.get(partition)
            place = (
                read_place(said.offset, said.metadata)
                if said is not None and said.offset >= 0
                else Place(first[partition])
            )
            self._places[partition.partition] = place
            self._progress[partition.partition] = Progress(place.offset)
            self._positions[partition.partition] = min(recent[partition], place.offset)
            self._consumer.seek(partition, self._positions[partition.partition])
        self._dirty = True
        self.down = None
        if wanted:
            named = ", ".join(str(partition) for partition in self.partitions)
            log.info("notifier %s: reads partitions %s of %s", self.name, named, self._settings.alert_topic)

    async def _offsets_at(self, partitions: list[TopicPartition], moment: float) -> dict[TopicPartition, int]:
        """The first offset written at or after a moment (epoch seconds), else the end."""
        if not partitions:
            return {}
        found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, max(0, int(moment * 1000))))
        ends = await self._consumer.end_offsets(partitions)
        return {one: found[one].offset if found.get(one) is not None else ends[one] for one in partitions}
