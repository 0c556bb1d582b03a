"""How a notifier reads the alert topic: its consumer, the partitions that come and go, and the commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from stream.alerts import SILENT_SECONDS
from stream.settings import Settings
from stream.worker.notifier.consumer import offsets_at
from stream.worker.notifier.progress import Place, read_place
from stream.worker.tools import line_of

if TYPE_CHECKING:
    from stream.worker.notifier.line import Line

POLL_SECONDS = 0.25
BATCH_RECORDS = 100
LAST_SECONDS = 4.0
"""For the attempts that are under way when the process ends or partitions move."""
COMMIT_PAUSE_SECONDS = 1.0
RESTART_SECONDS = (1.0, 30.0)

log = logging.getLogger(__name__)


class Reader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Hands records to a line, and commits how far that has told. `make(settings, name)` makes a consumer."""

    def __init__(self, line: Line, settings: Settings, make: Callable[[Settings, str], Any]) -> None:
        self.down: str | None = "not assigned yet"
        """Why it does not read the topic; None while it does."""
        self._line, self._settings, self._make = line, settings, make
        self._consumer: Any = None
        self._commit_after = 0.0
        self._committing = asyncio.Lock()
        self._failed: Exception | None = None
        """What a change of the partitions failed with: aiokafka logs what a listener raises, and goes on."""

    async def run(self) -> None:
        """Work until cancelled; a failure of Kafka is told, and tried again."""
        pause = RESTART_SECONDS[0]
        while True:
            begun = self._line.clock()
            try:
                await self._session()
            except Exception as error:  # one notifier's trouble is not another's
                self.down = line_of(error)
                log.warning("notifier %s: cannot read the alert topic, tried again: %s", self._line.name, self.down)
            if self._line.clock() - begun > 2 * RESTART_SECONDS[1]:
                pause = RESTART_SECONDS[0]
            await asyncio.sleep(pause)
            pause = min(2 * pause, RESTART_SECONDS[1])

    async def _session(self) -> None:
        self._line.reset()
        self._failed = None
        self._consumer = self._make(self._settings, self._line.name)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._consumer.start()
            self._consumer.subscribe([self._settings.alert_topic], listener=self)
            tasks = [*self._line.begin(), asyncio.create_task(self._read())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._end(tasks)

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """What is under way gets a moment, and what it came to is committed."""
        self._line.halt()
        tasks = [*tasks, *self._line.storm.tasks]
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
                    log.debug("notifier %s: the consumer's stop: %s", self._line.name, line_of(error))

    async def _settle(self) -> None:
        await self._line.deliverer.settle(LAST_SECONDS)
        self._commit_after = 0.0
        await self.commit()

    async def _read(self) -> None:
        while True:
            generation = self._line.generation
            batches = await self._consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000), max_records=BATCH_RECORDS)
            if generation == self._line.generation:
                for batch in batches.values():
                    for record in batch:
                        self._line.take(record)
            else:  # fetched before the partitions moved, or after it: nobody can tell, so all is read again
                for partition, position in self._line.places.positions.items():
                    self._consumer.seek(TopicPartition(self._settings.alert_topic, partition), position)
            self._line.say_due()
            await self.commit()
            self._raise_failed()
            while self._line.full:
                if not await self._line.room(POLL_SECONDS):
                    await self.commit()
                self._line.say_due()
                self._raise_failed()

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    async def commit(self) -> None:
        """Commit how far it has told; what fails is tried again."""
        async with self._committing:
            places = self._line.places
            if not places.dirty or self._line.clock() < self._commit_after or not places:
                return
            places.dirty = False
            offsets = {
                TopicPartition(self._settings.alert_topic, partition): OffsetAndMetadata(offset, metadata)
                for partition, (offset, metadata) in places.to_commit(self._told_one_by_one).items()
            }
            if not offsets:
                return
            try:
                await self._consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                log.debug("notifier %s: the partitions have moved: %s", self._line.name, line_of(error))
            except KafkaError as error:
                places.dirty, self._commit_after = True, self._line.clock() + COMMIT_PAUSE_SECONDS
                log.warning(
                    "notifier %s: cannot commit, tried again: %s", self._line.name, line_of(error),
                    extra={"seldom": self._line.name},
                )  # fmt: skip

    def _told_one_by_one(self, partition: int) -> Sequence[str] | None:
        return self._line.desk.told(partition) if self._line.desk.digested(partition) else None

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
        if not self._line.places:
            return
        self._line.halt()
        self.down = "the partitions are being assigned"
        await self._settle()
        for task in self._line.storm.tasks:
            task.cancel()
        self._line.reset()

    async def _enter(self, wanted: list[TopicPartition]) -> None:
        """Go to where the partitions stand, by way of what has to be remembered."""
        self._line.reset()
        committed = await self._consumer._coordinator.fetch_committed_offsets(wanted)
        now = self._line.clock()
        recent = await offsets_at(self._consumer, wanted, now - SILENT_SECONDS)
        first = await offsets_at(self._consumer, wanted, now - self._settings.backlog_seconds)
        self._line.reset()  # a record may have come meanwhile, from where it does not begin
        for partition in wanted:
            said = committed.get(partition)
            place = (
                read_place(said.offset, said.metadata)
                if said is not None and said.offset >= 0
                else Place(first[partition])
            )
            position = min(recent[partition], place.offset)
            self._line.places.assign(partition.partition, place, position)
            self._consumer.seek(partition, position)
        self.down = None
        if wanted:
            named = ", ".join(str(partition) for partition in self._line.places.partitions)
            log.info("notifier %s: reads partitions %s of %s", self._line.name, named, self._settings.alert_topic)
