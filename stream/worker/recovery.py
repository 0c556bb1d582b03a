"""Reading a shard back from the state topic: only what was committed, and all of it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stream.security import client_options
from stream.settings import Settings
from stream.worker.source import topic_states

STALL_SECONDS = 30.0
"""Without one record for this long a recovery gives up and is tried again."""
WORKER_KEYS = b"\xff"
"""First byte of the worker's own records on the state topic: never the first byte of UTF-8, so of no key id."""
OWNER_KEY = WORKER_KEYS + b"owner"
FEED_KEY = WORKER_KEYS + b"feed"
SOURCE_KEY = WORKER_KEYS + b"source"
FETCH_BYTES = 4 << 20
FETCH_WAIT_MS = 20
"""How long a fetch waits at the log's end: what is asked next waits behind it. Few do, for there the reading stops."""
SLICE_RECORDS = 5000
"""Some 5 ms of work; between slices other shards, heartbeats and HTTP have their turn."""
SAMPLE_RECORDS = 1000

Pair = tuple[bytes, bytes | None]
"""Key and value of a record of the state topic; no value deletes the key."""


@dataclass(slots=True)
class StateLog:
    """A partition of the state topic as far as it has been read, piece by piece in the order of the log.

    The detector's records go to `take_up`; without one, the last of each key is kept in `states`. `worker` holds the
    worker's own records. `begin`, `reached` and `end` are offsets of the state topic; `source_start` is the first
    offset that the source still holds, `source_end` the one its next record will get, `source_id` its topic's id (None
    where Kafka does not tell). `records` and `bytes` count what was read, `sample` is its beginning. A takeover may
    read the log several times, each for a `purpose` of its own; `deleted` counts keys that it then deleted.
    """

    take_up: Callable[[list[Pair]], None] | None = None
    states: dict[bytes, bytes | None] = field(default_factory=dict)
    worker: dict[bytes, bytes] = field(default_factory=dict)
    sample: list[tuple[bytes, bytes]] = field(default_factory=list)
    begin: int = 0
    reached: int = 0
    end: int = 0
    source_start: int = 0
    source_end: int = 0
    source_id: str | None = None
    records: int = 0
    bytes: int = 0
    purpose: str = "state"
    deleted: int = 0

    def take(self, pairs: list[Pair]) -> None:
        """Take up the next records of the log."""
        self.records += len(pairs)
        self.bytes += sum(len(key) + len(value or b"") for key, value in pairs)
        own = [pair for pair in pairs if pair[0][:1] == WORKER_KEYS]
        for key, value in own:
            self.worker.pop(key, None)
            if value is not None:
                self.worker[key] = value
        rest = [pair for pair in pairs if pair[0][:1] != WORKER_KEYS] if own else pairs
        if len(self.sample) < SAMPLE_RECORDS:
            self.sample += [(key, value) for key, value in rest[:SAMPLE_RECORDS] if value is not None]
        (self.take_up or self.states.update)(rest)

    @property
    def mark(self) -> tuple[int, int]:
        """How far it is, to be compared with other readings for the same purpose."""
        return self.reached, self.deleted

    @property
    def share(self) -> float:
        """How much of the log has been read, 0 to 1."""
        return (self.reached - self.begin) / max(1, self.end - self.begin)

    def __str__(self) -> str:
        """How far the reading is.

        >>> str(StateLog(begin=100, reached=500, end=1100))
        '40 % of 1,000 offsets'
        """
        return f"{self.share:.0%} of {self.end - self.begin:,} offsets".replace("%", " %")


async def read_state(
    settings: Settings, partition: int, log: StateLog | None = None, *, stable: bool = False
) -> StateLog:
    """Read one partition of the state topic, `read_committed`, up to its high watermark; fills and returns `log`.

    Only the position proves that the end is reached: markers and aborted records are never delivered, and compaction
    leaves holes. After the fence nothing can hang there. `stable`: only as far as finished transactions go, for a look
    without a fence, and without asking for the source. Raises TimeoutError when nothing comes for `STALL_SECONDS`.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition

    log = StateLog() if log is None else log
    consumer: Any = AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    try:
        await consumer.start()
        consumer._fetcher._records = Fetched()
        state = TopicPartition(settings.state_topic, partition)
        source = TopicPartition(settings.source_topic, partition)
        # a question about a topic of which nothing is known yet fails first, and is asked again after a pause
        await consumer._client.set_topics([settings.state_topic, settings.source_topic])
        # 0: the high watermark, whatever transactions are open; asked for before anything is assigned, for what is
        # fetched meanwhile would hold what was never committed
        consumer._fetcher._isolation_level = 1 if stable else 0
        log.end = (await consumer.end_offsets([state]))[state]
        consumer._fetcher._isolation_level = 1
        consumer.assign([state])
        await consumer.seek_to_beginning(state)
        log.begin = log.reached = await consumer.position(state)
        await _read_to_end(consumer, state, log)
        if stable:
            # others write on: what compaction took from the log while it was read has its successor behind that end
            log.end = (await consumer.end_offsets([state]))[state]
            await _read_to_end(consumer, state, log)
        else:
            consumer.pause(state)  # a broker answers one request after the other: fetches would hold up what we ask
            log.source_start = (await consumer.beginning_offsets([source]))[source]
            consumer._fetcher._isolation_level = 0  # an open transaction must not make the log look shorter than it is
            log.source_end = (await consumer.end_offsets([source]))[source]
            log.source_id = (await topic_states(consumer._client, [settings.source_topic]))[settings.source_topic].id
    finally:
        await consumer.stop()
    return log


async def _read_to_end(consumer: Any, state: Any, log: StateLog) -> None:
    progress = time.monotonic()
    while log.reached < log.end:
        batches = await consumer.getmany(state, timeout_ms=200, max_records=SLICE_RECORDS)
        log.take(batches.get(state, []))
        reached, before = await consumer.position(state), log.reached
        if reached != before:
            progress, log.reached = time.monotonic(), reached
        elif time.monotonic() - progress > STALL_SECONDS:
            raise TimeoutError(
                f"the state topic gave nothing for {STALL_SECONDS:.0f} s at offset {reached} of {log.end}"
            )
        await asyncio.sleep(0)  # what has been fetched already is handed out without a pause


class Fetched(OrderedDict[Any, Any]):
    """What a consumer has fetched, which it then hands out as pairs of key and value.

    aiokafka makes an object of eleven fields of every record, which would take a fifth of a recovery's time.
    """

    def __setitem__(self, partition: Any, result: Any) -> None:
        """A fetch that failed has no records."""
        records = getattr(result, "_partition_records", None)
        if records is not None:
            records._consumer_record = _pair
        super().__setitem__(partition, result)


def _pair(_: Any, record: Any) -> Pair:
    return record.key, record.value
