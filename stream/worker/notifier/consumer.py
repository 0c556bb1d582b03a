"""The consumer of a notifier, and the group that keeps its place."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.security import client_options
from stream.settings import Settings

FETCH_BYTES = 256 << 10
NO_IDLE_LIMIT_MS = 30 * 86_400_000
"""A consumer that waits for its service to be back is not dead."""


def group_of(settings: Settings, name: str) -> str:
    """The consumer group of a notifier."""
    return f"{settings.app_id}-notifier-{name}"


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


async def offsets_at(consumer: Any, partitions: list[TopicPartition], moment: float) -> dict[TopicPartition, int]:
    """The first offset written at or after a moment (epoch seconds), else the end."""
    if not partitions:
        return {}
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, max(0, int(moment * 1000))))
    ends = await consumer.end_offsets(partitions)
    return {one: found[one].offset if found.get(one) is not None else ends[one] for one in partitions}
