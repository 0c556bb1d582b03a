"""Dead letters: why a record was refused, and enough to find it, but never its raw bytes, which may hold prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import Any

from stream.alerts import rfc3339
from stream.events import SPELLINGS, ApiCall, Reject
from stream.gateways.traits import network_of, template_of
from stream.worker.journal import Record

MAX_STRING = 256
"""Of an id or a name. What is longer is none, and may be a prompt: only its length is told."""
MAX_NUMERAL = 40
"""Of a text in the place of a number or a time: enough for every spelling of one. What does not begin as one does is
none, and may be a prompt, too."""
MAX_INTEGER = 2**63 - 1
"""Beyond it most readers of JSON lose digits, and Python's own printing refuses thousands of them."""
MAX_PARSED_BYTES = 8 << 20
MAX_LETTERS = 100
"""Dead letters of one record: an array in 1 MB may hold half a million refused elements, which say nothing new."""

_BEGINS = frozenset(" +-.0123456789")

_position = attrgetter("position")
_LEFT_OUT = frozenset({"user_agent"})
_NUMERALS = frozenset(
    name
    for name, schema in ApiCall.model_json_schema(by_alias=False)["properties"].items()
    if any(branch.get("type") in ("integer", "number") for branch in schema.get("anyOf", [schema]))
)
"""Fields that hold numbers."""
SHOWN = {spelling: name for spelling, name in SPELLINGS.items() if name not in _LEFT_OUT}


def known_fields(value: bytes) -> dict[str, Any] | None:
    """The fields of `ApiCall` that a raw record holds, made harmless; None unless it is a JSON object.

    >>> known_fields(b'{"key_id": "k", "prompt": "secret", "client_ip": "192.0.2.77", "calls": []}')
    {'key_id': 'k', 'client_ip': '192.0.2.0/24', 'calls': '(array)'}
    """
    if len(value) > MAX_PARSED_BYTES:
        return None
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    known: dict[str, Any] = {}
    for spelling, content in document.items():
        name = SHOWN.get(spelling)
        if name is not None:
            known[name] = _numeral(content) if name in _NUMERALS else _REDUCED.get(name, _harmless)(content)
    return known


def _network(content: Any) -> Any:
    if not isinstance(content, str):
        return _harmless(content)
    return network_of(content) or "(no address)"


def _template(content: Any) -> Any:
    return template_of(content) if isinstance(content, str) else _harmless(content)


_REDUCED: Mapping[str, Callable[[Any], Any]] = {"client_ip": _network, "prompt_fingerprint": _template}


def _harmless(content: Any) -> Any:
    if isinstance(content, str):
        return content if len(content) <= MAX_STRING else f"(text of {len(content)} characters)"
    if isinstance(content, dict):
        return "(object)"
    if isinstance(content, list):
        return "(array)"
    if isinstance(content, float) and not math.isfinite(content):
        return f"({content})"
    if isinstance(content, int) and abs(content) > MAX_INTEGER:
        return "(integer of more than 64 bits)"
    return content


def _numeral(content: Any) -> Any:
    if isinstance(content, str) and (len(content) > MAX_NUMERAL or content[:1] not in _BEGINS):
        return f"(text of {len(content)} characters)"
    return _harmless(content)


def dead_letters(
    rejects: Sequence[Reject], by_offset: Mapping[int, Any], topic: str, *, canonical: bool = True
) -> Iterator[Record]:
    """The dead letters of some rejects, a bounded number of each record; `by_offset` has the records they came from.

    canonical: whether the records have the names of `ApiCall`, and their ids may be shown; else only what each reject
    keeps is shown
    """
    for position, several in groupby(sorted(rejects, key=_position), key=_position):
        group = list(several)
        told = group[:MAX_LETTERS]
        for reject in told:
            further = len(group) - len(told) if reject is told[-1] else 0
            yield dead_letter(reject, by_offset[position], topic, further=further, canonical=canonical)


def dead_letter(reject: Reject, record: Any, topic: str, *, further: int = 0, canonical: bool = True) -> Record:
    """The dead letter's record of a reject; `record` is the Kafka record it came from.

    `element` is the position within an array; `timestamp` is Kafka's own, not the event's; `size` and `sha256` are of
    the whole value as it stands on the source topic, where it can be looked up by partition and offset; `further`
    counts elements of the same array that were refused as well and have no letter of their own.
    """
    value: bytes = record.value or b""
    stamped = record.timestamp is not None and record.timestamp >= 0
    part = reject.value if reject.element is not None or not canonical else value
    letter: Mapping[str, Any] = {
        "reason": reject.reason,
        "message": reject.message,
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "element": reject.element,
        "timestamp": rfc3339(record.timestamp / 1000) if stamped else None,
        "size": len(value),
        "sha256": sha256(value).hexdigest(),
        "record": known_fields(part),
        "further": further,
    }
    headers = (("reason", reject.reason.encode()), ("content-type", b"application/json"))
    return None, json.dumps(letter).encode(), headers
