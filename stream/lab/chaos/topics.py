"""What the topics hold, read whole, from the first to the last committed record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from stream.lab.chaos.fleet import ChaosError
from stream.settings import Settings
from stream.worker.cluster import cluster
from stream.worker.topics import plan

POLL_MILLISECONDS = 200


async def records_of(settings: Settings, topic: str, *, committed: bool = True) -> list[Any]:
    """Every record of a topic with as many partitions as the settings say, by partition and offset."""
    found = [record async for record in _records(settings, topic, committed)]
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def _records(settings: Settings, topic: str, committed: bool) -> AsyncIterator[Any]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=settings.broker,
        isolation_level="read_committed" if committed else "read_uncommitted",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=POLL_MILLISECONDS)).values():
                for record in batch:
                    yield record
    finally:
        await consumer.stop()


async def make_topic(settings: Settings, name: str, configuration: Mapping[str, str]) -> None:
    """Make one topic with a configuration of its own, before `create_topics` finds it there."""
    async with cluster(settings) as kafka:
        error, words = await kafka.create(name, settings.partitions, settings.replication, configuration)
    if error:
        raise ChaosError(f"the topic {name} could not be made: {words}")


async def delete_before(settings: Settings, name: str, offsets: Mapping[int, int]) -> None:
    """What retention does: partitions begin at these offsets from now on."""
    from aiokafka import TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(name, partition): RecordsToDelete(offset) for partition, offset in offsets.items()}
        )
    finally:
        await admin.close()


async def share_kept(settings: Settings, name: str) -> float:
    """The share of a topic's offsets that still hold a record: what compaction, and markers, have left of 1."""
    held = 0
    last: dict[int, int] = {}
    for record in await records_of(settings, name, committed=False):
        held += 1
        last[record.partition] = record.offset
    offsets = sum(offset + 1 for offset in last.values())
    return held / max(1, offsets)


async def is_replicated(settings: Settings) -> bool:
    """Whether every replica of our topics is in sync; False as well while no broker answers."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    try:
        await admin.start()
        found = await admin.describe_topics([topic.name for topic in plan(settings)])
        return all(len(row["isr"]) == len(row["replicas"]) for topic in found for row in topic["partitions"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
