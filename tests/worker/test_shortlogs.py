"""Logs that end before what was read of them: a cut, a new leader's moment, or an answer that came late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from stream.worker.shortlogs import SHORT_SECONDS, ShortLogs


def held_at(offset: int, *, live: bool = True) -> Any:
    """A partition in this worker's hands, which reads on at an offset."""
    return SimpleNamespace(live=live, sequencer=SimpleNamespace(next=offset))


def looks(logs: ShortLogs, held: Any, *ends: int, begin: float = 0.0) -> list[Any]:
    """What is found by looks a second apart."""
    return [found for now, end in enumerate(ends) for found in logs.look({0: held}, {0: end}, begin + now)]


def test_a_log_that_stays_short_was_cut_at_the_lowest_end_that_was_seen() -> None:
    logs, held = ShortLogs(), held_at(100)
    seconds = int(SHORT_SECONDS) + 1
    assert not looks(logs, held, 100, *[70] * (seconds - 1))
    assert looks(logs, held, 80, begin=float(seconds)) == [(held, 80, 70)]


def test_an_end_that_is_older_than_what_was_read_meanwhile_is_no_cut() -> None:
    logs, held = ShortLogs(), held_at(100)
    for now in range(30):  # the answer took so long that a hundred records more were read before it came
        end = held.sequencer.next
        held.sequencer.next += 100
        assert not logs.look({0: held}, {0: end}, float(now))


def test_a_moment_s_short_log_is_forgotten() -> None:
    logs, held = ShortLogs(), held_at(100)
    assert not looks(logs, held, 100, *[90, 90, 90, 90, 100] * 5)


def test_who_has_just_taken_a_partition_over_is_not_measured_by_what_its_last_owner_had_read() -> None:
    logs = ShortLogs()
    for now in range(30):
        assert not logs.look({0: held_at(100)}, {0: 50}, float(now))


def test_neither_a_partition_without_an_end_nor_one_that_is_not_live_is_short() -> None:
    logs, held, idle = ShortLogs(), held_at(100), held_at(100, live=False)
    for now in range(30):
        assert not logs.look({0: held, 1: idle}, {1: 50}, float(now))
