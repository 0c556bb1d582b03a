"""A shard whose log is no longer the one that it had applied, and one that takes an older state's place."""

from __future__ import annotations

import math

import pytest
from core_streams import SETTINGS, START, calls, few, log_of, new_shard, whole
from hypothesis import given
from hypothesis import strategies as st

from stream.core.shard import Shard
from stream.events import Call


def loaded(run):
    shard = new_shard()
    shard.load(run.state.items())
    return shard


def sums(shard: Shard) -> dict[str, tuple[int, int, int]]:
    views = [shard.key(key_id) for key_id in ("key-0", "key-1", "key-2", "new")]
    return {view.key_id: (view.calls, view.input_tokens, view.output_tokens) for view in views if view is not None}


def later(shard: Shard, position: int, name: str = "new", count: int = 3):
    times = [shard.newest + 10.0 * (i + 1) for i in range(count)]
    return [
        (position + i, time, Call(event_id=f"{name}-{i}", time=time, key_id="key-0", input_tokens=1, output_tokens=1))
        for i, time in enumerate(times)
    ]


@pytest.mark.parametrize("start", [0, 5, 10**7], ids=["from the beginning", "already cut", "far beyond"])
def test_another_log_is_read_from_its_own_beginning_and_the_keys_go_on(start):
    shard = loaded(whole(log_of(calls(4))))
    before = sums(shard)
    shard.read_on_at(start, same_log=False)
    assert (shard.applied, shard.read_from) == (start - 1, start)
    step = shard.observe(later(shard, start), start + 2)
    assert step.accepted == 3
    assert sums(shard)["key-0"][0] == before["key-0"][0] + 3
    again = new_shard()
    again.load(shard.changes() + [r for r in whole(log_of(calls(4))).state.items() if r[0][:1] != b"\0"])
    assert again.applied == start + 2


def test_after_a_restart_on_another_log_the_open_buckets_ids_are_read_from_that_log():
    shard = loaded(whole(log_of(calls(4))))
    shard.read_on_at(0, same_log=False)
    shard.observe(later(shard, 0), 2)
    assert shard.read_from <= 2, "its first record of an open bucket"
    step = shard.observe([(3, shard.newest, later(shard, 0)[0][2])], 3)
    assert step.duplicates == 1


def test_a_cut_log_goes_on_at_the_cut_and_its_rest_still_gives_the_ids():
    log = log_of(calls(4))
    shard = loaded(whole(log))
    cut = shard.applied - 1
    shard.read_on_at(cut, same_log=True)
    assert shard.applied == cut - 1
    assert shard.read_from <= cut


@few
@given(seed=st.integers(0, 50), position=st.integers(0, 10**6), same=st.booleans())
def test_wherever_the_log_goes_on_nothing_of_the_keys_is_lost_or_doubled(seed, position, same):
    shard = loaded(whole(log_of(calls(seed))))
    before = sums(shard)
    shard.read_on_at(position, same_log=same)
    assert sums(shard) == before
    assert shard.read_from <= position
    step = shard.observe(later(shard, position), position + 2)
    assert (step.accepted, step.duplicates, step.late) == (3, 0, 0)


def opened(shard: Shard, log) -> list[tuple[float, int]]:
    return [(a.started_at, a.sequence) for a in shard.observe(log, log[-1][0]).alerts if a.status == "opened"]


def test_incidents_that_an_older_state_may_have_told_of_are_numbered_above_it_and_later_ones_from_0():
    log = log_of(calls(4, days=10))
    plain = new_shard()
    starts = opened(plain, log)
    assert len({start for start, _ in starts}) > 1
    assert {sequence for _, sequence in starts} == {0}
    border = sorted(start for start, _ in starts)[len(starts) // 2]
    shard = new_shard()
    shard.follow(100, border)
    assert opened(shard, log) == [(start, 100 if start <= border else 0) for start, _ in starts]


def test_what_is_taken_survives_a_restart():
    shard = new_shard()
    shard.follow(7, math.inf)
    again = new_shard()
    again.load(shard.changes())
    assert again.rules.first_sequence(int(START // SETTINGS.bucket_seconds)) == 7
    again.follow(7, -math.inf)
    assert again.rules.first_sequence(0) == 0
