"""Reading a shard back from the state topic: only what was committed, and all of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from stream.settings import Settings
from stream.worker.source import topic_states

STALL_SECONDS = 30.0
"""Without one record for this long a recovery gives up and is tried again."""
WORKER_KEYS = b"\xff"
"""First byte of the worker's own records on the state topic: never the first byte of UTF-8, so of no key id."""
OWNER_KEY = WORKER_KEYS + b"owner"
FEED_KEY = WORKER_KEYS + b"feed"
SOURCE_KEY = WORKER_KEYS + b"source"


@dataclass(slots=True)
class StateLog:
    """A partition of the state topic as it stands, the last write of each key last.

    `source_start` is the first offset that the source still holds, `source_end` the one its next record will get,
    `source_id` its topic's id (None where Kafka does not tell); `size` counts the bytes of keys and values.
    """

    states: dict[bytes, bytes] = field(default_factory=dict)
    worker: dict[bytes, bytes] = field(default_factory=dict)
    source_start: int = 0
    source_end: int = 0
    source_id: str | None = None
    read: int = 0
    size: int = 0

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take up one record of the log; no value deletes the key."""
        part = self.worker if key.startswith(WORKER_KEYS) else self.states
        self.read += 1
        former = part.pop(key, None)
        if former is not None:
            self.size -= len(key) + len(former)
        if value is not None:
            part[key] = value
            self.size += len(key) + len(value)


async def read_state(settings: Settings, partition: int, *, stable: bool = False) -> StateLog:
    """Read one partition of the state topic, `read_committed`, up to its high watermark.

    Only the position proves that the end is reached: markers and aborted records are never delivered. After the
    fence nothing can hang there. `stable`: only as far as finished transactions go, for a look without a fence, and
    without asking for the source.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=settings.broker,
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=100,
    )
    log = StateLog()
    try:
        await consumer.start()
        state = TopicPartition(settings.state_topic, partition)
        source = TopicPartition(settings.source_topic, partition)
        consumer.assign([state])
        if stable:
            end = (await consumer.end_offsets([state]))[state]
        else:
            consumer._fetcher._isolation_level = 0  # the high watermark, whatever transactions are open
            end = (await consumer.end_offsets([state]))[state]
            consumer._fetcher._isolation_level = 1
        await consumer.seek_to_beginning(state)
        progress, position = time.monotonic(), -1
        while True:
            reached = await consumer.position(state)
            if reached >= end:
                break
            if reached != position:
                progress, position = time.monotonic(), reached
            elif time.monotonic() - progress > STALL_SECONDS:
                raise TimeoutError(
                    f"the state topic gave nothing for {STALL_SECONDS:.0f} s at offset {reached} of {end}"
                )
            batches = await consumer.getmany(state, timeout_ms=200, max_records=20_000)
            for record in batches.get(state, ()):
                log.take(record.key, record.value)
        if not stable:
            log.source_start = (await consumer.beginning_offsets([source]))[source]
            consumer._fetcher._isolation_level = 0  # an open transaction must not make the log look shorter than it is
            log.source_end = (await consumer.end_offsets([source]))[source]
            log.source_id = (await topic_states(consumer._client, [settings.source_topic]))[settings.source_topic].id
    finally:
        await consumer.stop()
    return log
