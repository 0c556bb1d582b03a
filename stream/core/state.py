"""The detector's state as bytes: versioned, compact, and nothing is lost by packing.

Three kinds of records, each under its own first byte of the Kafka key: the shard's (0x00), a key's sums and open
buckets (`o` + key id; small, written at every flush that touched it), a key's model and incident (`k` + key id; written
when a bucket closes). No pickle: whoever can write the topic must not be able to run code.

Every record carries the version that wrote it, and LOADERS has a loader for each version there ever was: a state is
brought up to date key by key, as keys are seen again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from stream.core.incidents import Incident
from stream.core.key import KeyState
from stream.core.modelrecord import incident_2, is_calm, model_2, pack_model
from stream.core.modelrecord1 import incident_1, model_1
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
from stream.core.sumsrecord import Totals, buckets_1, buckets_2, is_shut, pack_sums, sums_1, sums_2, totals_1, totals_2
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


@dataclass(frozen=True, slots=True)
class Loader:
    """How one state version's records of a key become today's objects; each raises an error of its own kind on damage.

    To change what is written: raise VERSION, write the new `pack_…`, keep the old functions (in `sumsrecord`, and in a
    module like `modelrecord1`) as that version's loader, see to `shardrecord`, and add a golden file
    (tests/core/state_golden.py).
    """

    sums: Callable[[bytes, KeyState], None]
    model: Callable[[memoryview, KeyState], None]
    totals: Callable[[bytes], Totals]
    """The lifetime sums, without the rest."""
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


def unpack_sums(data: bytes, key: KeyState) -> None:
    """Take up what `pack_sums` gave."""
    loader = _loader_of(data, "a key's sums")
    try:
        loader.sums(data, key)
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise StateError(f"a key's sums are damaged: {error}") from error


def unpack_model(data: bytes, key: KeyState) -> None:
    """Take up what `pack_model` gave."""
    try:
        _loader_of(data, "a key's model").model(memoryview(data), key)
    except StateError:
        raise
    except (struct.error, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise StateError(f"a key's model is damaged: {error}") from error


LOADERS = {
    1: Loader(sums_1, model_1, totals_1, buckets_1, incident_1),
    2: Loader(sums_2, model_2, totals_2, buckets_2, incident_2),
}
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
    """False if packed sums hold no open bucket, which shows at a glance in today's version; True if they may."""
    return sums[:1] != _CURRENT or not is_shut(sums)


def open_buckets(sums: bytes) -> list[int]:
    """Indices of the open buckets of packed sums, without unpacking the rest; raises StateError on damage."""
    loader = _loader_of(sums, "a key's sums")
    try:
        return loader.buckets(sums)
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise StateError(f"a key's sums are damaged: {error}") from error


def _totals(data: bytes) -> Totals:
    loader = _loader_of(data, "a key's sums")
    try:
        return loader.totals(data)
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise StateError(f"a key's sums are damaged: {error}") from error


def has_incident(model: bytes) -> bool:
    """True if a packed model holds an open incident; raises StateError on damage of that part."""
    # most have none, which is one byte: the look at it is all that they cost
    if model[:1] == _CURRENT and is_calm(model):
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
