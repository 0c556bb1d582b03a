"""What shards tell of their keys, as bytes on its topic: MessagePack behind a version byte.

No pickle: whoever can write the topic must not be able to run code. Nor may it cost more than its own bytes: shards and
buckets that cannot be are refused, since hours would wait for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec

from stream.core.evidence import COUNT, LEAVES, MOST_MEMBERS, NEVER, PACE, Cell, Evidence, Member, by_group

VERSION = 4
FIRST_COUNT = 24
"""Sums of a cell in version 1, of which three were what later ones tell of paces."""
FIRST_PACES = slice(5, 8)
SECOND_COUNT, PACE_ONLY = 27, PACE + 2
"""Sums of a cell in version 2, of which the last four were more of paces; it told nothing of days."""
LAST_BUCKET = 2**40
"""Far beyond any time; NEVER alone lies behind it."""
MOST_DEPARTURE, MOST_PRECISION = 100.0, 100.0
"""Of a key's day: many times what there can be."""
RECORD_BYTES = 256 * 1024
"""Of a record with several cells: a quarter of Kafka's usual limit. One cell takes a few hundred, 40,000 at most."""
_START = bytes([VERSION])
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Evidence).decode


class EvidenceError(ValueError):
    """A record of the evidence topic that cannot be used; the message says why."""


def evidence_records(evidence: Iterable[Evidence]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the records that carry some evidence, in its order."""
    for name, part in by_group(evidence):
        key = name.encode("utf-8", "surrogatepass")
        for value in _values(part):
            yield key, value


def _values(part: Evidence) -> Iterator[bytes]:
    """One record, or several where it would be too large; those without cells tell what is complete."""
    value = pack_evidence(part)
    half = len(part.cells) // 2
    if len(value) <= RECORD_BYTES or not half:
        yield value
        return
    for cells in (part.cells[:half], part.cells[half:]):
        yield from _values(Evidence(part.shard, part.bucket, cells))


def pack_evidence(evidence: Evidence) -> bytes:
    """The record's bytes."""
    return _START + _encode(evidence)


def unpack_evidence(data: bytes | None, partitions: int) -> Evidence:
    """The inverse; raises EvidenceError on a newer version, damage, or what no shard of `partitions` can have told."""
    version = data[0] if data else 0
    if data is None or not 1 <= version <= VERSION:
        if version > VERSION:
            raise EvidenceError(f"it was written by a newer Overdraw (version {version}, this one reads {VERSION})")
        raise EvidenceError(f"there is no version {version} of evidence")
    try:
        evidence = _decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EvidenceError(f"it cannot be read: {error}") from error
    if version < VERSION:
        _update(evidence, version)
    wrong = _wrong(evidence, partitions)
    if wrong is not None:
        raise EvidenceError(wrong)
    return evidence


def _update(evidence: Evidence, version: int) -> None:
    """Evidence of version 1 tells nothing of paces, that of version 2 nothing of days, that of version 3 nothing of
    each member's days: nothing known is what stands there where it is not told.
    """  # noqa: D205
    for cell in evidence.cells:
        sums = cell.sums
        if version == 1 and len(sums) == FIRST_COUNT:
            del sums[FIRST_PACES]
        elif version == 2 and len(sums) == SECOND_COUNT:
            del sums[PACE_ONLY:]
        else:
            continue
        sums += [0.0] * (COUNT - len(sums))


def _wrong(evidence: Evidence, partitions: int) -> str | None:
    if not 0 <= evidence.shard < partitions:
        return f"there is no shard {evidence.shard}"
    if not -1 <= evidence.bucket <= LAST_BUCKET and (evidence.bucket != NEVER or evidence.cells):
        return f"there is no bucket {evidence.bucket}"
    return next((wrong for cell in evidence.cells if (wrong := _wrong_cell(cell)) is not None), None)


def _wrong_cell(cell: Cell) -> str | None:
    if len(cell.sums) != COUNT or not all(map(math.isfinite, cell.sums)):
        return "the sums of a cell are damaged"
    if not all(map(math.isfinite, cell.models.values())):
        return "the models of a cell are damaged"
    if not cell.traits or len(cell.leaves) > LEAVES or len(cell.members) > MOST_MEMBERS:
        return "a cell names no traits, or too many keys"
    if any(not all(map(math.isfinite, member[1:])) or not _is_day(member) for member in cell.members):
        return "a member of a cell is damaged"
    return None


def _is_day(member: Member) -> bool:
    """Whether a key's day can be as it says: sums over many must stay finite."""
    return abs(member.departure) <= MOST_DEPARTURE and 0 <= member.precision <= MOST_PRECISION
