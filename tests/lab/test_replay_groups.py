"""Groups in `replay`: they wait for every partition, for so long, whatever the pieces in which the input comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.lab import replay as module
from stream.lab.replay import PATIENCE_HOURS, Replay
from stream.settings import Settings

START = 1_772_409_600.0
HOUR = 3600.0


def calls(key_id: str, first: int, last: int) -> list[tuple[float, bytes]]:
    """One an hour."""
    moments = (START + hour * HOUR + 60.0 for hour in range(first, last))
    return [
        (t, json.dumps({"event_id": f"{t}", "time": t, "key_id": key_id, "org_id": "o", "output_tokens": 9}).encode())
        for t in moments
    ]


def replayed(lines: list[tuple[float, bytes]], chunk: int) -> Replay:
    settings = Settings(partitions=3, bucket_seconds=3600)
    one = Replay(settings, partition_of=lambda key_id, _: int(key_id[0]), now=START + 1e8)
    values = [value for _, value in sorted(lines)]
    for first in range(0, len(values), chunk):
        one.feed(values[first : first + chunk])
    return one


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRIDE_RECORDS", 20)


def numbers(one: Replay) -> tuple[Any, ...]:
    done, groups = one.summary.groups, one.groups
    assert groups is not None
    return done.hours, done.incomplete, groups.next_hour, groups.waiting


@pytest.mark.parametrize("chunk", [1, 7, 20, 1000])
def test_a_partition_that_falls_silent_for_long_holds_hours_up_for_so_long_and_no_longer(chunk: int) -> None:
    one = replayed([*calls("0a", 0, 24), *calls("1b", 0, 400)], chunk)
    hours, incomplete, next_hour, waiting = numbers(one)
    assert numbers(replayed([*calls("0a", 0, 24), *calls("1b", 0, 400)], 50)) == (hours, incomplete, next_hour, waiting)
    assert incomplete > 250
    assert PATIENCE_HOURS <= waiting <= PATIENCE_HOURS + 22
    one.finish()
    assert one.summary.as_json(0.0)["group_hours"]["closed"] == one.summary.groups.hours >= 398


def test_a_short_silence_is_waited_for_and_lacks_nothing() -> None:
    one = replayed([*calls("0a", 0, 24), *calls("0a", 84, 200), *calls("1b", 0, 200)], 10)
    one.finish()
    assert one.summary.groups.incomplete == 0
    assert one.summary.groups.hours >= 198
    assert one.groups is not None
    assert len(one.groups) == 0, "two keys are no group"


def test_partitions_without_a_key_hold_up_nothing_and_make_nothing_incomplete() -> None:
    one = replayed(calls("1b", 0, 300), 10)
    assert one.summary.groups.hours > 150
    one.finish()
    assert one.summary.groups.incomplete == 0
