"""A topic's history: partitions come by the times of their records, and a broker that goes away ends the reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.cli import history
from stream.cli.history import _merged


class Place(NamedTuple):
    partition: int


class Record(NamedTuple):
    partition: int
    offset: int
    timestamp: int


class Consumer:
    """Logs by partition; after `silent_after` answers nothing comes any more."""

    def __init__(self, logs: dict[Place, list[Record]], silent_after: float = float("inf")) -> None:
        self._logs, self._left = logs, silent_after
        self._positions = dict.fromkeys(logs, 0)

    async def position(self, place: Place) -> int:
        return self._positions[place]

    async def getmany(self, place: Place, timeout_ms: int, max_records: int) -> dict[Place, list[Record]]:
        await asyncio.sleep(0)
        self._left -= 1
        if self._left < 0:
            return {}
        log = [record for record in self._logs[place] if record.offset >= self._positions[place]][:2]
        self._positions[place] = log[-1].offset + 1 if log else self._positions[place] + 1
        return {place: log}


def logs_of(times: Iterable[list[int]]) -> dict[Place, list[Record]]:
    """Every second offset is a marker, which no consumer hands out."""
    return {Place(p): [Record(p, 2 * i, time) for i, time in enumerate(part)] for p, part in enumerate(times)}


async def read(logs: dict[Place, list[Record]], **options: float) -> list[Record]:
    ends = {place: 2 * len(log) for place, log in logs.items()}
    return [record async for record in _merged(Consumer(logs, **options), ends)]


@given(times=st.lists(st.lists(st.integers(0, 50), max_size=8), min_size=1, max_size=4))
def test_each_partition_keeps_its_order_and_the_earliest_comes_first(times: list[list[int]]) -> None:
    logs = logs_of(times)
    found = asyncio.run(read(logs))
    for place, log in logs.items():
        assert [record for record in found if record.partition == place.partition] == log
    if all(part == sorted(part) for part in times):
        assert [record.timestamp for record in found] == sorted(record.timestamp for record in found)


def test_a_broker_that_goes_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "STALL_SECONDS", 0.05)
    with pytest.raises(TimeoutError, match="gave nothing"):
        asyncio.run(read(logs_of([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]), silent_after=3))
