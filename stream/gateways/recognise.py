"""`--format auto`: which format some records are of, by the names at their top, and what was seen of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from stream.alerts import printable
from stream.events import SPELLINGS
from stream.gateways.adapter import MAX_ELEMENTS
from stream.gateways.errors import InputError
from stream.gateways.quick import MAX_RECORD_BYTES

LOOKED_AT = 50
"""Records that are looked at; the first that is of a known format decides."""
SHOWN_NAMES = 12

Names = dict[str, msgspec.Raw]
_decode = msgspec.json.Decoder(Names).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Seen:
    """A format, and by what it was known."""

    format: str
    sign: str


def _has(*names: str) -> Callable[[Names], str | None]:
    """A sign that takes all of some names, told by them."""
    return lambda record: ", ".join(names) if all(name in record for name in names) else None


def _kong(record: Names) -> str | None:
    if "started_at" not in record:
        return None
    other = next((name for name in ("ai", "latencies", "workspace", "upstream_uri") if name in record), None)
    return f"started_at, {other}" if other is not None else None


def _envoy(record: Names) -> str | None:
    genai = next((name for name in record if name.startswith("gen_ai.")), None)
    if "response_code" in record and "start_time" in record:
        return "start_time, response_code"
    return f"start_time, {genai}" if genai is not None and "start_time" in record else None


def _usage(record: Names) -> str | None:
    kind = bytes(record["object"]) if "object" in record else b""
    if kind in (b'"page"', b'"bucket"') and ("data" in record or "results" in record):
        return f"object {kind.decode()}"
    return _has("num_model_requests", "start_time")(record)


def _overdraw(record: Names) -> str | None:
    fields = {SPELLINGS[name] for name in record if name in SPELLINGS}
    return "event_id, time, key_id" if {"event_id", "time", "key_id"} <= fields else None


SIGNS: Sequence[tuple[str, Callable[[Names], str | None]]] = (
    ("overdraw", _overdraw),
    ("otel", _has("resourceSpans")),
    ("otel", _has("resourceLogs")),
    ("litellm", _has("litellm_call_id", "call_type")),
    ("litellm", _has("call_type", "startTime", "metadata")),
    ("openai-usage", _usage),
    ("kong", _kong),
    ("apisix", _has("llm_summary")),
    ("apisix", _has("route_id", "start_time", "client_ip")),
    ("envoy", _envoy),
)
"""What each format is known by, in the order in which they are asked."""


def recognise(values: Sequence[bytes]) -> Seen:
    """The format of some records, or of the header of a csv. Raises InputError that says what was seen instead.

    >>> recognise([b'{"resourceSpans": []}'])
    Seen(format='otel', sign='resourceSpans')
    """
    first: Names | None = None
    for value in values[:LOOKED_AT]:
        record = _names(value)
        if record is None:
            continue
        first = record if first is None else first
        for format, sign in SIGNS:
            found = sign(record)
            if found is not None:
                return Seen(format, found)
    header = _header(values) if first is None else None  # JSON is no header, whatever stands between its commas
    if header is not None:
        return header
    if first is None:
        raise InputError("none of its first records is a JSON object, and the first line is no header of a csv")
    names = ", ".join(printable(name, 40) for name in list(first)[:SHOWN_NAMES])
    raise InputError(
        f"its records are of no format that is known (names at the top: {names or 'none'}): say --format, or describe "
        "them in a file for --mapping"
    )


def _names(value: bytes) -> Names | None:
    """What stands at the top of a record, or of the first element of its array; None if that is no object."""
    if len(value) > MAX_RECORD_BYTES:
        return None
    try:
        if value.lstrip()[:1] == b"[":
            elements: Any = _elements(value)
            return _decode(elements[0]) if 0 < len(elements) <= MAX_ELEMENTS else None
        return _decode(value)
    except (ValueError, RecursionError):
        return None


def _header(values: Sequence[bytes]) -> Seen | None:
    if not values or len(values[0]) > MAX_RECORD_BYTES:
        return None
    cells = [cell.strip().strip('"') for cell in values[0].decode("utf-8", "replace").split(",")]
    known = [cell for cell in cells if cell in SPELLINGS]
    return Seen("csv", f"a header with {', '.join(known)}") if len(cells) > 1 and known else None
