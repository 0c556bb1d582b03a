"""The detector's state as bytes: versioned, compact, and nothing is lost by packing.

Three kinds of records, each under its own first byte of the Kafka key: the shard's (0x00), a key's sums and open
buckets (`o` + key id; small, written at every flush that touched it), a key's model and incident (`k` + key id; written
when a bucket closes). No pickle: whoever can write the topic must not be able to run code.

Every record carries the version that wrote it, and LOADERS has a loader for each version there ever was: a state is
brought up to date key by key, as keys are seen again.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from stream.core.baseline import CALL_RATE, AdaptiveMean
from stream.core.bucket import OpenBucket
from stream.core.incidents import Incident
from stream.core.key import KeyState
from stream.core.shardrecord import (
    SHARD_KEY,
    VERSION,
    ShardRecord,
    StateError,
    pack_shard,
    place_of,
    unknown_version,
    unpack_shard,
)
from stream.core.view import KeyView

__all__ = [
    "LOADERS",
    "MODEL",
    "SHARD_KEY",
    "SUMS",
    "VERSION",
    "ShardRecord",
    "StateError",
    "check_version",
    "has_incident",
    "has_open_bucket",
    "open_buckets",
    "pack_model",
    "pack_shard",
    "pack_sums",
    "place_of",
    "summaries",
    "unpack_model",
    "unpack_shard",
    "unpack_sums",
]

_CURRENT = bytes([VERSION])
SUMS, MODEL = b"o", b"k"

_SUMS = struct.Struct("<B4QddI")
_BUCKET = struct.Struct("<iQQQQI?5f")
_MODEL = struct.Struct("<BiiIIIdddddddddH")
_ARRAYS = (("fast", "f", 48), ("slow", "f", 48), ("visits", "B", 48), ("week", "H", 168))
_INDEX = struct.Struct("<i")
_INCIDENT_LENGTH = slice(_MODEL.size - 2, _MODEL.size)
_NO_INCIDENT = struct.pack("<H", len(msgspec.msgpack.encode(None)))
_WINDOWS = ("observed", "expected", "calls", "mean", "variance")
_PLAN = struct.Struct("<i5f")
_COUNT = struct.Struct("<H")
_MOST = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Loader:
    """How one state version's records of a key become today's objects; each raises an error of its own kind on damage.

    To change what is written: raise VERSION, write the new `pack_…`, keep the old functions here as that version's
    loader, see to `shardrecord`, and add a golden file (tests/core/state_golden.py).
    """

    sums: Callable[[bytes, KeyState], None]
    model: Callable[[memoryview, KeyState], None]
    totals: Callable[[bytes], tuple[int, int, int, float, float]]
    """Calls, input and output tokens, first and last seen; without the rest of the sums."""
    buckets: Callable[[bytes], list[int]]
    """Indices of the open buckets of packed sums, without the rest."""
    incident: Callable[[bytes], Incident | None]
    """The incident of a model, without the rest."""


def _loader_of(data: bytes, what: str) -> Loader:
    version = data[0] if data else 0
    if (loader := LOADERS.get(version)) is None:
        raise unknown_version(version, what)
    return loader


def check_version(data: bytes, what: str) -> None:
    """Raise StateError unless a key's sums or model are of a version that is read here."""
    if data[:1] != _CURRENT:  # nearly always it is: a million keys are looked through
        _loader_of(data, what)


def pack_sums(key: KeyState) -> bytes:
    """Lifetime sums and open buckets."""
    head = _SUMS.pack(
        VERSION, min(key.calls, _MOST), min(key.input_tokens, _MOST), min(key.output_tokens, _MOST),
        key.late, key.first_seen, key.last_seen, len(key.open),
    )  # fmt: skip
    return head + b"".join(
        _BUCKET.pack(
            b.index,
            min(b.calls, _MOST),
            min(b.input_tokens, _MOST),
            min(b.output_tokens, _MOST),
            min(b.cost_micros, _MOST),
            b.missing,
            b.early,
            *b.plan,
        )
        for b in key.open.values()
    )


def unpack_sums(data: bytes, key: KeyState) -> None:
    """Take up what `pack_sums` gave."""
    try:
        _loader_of(data, "a key's sums").sums(data, key)
    except struct.error as error:
        raise StateError(f"a key's sums are damaged: {error}") from error


def _sums_1(data: bytes, key: KeyState) -> None:
    _, key.calls, key.input_tokens, key.output_tokens, key.late, key.first_seen, key.last_seen, count = (
        _SUMS.unpack_from(data)
    )
    key.open = {}
    for i in range(count):
        index, *sums, early, p0, p1, p2, p3, p4 = _BUCKET.unpack_from(data, _SUMS.size + i * _BUCKET.size)
        bucket = key.open[index] = OpenBucket(index, array("f", (p0, p1, p2, p3, p4)))
        bucket.calls, bucket.input_tokens, bucket.output_tokens, bucket.cost_micros, bucket.missing = sums
        bucket.early = early


def _totals_1(data: bytes) -> tuple[int, int, int, float, float]:
    _, calls, input_tokens, output_tokens, _, first, last, _ = _SUMS.unpack_from(data)
    return calls, input_tokens, output_tokens, first, last


