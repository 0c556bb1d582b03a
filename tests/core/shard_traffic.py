"""Steady traffic with an attack on it, for the shard's tests: every number is chosen, nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stream.alerts import Alert
from stream.core.shard import Shard
from stream.core.step import Step
from stream.events import Arrival, Call
from stream.settings import Settings

START = 1_772_323_200.0  # 2026-03-01T00:00:00Z, a Sunday
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
SETTINGS = Settings(partitions=1)

Timed = tuple[float, Call]


def shard(**changes: object) -> Shard:
    """A shard of its own, with the shipped priors."""
    return Shard(0, SETTINGS.model_copy(update=changes), partition_of=lambda key_id: 0)


def call(time: float, key_id: str = "k", event_id: str | None = None, **fields: object) -> Timed:
    """One call at `time`; its id is made of its place."""
    name = event_id or f"{time:.6f}"
    return time, Call(event_id=name, time=time, key_id=key_id, **fields)  # type: ignore[arg-type]


def steady(
    key_id: str = "k", start: float = START, days: float = 10, every: float = 30.0, size: int = 1500
) -> list[Timed]:
    """A call every `every` seconds, sizes going round a little cycle."""
    count = int(days * DAY / every)
    return [
        call(start + i * every, key_id, input_tokens=size + 37 * (i % 11), output_tokens=size // 3 + 13 * (i % 7))
        for i in range(count)
    ]


def times(factor: float, stream: Iterable[Timed], begin: float, end: float) -> list[Timed]:
    """The same stream with each call between `begin` and `end` standing for `factor` calls."""
    out = []
    for time, c in stream:
        if begin <= time < end:
            n = round(factor)
            given = {"calls": n, "input_tokens": c.input_tokens * n, "output_tokens": c.output_tokens * n}
            out.append(call(time, c.key_id, c.event_id, **given))
        else:
            out.append((time, c))
    return out


def merged(*streams: list[Timed]) -> list[Timed]:
    """Streams in order of time."""
    return sorted((item for stream in streams for item in stream), key=lambda item: item[0])


def arrivals(stream: Iterable[Timed], first: int = 0) -> list[Arrival]:
    """A log of them."""
    return [(first + i, time, c) for i, (time, c) in enumerate(stream)]


def feed(to: Shard, stream: Iterable[Timed]) -> Step:
    """Append to the shard's log; returns what came of it."""
    log = arrivals(stream, to.applied + 1)
    return to.observe(log, to.applied + len(log))


def incidents(alerts: Iterable[Alert]) -> Iterator[tuple[str, str, str]]:
    """Status, kind and key of each alert."""
    for alert in alerts:
        yield alert.status, alert.kind, alert.entity.id
