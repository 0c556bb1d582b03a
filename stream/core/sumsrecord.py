"""A key's sums and its open buckets as bytes, in every version there ever was; `state` has the loader of each.

Version 2: a head of fixed length; index and plan of each open bucket; then, behind its length, the sums of each as
MessagePack, for most are small numbers, which take a byte or two. Without an open bucket the head is all.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from stream.core.bucket import OTHER_MODELS, OpenBucket
from stream.core.key import KeyState
from stream.core.shardrecord import VERSION

_HEAD = struct.Struct("<B4QddI")
_PLAN = struct.Struct("<i5f")
_BUCKET_1 = struct.Struct("<iQQQQI?5f")
_INDEX = struct.Struct("<i")
_LENGTH = struct.Struct("<I")
_MOST = 2**64 - 1

Totals = tuple[int, int, int, float, float]
"""Calls, input and output tokens, first and last seen."""

_Sum = Annotated[int, Meta(ge=0)]


class _BucketSums(msgspec.Struct, array_like=True):
    """What is packed of an open bucket besides its index and plan."""

    calls: _Sum
    input_tokens: _Sum
    output_tokens: _Sum
    cost_micros: _Sum
    missing: _Sum
    early: bool
    vague_calls: _Sum
    vague_input: _Sum
    vague_output: _Sum
    reasoning_tokens: _Sum
    saturated: _Sum
    log_output: _Sum
    log_output_squares: _Sum
    models: dict[Annotated[int, Meta(ge=OTHER_MODELS)], _Sum]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_BucketSums]).decode


def pack_sums(key: KeyState) -> bytes:
    """Lifetime sums and open buckets."""
    buckets = key.open.values()
    head = _HEAD.pack(
        VERSION, min(key.calls, _MOST), min(key.input_tokens, _MOST), min(key.output_tokens, _MOST),
        key.late, key.first_seen, key.last_seen, len(buckets),
    )  # fmt: skip
    if not buckets:
        return head
    try:
        sums = _encode([_sums_of(bucket) for bucket in buckets])
    except OverflowError:
        sums = _encode([_capped(bucket) for bucket in buckets])
    plans = [_PLAN.pack(bucket.index, *bucket.plan) for bucket in buckets]
    return b"".join((head, *plans, _LENGTH.pack(len(sums)), sums))


def _sums_of(b: OpenBucket) -> _BucketSums:
    models = b.models if len(b.models) < 2 else dict(sorted(b.models.items()))  # the same bytes in whatever order
    return _BucketSums(
        b.calls, b.input_tokens, b.output_tokens, b.cost_micros, b.missing, b.early, b.vague_calls, b.vague_input,
        b.vague_output, b.reasoning_tokens, b.saturated, b.log_output, b.log_output_squares, models,
    )  # fmt: skip


def _capped(bucket: OpenBucket) -> _BucketSums:
    """The same where a sum is beyond what can be stored."""
    sums = _sums_of(bucket)
    for name in sums.__struct_fields__:
        if name != "models":
            setattr(sums, name, min(getattr(sums, name), _MOST))
    sums.models = {kind: min(calls, _MOST) for kind, calls in sums.models.items()}
    return sums


def sums_2(data: bytes, key: KeyState) -> None:
    """Take up what `pack_sums` gave."""
    count = _head(data, key)
    end = _end_of_plans(data, count)
    plans = [_PLAN.unpack_from(data, place) for place in range(_HEAD.size, end, _PLAN.size)]
    sums = _decode(data[end + _LENGTH.size :]) if count else []
    for (index, *plan), s in zip(plans, sums, strict=True):
        b = key.open[index] = OpenBucket(index, array("f", plan))
        b.calls, b.input_tokens, b.output_tokens, b.cost_micros = (
            s.calls,
            s.input_tokens,
            s.output_tokens,
            s.cost_micros,
        )
        b.missing, b.early = s.missing, s.early
        b.vague_calls, b.vague_input, b.vague_output = s.vague_calls, s.vague_input, s.vague_output
        b.reasoning_tokens, b.saturated, b.models = s.reasoning_tokens, s.saturated, s.models
        b.log_output, b.log_output_squares = s.log_output, s.log_output_squares


def sums_1(data: bytes, key: KeyState) -> None:
    """The same of version 1, which knew nothing of the shape of calls."""
    for i in range(_head(data, key)):
        index, *sums, early, p0, p1, p2, p3, p4 = _BUCKET_1.unpack_from(data, _HEAD.size + i * _BUCKET_1.size)
        bucket = key.open[index] = OpenBucket(index, array("f", (p0, p1, p2, p3, p4)))
        bucket.calls, bucket.input_tokens, bucket.output_tokens, bucket.cost_micros, bucket.missing = sums
        bucket.early = early
        bucket.vague_calls, bucket.vague_input, bucket.vague_output = sums[:3]


def _head(data: bytes, key: KeyState) -> int:
    """Take up the lifetime sums, which are the same in all versions; returns the number of open buckets."""
    _, key.calls, key.input_tokens, key.output_tokens, key.late, key.first_seen, key.last_seen, count = (
        _HEAD.unpack_from(data)
    )
    key.open = {}
    return int(count)


def totals_of(data: bytes) -> Totals:
    """The lifetime sums without the rest."""
    _, calls, input_tokens, output_tokens, _, first, last, _ = _HEAD.unpack_from(data)
    return calls, input_tokens, output_tokens, first, last


def is_head(data: bytes) -> bool:
    """True if packed sums hold no open bucket, which shows by their length."""
    return len(data) == _HEAD.size


def buckets_2(data: bytes) -> list[int]:
    """Indices of the open buckets without the rest."""
    end = _end_of_plans(data, _HEAD.unpack_from(data)[-1])
    return list(_indices(data, end, _PLAN.size))


def _end_of_plans(data: bytes, count: int) -> int:
    """Where the plans end; raises struct.error if the length is not what the record says of itself."""
    end = _HEAD.size + count * _PLAN.size
    if len(data) != (end + _LENGTH.size + _LENGTH.unpack_from(data, end)[0] if count else end):
        raise struct.error("the length is wrong")
    return end


def buckets_1(data: bytes) -> list[int]:
    """The same of version 1."""
    end = _HEAD.size + _HEAD.unpack_from(data)[-1] * _BUCKET_1.size
    if len(data) != end:
        raise struct.error("the length is wrong")
    return list(_indices(data, end, _BUCKET_1.size))


def _indices(data: bytes, end: int, size: int) -> Iterator[int]:
    return (_INDEX.unpack_from(data, place)[0] for place in range(_HEAD.size, end, size))
