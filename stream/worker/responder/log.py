"""The responder's topics: what it reads into the board, and the records that it writes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import ValidationError

from stream.alerts import SILENT_SECONDS, Alert
from stream.partition import key_bytes
from stream.response.board import Board
from stream.response.denyfile import entry_of
from stream.response.record import Response, Word
from stream.security import client_options
from stream.settings import Settings
from stream.worker.notifier.consumer import offsets_at

WORD = b"word "
"""What the key of an operator's word begins with; the response's id follows."""
POLL_MS = 100
TRANSACTION_MS = 30_000

log = logging.getLogger(__name__)


def word_key(response_id: str) -> bytes:
    """The key of the last word about a response."""
    return WORD + response_id.encode()


def take_record(board: Board, key: bytes, value: bytes | None) -> None:
    """Take up a record of the response topic. Raises ValidationError on one that is none of ours."""
    if key.startswith(WORD):
        if value is not None:
            board.hear(Word.model_validate_json(value))
    elif value is None:
        board.forget(key.decode("utf-8", "replace"))
    else:
        board.keep(Response.model_validate_json(value))


class Log:
    """Reads and writes while this process is the one at work; a later one fences it."""

    def __init__(self, settings: Settings, board: Board, *, deny_list: bool) -> None:
        self._settings, self._board, self._deny_list = settings, board, deny_list
        self._producer: Any = None
        self._consumer: Any = None
        self._at_work = False

    async def open(self, alert_partitions: int, now: float) -> None:
        """Read all that there is. Raises KafkaError."""
        self._producer = AIOKafkaProducer(
            **client_options(self._settings),
            transactional_id=f"{self._settings.app_id}-responder",
            transaction_timeout_ms=TRANSACTION_MS,
            acks="all",
        )
        await self._producer.start()  # whoever was at work before can write no more
        self._consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await self._consumer.start()
        own = [TopicPartition(self._settings.response_topic, 0)]
        await self._read_all(own)
        opened = [response.created_at for response in self._board.responses.values() if response.open]
        since = min([now - SILENT_SECONDS, *opened])
        alerts = [TopicPartition(self._settings.alert_topic, number) for number in range(alert_partitions)]
        self._consumer.assign([*own, *alerts])
        ends = await self._consumer.end_offsets([*own, *alerts])
        begin = await offsets_at(self._consumer, alerts, since)
        for place in alerts:
            self._consumer.seek(place, begin[place])
        self._consumer.seek(own[0], self._read[own[0]])
        await self._until(ends)
        self._at_work = True

    async def _read_all(self, places: list[TopicPartition]) -> None:
        self._consumer.assign(places)
        ends = await self._consumer.end_offsets(places)
        await self._consumer.seek_to_beginning(*places)
        await self._until(ends)
        self._read = {place: await self._consumer.position(place) for place in places}

    async def _until(self, ends: dict[TopicPartition, int]) -> None:
        while [place for place, end in ends.items() if await self._consumer.position(place) < end]:
            await self.read()

    async def read(self) -> None:
        """Take up what has come."""
        for place, batch in (await self._consumer.getmany(timeout_ms=POLL_MS)).items():
            for record in batch:
                try:
                    self._take(place.topic, record)
                except ValidationError:
                    log.warning(
                        "partition %d, offset %d of %s is no record of this version: passed over",
                        record.partition, record.offset, place.topic, extra={"seldom": place.topic},
                    )  # fmt: skip

    def _take(self, topic: str, record: Any) -> None:
        if topic == self._settings.alert_topic:
            self._board.take(Alert.model_validate_json(record.value or b""), record.timestamp / 1000)
        elif not self._at_work or (record.key or b"").startswith(WORD):
            # later on the responses are our own, which the board had when they were written: one may be older than that
            take_record(self._board, record.key or b"", record.value)

    async def write(self, changed: Sequence[Response], deleted: Sequence[str] = ()) -> None:
        """Write records, and what they mean for the deny list, in one transaction. Raises KafkaError."""
        keys = sorted({one.entity.id for one in changed if one.entity.type == "key"}) if self._deny_list else []
        listed = {key: self._denied(key) for key in keys}
        for response in changed:
            self._board.keep(response)
        for response_id in deleted:
            self._board.forget(response_id)
        records: list[tuple[str, bytes, bytes | None]] = [
            (self._settings.response_topic, one.response_id.encode(), one.model_dump_json().encode()) for one in changed
        ]
        for response_id in deleted:
            gone = (response_id.encode(), word_key(response_id))
            records += [(self._settings.response_topic, name, None) for name in gone]
        for key_id in keys:
            if (denied := self._denied(key_id)) != listed[key_id]:
                records.append((self._settings.deny_list_topic, key_bytes(key_id), denied))
        async with self._producer.transaction():
            for topic, key, value in records:
                await self._producer.send(
                    topic, value, key=key, partition=0 if topic == self._settings.response_topic else None
                )

    def _denied(self, key_id: str) -> bytes | None:
        """The value of a key on the deny list; none: it is on it no more."""
        held = [one for one in self._board.active() if one.entity.id == key_id and one.state == "active"]
        if not held:
            return None
        entries = [entry_of(one) for one in sorted(held, key=lambda one: one.response_id)]
        return json.dumps({"schema_version": 1, "denied": entries}).encode()

    async def close(self) -> None:
        """Let go of Kafka."""
        for client in (self._consumer, self._producer):
            if client is not None:
                await client.stop()
