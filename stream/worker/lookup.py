"""One key, or one alert, looked up on Kafka without a worker: only what is committed is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from stream.alerts import Alert, Entity, fingerprint_of, reading_order
from stream.core.key import KeyState
from stream.core.rules import Rules
from stream.core.state import MODEL, SHARD_KEY, SUMS, unpack_model, unpack_shard, unpack_sums
from stream.partition import key_bytes, partition_of
from stream.security import client_options
from stream.settings import Settings
from stream.worker.recovery import Pair, StateLog, read_state

POLL_MS = 500


@dataclass(frozen=True, slots=True)
class Found:
    """A key's state and the size of the installation, as far as one partition tells it."""

    key: KeyState
    keys: int


async def key_state(settings: Settings, key_id: str, partitions: int) -> Found | None:
    """The key as its partition of the state topic holds it; None if it does not.

    Raises StateError on a state of other settings, of a newer version or on damage, and KafkaError.
    """
    names = {SUMS + key_bytes(key_id), MODEL + key_bytes(key_id), SHARD_KEY}
    kept: dict[bytes, bytes | None] = {}

    def take_up(pairs: list[Pair]) -> None:
        kept.update((name, value) for name, value in pairs if name in names)

    await read_state(settings, partition_of(key_id, partitions), StateLog(take_up=take_up), stable=True)
    shard, sums = kept.get(SHARD_KEY), kept.get(SUMS + key_bytes(key_id))
    if shard is None or sums is None:
        return None
    record = unpack_shard(shard, settings.state_settings, settings.state_digest)
    key = KeyState(key_id, Rules(settings))
    unpack_sums(sums, key)
    model = kept.get(MODEL + key_bytes(key_id))
    if model is not None:
        unpack_model(model, key)
    return Found(key, (record.keys or 1) * partitions)


class _Seen(Exception):
    """There is the key: no more has to be read."""


async def was_seen(settings: Settings, key_id: str, partitions: int) -> bool:
    """Whether the state topic holds anything of a key, be it of other settings or of a newer version.

    Raises KafkaError, and TimeoutError when the topic gives nothing.
    """
    name = SUMS + key_bytes(key_id)

    def take_up(pairs: list[Pair]) -> None:
        if any(key == name and value is not None for key, value in pairs):
            raise _Seen

    try:
        await read_state(settings, partition_of(key_id, partitions), StateLog(take_up=take_up), stable=True)
    except _Seen:
        return True
    return False


async def alerts_about(settings: Settings, wanted: str, partitions: int, since: float | None = None) -> list[Alert]:
    """Alerts whose `alert_id` or whose entity's id is `wanted`, in the order of reading, each step once.

    `since`: only those that were written from then on, in epoch seconds. Raises KafkaError.
    """
    of_key, marker = fingerprint_of(Entity(type="key", id=wanted)).encode(), f'"{wanted}"'.encode()
    found: dict[tuple[str, int], Alert] = {}
    async for batch in committed(settings, settings.alert_topic, partitions, since):
        for record in batch:
            # a look at the bytes first: nearly all are about others
            if record.key == of_key or marker in (record.value or b""):
                _take(record.value or b"", wanted, found)
    return sorted(found.values(), key=reading_order)


async def committed(
    settings: Settings, topic: str, partitions: int, since: float | None = None
) -> AsyncIterator[list[Any]]:
    """A topic's records, batch by batch, from its beginning to what is its end now; only what is committed.

    `since`: only those that were written from then on, in epoch seconds. Raises KafkaError.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer: Any = AIOKafkaConsumer(
        **client_options(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        assigned = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(assigned)
        ends = await consumer.end_offsets(assigned)
        await consumer.seek_to_beginning(*assigned)
        if since is not None:
            for place, offset in (await consumer.offsets_for_times(dict.fromkeys(assigned, int(since * 1000)))).items():
                consumer.seek(place, ends[place] if offset is None else offset.offset)
        while [place for place in assigned if await consumer.position(place) < ends[place]]:
            for batch in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                yield batch
    finally:
        await consumer.stop()


def _take(value: bytes, wanted: str, found: dict[tuple[str, int], Alert]) -> None:
    try:
        alert = Alert.model_validate_json(value)
    except ValidationError:  # somebody else's record, or a newer version's
        return
    if wanted in (alert.alert_id, alert.entity.id):
        found[alert.alert_id, alert.sequence] = alert
