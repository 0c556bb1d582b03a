"""The short form of every failure experiment: real brokers and workers, and everything exact at the end."""

from __future__ import annotations

import pytest

from stream.lab.chaos.experiments import EXPERIMENTS
from stream.lab.chaos.run import run_experiment
from stream.lab.chaos.world import SHORT


@pytest.mark.parametrize("name", EXPERIMENTS)
async def test_nothing_is_lost_and_nothing_is_counted_twice(name: str) -> None:
    said: list[str] = []
    row = await run_experiment(name, SHORT, tell=said.append)
    assert row.exact, "\n".join([*said, *row.faults])
    assert row.back, "something was disturbed"
