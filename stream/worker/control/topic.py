"""The control topic as a reader sees it: everything from its beginning, then what comes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stream.alerts import printable
from stream.control import ControlError, Message, read_message
from stream.security import client_options
from stream.settings import Settings
from stream.worker.source import topic_states
from stream.worker.tools import line_of

POLL_SECONDS = 0.5
MAX_RECORDS = 2000
"""Read at once; between two such batches others have their turn."""
RESTART_SECONDS = (1.0, 30.0)
STOP_SECONDS = 4.0
STOPPING: set[asyncio.Task[None]] = set()
"""Producers that are being stopped: a task that nobody holds may vanish."""
STALL_SECONDS = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """A record of the control topic: a message, or why it is none. `at`: its Kafka timestamp, in seconds."""

    offset: int
    at: float
    what: Message | ControlError
    record: Any

    @property
    def message(self) -> Message | None:
        """The message, if it is one."""
        return None if isinstance(self.what, ControlError) else self.what


def said_of(record: Any) -> Said:
    """What a Kafka record says."""
    at = record.timestamp / 1000
    try:
        return Said(record.offset, at, read_message(record.value, at), record)
    except ControlError as error:
        return Said(record.offset, at, error, record)


def consumer_of(settings: Settings) -> Any:
    """A consumer of the control topic, of no group: everybody reads all of it."""
    from aiokafka import AIOKafkaConsumer

    return AIOKafkaConsumer(
        **client_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )


class ControlTopic:
    """Follows the control topic; what needs the outside world is handed in.

    begun(log): the topic is read from its beginning now; `log` is its id, None where Kafka does not tell
    heard(batch, complete): the next records; `complete`: all that was there has been read
    """

    def __init__(
        self,
        settings: Settings,
        begun: Callable[[str | None], None],
        heard: Callable[[Sequence[Said], bool], None],
        consumer: Callable[[Settings], Any] = consumer_of,
    ) -> None:
        self.trouble: str | None = "not read yet"
        """Why it is not read; None while it is."""
        self.offset = -1
        """The last one read."""
        self._settings = settings
        self._begun, self._heard, self._make = begun, heard, consumer

    async def run(self) -> None:
        """Read until cancelled; a failure is told, and tried again."""
        pause = RESTART_SECONDS[0]
        while True:
            begun = time.monotonic()
            try:
                await self._session(None)
            except Exception as error:  # detection and notifiers go on by what was said before
                self.trouble = line_of(error)
                log.warning(
                    "what operators say on %s cannot be read, tried again: %s", self._settings.control_topic,
                    self.trouble, extra={"seldom": "control"},
                )  # fmt: skip
            if time.monotonic() - begun > 2 * RESTART_SECONDS[1]:
                pause = RESTART_SECONDS[0]
            await asyncio.sleep(pause)
            pause = min(2 * pause, RESTART_SECONDS[1])

    async def read(self) -> None:
        """Read what is there, and return. Raises KafkaError, LookupError without such a topic, TimeoutError."""
        await self._session(STALL_SECONDS)

    async def _session(self, stall: float | None) -> None:
        from aiokafka import TopicPartition

        name = self._settings.control_topic
        consumer = self._make(self._settings)
        try:
            await consumer.start()
            known = (await consumer._client.fetch_all_metadata()).partitions_for_topic(name)
            if not known:
                raise LookupError(f"there is no topic {name}: run `overdraw topics create`")
            state = (await topic_states(consumer._client, [name]))[name]
            place = TopicPartition(name, 0)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end = (await consumer.end_offsets([place]))[place]
            self._begun(state.id)
            complete, progress = False, time.monotonic()
            while True:
                batches = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000), max_records=MAX_RECORDS)
                batch = [said_of(record) for record in batches.get(place, ())]
                position = await consumer.position(place)
                complete = complete or position >= end
                if batch:
                    self.offset, progress = batch[-1].offset, time.monotonic()
                self._heard(batch, complete)
                if complete:
                    self.trouble = None
                    if stall is not None:
                        return
                elif stall is not None and time.monotonic() - progress > stall:
                    raise TimeoutError(f"{name} gave nothing for {stall:.0f} s at offset {position} of {end}")
        finally:
            await consumer.stop()


async def read_all(settings: Settings) -> list[Said]:
    """Everything that the control topic holds now. Raises as `ControlTopic.read` does."""
    found: list[Said] = []
    await ControlTopic(settings, lambda _: found.clear(), lambda batch, _: found.extend(batch)).read()
    return found


async def write(settings: Settings, message: Message, value: bytes, *, once: bool = True) -> int:
    """Write a message and wait until all replicas have it; returns its offset. Raises KafkaError.

    once: however long it takes; else it is given up after a while, and may come twice
    """
    from aiokafka import AIOKafkaProducer

    producer: Any = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=once)
    try:
        await producer.start()
        told = await producer.send_and_wait(
            settings.control_topic, value, key=message.subject.encode(), partition=0,
            timestamp_ms=max(0, int(time.time() * 1000)),
        )  # fmt: skip
        return int(told.offset)
    finally:
        # it waits for what could not be sent: whoever gives up must not hang there, and it ends by itself
        stopping = asyncio.create_task(producer.stop())
        STOPPING.add(stopping)
        stopping.add_done_callback(_stopped)
        await asyncio.wait([stopping], timeout=STOP_SECONDS)


def _stopped(stopping: asyncio.Task[None]) -> None:
    STOPPING.discard(stopping)
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        log.debug("a producer's stop: %s", line_of(error))


def line_of_message(message: Message) -> str:
    """What a message says, without who, when and why: one line, ids escaped."""
    content = message.model_dump(
        mode="json", exclude={"id", "at", "by", "why", "kind", "schema_version"}, exclude_none=True
    )
    parts = []
    for name, value in content.items():
        if isinstance(value, dict):
            value = " ".join(printable(str(part)) for part in value.values())
        parts.append(f"{name}={printable(str(value))}")
    return " ".join(parts)
