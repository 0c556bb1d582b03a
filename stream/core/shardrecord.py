"""The shard's own record on the state topic: its place in the log, and what its state depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

VERSION = 2
"""Of all records of a state, the keys' too."""
SHARD_KEY = b"\x00shard"


class StateError(ValueError):
    """A record of the state topic that this version cannot take up; the message says why and what to do."""


def unknown_version(version: int, what: str) -> StateError:
    """The error for a record whose version has no loader here."""
    if version > VERSION:
        return StateError(
            f"{what} was written by a newer Overdraw (state version {version}, this one reads up to {VERSION}): "
            "run the newer version; the state topic was left as it is"
        )
    return StateError(f"{what} is damaged: there is no state version {version}")


class ShardRecord(msgspec.Struct):
    """What belongs to the shard as a whole. `idle` is a watermark that was announced and not yet taken.

    `origins` are the last ones that were applied: topic, partition, offset, element (`origins.Origins.pack`).
    """

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
    origins: list[tuple[bytes, int, int, int]] = []
    settings: dict[str, int] = {}
    """The values behind the digest."""
    keys: int | None = None
    """How many keys there are: a state topic that has lost some is found out."""
    taken: tuple[int, int] | None = None
    """See `Rules.taken`."""
    out_of_order: int = 0
    zero_usage: int = 0
    recent: list[float] = []
    counted: list[int] = []
    unmetered: dict[int, int] = {}
    """These three: see `quality.Quality.pack`."""


SHARD_LOADERS = dict.fromkeys((1, 2), msgspec.msgpack.Decoder(ShardRecord).decode)
"""By version; none is ever taken out. A field that a version lacks has a default, one that is no more is ignored."""


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
        if (loader := SHARD_LOADERS.get(version)) is None:
            raise unknown_version(version, "the state of this partition")
        record = loader(data)
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
