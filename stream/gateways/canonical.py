"""Calls of any format as canonical records: what the intake writes and what commands read from files."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Any

import msgspec

from stream.events import SPELLINGS, Arrival, Call, Reject
from stream.gateways.adapter import Parse
from stream.gateways.overdraw import Refused
from stream.gateways.pseudonyms import ROLES, Pseudonyms
from stream.gateways.quick import Record
from stream.gateways.traits import REDUCED

_FIELDS = tuple(name for name in Call.__struct_fields__ if name != "time")
_DEFAULTS = {name: getattr(Call(event_id="-", time=0.0, key_id="-"), name) for name in _FIELDS}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
FOREVER = float("inf")
_HARMLESS = {spelling for spelling, field in SPELLINGS.items() if field not in REDUCED}
UNREADABLE = b"(a record that cannot be read)"
"""Stands for one: no JSON, so that whoever reads it refuses it for that."""


def canonical(call: Call, time: float) -> bytes:
    """A call as JSON with the names of `ApiCall`: what it says and no more, traits in the place of what they are of.

    The time is the number that the detector computes with, so nothing of it is lost.

    >>> canonical(Call(event_id="a", time="2026-03-01T00:00:00Z", key_id="k", client_ip="192.0.2.0/24"), 1772323200.0)
    b'{"event_id":"a","key_id":"k","client_ip":"192.0.2.0/24","time":1772323200.0}'
    """
    document = {name: value for name in _FIELDS if (value := getattr(call, name)) != _DEFAULTS[name]}
    document["time"] = time
    return _encode(document)


def hidden(parse: Parse, pseudonyms: Pseudonyms) -> Parse:
    """A parser that puts pseudonyms in the place of ids, also in what its refusals show."""

    def parse_hidden(records: Iterable[Record]) -> tuple[list[Arrival], list[Reject]]:
        arrivals, rejects = parse(records)
        for _, _, call in arrivals:
            pseudonyms.hide(call)
        return arrivals, [replace(reject, value=_hidden_value(reject, pseudonyms)) for reject in rejects]

    return parse_hidden


def _hidden_value(reject: Reject, pseudonyms: Pseudonyms) -> bytes:
    try:
        document = _decode(reject.value)
    except (ValueError, RecursionError):
        return b""
    if not isinstance(document, dict):
        return b""
    shown = {field: value for field, value in document.items() if field in SPELLINGS}
    for field, role in ROLES.items():
        if field in shown:
            # an id of another type is none, and may be anything
            value = shown[field]
            shown[field] = pseudonyms.of(role, value) if isinstance(value, str) and value else None
    return _encode(shown)


def records_of(numbered: Iterable[tuple[int, bytes]], parse: Parse) -> Iterator[tuple[int, bytes]]:
    """Records of another format as canonical ones, each call on its own, with the number of the record it came from.

    What `parse` refuses comes as a `Refused`. The clock is not looked at: whoever reads the result judges the times.
    """
    arrivals, rejects = parse([(number, value, FOREVER) for number, value in numbered])
    calls: list[tuple[int, bytes]] = [(number, canonical(call, time)) for number, time, call in arrivals]
    refused: list[tuple[int, bytes]] = [(reject.position, Refused(reject)) for reject in rejects]
    # both are in order already; of one record, what counts comes first
    yield from heapq.merge(calls, refused, key=itemgetter(0)) if refused else iter(calls)


def cut(value: bytes) -> bytes:
    """A canonical record as it may be stored: without unknown fields, traits in the place of what they are of.

    One that needs no cut stays as it is, byte for byte, and so does one that cannot be read.

    >>> cut(b'{"key_id": "k", "prompt": "secret", "client_ip": "192.0.2.77"}')
    b'{"key_id":"k","client_ip":"192.0.2.0/24"}'
    """
    try:
        document = _decode(value)
    except (ValueError, RecursionError):
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            return value
    elements = document if isinstance(document, list) else [document]
    if not any(isinstance(element, dict) and not element.keys() <= _HARMLESS for element in elements):
        return value
    kept = [_kept(element) if isinstance(element, dict) else element for element in elements]
    # not msgspec, which would write a NaN as null and take no lone surrogate: a bad record stays as bad as it was
    return json.dumps(kept if isinstance(document, list) else kept[0], separators=(",", ":")).encode()


def _kept(element: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for spelling, value in element.items():
        field = SPELLINGS.get(spelling)
        if field is not None:
            reduce = REDUCED.get(field)
            kept[spelling] = reduce(value) if reduce is not None and isinstance(value, str) else value
    return kept
