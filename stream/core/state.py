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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from stream.core.baseline import CALL_RATE, AdaptiveMean
from stream.core.bucket import OpenBucket
from stream.core.incidents import Incident
from stream.core.key import KeyState
from stream.core.view import KeyView

VERSION = 1
SHARD_KEY = b"\x00shard"
SUMS, MODEL = b"o", b"k"

_SUMS = struct.Struct("<B4QddI")
_BUCKET = struct.Struct("<iQQQQI?5f")
_MODEL = struct.Struct("<BiiIIIdddddddddH")
_ARRAYS = (("fast", "f", 48), ("slow", "f", 48), ("visits", "B", 48), ("week", "H", 168))
_WINDOWS = ("observed", "expected", "calls", "mean", "variance")
_PLAN = struct.Struct("<i5f")
_COUNT = struct.Struct("<H")
_MOST = 2**64 - 1


class StateError(ValueError):
    """A record of the state topic that this version cannot take up; the message says why and what to do."""


class ShardRecord(msgspec.Struct):
    """What belongs to the shard as a whole. `idle` is a watermark that was announced and not yet taken."""

    version: int
    digest: str
    applied: int
    newest: float | None
    watermark: float | None
    first_open: int
    read_from: int
    idle: float | None = None
    frozen: bool = False
    skips: list[tuple[int, int]] = []
    accepted: int = 0
    duplicates: int = 0
    late: int = 0
    missing: int = 0
    late_tokens: int = 0
    calls_per_bucket: float = 0.0
    active_buckets: int = 0
    settings: dict[str, int] = {}
    """The values behind the digest."""
    keys: int | None = None
    """How many keys there are: a state topic that has lost some is found out."""
    taken: tuple[int, int] | None = None
    """See `Rules.taken`."""


@dataclass(frozen=True, slots=True)
class Loader:
    """How the records of one state version become today's objects; each raises an error of its own kind on damage.

    To change what is written: raise VERSION, write the new `pack_…`, keep the old functions here as that version's
    loader, and add a golden file (tests/core/state_golden.py).
    """

    shard: Callable[[bytes], ShardRecord]
    sums: Callable[[bytes, KeyState], None]
    model: Callable[[memoryview, KeyState], None]
    totals: Callable[[bytes], tuple[int, int, int, float, float, int]]
    """Calls, input and output tokens, first and last seen, open buckets; without the rest of the sums."""
    incident: Callable[[bytes], Incident | None]
    """The incident of a model, without the rest."""


def _loader(version: int, what: str) -> Loader:
    loader = LOADERS.get(version)
    if loader is not None:
        return loader
    if version > VERSION:
        raise StateError(
            f"{what} was written by a newer Overdraw (state version {version}, this one reads up to {VERSION}): "
            "run the newer version; the state topic was left as it is"
        )
    raise StateError(f"{what} is damaged: there is no state version {version}")


def _loader_of(data: bytes, what: str) -> Loader:
    return _loader(data[0] if data else 0, what)


def pack_shard(record: ShardRecord) -> bytes:
    """The shard's record as MessagePack."""
    return msgspec.msgpack.encode(record)


def unpack_shard(data: bytes, wanted: Mapping[str, int] | None = None, digest: str | None = None) -> ShardRecord:
    """The shard's record; raises StateError on a newer version, on damage, or if it was made under other settings.

    wanted: the settings that a state depends on, as they are now
    digest: theirs
    """
    try:
        version = msgspec.msgpack.decode(data, type=dict[str, Any])["version"]
        if type(version) is not int:
            raise ValueError("its version is no number")
        record = _loader(version, "the state of this partition").shard(data)
    except StateError:
        raise
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError) as error:
        raise StateError(f"the shard record is damaged: {error}") from error
    if digest is not None and record.digest != digest:
        raise StateError(_other_settings(record.settings, wanted or {}))
    return record


class Place(NamedTuple):
    """How far a state goes: the last position applied, and the newest event time (None before the first)."""

    applied: int
    newest: float | None


def place_of(data: bytes | None) -> Place | None:
    """How far a state goes whose keys may be of no use: of other settings, or damaged; None if that is not known."""
    if data is None:
        return None
    try:
        record = unpack_shard(data)
    except StateError:
        return None
    return Place(record.applied, record.newest)


def _other_settings(stored: Mapping[str, int], wanted: Mapping[str, int]) -> str:
    changed = [name for name in wanted if name in stored and stored[name] != wanted[name]]
    if not changed:
        what = "with another number of partitions or another bucket length"
    else:
        before = ", ".join(f"{name}={stored[name]}" for name in changed)
        what = f"with {before}, and now it is {', '.join(f'{name}={wanted[name]}' for name in changed)}"
    moved = (
        ", or, since another number of partitions moves keys, make a new source_topic and state_topic under a new "
        "app_id and set the old source topic as intake_topic"
    )
    return (
        f"the state was made {what}: the two cannot be compared. Set it back, or start with --rebuild to learn again "
        "from what the source topic still holds, or begin anew with another state_topic and app_id"
        + (moved if "partitions" in changed or not changed else "")
    )


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


def _totals_1(data: bytes) -> tuple[int, int, int, float, float, int]:
    _, calls, input_tokens, output_tokens, _, first, last, count = _SUMS.unpack_from(data)
    return calls, input_tokens, output_tokens, first, last, count


def pack_model(key: KeyState) -> bytes:
    """Everything that was learned about a key, and its incident."""
    baseline, residuals = key.baseline, key.residuals
    incident = msgspec.msgpack.encode(key.incident)
    parts = [
        _MODEL.pack(
            VERSION, key.next_bucket, key.last_active_day, key.active_days, baseline.age, baseline.active,
            baseline.level.get(), baseline.call_tokens.get(), baseline.call_input.get(), baseline.hour_sum,
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


LOADERS = {1: Loader(msgspec.msgpack.Decoder(ShardRecord).decode, _sums_1, _model_1, _totals_1, _incident_1)}
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


def _totals(data: bytes) -> tuple[int, int, int, float, float, int]:
    try:
        return _loader_of(data, "a key's sums").totals(data)
    except struct.error as error:
        raise StateError(f"a key's sums are damaged: {error}") from error


def is_awake(sums: bytes, model: bytes | None) -> bool:
    """True if a packed key has an open bucket or an open incident, so that it has to be closed without being seen."""
    return bool(_totals(sums)[-1]) or (model is not None and bool(_incident_kinds(model)))


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
        calls, input_tokens, output_tokens, first, last, _ = _totals(sums[key_id])
        shown = key_id.decode("utf-8", "replace")
        open_incidents = incidents.get(key_id, [])
        yield KeyView(shown, calls, input_tokens, output_tokens, first, last, 0.0, 0.0, None, 0.0, open_incidents)
