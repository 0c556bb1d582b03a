"""A key's model and its incident as bytes, as version 2 writes them; `state` has the loader of each version.

A head as MessagePack behind its length, its first field the incident, so that a million models can be looked through
for those that have one; then, as a block of LZ4, the numbers at their full precision, and what each channel has
learned. What is blank in many keys (BLANKS) is left out, which a bit each tells.
"""

from __future__ import annotations

import struct
from array import array
from typing import Annotated, Any

import msgspec
from cramjam import DecompressionError, lz4
from msgspec import Meta

from stream.core.adaptivemean import AdaptiveMean
from stream.core.baseline import CALL_RATE, JUDGED, SLOTS, WEEK_HOURS, YOUNG_HOURS, Baseline
from stream.core.channels.base import pack_sparse, take_arrays, take_sparse
from stream.core.days import SIZE as DAYS_SIZE
from stream.core.incidents import Incident
from stream.core.key import KeyState
from stream.core.linksrecord import PackedLinks
from stream.core.shardrecord import VERSION

_START = struct.Struct("<BH")
"""Version, and the length of the head."""
_MEANS = struct.Struct("<3d")
_PLAN = 20
"""Bytes of a plan; which bucket it is for stands in the head."""
_NO_INCIDENT = b"\xc0"
"""MessagePack's nil."""
_INCIDENT = slice(_START.size + 1, _START.size + 2)
"""Where the head's first field begins, behind the mark of an array."""
_DAY = bytes(24)
_ALL_SEEN = bytes([YOUNG_HOURS << 4 | YOUNG_HOURS]) * (SLOTS // 4)
"""The visits to the hours of a working day, or of a day of the weekend, once none of them is young."""
_BLANKS = (_ALL_SEEN, _ALL_SEEN, *[_DAY] * (WEEK_HOURS // 24))
"""What is left out where it is just this: visits, and the days of the week."""
_KEPT = struct.Struct("<H")
_WITH_DAYS = 1 << 14
"""Marks that a key's days stand behind the rest; what was written before there were days has none."""
_IN_BLOCK = 1 << 15
"""Marks that the rest stands in a block, behind its length; in what was written first it stood as it is."""
_LENGTH = struct.Struct("<H")
"""Of a block once it is unpacked: 64 kB at most, whatever it claims."""
MOST_IN_BLOCK = (1 << 16) - 1
"""More stands as it is: of a key with thousands of plans, where calls may be a day late and buckets last seconds."""

_Index = Annotated[int, Meta(ge=-1, lt=2**31)]
_Count = Annotated[int, Meta(ge=0, lt=2**32)]
_Tokens = Annotated[int, Meta(ge=0)]
_Ended = Annotated[int, Meta(ge=-1, lt=2**31)]


class _Head(msgspec.Struct, array_like=True):
    """The whole numbers. Most are small, and small as differences: a byte or two each.

    idle_days: from the last day with calls to that of the next bucket; unjudged: steps since the slow channels were
    asked; plans: buckets from the next one to each that is planned; chain: see `Chain.pack`;
    course: tokens of the next bucket's hour so far, incidents in a row that flapped, and buckets since the last one
    ended, -1: never; pace: see `Pace.pack`; what was written before there were chains, links, courses or paces, has no
    such field
    """

    incident: Incident | None
    next_bucket: _Index
    active_days: _Count
    active_in_step: _Count
    idle_days: Annotated[int, Meta(ge=-1, lt=2**31)]
    unjudged: Annotated[int, Meta(ge=-1, lt=2**31)]
    age: _Count
    active: _Count
    plans: list[_Count]
    chain: tuple[_Count, _Count, _Count, _Count] | msgspec.UnsetType | None = msgspec.UNSET
    links: PackedLinks | None = None
    course: tuple[_Tokens, _Count, _Ended] | None = None
    pace: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Head).decode


def pack_model(key: KeyState) -> bytes:
    """Everything that was learned about a key, and its incident."""
    baseline, calendar, first = key.baseline, key.rules.calendar, key.next_bucket
    plans = [index for index in key.plans if index >= first]
    head = _encode(
        _Head(
            key.incident, first, key.active_days, key.active_in_step, first // calendar.per_day - key.last_active_day,
            first // key.rules.horizons.per_step - key.judged_step, baseline.age, baseline.active,
            [index - first for index in plans],
            key.chain.pack(first), key.links.pack(), _course(key, first),
            key.pace.pack(first // calendar.per_hour),
        )
    )  # fmt: skip
    kept = 0
    parts: list[bytes | array[Any]] = []
    # no more than YOUNG_HOURS: four bits each
    visits, week = bytes.fromhex(baseline.visits.tobytes().hex()[1::2]), baseline.week.tobytes()
    blocks = (
        visits[:12], visits[12:], week[:24], week[24:48], week[48:72], week[72:96], week[96:120], week[120:144],
        week[144:],
    )  # fmt: skip
    for i, block in enumerate(blocks):
        if block != _BLANKS[i]:
            kept |= 1 << i
            parts.append(block)
    parts.append(_MEANS.pack(baseline.level.value, baseline.call_tokens.value, baseline.call_input.value))
    parts.append(pack_sparse(baseline.hour + key.residuals.pending + key.presence.state))
    parts += _arrays(key)
    parts += [key.plans[index] for index in plans]
    parts += [channel.pack() for channel in key.channels]
    if days := key.days.pack(first // calendar.per_day):
        kept |= _WITH_DAYS
        parts.append(days)
    numbers = b"".join(parts)
    start = _START.pack(VERSION, len(head)) + head
    if len(numbers) > MOST_IN_BLOCK:
        return start + _KEPT.pack(kept) + numbers
    # a tenth less to keep for 2 µs; what packs better takes ten times as long
    block = bytes(lz4.compress_block(numbers, store_size=False))
    return b"".join((start, _KEPT.pack(kept | _IN_BLOCK), _LENGTH.pack(len(numbers)), block))


def _course(key: KeyState, first: int) -> tuple[int, int, int] | None:
    """What of the clock's hour and of former incidents matters later; None where nothing does."""
    flaps, ended = key.flaps, -1
    if key.ended >= 0 and first - key.ended <= key.rules.flap_buckets:
        ended = first - key.ended
    elif key.incident is None:
        flaps = 0
    tokens = min(key.tokens_in_hour(first), 2**63 - 1)
    return (tokens, flaps, ended) if tokens or flaps or ended >= 0 else None


def _arrays(key: KeyState) -> tuple[array[Any], ...]:
    """What is packed as it is."""
    baseline, residuals = key.baseline, key.residuals
    return (
        baseline.fast, baseline.slow, baseline.errors, residuals.observed, residuals.expected, residuals.calls,
        key.bar, key.shown,
    )  # fmt: skip


def model_2(data: memoryview, key: KeyState) -> None:
    """Take up what `pack_model` gave; raises ValueError, struct.error or msgspec.MsgspecError on damage."""
    baseline, calendar = key.baseline, key.rules.calendar
    head, data = _head_of(data)
    first = head.next_bucket
    key.incident, key.next_bucket = head.incident, first
    key.active_days, key.active_in_step = head.active_days, head.active_in_step
    key.last_active_day = first // calendar.per_day - head.idle_days
    key.judged_step = first // key.rules.horizons.per_step - head.unjudged
    baseline.age, baseline.active = head.age, head.active
    if head.chain:
        key.chain.unpack(head.chain, first)
    if head.links is not None:
        key.links.unpack(head.links)
    if head.course is not None:
        tokens, key.flaps, ended = head.course
        key.hour, key.hour_tokens = first // calendar.per_hour, tokens
        key.ended = first - ended if ended >= 0 else -1
    if head.pace:
        key.pace.unpack(head.pace, first // calendar.per_hour)
    (kept,) = _KEPT.unpack_from(data)
    data = data[_KEPT.size :]
    if kept & _IN_BLOCK:
        data = _unblocked(data)
    blocks = []
    for i, blank in enumerate(_BLANKS):
        if kept >> i & 1:
            blocks.append(bytes(data[: len(blank)]))
            data = data[len(blank) :]
        else:
            blocks.append(blank)
    visits = b"".join(blocks[:2]).hex()
    baseline.visits = array("B", bytes.fromhex("0" + "0".join(visits)))
    baseline.week = array("B", b"".join(blocks[2:]))
    take_means(baseline, *_MEANS.unpack_from(data))
    data = take_sparse(data[_MEANS.size :], baseline.hour, key.residuals.pending, key.presence.state)
    data = take_arrays(data, *_arrays(key))
    if head.chain is msgspec.UNSET:
        # another sum stood there: how many hours have judged the season is told by the key's age
        baseline.hour[JUDGED] = baseline.age / calendar.per_hour
    baseline.forget_cache()
    key.plans = {}
    for ahead in head.plans:
        plan = key.plans[first + ahead] = array("f", bytes(_PLAN))
        data = take_arrays(data, plan)
    for channel in key.channels:
        data = channel.unpack(data)
    if kept & _WITH_DAYS:
        key.days.unpack(bytes(data[:DAYS_SIZE]), first // calendar.per_day)
        data = data[DAYS_SIZE:]
    if data:
        raise ValueError("it is too long")
    key.stale = False


def take_means(baseline: Baseline, level: float, call_tokens: float, call_input: float) -> None:
    """Begin the running means where they stood."""
    baseline.level = AdaptiveMean(level, baseline.level.fading_factor)
    baseline.call_tokens = AdaptiveMean(call_tokens, CALL_RATE)
    baseline.call_input = AdaptiveMean(call_input, CALL_RATE)


def _head_of(data: memoryview) -> tuple[_Head, memoryview]:
    """The head, and what is behind it."""
    _, length = _START.unpack_from(data)
    end = _START.size + length
    return _decode(data[_START.size : end]), data[end:]


def _unblocked(data: memoryview) -> memoryview:
    """What was packed as a block. Raises ValueError if it is not just as long as it says."""
    (length,) = _LENGTH.unpack_from(data)
    numbers = bytearray(length)
    try:
        found = lz4.decompress_block_into(data[_LENGTH.size :], numbers)
    except DecompressionError as error:
        raise ValueError(f"its block cannot be unpacked: {error}") from None
    if found != length:
        raise ValueError("its block is too short")
    return memoryview(numbers)


def incident_2(data: bytes) -> Incident | None:
    """The incident without the rest."""
    return _head_of(memoryview(data))[0].incident


def is_calm(data: bytes) -> bool:
    """True if a model of today's version has no incident; a look at one byte."""
    return data[_INCIDENT] == _NO_INCIDENT
