"""What a compressed batch becomes is bounded: a bomb is one refused record, and all else is as it was."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import Any

import cramjam
import pytest
from aiokafka.record._crecords import DefaultRecordBatchBuilder

from stream.gateways import gateway
from stream.gateways.adapter import Options
from stream.gateways.overdraw import Refused, parse
from stream.worker import unpacking
from stream.worker.unpacking import BoundedRecords, UnpacksTooLarge, bound_unpacking, gunzip, unsnap
from tests.worker.fakes import T0, call

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def batch(codec: int, values: list[bytes], size: int = 256 << 20) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, size)
    for offset, value in enumerate(values):
        builder.append(offset, int(T0 * 1000), None, value, [])
    return bytes(builder.build())


def read(data: bytes) -> list[Any]:
    """As the fetcher does it."""
    bound_unpacking()
    records, found = BoundedRecords(data), []
    while records.has_next():
        following = records.next_batch()
        assert following.validate_crc()
        found += list(following)
        assert following.next_offset == following.base_offset + following.last_offset_delta + 1
    return found


@pytest.mark.parametrize("codec", [0, *CODECS.values()], ids=["none", *CODECS])
def test_a_usual_batch_is_what_it_was(codec: int) -> None:
    values = [call(f"e-{i}", T0 + i) for i in range(500)]
    found = read(batch(codec, values))
    assert [record.value for record in found] == values
    assert [record.offset for record in found] == list(range(500))


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_bomb_is_refused_in_bounded_memory_and_what_follows_is_read(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 1 << 20)
    bomb = batch(codec, [b"\0" * (24 << 20)])
    assert len(bomb) < 2 << 20
    good = call("good", T0)
    tracemalloc.start()
    try:
        stand, after = read(bomb + batch(codec, [good]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert (stand.offset, stand.timestamp, stand.key, after.value) == (0, int(T0 * 1000), None, good)
    calls, [reject] = parse([(stand.offset, stand.value, T0 + 9)])
    assert calls == []
    assert (reject.position, reject.reason) == (0, "too_large")
    assert "a compressed batch of 1 records holds more than 1 MiB" in reject.message


def test_a_batch_of_too_many_empty_records_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_BATCH_RECORDS", 999)
    assert len(read(batch(1, [b""] * 999))) == 999
    [stand] = read(batch(1, [b""] * 1000))
    assert "of 1000 records holds more than 999 records" in stand.value.message


@pytest.mark.parametrize("format", ["overdraw", "litellm", "kong", "otel", "mapping"])
def test_the_refusal_is_told_in_every_format(format: str) -> None:
    from stream.events import Reject

    mapping = '[fields]\nevent_id = "a"\ntime = "t"\nkey_id = "k"\n' if format == "mapping" else None
    read_format = gateway(format).parser(Options(mapping=mapping))
    calls, rejects = read_format([(3, Refused(Reject(3, "too_large", "a batch", b"(shown)")), T0)])
    assert calls == []
    assert [(reject.position, reject.reason, reject.message) for reject in rejects] == [(3, "too_large", "a batch")]


def test_several_members_and_streams_that_end_too_early() -> None:
    assert gunzip(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"
    with pytest.raises(Exception, match="ends too early"):
        gunzip(gzip.compress(b"a" * 1000)[:-9])


def test_a_snappy_block_that_lies_about_its_size_is_no_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 1000)
    raw = bytes(cramjam.snappy.compress_raw(b"x" * 1001))
    with pytest.raises(UnpacksTooLarge):
        unsnap(raw)
    with pytest.raises(cramjam.DecompressionError):
        unsnap(b"\x0a" + raw[2:])
