"""A topic's history as an input of the commands that read recorded calls: `kafka:TOPIC` in the place of a file."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stream.settings import Settings

PREFIX = "kafka:"
FETCH_RECORDS = 2_000
POLL_MS = 500
STALL_SECONDS = 30.0
"""Without an answer for so long the broker is taken to be gone: aiokafka tries again for ever, and says nothing."""
_PARTITIONS = 1 << 20
"""More than a topic has: a record's number is its offset times this, and its partition."""

Chunk = list[tuple[int, bytes]]


def place_in(path: str, number: int) -> str:
    """Where a record of an input stands, by its number.

    >>> place_in("calls.jsonl", 17), place_in("kafka:api-calls", (17 << 20) + 3)
    ('line 17', 'partition 3, offset 17')
    """
    if not path.startswith(PREFIX):
        return f"line {number}"
    offset, partition = divmod(number, _PARTITIONS)
    return f"partition {partition}, offset {offset}"


def read_topic(settings: Settings, topic: str) -> Iterator[Chunk]:
    """What a topic holds now, from its beginning, in chunks of (number, value): only what is committed.

    Each partition comes in its order, all of them by the times at which their records were written; what has no value
    is empty. Memory is bounded by the partitions. Says so if a transaction that has not ended hides some, and if shards
    would be others than the workers'. Raises Unreachable, and BadInput if there is no such topic.
    """
    # no loop runs here: whoever asks for chunks is a command's own thread
    with asyncio.Runner() as runner:
        chunks = _chunks(settings, topic)
        try:
            while (chunk := runner.run(_next(chunks))) is not None:
                yield chunk
        finally:
            runner.run(chunks.aclose())


async def _next(chunks: AsyncGenerator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)


async def _chunks(settings: Settings, topic: str) -> AsyncGenerator[Chunk]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from stream.cli.kafka import partitions_of, reachable
    from stream.lab.files import CHUNK_RECORDS
    from stream.security import client_options
    from stream.worker.unpacking import bound_unpacking

    bound_unpacking()
    async with reachable(settings):
        places = [TopicPartition(topic, number) for number in range(await partitions_of(settings, topic))]
        consumer: Any = AIOKafkaConsumer(
            **client_options(settings), isolation_level="read_committed", enable_auto_commit=False,
            auto_offset_reset="earliest",
        )  # fmt: skip
        try:
            await consumer.start()
            consumer.assign(places)
            written = await _written(settings, places)  # before the ends: what comes between the two hides nothing
            ends = await consumer.end_offsets(places)
            await consumer.seek_to_beginning(*places)
            if len(places) != settings.partitions:
                click.echo(
                    f"{topic} has {len(places)} partitions, and partitions is {settings.partitions}: if it is what the "
                    f"workers read, set partitions to {len(places)}, for watermarks are a partition's",
                    err=True,
                )
            if hidden := sum(max(0, written[place] - ends[place]) for place in places):
                click.echo(
                    f"{topic}: up to {hidden} records stand behind a transaction that has not ended: they are left out",
                    err=True,
                )
            chunk: Chunk = []
            async for record in _merged(consumer, ends):
                chunk.append((record.offset * _PARTITIONS + record.partition, record.value or b""))
                if len(chunk) == CHUNK_RECORDS:
                    yield chunk
                    chunk = []
            if chunk:
                yield chunk
        finally:
            await consumer.stop()


async def _written(settings: Settings, places: list[Any]) -> dict[Any, int]:
    """Up to where each partition was written, whatever has been committed of it."""
    from aiokafka import AIOKafkaConsumer

    from stream.security import client_options

    consumer: Any = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False)
    try:
        await consumer.start()
        found: dict[Any, int] = await consumer.end_offsets(places)
        return found
    finally:
        await consumer.stop()


async def _merged(consumer: Any, ends: dict[Any, int]) -> AsyncIterator[Any]:
    """Records of all partitions up to their ends, the earliest written first; of one partition always in its order."""
    waiting: dict[Any, deque[Any]] = {place: deque() for place in ends}

    async def head(place: Any) -> Any:
        """The first record of a partition that has not come yet; None behind its end."""
        queue, reached, moved = waiting[place], -1, time.monotonic()
        while not queue and (position := await consumer.position(place)) < ends[place]:
            if position != reached:
                reached, moved = position, time.monotonic()
            elif time.monotonic() - moved > STALL_SECONDS:
                raise TimeoutError(f"partition {place.partition} gave nothing for {STALL_SECONDS:.0f} s")
            batches = await consumer.getmany(place, timeout_ms=POLL_MS, max_records=FETCH_RECORDS)
            queue.extend(record for record in batches.get(place, ()) if record.offset < ends[place])
        return queue.popleft() if queue else None

    # a record of another's clock must not hold up those behind it: a partition's times never fall
    first = [(record.timestamp, place.partition, record, place) for place in ends if (record := await head(place))]
    heapify(first)
    while first:
        written, partition, record, place = first[0]
        yield record
        following = await head(place)
        if following is None:
            heappop(first)
        else:
            heapreplace(first, (max(written, following.timestamp), partition, following, place))