def pack_model(key: KeyState) -> bytes:
    """Everything that was learned about a key, and its incident."""
    baseline, residuals = key.baseline, key.residuals
    incident = msgspec.msgpack.encode(key.incident)
    parts = [
        _MODEL.pack(
            VERSION, key.next_bucket, key.last_active_day, key.active_days, baseline.age, baseline.active,
            baseline.level.value, baseline.call_tokens.value, baseline.call_input.value, baseline.hour_sum,
            baseline.hour_last_week,
            key.score, key.last_tokens, key.last_expected, key.last_upper, len(incident),
        ),
        incident,
    ]  # fmt: skip
    parts += [getattr(baseline, name).tobytes() for name, _, _ in _ARRAYS]
    parts += [getattr(residuals, name).tobytes() for name in _WINDOWS]
    parts.append(residuals.slot_scale.tobytes())
    parts += [channel.pack() for channel in key.channels]
    parts.append(_COUNT.pack(len(key.plans)))
    parts += [_PLAN.pack(index, *plan) for index, plan in key.plans.items()]
    return b"".join(parts)


def unpack_model(data: bytes, key: KeyState) -> None:
    """Take up what `pack_model` gave."""
    try:
        _loader_of(data, "a key's model").model(memoryview(data), key)
    except StateError:
        raise
    except (struct.error, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise StateError(f"a key's model is damaged: {error}") from error


def _model_1(data: memoryview, key: KeyState) -> None:
    baseline, residuals = key.baseline, key.residuals
    (
        _, key.next_bucket, key.last_active_day, key.active_days, baseline.age, baseline.active, level, call_tokens,
        call_input, baseline.hour_sum, baseline.hour_last_week, key.score, key.last_tokens, key.last_expected,
        key.last_upper, length,
    ) = _MODEL.unpack_from(data)  # fmt: skip
    key.incident = _incident_at(data, length)
    baseline.level = AdaptiveMean.at(level, baseline.level.fading_factor)
    baseline.call_tokens = AdaptiveMean.at(call_tokens, CALL_RATE)
    baseline.call_input = AdaptiveMean.at(call_input, CALL_RATE)
    data = data[_MODEL.size + length :]

    def take(code: str, count: int) -> array[Any]:
        nonlocal data
        values = array(code)
        size = values.itemsize * count
        if len(data) < size:
            raise ValueError("it is too short")
        values.frombytes(data[:size])
        data = data[size:]
        return values

    for name, code, count in _ARRAYS:
        setattr(baseline, name, take(code, count))
    for name in _WINDOWS:
        setattr(residuals, name, take("f", residuals.horizons.count))
    residuals.slot_scale = take("f", 48)
    for channel in key.channels:
        data = channel.unpack(data)
    (plans,) = _COUNT.unpack_from(data)
    data = data[_COUNT.size :]
    key.plans = {}
    for _ in range(plans):
        index, *plan = _PLAN.unpack_from(data)
        key.plans[index] = array("f", plan)
        data = data[_PLAN.size :]
    key.stale = False


def _incident_at(data: memoryview | bytes, length: int) -> Incident | None:
    return msgspec.msgpack.decode(data[_MODEL.size : _MODEL.size + length], type=Incident | None)


def _incident_1(data: bytes) -> Incident | None:
    return _incident_at(data, _MODEL.unpack_from(data)[-1])


def _buckets_1(data: bytes) -> list[int]:
    count: int = _SUMS.unpack_from(data)[-1]
    if len(data) != _SUMS.size + count * _BUCKET.size:
        raise struct.error("the length is wrong")
    return [_INDEX.unpack_from(data, place)[0] for place in range(_SUMS.size, len(data), _BUCKET.size)]


LOADERS = {1: Loader(_sums_1, _model_1, _totals_1, _buckets_1, _incident_1)}
"""Every state version that was ever written; none is ever taken out."""


def _incident_kinds(data: bytes) -> list[str]:
    """Kinds of the open incidents in a key's model, without unpacking the rest."""
    try:
        incident = _loader_of(data, "a key's model").incident(data)
    except StateError:
        raise
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise StateError(f"a key's model is damaged: {error}") from error
    return [] if incident is None else [incident.kind]


def has_open_bucket(sums: bytes) -> bool:
    """False if packed sums hold no open bucket, which shows by their length; True if they may."""
    return len(sums) != _SUMS.size or sums[:1] != _CURRENT


def open_buckets(sums: bytes) -> list[int]:
    """Indices of the open buckets of packed sums, without unpacking the rest; raises StateError on damage."""
    try:
        return _loader_of(sums, "a key's sums").buckets(sums)
    except struct.error as error:
        raise StateError(f"a key's sums are damaged: {error}") from error


def _totals(data: bytes) -> tuple[int, int, int, float, float]:
    try:
        return _loader_of(data, "a key's sums").totals(data)
    except struct.error as error:
        raise StateError(f"a key's sums are damaged: {error}") from error


def has_incident(model: bytes) -> bool:
    """True if a packed model holds an open incident; raises StateError on damage of that part."""
    # most have none, which is one byte: the look at its length is all that they cost
    if model[:1] == _CURRENT and model[_INCIDENT_LENGTH] == _NO_INCIDENT:
        return False
    return bool(_incident_kinds(model))


def summaries(records: Iterable[tuple[bytes, bytes | None]]) -> Iterator[KeyView]:
    """One view per key from the state topic's records, in the order of their keys; no detector is needed.

    Rates are left at zero: they belong to a moment. Raises StateError on a record of a newer version.
    """
    sums: dict[bytes, bytes] = {}
    incidents: dict[bytes, list[str]] = {}
    for name, value in records:
        kind, key_id = name[:1], name[1:]
        if kind == SUMS:
            if value is None:
                sums.pop(key_id, None)
            else:
                sums[key_id] = value
        elif kind == MODEL:
            incidents[key_id] = _incident_kinds(value) if value is not None else []
    for key_id in sorted(sums):
        calls, input_tokens, output_tokens, first, last = _totals(sums[key_id])
        shown = key_id.decode("utf-8", "replace")
        open_incidents = incidents.get(key_id, [])
        yield KeyView(shown, calls, input_tokens, output_tokens, first, last, 0.0, 0.0, None, 0.0, open_incidents)
