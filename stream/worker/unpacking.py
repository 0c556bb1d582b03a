"""A bound on what a compressed batch of Kafka becomes: aiokafka unpacks it whole, whatever comes out.

A batch of 1 MB can hold a gigabyte of zeros, or millions of empty records, and whoever may write to a topic can send
one. Beyond the bounds its records are not unpacked: in their place comes one that is refused (`too_large`), so that it
becomes a dead letter and reading goes on behind it. It works inside aiokafka, where nothing else can tell the size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from aiokafka import codec
from aiokafka.consumer import fetcher

from stream.events import Reject
from stream.gateways.overdraw import Refused

MAX_UNPACKED_BYTES = 64 << 20
"""Of one batch: 64 times Kafka's default limit of a message. JSON of calls becomes 5 to 20 times as large."""
MAX_BATCH_RECORDS = 250_000
"""Of one compressed batch; an uncompressed one of 1 MB holds 150,000 empty records at most."""
FIRST_ROOM = 12
"""Of a batch's size, for what it becomes: JSON of calls mostly fits. Room is made of zeros, which takes time."""
_GZIP = 16 + zlib.MAX_WBITS
_XERIAL_HEADER = 16
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
UNREADABLE = b"(a batch that is not unpacked)"
"""Stands for one in a dead letter."""


class UnpacksTooLarge(ValueError):
    """A compressed batch holds more than MAX_UNPACKED_BYTES, or is damaged."""


def gunzip(payload: Any) -> bytes:
    """Unpack gzip, of several members too. Raises UnpacksTooLarge, and zlib.error on damage."""
    parts, left, rest = [], MAX_UNPACKED_BYTES, bytes(payload)
    while rest:
        unpacker = zlib.decompressobj(_GZIP)
        part = unpacker.decompress(rest, left + 1)
        left -= len(part)
        if left < 0:
            raise UnpacksTooLarge
        if not unpacker.eof:
            raise zlib.error("the gzip data ends too early")
        parts.append(part)
        rest = unpacker.unused_data
    return b"".join(parts)


def unsnap(payload: Any) -> bytes:
    """Unpack Snappy, whose blocks say how large they become. Raises UnpacksTooLarge."""
    data = bytes(payload)
    if data.startswith(_XERIAL_MAGIC) and len(data) > _XERIAL_HEADER:
        total, at = 0, _XERIAL_HEADER
        while at + 4 <= len(data):
            (size,) = struct.unpack_from(">i", data, at)
            if size < 0:
                break  # the unpacker says what is wrong
            total += _varint(data[at + 4 : at + 9])
            at += 4 + size
    else:
        total = _varint(data[:5])
    if total > MAX_UNPACKED_BYTES:
        raise UnpacksTooLarge
    return _unsnap(data)


def _varint(data: bytes) -> int:
    number = 0
    for place, byte in enumerate(data):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return number


def _into(unpack: Callable[[bytes, bytearray], int]) -> Callable[[Any], bytes]:
    """An unpacker into a buffer that grows with the need for it, up to MAX_UNPACKED_BYTES."""

    def decode(payload: Any) -> bytes:
        data = bytes(payload)
        room = FIRST_ROOM * len(data)
        while True:
            room = min(room, MAX_UNPACKED_BYTES)
            buffer = bytearray(room)
            try:
                size = unpack(data, buffer)
            except Exception as error:  # the library has one type for all: no room and damage
                if room == MAX_UNPACKED_BYTES:
                    raise UnpacksTooLarge(str(error)[:200]) from error
                room *= 4
            else:
                del buffer[size:]
                return bytes(buffer)

    return decode


_unsnap: Callable[[bytes], bytes] = codec.snappy_decode


@dataclass(frozen=True, slots=True)
class _Stand:
    """The record that stands for a batch."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: Refused
    key: None = None
    checksum: None = None
    headers: tuple[Any, ...] = ()


class _Batch:
    """A compressed batch, as the fetcher looks at it."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        batch = self._batch
        count = batch.next_offset - batch.base_offset
        if count > MAX_BATCH_RECORDS:
            return self._refused(f"more than {MAX_BATCH_RECORDS} records")
        try:
            return iter(batch)  # unpacks it
        except UnpacksTooLarge:
            return self._refused(f"more than {MAX_UNPACKED_BYTES >> 20} MiB, or is damaged")

    def _refused(self, what: str) -> Iterator[Any]:
        batch = self._batch
        count = batch.next_offset - batch.base_offset
        text = f"a compressed batch of {count} records holds {what}: they are passed over; send smaller batches"
        reject = Reject(batch.base_offset, "too_large", text, UNREADABLE)
        yield _Stand(batch.base_offset, batch.max_timestamp, batch.timestamp_type, Refused(reject))


class BoundedRecords:
    """aiokafka's `MemoryRecords`, with bounds on its compressed batches."""

    def __init__(self, data: bytes) -> None:
        self._records = _MemoryRecords(data)
        self.size_in_bytes = self._records.size_in_bytes
        self.has_next = self._records.has_next

    def next_batch(self) -> Any:
        """The next batch, None behind the last."""
        batch = self._records.next_batch()
        # the old formats (before Kafka 0.11) have no `producer_id`, and brokers of today write none
        if batch is None or getattr(batch, "magic", 0) < 2 or not batch.compression_type or batch.is_control_batch:
            return batch
        return _Batch(batch)


_MemoryRecords: Any = fetcher.MemoryRecords
_MODULES = ("aiokafka.record._crecords.default_records", "aiokafka.record.default_records")


def bound_unpacking() -> None:
    """From now on every consumer of this process keeps to the bounds."""
    if fetcher.MemoryRecords is BoundedRecords:
        return
    decoders: dict[str, Callable[[Any], bytes]] = {"gzip_decode": gunzip, "snappy_decode": unsnap}
    cramjam = import_module("cramjam")
    decoders["lz4_decode"] = _into(cramjam.lz4.decompress_into)
    decoders["zstd_decode"] = _into(cramjam.zstd.decompress_into)
    for name in _MODULES:
        try:
            module = import_module(name)
        except ImportError:  # aiokafka without its extension
            continue
        for function, decode in decoders.items():
            setattr(module, function, decode)
    fetcher.MemoryRecords = BoundedRecords
