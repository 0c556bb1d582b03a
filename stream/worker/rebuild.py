"""`--rebuild`: a state that cannot be used is deleted and learned again from what the source still holds.

In order, each step in transactions of the partition's own (fenced) journal:

1. The incidents that the alert topic says are open are closed, the shard's record is deleted, and a record of the
   rebuild is written: together. From here on no version takes the old state for a usable one.
2. Every other record of the state is deleted, in chunks. Whoever takes the partition over in between goes on with it.
3. The record says that the state is cleared. The shard begins at the source's first record and says nothing, neither
   alerts nor dead letters, up to where the old state had come: all that was said already. Then the incidents that are
   still open are opened, under sequences that no alert has had, and the record is deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from stream.alerts import Alert, printable
from stream.core.state import SHARD_KEY, StateError, place_of
from stream.security import client_options
from stream.settings import Settings
from stream.worker.journal import Journal, Record
from stream.worker.outbox import alert_record, as_found
from stream.worker.recovery import WORKER_KEYS, StateLog

if TYPE_CHECKING:
    from stream.worker.tools import Tools

REBUILD_KEY = WORKER_KEYS + b"rebuild"
CHUNK_RECORDS = 50_000
"""Deletions in one transaction: some 5 MB, far less than a transaction may carry."""
STALL_SECONDS = 30.0

log = logging.getLogger(__name__)


class Rebuild(msgspec.Struct, frozen=True):
    """How far a rebuild is.

    until: offset of the source from which on the shard speaks again
    sequence: no alert of this partition has had it, or a higher one
    newest: the old state's newest event time in epoch seconds; null where it could not be read
    cleared: the old state is deleted
    """

    until: int
    sequence: int
    newest: float | None
    cleared: bool = False

    def pack(self) -> bytes:
        """JSON for the state topic."""
        return msgspec.json.encode(self)

    @classmethod
    def of(cls, state: StateLog) -> Rebuild | None:
        """The rebuild that is under way in a partition; raises StateError on a damaged record."""
        packed = state.worker.get(REBUILD_KEY)
        try:
            return None if packed is None else msgspec.json.decode(packed, type=cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(f"the record of its rebuild is damaged: {error}") from error


@dataclass(slots=True)
class Said:
    """What a partition of the alert topic says of keys: the open incidents, and the highest sequence ever used."""

    open: dict[str, bytes] = field(default_factory=dict)
    sequence: int = -1

    def take(self, value: bytes) -> None:
        """Take up one alert, in the topic's order."""
        head = msgspec.json.decode(value, type=_Head)
        self.sequence = max(self.sequence, head.sequence)
        # a feed's goes on, for it is about the partition and not about what was learned; a group's is the keeper's
        if head.entity.type != "key":
            return
        if head.status == "resolved":
            self.open.pop(head.fingerprint, None)
        else:
            self.open[head.fingerprint] = value


class _About(msgspec.Struct):
    type: str


class _Head(msgspec.Struct):
    fingerprint: str
    entity: _About
    sequence: int
    status: str


async def read_said(settings: Settings, partition: int) -> Said:
    """Read a partition of the alert topic to its end. Raises KafkaError, and TimeoutError if it gives nothing."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer: Any = AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # not by a seek: the default, `latest`, is under way from `assign` on and may win
    )
    said = Said()
    alerts = TopicPartition(settings.alert_topic, partition)
    try:
        await consumer.start()
        # after the fence nothing of the partition's owner is open, but the keeper of the groups writes to one of them:
        # what an open transaction of its hides is waited for, up to the high watermark
        consumer._fetcher._isolation_level = 0
        end = (await consumer.end_offsets([alerts]))[alerts]
        consumer._fetcher._isolation_level = 1
        consumer.assign([alerts])  # not before: what would be fetched meanwhile holds what was never committed
        while (position := await consumer.position(alerts)) < end:
            async with asyncio.timeout(STALL_SECONDS):
                while await consumer.position(alerts) == position:
                    for record in (await consumer.getmany(alerts, timeout_ms=200)).get(alerts, ()):
                        said.take(record.value)
    finally:
        await consumer.stop()
    return said


async def begin(
    tools: Tools, partition: int, journal: Journal, state: StateLog, reached: int | None, why: str
) -> Rebuild:
    """Delete a state that cannot be used.

    reached: the offset that it had come to; None: what its shard record says, and where that cannot be read, the
        source's end

    Whatever fails is raised: the next attempt begins again, or goes on where this one got to.
    """
    settings = tools.settings
    said = await tools.said(settings, partition)
    now = tools.clock()
    closing = [
        as_found(_closed(Alert.model_validate_json(value)), now, settings.backlog_seconds)
        for value in said.open.values()
    ]
    stored = (await tools.read(settings, partition, StateLog(purpose="rebuild"))).states
    place = place_of(stored.get(SHARD_KEY))
    if reached is None:
        reached = place.applied + 1 if place is not None else state.source_end
    former = Rebuild.of(state)
    rebuild = Rebuild(
        until=max(reached, former.until if former is not None else 0),
        sequence=said.sequence + 2,
        newest=place.newest if place is not None else former.newest if former is not None else None,
    )
    log.warning(
        "partition %d: rebuilt from offset %d of %s, silently up to %d; its state is deleted and %d open incidents "
        "closed: %s",
        partition, state.source_start, settings.source_topic, rebuild.until, len(closing), why,
    )  # fmt: skip
    first: dict[str, list[Record]] = {
        settings.alert_topic: [alert_record(alert, settings.app_id, partition) for alert in closing],
        settings.state_topic: [(REBUILD_KEY, rebuild.pack(), ()), (SHARD_KEY, None, ())],
    }
    await journal.write({topic: records for topic, records in first.items() if records})
    return await clear(tools, partition, journal, rebuild)


async def clear(tools: Tools, partition: int, journal: Journal, rebuild: Rebuild) -> Rebuild:
    """Delete what is left of the old state."""
    settings = tools.settings
    left = await tools.read(settings, partition, StateLog(purpose="deletion"))
    for chunk in _chunks([key for key, value in left.states.items() if value is not None]):
        await journal.write({settings.state_topic: [(key, None, ()) for key in chunk]})
        left.deleted += len(chunk)
    cleared = msgspec.structs.replace(rebuild, cleared=True)
    await journal.write({settings.state_topic: [(REBUILD_KEY, cleared.pack(), ())]})
    return cleared


def _chunks(keys: list[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(keys), CHUNK_RECORDS):
        yield keys[first : first + CHUNK_RECORDS]


def _closed(alert: Alert) -> Alert:
    """The last word of the old state on an incident."""
    return alert.model_copy(
        update={
            "sequence": alert.sequence + 1,
            "status": "resolved",
            "resolved_at": max(alert.window.end, alert.started_at),
            "summary": (
                f"{alert.entity.type} {printable(alert.entity.id)}: closed because the detector's state is rebuilt; "
                "if it lasts, it is opened again"
            ),
            "suggested_action": "Nothing for now: wait until the rebuild has caught up.",
        }
    )
