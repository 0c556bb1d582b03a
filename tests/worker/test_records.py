"""Records out of a fetch are what aiokafka's are, field by field, whatever batches they come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record._crecords import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from stream.worker.records import LightRecords, Record, use_light_records
from stream.worker.unpacking import BoundedRecords, bound_unpacking

TP = TopicPartition("calls", 3)


def batch(first: int, count: int, codec: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for i in range(count):
        headers = [("origin", b"x")] if i % 2 else []
        builder.append(i, 1000 + i, None if i % 3 else b"key", None if i % 5 == 4 else b"value-%d" % i, headers)
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


def read(kind: Any, data: bytes, begin: int) -> tuple[list[Any], int]:
    """As `FetchResult.getall` does it; also where the next fetch begins."""
    records = kind(TP, BoundedRecords(data), None, begin, None, None, True, fetcher.READ_COMMITTED)
    return list(records), records.next_fetch_offset


@pytest.fixture
def patched() -> Iterator[None]:
    bound_unpacking()
    before = fetcher.PartitionRecords
    use_light_records()
    yield
    fetcher.PartitionRecords = before


@pytest.mark.parametrize("codec", [0, 1], ids=["plain", "gzip"])
@pytest.mark.parametrize("begin", [0, 7])
def test_light_records_are_aiokafkas(codec: int, begin: int) -> None:
    bound_unpacking()
    data = batch(0, 10, codec) + batch(20, 10, codec)  # between them the log was compacted
    usual, end = read(LightRecords.__mro__[1], data, begin)
    light, light_end = read(LightRecords, data, begin)
    assert light_end == end == 30
    assert [record.offset for record in light] == [o for o in (*range(10), *range(20, 30)) if o >= begin]
    assert all(isinstance(record, Record) for record in light)
    for ours, theirs in zip(light, usual, strict=True):
        for name in Record.__struct_fields__:
            mine, other = getattr(ours, name), getattr(theirs, name)
            assert (tuple(mine) if name == "headers" else mine) == other


def test_a_fetch_can_be_taken_in_parts() -> None:
    records = LightRecords(TP, BoundedRecords(batch(0, 10)), None, 0, None, None, True, fetcher.READ_COMMITTED)
    first = []
    for record in records:
        first.append(record.offset)
        if len(first) == 4:
            break
    assert (first, records.next_fetch_offset) == ([0, 1, 2, 3], 4)
    assert [record.offset for record in records] == list(range(4, 10))


@pytest.mark.usefixtures("patched")
def test_consumers_make_them() -> None:
    assert fetcher.PartitionRecords is LightRecords
    use_light_records()
    assert fetcher.PartitionRecords is LightRecords
