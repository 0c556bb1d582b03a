"""What the intake makes of a record that is not keyed by key id: checked, normalised, keyed, one record per element.

No I/O: raw records in, records for the source and dead letters out. Each carries its origin in a header, by which the
shards know a replay (`stream.core.origins`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from stream.core.origins import Origin
from stream.events import Arrival, Reject
from stream.gateways import overdraw
from stream.gateways.adapter import Parse
from stream.gateways.canonical import canonical
from stream.partition import key_bytes, partition_of
from stream.worker.deadletters import dead_letters
from stream.worker.journal import Record

FUTURE_SECONDS = 300.0
"""An event's time may be this far ahead of its record's Kafka timestamp (CONTRACT §9)."""
ORIGIN_HEADER = "overdraw-origin"
_ORIGIN = struct.Struct(">8sIQI")

_headers = attrgetter("headers")


@dataclass(slots=True)
class Keyed:
    """What became of some records of the intake topic: `keyed` by partition of the source, in order.

    front: largest event time among them, -inf where there is none
    size: bytes of keys and values
    """

    keyed: dict[int, list[Record]] = field(default_factory=dict)
    letters: list[Record] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    passed: int = 0
    front: float = -math.inf
    size: int = 0

    def add(self, other: Keyed) -> None:
        """Take up what became of the next records."""
        for partition, records in other.keyed.items():
            self.keyed.setdefault(partition, []).extend(records)
        self.letters += other.letters
        self.reasons += other.reasons
        self.passed += other.passed
        self.front = max(self.front, other.front)
        self.size += other.size


def _stamp(record: Any, now: float) -> int:
    """A record's Kafka timestamp in milliseconds; the clock's where it has none."""
    return record.timestamp if record.timestamp is not None and record.timestamp > 0 else int(now * 1000)


def pack_origin(origin: Origin) -> bytes:
    """The value of the header that says where a record came from."""
    return _ORIGIN.pack(*origin)


def origins_of(records: Sequence[Any]) -> list[tuple[int, Origin]]:
    """Offset and origin of the records that an intake wrote; quick where no record has a header.

    >>> origins_of([])
    []
    """
    if not any(map(_headers, records)):
        return []
    found = []
    for record in records:
        for name, value in record.headers:
            if name == ORIGIN_HEADER and value is not None and len(value) == _ORIGIN.size:
                found.append((record.offset, Origin(*_ORIGIN.unpack(value))))
    return found


def key_records(
    records: Sequence[Any],
    *,
    topic: str,
    identity: bytes,
    partitions: int,
    now: float,
    parse: Parse = overdraw.parse,
) -> Keyed:
    """Check, normalise and key raw records; `partitions` are those of the source, `now` is the wall clock.

    topic, identity: the intake topic, and what tells it from others in origins
    parse: the parser of their format; one that hides ids is a format of its own
    """
    arrivals, rejects = parse([(r.offset, r.value, _stamp(r, now) * 0.001 + FUTURE_SECONDS) for r in records])
    by_offset = {record.offset: record for record in records}
    done = Keyed()
    for (position, time, call), element in zip(arrivals, _elements(arrivals, rejects), strict=True):
        record = by_offset[position]
        key, value = key_bytes(call.key_id), canonical(call, time)
        header = pack_origin(Origin(identity, record.partition, position, element))
        row = (key, value, ((ORIGIN_HEADER, header),), _stamp(record, now))
        done.keyed.setdefault(partition_of(call.key_id, partitions), []).append(row)
        done.size += len(key) + len(value)
        done.front = max(done.front, time)
    done.passed = len(arrivals)
    for letter in dead_letters(rejects, by_offset, topic, canonical=parse is overdraw.parse):
        done.letters.append(letter)
        done.size += len(letter[1] or b"")
    done.reasons = [reject.reason for reject in rejects]
    return done


def _elements(arrivals: Sequence[Arrival], rejects: Sequence[Reject]) -> Iterator[int]:
    """The position of each call in its record's array: those of one record are in order, less what was refused."""
    refused: dict[int, set[int]] = {}
    for reject in rejects:
        if reject.element is not None:
            refused.setdefault(reject.position, set()).add(reject.element)
    last, element = -1, 0
    for position, _, _ in arrivals:
        element = element + 1 if position == last else 0
        last = position
        if refused:
            gone = refused.get(position, ())
            while element in gone:
                element += 1
        yield element
