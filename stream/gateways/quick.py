"""The quick way from a record's bytes to a call: every record takes it, so it is compiled with the core."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from stream.events import EARLIEST_TIME, LATEST_TIME, Arrival, Call
from stream.gateways.traits import reduce_traits

MAX_RECORD_BYTES: Final = 8 << 20
"""Far above Kafka's default of 1 MiB: an array of 10,000 full events."""

Record = tuple[int, bytes | None, float]
"""A raw record: its position, its value, and the latest event time that its clock allows (epoch seconds)."""
Slowly = Callable[[int, bytes | None, float], None]
"""Is handed what the quick way does not take."""

_EARLIEST: Final = EARLIEST_TIME
_LATEST: Final = LATEST_TIME
_moment = datetime.fromisoformat


def take(records: Iterable[Record], decode: Callable[[bytes], Call], slowly: Slowly, arrivals: list[Arrival]) -> None:
    """Append the calls of raw records, in their order; `slowly` decides about those that are not plainly one call.

    decode: raises ValueError or RecursionError on what is none
    """
    for position, value, latest in records:
        if value is not None and len(value) <= MAX_RECORD_BYTES:
            # RecursionError: thousands of nested brackets; ValueError: not JSON, not a call, not UTF-8, not a time
            try:
                call = decode(value)
                said = call.time
                time = _seconds(said) if isinstance(said, str) else float(said)
                if _EARLIEST <= time <= latest and time < _LATEST:
                    # it would look itself, but is not compiled: where there is nothing to reduce, the call is saved
                    if call.client_ip is not None or call.user_agent is not None or call.prompt_fingerprint is not None:
                        reduce_traits(call)
                    arrivals.append((position, time, call))
                    continue
            except (ValueError, RecursionError):
                pass
        slowly(position, value, latest)


def _seconds(text: str) -> float:
    moment = _moment(text)
    if moment.tzinfo is None:
        raise ValueError("no zone")
    return moment.timestamp()
