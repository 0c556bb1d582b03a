"""Records as they come out of Kafka: aiokafka's own are dataclasses, which take twice the time, and more room.

A busy worker makes a hundred thousand of them a second, and every collection of garbage walks over their dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from aiokafka.consumer import fetcher


class Record(msgspec.Struct, gc=False):
    """A record of a topic, its value and key as they are; timestamp: milliseconds since the epoch, -1: none."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class LightRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """aiokafka's records of a fetch, each made a `Record`; deserialisers, of which we have none, are not asked."""

    def __iter__(self) -> Iterator[Record]:
        records: Iterator[Record] = self._records_iterator
        return records

    def _consumer_record(self, tp: Any, record: Any) -> Record:
        return Record(
            tp.topic, tp.partition, record.offset, record.timestamp, record.timestamp_type, record.key, record.value,
            record.headers,
        )  # fmt: skip


def use_light_records() -> None:
    """From now on every consumer of this process yields `Record`s."""
    fetcher.PartitionRecords = LightRecords
