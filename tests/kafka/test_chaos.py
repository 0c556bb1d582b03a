"""The short form of every failure experiment: real brokers and workers, and everything exact at the end."""

from __future__ import annotations

import pytest

from stream.lab.chaos.experiments import EXPERIMENTS, in_turn
from stream.lab.chaos.run import run_experiment
from stream.lab.chaos.world import SHORT

WORLDS = [
    ("kills", "stopped-worker", "join-leave", "failover"),
    ("broker-restarted", "broker-killed", "broker-gone", "full-disk"),
    ("unkeyed",),
    ("leader-killed",),
    ("compaction",),
    ("lost-records",),
    ("bad-gateway",),
]
"""The experiments, those together that share a world: one that is not exact is looked for by `overdraw chaos NAME`."""


def test_no_experiment_is_left_out() -> None:
    assert sorted(name for names in WORLDS for name in names) == sorted(EXPERIMENTS)


@pytest.mark.parametrize("names", WORLDS, ids=" ".join)
async def test_nothing_is_lost_and_nothing_is_counted_twice(names: tuple[str, ...]) -> None:
    said: list[str] = []
    row = await run_experiment(" ".join(names), SHORT, tell=said.append, experiment=in_turn(*names))
    assert row.exact, "\n".join([*said, *row.faults])
    assert row.back, "something was disturbed"


def test_what_needs_different_worlds_is_not_put_into_one() -> None:
    with pytest.raises(ValueError, match="different worlds: kills, unkeyed"):
        in_turn("kills", "unkeyed")
