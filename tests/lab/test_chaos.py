"""The failure experiments' own parts: what must come of the traffic, what a difference looks like, the table."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from stream.cli.chaos import command
from stream.core.shard import Shard
from stream.core.state import summaries
from stream.gateways.overdraw import parse
from stream.lab.chaos import losses, run, world
from stream.lab.chaos.experiments import EXPERIMENTS, UNKEYED, Experiment
from stream.lab.chaos.losses import gap_is_told
from stream.lab.chaos.run import Row
from stream.lab.chaos.table import table
from stream.lab.chaos.traffic import LEARNING_HOURS, Traffic
from stream.lab.chaos.verdict import Verdict, compare
from stream.lab.chaos.world import SHORT, World, settings_on
from stream.partition import partition_of
from stream.settings import Settings
from stream.worker.tools import EXIT_LOST

HOURS = LEARNING_HOURS + 40
NOW = 2_000_000_000.0
"""Kafka's timestamp of every record here: far behind the traffic's own times, long before its wrong clocks."""


def shards_of(traffic: Traffic, **changes: object) -> tuple[dict[str, list[int]], Counter[str], int, int]:
    """Sums, refusals, openings and late calls that the pure core makes of some days of traffic."""
    settings = settings_on("127.0.0.1:1", **changes)
    logs = defaultdict(list)
    for hour in range(HOURS + 1):
        for _, key_id, value in traffic.hour() if hour < HOURS else traffic.rest():
            log = logs[partition_of(key_id, settings.partitions)]
            log.append((len(log), value, NOW))
    sums, refused, opened, late = {}, Counter[str](), 0, 0
    for partition, log in logs.items():
        shard = Shard(partition, settings, partition_of=lambda key_id: partition_of(key_id, settings.partitions))
        calls, rejects = parse(log)
        step = shard.observe(calls, log[-1][0])
        opened += sum(alert.status == "opened" for alert in step.alerts)
        late += step.late
        refused.update(reject.reason for reject in (*rejects, *step.rejects))
        for view in summaries(shard.changes()):
            sums[view.key_id] = [view.calls, view.input_tokens, view.output_tokens]
    return sums, refused, opened, late


@pytest.mark.slow
@pytest.mark.parametrize("faults", [False, True])
def test_the_truth_of_the_traffic_is_what_an_undisturbed_core_makes_of_it(faults: bool) -> None:
    traffic = Traffic(keys=16, per_hour=80, seed=5, faults=faults, clock=lambda: NOW)
    sums, refused, opened, late = shards_of(traffic)
    assert (late > 0) == faults
    assert sums == traffic.truth.sums
    assert refused == traffic.truth.dead_letters
    assert opened > 3, "there is something to compare"
    assert traffic.truth.records >= HOURS * 80
    assert (refused["future"] > 0) == faults
    assert (traffic.truth.records > sum(row[0] for row in sums.values()) + refused.total()) == faults


@pytest.mark.slow
def test_traffic_for_partitions_that_are_read_side_by_side_has_every_fault_but_lateness() -> None:
    traffic = Traffic(keys=16, per_hour=80, seed=5, faults=True, late=False, clock=lambda: NOW)
    sums, refused, _, late = shards_of(traffic, **UNKEYED)
    assert (sums, refused) == (traffic.truth.sums, traffic.truth.dead_letters)
    assert late == 0
    assert set(refused) == {"future", "broken_json", "invalid_utf8", "missing_field", "not_an_object"}


def test_the_truth_forgets_what_nobody_can_have_read() -> None:
    traffic = Traffic(keys=1, per_hour=10, seed=5)
    (_, key_id, value), *rest = traffic.hour()
    traffic.truth.forget(value)
    given, taken = (sum(json.loads(value)[f"{name}_tokens"] for *_, value in rest) for name in ("input", "output"))
    assert traffic.truth.sums == {key_id: [len(rest), given, taken]}


async def test_a_gap_is_to_be_counted_exactly_and_to_be_said_on_its_own_partitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alerts: list[dict[str, Any]] = []

    async def records(*_: Any) -> list[Any]:
        return [SimpleNamespace(value=json.dumps(alert)) for alert in alerts]

    class Counting(SimpleNamespace):
        async def counted(self, sample: str) -> int:
            return int(self.offsets)

    def feed(partition: int, name: str) -> dict[str, Any]:
        return {"kind": "feed", "entity": {"id": str(partition)}, "channels": [{"name": name}]}

    monkeypatch.setattr(losses, "records_of", records)
    workers = [Counting(instance="worker-0", offsets=30), Counting(instance="worker-1", offsets=0)]
    spoilt: Any = SimpleNamespace(settings=settings_on("127.0.0.1:1"), workers=workers, lost={0: 20, 2: 10}, codes={})
    alerts += [feed(0, "gap"), feed(2, "gap"), feed(3, "late")]
    assert await gap_is_told(spoilt) == []
    assert spoilt.codes == {"worker-0": EXIT_LOST}
    workers[1].offsets = 10
    alerts.pop(0)
    counted, said = await gap_is_told(spoilt)
    assert counted == "30 offsets were deleted unread, and the workers counted {'worker-0': 30, 'worker-1': 10}"
    assert said == "partitions [0, 2] lost records, and feed alerts say so of [2]"


def test_every_difference_is_a_fault_that_is_told() -> None:
    incident = ("a", 0, "opened", "surge", "t", None, "f")
    assert compare({"k": [1, 2, 3]}, {"k": [1, 2, 3]}, [incident], [incident], Counter(), Counter()) == []
    faults = compare(
        {"k": [1, 2, 3], "more": [1, 1, 1]},
        {"k": [1, 2, 4]},
        [incident],
        [incident, incident],
        Counter(future=1),
        Counter(future=2, empty=1),
    )
    text = "\n".join(faults)
    assert "2 keys have wrong sums: k: [1, 2, 3] instead of [1, 2, 4]; more: [1, 1, 1] instead of None" in text
    assert "lacks 1 × incident step" in text
    assert "lacks 2 × dead letter" in text
    assert "surplus" in "\n".join(compare({}, {}, [incident], [], Counter(), Counter()))
    assert "no incident" in "\n".join(compare({}, {}, [], [], Counter(), Counter()))
    assert "written 2 times" in "\n".join(
        compare({}, {}, [incident, incident], [incident, incident], Counter(), Counter())
    )


def test_the_table_shows_what_is_exact_and_what_is_not() -> None:
    verdict = Verdict(1000, 48, 7, 0)
    good = Row("kills", "4.1.1", "kill -9", verdict, (2.0, 3.0, 9.0), (), (), 1.0)
    older = replace(good, kafka="3.9.2", verdict=replace(verdict, gap=12))
    bad = replace(good, name="disk", summary="full disk", faults=("lost",))
    broken = replace(bad, kafka="3.9.2", verdict=None)
    head, _, first, second = table([good, bad, older, broken]).splitlines()
    assert head.endswith("| Kafka 4.1.1: times, back at work | Kafka 3.9.2: times, back at work |")
    assert first.startswith("| kill -9 | 2,000 | 14 | 3 × exact, 3.0 s (9.0 s) | 3 × exact, 3.0 s (9.0 s), a gap of 12")
    assert second == "| full disk | 1,000 | 7 | **NOT EXACT** | **broken off** |"
    assert [row.exact for row in (good, bad, broken)] == [True, False, False]
    assert good.as_json()["back_seconds"] == {"median": 3.0, "most": 9.0}


async def test_an_experiment_whose_gateway_never_gets_through_is_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []

    async def topics(_: Settings) -> list[str]:
        return []

    async def nothing(_: World) -> None: ...

    kafka = SimpleNamespace(bootstrap="127.0.0.1:1", start=lambda: None, close=lambda: closed.append(True))
    monkeypatch.setattr(run, "brokers", lambda *_: kafka)
    monkeypatch.setattr(run, "create_topics", topics)
    monkeypatch.setattr(world, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setitem(EXPERIMENTS, "deaf", Experiment("nobody listens", nothing, workers=0))
    said: list[str] = []
    row = await run.run_experiment("deaf", SHORT, tell=said.append)
    assert (row.exact, row.verdict, closed) == (False, None, [True])
    assert "127.0.0.1:1" in row.faults[0]
    assert said[-1].startswith("deaf: NOT EXACT: no Kafka")
    assert table([row]).endswith("| **broken off** |")


def test_an_unknown_experiment_is_bad_usage_that_names_the_known_ones() -> None:
    answer = CliRunner().invoke(command, ["kils"])
    assert answer.exit_code == 2
    assert all(name in answer.output for name in EXPERIMENTS)


def test_every_experiment_is_listed_with_what_it_does() -> None:
    answer = CliRunner().invoke(command, ["--list"])
    assert [line.split(maxsplit=1) for line in answer.output.splitlines()] == [
        [name, experiment.summary] for name, experiment in EXPERIMENTS.items()
    ]
