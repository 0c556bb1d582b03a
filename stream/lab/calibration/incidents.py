"""The file of confirmed incidents: what a history holds of attacks must not count as false alerts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stream.gateways.errors import InputError

MAX_INCIDENTS = 1_000_000
"""More lines than that are no list of confirmed incidents."""


@dataclass(frozen=True, slots=True)
class Incidents:
    """By key the stretches [start, end) in epoch seconds, end inf while one lasts; `others` name no key."""

    spans: dict[str, list[tuple[float, float]]]
    others: int

    @property
    def count(self) -> int:
        """Incidents of keys; one of a group counts for each key that it names."""
        return sum(map(len, self.spans.values()))


def read_incidents(lines: Iterable[str]) -> Incidents:
    r"""Incidents of JSON lines: labels (`key_id`, `start`, `end`) or alerts, of which several may tell one incident.

    An alert about a group is one about the members that it names. An alert that is not resolved, and a label whose
    `end` is null, last to the end of the history. Raises InputError, which names the line.

    >>> read_incidents(['{"key_id": "k", "start": 60, "end": "1970-01-01T00:02:00Z"}']).spans
    {'k': [(60.0, 120.0)]}
    """
    told: dict[str, tuple[float, float]] = {}
    named: dict[str, dict[str, None]] = {}
    others: set[str] = set()
    count = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise InputError("not a JSON object")
            keys, span = _keys_and_span(record)
        except ValueError as error:  # InputError is one
            raise InputError(f"line {number}: {error}") from error
        name = str(record.get("alert_id", number)) if "entity" in record else f"line {number}"
        if span is None:
            others.add(name)
            continue
        count += sum(key not in named.get(name, ()) for key in keys)
        if count > MAX_INCIDENTS:
            raise InputError(f"line {number}: more than {MAX_INCIDENTS:,} incidents: is it the right file?")
        start, end = told.get(name, span)
        # of an incident's alerts the last one is right about its end, the first about its start
        told[name] = (min(start, span[0]), min(end, span[1]))
        named.setdefault(name, {}).update(dict.fromkeys(keys))
    spans: dict[str, list[tuple[float, float]]] = {}
    for name, keys_of_it in named.items():
        for key_id in keys_of_it:
            spans.setdefault(key_id, []).append(told[name])
    return Incidents(spans, len(others - told.keys()))


def _keys_and_span(record: dict[str, Any]) -> tuple[list[str], tuple[float, float] | None]:
    """The keys that a label or an alert is about, and when it was; no span if it names no key."""
    if "entity" not in record:
        what = "a label has key_id, start and end"
        return [str(_of(record, "key_id", what))], _span(_of(record, "start", what), _of(record, "end", what))
    what = "an alert has an entity (type, id) and started_at"
    entity = record["entity"]
    if _of(entity, "type", what) == "key":
        keys = [str(_of(entity, "id", what))]
    else:
        members = record.get("members") or {}
        top = members.get("top") if isinstance(members, dict) else None
        keys = [str(_of(member, "key_id", "each of the members has a key_id")) for member in top or ()]
        if not keys:
            return [], None
    return keys, _span(_of(record, "started_at", what), record.get("resolved_at"))


def _of(part: Any, name: str, what: str) -> Any:
    """A field that has to be there; `what` says of what."""
    if not isinstance(part, dict) or name not in part:
        raise InputError(f"{what}: there is no {name}")
    return part[name]


def _span(start: Any, end: Any) -> tuple[float, float]:
    span = _time(start), math.inf if end is None else _time(end)
    if span[1] < span[0]:
        raise InputError(f"it ends at {end} before it starts at {start}")
    return span


def _time(value: Any) -> float:
    """Epoch seconds of an RFC 3339 time with its zone, or of a number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            time = datetime.fromisoformat(value)
            if time.tzinfo is not None:
                return time.timestamp()
    raise InputError(f"{value!r} is no time: write it as 2026-03-01T12:00:00Z, or as epoch seconds")
