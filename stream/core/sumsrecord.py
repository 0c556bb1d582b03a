"""A key's sums and its open buckets as bytes, in every version there ever was; `state` has the loader of each.

Version 2: the number of open buckets; index and plan of each; then, as MessagePack, the lifetime sums and those of each
bucket, for most are small numbers, which take a byte or two.
"""

from __future__ import annotations

import struct
from array import array
from typing import Annotated

import msgspec
from msgspec import Meta

from stream.core.bucket import OTHER_MODELS, OpenBucket
from stream.core.key import KeyState
from stream.core.shardrecord import VERSION

_START = struct.Struct("<BH")
"""Version, and the number of open buckets."""
_NO_BUCKET = bytes(2)
_PLAN = struct.Struct("<i5f")
_HEAD_1 = struct.Struct("<B4QddI")
_BUCKET_1 = struct.Struct("<iQQQQI?5f")
_INDEX = struct.Struct("<i")
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
    cached_input_tokens: _Sum = 0
    """What was written before it was counted has none."""
    links: _Sum = 0
    refused: _Sum = 0


class _Lifetime(msgspec.Struct, array_like=True):
    """A key's lifetime sums; the buckets behind them are passed over."""

    calls: _Sum
    input_tokens: _Sum
    output_tokens: _Sum
    late: _Sum
    first_seen: float
    last_seen: float


class _Sums(_Lifetime, array_like=True):
    """All of the MessagePack."""

    buckets: list[_BucketSums]
    org_id: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Sums).decode
_decode_lifetime = msgspec.msgpack.Decoder(_Lifetime).decode


def pack_sums(key: KeyState) -> bytes:
    """Lifetime sums and open buckets."""
    buckets = key.open.values()
    sums = _Sums(
        key.calls, key.input_tokens, key.output_tokens, key.late, key.first_seen, key.last_seen,
        [_sums_of(bucket) for bucket in buckets], key.org_id,
    )  # fmt: skip
    try:
        packed = _encode(sums)
    except OverflowError:
        packed = _encode(_capped(sums))
    return b"".join((
        _START.pack(VERSION, len(buckets)), *[_PLAN.pack(bucket.index, *bucket.plan) for bucket in buckets], packed,
    ))  # fmt: skip


def _sums_of(b: OpenBucket) -> _BucketSums:
    models = b.models if len(b.models) < 2 else dict(sorted(b.models.items()))  # the same bytes in whatever order
    return _BucketSums(
        b.calls, b.input_tokens, b.output_tokens, b.cost_micros, b.missing, b.early, b.vague_calls, b.vague_input,
        b.vague_output, b.reasoning_tokens, b.saturated, b.log_output, b.log_output_squares, models,
        b.cached_input_tokens, b.links, b.refused,
    )  # fmt: skip


def _capped(sums: _Sums) -> _Sums:
    """The same where a sum is beyond what can be stored."""
    for part in (sums, *sums.buckets):
        for name in part.__struct_fields__:
            value = getattr(part, name)
            if isinstance(value, int):
                setattr(part, name, min(value, _MOST))
    for bucket in sums.buckets:
        bucket.models = {kind: min(calls, _MOST) for kind, calls in bucket.models.items()}
    return sums


def sums_2(data: bytes, key: KeyState) -> None:
    """Take up what `pack_sums` gave."""
    end = _end_of_plans(data)
    plans = [_PLAN.unpack_from(data, place) for place in range(_START.size, end, _PLAN.size)]
    sums = _decode(data[end:])
    key.calls, key.input_tokens, key.output_tokens, key.late = (
        sums.calls, sums.input_tokens, sums.output_tokens, sums.late,
    )  # fmt: skip
    key.first_seen, key.last_seen, key.org_id = sums.first_seen, sums.last_seen, sums.org_id
    key.open = {}
    for (index, *plan), s in zip(plans, sums.buckets, strict=True):
        b = key.open[index] = OpenBucket(index, array("f", plan))
        b.calls, b.input_tokens, b.output_tokens, b.cost_micros = (
            s.calls, s.input_tokens, s.output_tokens, s.cost_micros,
        )  # fmt: skip
        b.missing, b.early = s.missing, s.early
        b.vague_calls, b.vague_input, b.vague_output = s.vague_calls, s.vague_input, s.vague_output
        b.reasoning_tokens, b.saturated, b.models = s.reasoning_tokens, s.saturated, s.models
        b.log_output, b.log_output_squares = s.log_output, s.log_output_squares
        b.cached_input_tokens = s.cached_input_tokens
        b.links, b.refused = s.links, s.refused


def _end_of_plans(data: bytes) -> int:
    _, count = _START.unpack_from(data)
    return _START.size + int(count) * _PLAN.size


def totals_2(data: bytes) -> Totals:
    """The lifetime sums without the rest."""
    sums = _decode_lifetime(data[_end_of_plans(data) :])
    return sums.calls, sums.input_tokens, sums.output_tokens, sums.first_seen, sums.last_seen


def is_shut(data: bytes) -> bool:
    """True if sums of today's version hold no open bucket; a look at two bytes."""
    return data[1:3] == _NO_BUCKET


def buckets_2(data: bytes) -> list[int]:
    """Indices of the open buckets; what is behind them is looked through for damage, and left."""
    end = _end_of_plans(data)
    _decode_lifetime(data[end:])
    return [_INDEX.unpack_from(data, place)[0] for place in range(_START.size, end, _PLAN.size)]


def sums_1(data: bytes, key: KeyState) -> None:
    """The sums of version 1, which knew nothing of the shape of calls."""
    _, key.calls, key.input_tokens, key.output_tokens, key.late, key.first_seen, key.last_seen, count = (
        _HEAD_1.unpack_from(data)
    )
    key.open = {}
    for i in range(count):
        index, *sums, early, p0, p1, p2, p3, p4 = _BUCKET_1.unpack_from(data, _HEAD_1.size + i * _BUCKET_1.size)
        bucket = key.open[index] = OpenBucket(index, array("f", (p0, p1, p2, p3, p4)))
        bucket.calls, bucket.input_tokens, bucket.output_tokens, bucket.cost_micros, bucket.missing = sums
        bucket.early = early
        bucket.vague_calls, bucket.vague_input, bucket.vague_output = sums[:3]


def totals_1(data: bytes) -> Totals:
    """The lifetime sums of version 1 without the rest."""
    _, calls, input_tokens, output_tokens, _, first, last, _ = _HEAD_1.unpack_from(data)
    return calls, input_tokens, output_tokens, first, last


def buckets_1(data: bytes) -> list[int]:
    """The open buckets of version 1; raises struct.error if the length is not what the record says of itself."""
    end = _HEAD_1.size + _HEAD_1.unpack_from(data)[-1] * _BUCKET_1.size
    if len(data) != end:
        raise struct.error("the length is wrong")
    return [_INDEX.unpack_from(data, place)[0] for place in range(_HEAD_1.size, end, _BUCKET_1.size)]
