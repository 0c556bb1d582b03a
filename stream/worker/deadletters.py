"""Dead letters: why a record was refused, and enough to find it, but never its raw bytes, which may hold prompts."""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import Any

from pydantic import AliasChoices

from stream.alerts import rfc3339
from stream.events import ApiCall, Reject
from stream.worker.journal import Record

MAX_LETTERS = 100
"""Dead letters of one record: an array in 1 MB may hold half a million refused elements, which say nothing new."""
MAX_STRING = 256
MAX_INTEGER = 2**63 - 1
"""Beyond it most readers of JSON lose digits, and Python's own printing refuses thousands of them."""
MAX_PARSED_BYTES = 8 << 20
KNOWN_ADDRESSES = 65_536
"""Addresses whose network is remembered, some 10 MB: to work it out takes as long as everything else of a record."""

_position = attrgetter("position")
_LEFT_OUT = frozenset({"user_agent"})


def _spellings() -> dict[str, str]:
    """Every accepted spelling of a field of `ApiCall`, to the field."""
    names = {}
    for name, field in ApiCall.model_fields.items():
        names[name] = name
        if isinstance(field.validation_alias, AliasChoices):
            names.update({choice: name for choice in field.validation_alias.choices if isinstance(choice, str)})
    return {spelling: name for spelling, name in names.items() if name not in _LEFT_OUT}


SPELLINGS = _spellings()


@lru_cache(maxsize=KNOWN_ADDRESSES)
def network_of(address: str) -> str | None:
    """An address cut to its network, /24 or /48; None if it is none. A network stays what it is.

    >>> network_of("192.0.2.77"), network_of("2001:db8:1:2::3"), network_of("here")
    ('192.0.2.0/24', '2001:db8:1::/48', None)
    >>> network_of("192.0.2.0/24")
    '192.0.2.0/24'
    """
    try:
        ip = ipaddress.ip_interface(address.strip().partition("%")[0]).ip
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))


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
        name = SPELLINGS.get(spelling)
        if name is not None:
            known[name] = _network(content) if name == "client_ip" else _harmless(content)
    return known


def _network(content: Any) -> Any:
    if not isinstance(content, str):
        return _harmless(content)
    return network_of(content) or "(no address)"


def _harmless(content: Any) -> Any:
    if isinstance(content, str):
        return content if len(content) <= MAX_STRING else content[: MAX_STRING - 1] + "…"
    if isinstance(content, dict):
        return "(object)"
    if isinstance(content, list):
        return "(array)"
    if isinstance(content, float) and not math.isfinite(content):
        return f"({content})"
    if isinstance(content, int) and abs(content) > MAX_INTEGER:
        return "(integer of more than 64 bits)"
    return content


def dead_letter(reject: Reject, record: Any, topic: str, *, further: int = 0) -> Record:
    """The dead letter's record of a reject; `record` is the Kafka record it came from.

    `element` is the position within an array; `timestamp` is Kafka's own, not the event's; `size` and `sha256` are of
    the whole value as it stands on the source topic, where it can be looked up by partition and offset; `further`
    counts elements of the same array that were refused as well and have no letter of their own.
    """
    value: bytes = record.value or b""
    stamped = record.timestamp is not None and record.timestamp >= 0
    part = reject.value if reject.element is not None else value
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


def letters_of(rejects: Sequence[Reject], records: Mapping[int, Any], topic: str) -> Iterator[Record]:
    """The dead letters of some rejects, `MAX_LETTERS` a record at most; `records` are the Kafka records by offset."""
    for position, several in groupby(sorted(rejects, key=_position), key=_position):
        group = list(several)
        told = group[:MAX_LETTERS]
        for reject in told:
            further = len(group) - len(told) if reject is told[-1] else 0
            yield dead_letter(reject, records[position], topic, further=further)
