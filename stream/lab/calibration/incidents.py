"""The file of confirmed incidents: what a history holds of attacks must not count as false alerts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stream.gateways.errors import InputError

MAX_INCIDENTS = 1_000_000
"""More lines than that are no list of confirmed incidents."""


@dataclass(frozen=True, slots=True)
class Incidents:
    """By key the stretches [start, end) in epoch seconds, end inf while one lasts; `others` were not about keys."""

    spans: dict[str, list[tuple[float, float]]]
    others: int

    @property
    def count(self) -> int:
        """Incidents of keys."""
        return sum(map(len, self.spans.values()))


def read_incidents(lines: Iterable[str]) -> Incidents:
    r"""Incidents of JSON lines: labels (`key_id`, `start`, `end`) or alerts, of which several may tell one incident.

    An alert that is not resolved, and a label whose `end` is null, last to the end of the history. Raises InputError,
    which names the line.

    >>> read_incidents(['{"key_id": "k", "start": 60, "end": "1970-01-01T00:02:00Z"}']).spans
    {'k': [(60.0, 120.0)]}
    """
    told: dict[tuple[str, str], tuple[float, float]] = {}
    others: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise InputError("not a JSON object")
            if "entity" in record:
                name = str(record.get("alert_id", number))
                if record["entity"]["type"] != "key":
                    others.add(name)
                    continue
                key_id, span = str(record["entity"]["id"]), _span(record["started_at"], record.get("resolved_at"))
            else:
                name = f"line {number}"
                key_id, span = str(record["key_id"]), _span(record["start"], record["end"])
        except (KeyError, TypeError) as error:
            what = "a label has key_id, start and end, an alert entity and started_at"
            raise InputError(f"line {number}: {what}: {error!r}") from error
        except ValueError as error:  # InputError is one
            raise InputError(f"line {number}: {error}") from error
        if len(told) >= MAX_INCIDENTS:
            raise InputError(f"line {number}: more than {MAX_INCIDENTS:,} incidents: is it the right file?")
        start, end = told.get((key_id, name), span)
        # of an incident's alerts the last one is right about its end, the first about its start
        told[key_id, name] = (min(start, span[0]), min(end, span[1]))
    spans: dict[str, list[tuple[float, float]]] = {}
    for (key_id, _), span in told.items():
        spans.setdefault(key_id, []).append(span)
    return Incidents(spans, len(others))


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
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            return time.timestamp()
    raise InputError(f"{value!r} is no time: write it as 2026-03-01T12:00:00Z, or as epoch seconds")
