"""What the bench measures with, and how it judges."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from io import StringIO

import pytest
from click.testing import CliRunner
from msgspec import structs
from rich.console import Console

from stream.cli.bench import command, table
from stream.core.shard import Shard
from stream.core.state import SHARD_KEY
from stream.events import ApiCall
from stream.gateways.overdraw import parse
from stream.lab import bench_core, bench_recovery, bench_storm
from stream.lab.bench import REPEATS, Bench, Plan, Report
from stream.lab.bench_core import core_rows, learn
from stream.lab.bench_table import Row, missed, replay_rows, worker_rows
from stream.lab.bench_traffic import KINDS, Traffic, density
from stream.settings import Settings, load_settings

EVENTS = 3_000
LIMITS = {"short": (200, 240), "full": (480, 540)}


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic.make(EVENTS, keys=20, history_days=4.0, rate=0.2)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings({"partitions": 2}, environ={})


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_event_is_as_long_as_its_kind_says_and_is_accepted(traffic, kind) -> None:
    records = [record for hour in traffic.values(kind, EVENTS) for record in hour]
    assert len(records) == EVENTS
    least, most = LIMITS[kind]
    assert {len(value) for _, _, value in records} <= set(range(least, most + 1))
    calls, rejects = parse([(i, value, records[-1][0] + 1) for i, (_, _, value) in enumerate(records)])
    assert rejects == []
    assert len({call.event_id for _, _, call in calls}) == EVENTS
    times = [time for time, _, _ in records]
    assert times == sorted(times)
    for (time, key_id, _), (_, parsed, call) in zip(records, calls, strict=True):
        assert (key_id, round(time, 3)) == (call.key_id, round(parsed, 3))


def test_a_full_event_says_everything_that_one_call_can_say(traffic) -> None:
    [_, _, value] = next(iter(traffic.values("full", 1)))[0]
    sums = {"calls", "period_seconds", "operation"}
    assert set(ApiCall.model_fields) - set(json.loads(value)) <= sums


def test_the_calls_follow_the_history_and_both_kinds_tell_of_the_same_ones(traffic) -> None:
    past = [call for hour in traffic.history() for call in hour]
    assert max(call.time for call in past) < traffic.cut
    short, full = ([(t, k) for hour in traffic.values(kind, 500) for t, k, _ in hour] for kind in KINDS)
    assert short == full
    assert traffic.cut <= short[0][0]
    assert {key for _, key in short} & {call.key_id for call in past}


def test_density_counts_calls_buckets_and_keys(traffic) -> None:
    [first, *_] = (hour for hour in traffic.calls(EVENTS) if len(hour) > 2)
    one, other = (structs.replace(first[0], time=t, key_id=k) for t, k in ((600.0, "a"), (610.0, "b")))
    per_second, per_bucket, keys = density([[one, other], [structs.replace(one, time=700.0)]])
    assert (per_second, per_bucket, keys) == (3 / 100, 3 / 2, 2)


def test_the_core_is_measured_on_keys_that_are_old_enough_to_be_judged(traffic, settings, monkeypatch) -> None:
    monkeypatch.setattr(bench_core, "CLOSED_BUCKETS", 100)
    installation = learn(traffic, settings)
    keys = bench_core._unpacked(installation, bench_core.Rules(settings))
    assert 1 < len(keys) <= 20
    assert max(key.baseline.age for key in keys.values()) > 3 * 288
    closed, size = core_rows(traffic, installation, settings)
    assert 0 < closed.value < 100_000
    assert 1_000 < size.value < 3_000
    assert (closed.at_most, size.at_most) == (True, True)


def test_a_worker_that_reads_the_states_begins_at_the_first_record(traffic, settings) -> None:
    installation = learn(traffic, settings)
    for partition, states in installation.states.items():
        shard = Shard(partition, settings, partition_of=lambda _: 0)
        shard.load(states)
        assert (shard.applied, shard.read_from) == (-1, 0)


def test_the_states_to_recover_are_as_many_keys_as_asked_for_and_every_shard_can_load_its_part(
    traffic, settings
) -> None:
    installation = learn(traffic, settings)
    originals = {bytes(value) for records in installation.states.values() for _, value in records}
    keys = []
    for partition, transactions in bench_recovery.states_of(installation, 501).items():
        written = [record for batch in transactions for record in batch]
        assert {value for name, value, _ in written if name != SHARD_KEY} <= originals
        assert len({name for name, _, _ in written}) == len(written)
        shard = Shard(partition, settings, partition_of=lambda _: 0)
        shard.load([(name, value) for name, value, _ in written])
        keys.append(len(shard))
    assert sum(keys) == 501
    assert max(keys) - min(keys) <= 1


def test_states_are_written_in_transactions_that_a_broker_can_take_in_time(traffic, settings, monkeypatch) -> None:
    monkeypatch.setattr(bench_recovery, "TRANSACTION_RECORDS", 50)
    installation = learn(traffic, settings)
    for transactions in bench_recovery.states_of(installation, 400).values():
        sizes = [len(batch) for batch in transactions]
        assert len(sizes) > 2
        assert max(sizes) <= 51


def test_a_recovery_is_judged_by_its_cpu_time_and_told_with_its_memory() -> None:
    bare = {"cpu_seconds": 4.0, "records": 400_000}
    ours = {"cpu_seconds": 5.01, "keys": 100_000, "bytes": 180_000_000, "seconds": 6.0}
    loop, recovery = bench_recovery.rows_of([bare], [ours])
    assert (loop.value, loop.verdict) == (4.0, "")
    assert (recovery.value, recovery.bar, recovery.verdict) == (5.01, 5.0, "short")
    assert recovery.note == "1.25 of the bare loop, 1.8 kB of memory a key, live after 6.0 s"
    assert bench_recovery.rows_of([bare], [{**ours, "keys": 1_000_000}])[1].verdict == "ok"
    turns = [{**ours, "cpu_seconds": seconds} for seconds in (9.0, 2.0, 3.0)]
    assert bench_recovery.rows_of([bare] * 3, turns)[1].value == 3.0


@pytest.mark.parametrize(
    ("row", "verdict", "why"),
    [
        (Row("a", 10, "x"), "", "no bar"),
        (Row("a", 10, "x", bar=10), "ok", "at least, and just so"),
        (Row("a", 9.99, "x", bar=10), "short", "below"),
        (Row("a", 10, "x", bar=10, at_most=True), "ok", "at most, and just so"),
        (Row("a", 10.01, "x", bar=10, at_most=True), "short", "above"),
        (Row("a", 1e9, "x", ratio=0.34, bar=0.35), "short", "the ratio is judged, not the value"),
    ],
)
def test_a_row_is_judged_by_its_bar(row, verdict, why) -> None:
    assert row.verdict == verdict, why
    assert missed([row]) == ([row] if verdict == "short" else [])


def test_the_ratio_is_of_the_medians_of_turns() -> None:
    raw, worker = worker_rows("short", [100.0, 300.0, 200.0], [90.0, 10.0, 70.0])
    assert (raw.value, worker.value, worker.ratio, worker.verdict) == (200.0, 70.0, 0.35, "ok")
    assert (raw.note, worker.note) == ("100 to 300 in 3 runs", "10 to 90 in 3 runs")


def test_replay_is_judged_by_what_more_events_add() -> None:
    rate, memory = replay_rows("full", (5.0, 100e6), (8.0, 111e6), (100_000, 400_000))
    assert (rate.value, rate.verdict) == (100_000.0, "ok")
    assert (round(memory.value, 2), memory.verdict) == (1.11, "short")
    assert memory.note == "100 MB at 100,000, 111 MB at 400,000"


def test_the_table_shows_every_row_with_its_bar_and_verdict() -> None:
    rows = [Row("worker", 98_765.4, "events/CPU·s", 0.341, 0.35), Row("close", 23.4, "µs", bar=40, at_most=True)]
    out = StringIO()
    Console(width=200, file=out).print(table(Report("some traffic", rows)))
    text = out.getvalue()
    for words in ("some traffic", "98,765 events/CPU·s", "0.34", "≥ 0.35", "short", "23.4 µs", "≤ 40", "ok"):
        assert words in text


def test_the_longer_file_has_twice_the_events_of_the_shorter_and_neither_fills_a_disk() -> None:
    assert Plan(events=1_000).replayed == (4_000, 8_000)
    assert Plan(events=2_000_000).replayed == Plan().replayed == (1_600_000, 3_200_000)


@pytest.mark.parametrize("events", ["999", "2000001"])
def test_too_few_or_too_many_events_are_refused(events) -> None:
    result = CliRunner().invoke(command, ["--events", events])
    assert result.exit_code == 2
    assert "choose between 1,000 and 2,000,000" in result.output


def test_without_its_tools_the_bench_names_the_extra(monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "orjson" else found(name))
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 2
    assert "the bench needs orjson: pip install 'overdraw[dev,embedded]'" in result.output


@pytest.mark.parametrize("keys", ["99999", "2000001"])
def test_too_few_or_too_many_keys_to_recover_are_refused(keys) -> None:
    result = CliRunner().invoke(command, ["--recovery-keys", keys])
    assert result.exit_code == 2
    assert "choose between 100,000 and 2,000,000" in result.output


@pytest.mark.parametrize(
    ("options", "sizes"), [([], (100_000,)), (["--quick", "--recovery-keys", "1000000"], (100_000, 1_000_000))]
)
def test_a_hundred_thousand_keys_are_always_recovered(monkeypatch, options, sizes) -> None:
    plans = []

    async def run(self: Bench) -> Report:
        plans.append(self._plan)
        return Report("t", [])

    monkeypatch.setattr(Bench, "run", run)
    assert CliRunner().invoke(command, options).exit_code == 0
    assert [plan.recovered for plan in plans] == [sizes]


@pytest.mark.parametrize(
    ("options", "turns", "brief"),
    [
        ([], REPEATS, False),
        (["--quick"], 1, False),
        (["--quick", "--gate", "0.4"], REPEATS, True),
        (["--gate", "0.4", "--check"], REPEATS, False),
    ],
)
def test_one_turn_is_no_verdict_and_a_gate_measures_what_it_judges(monkeypatch, options, turns, brief) -> None:
    plans = []

    async def run(self: Bench) -> Report:
        plans.append(self._plan)
        return Report("t", [])

    monkeypatch.setattr(Bench, "run", run)
    assert CliRunner().invoke(command, options).exit_code == 0
    assert [(plan.repeats, plan.brief) for plan in plans] == [(turns, brief)]


@pytest.mark.parametrize(
    ("options", "code"), [([], 0), (["--check"], 1), (["--gate", "0.4"], 1), (["--gate", "0.5"], 0)]
)
def test_a_missed_bar_fails_only_when_it_is_to_be_checked(monkeypatch, options, code) -> None:
    async def run(self: Bench) -> Report:
        return Report("t", [Row("worker", 1.0, "events/CPU·s", 0.2, 0.35)])

    monkeypatch.setattr(Bench, "run", run)
    result = CliRunner().invoke(command, ["--json", *options])
    assert result.exit_code == code
    [row] = json.loads(result.stdout)["rows"]
    assert (row["verdict"], row["bound"]) == ("short", "at_least")


def test_the_gate_judges_no_row_that_depends_on_the_machine(monkeypatch) -> None:
    async def run(self: Bench) -> Report:
        return Report("t", [Row("replay", 1.0, "events/CPU·s", bar=100_000.0)])

    monkeypatch.setattr(Bench, "run", run)
    assert CliRunner().invoke(command, ["--gate", "0.4"]).exit_code == 0


def test_a_row_as_json_is_plain_data() -> None:
    row = replace(Row("a", 1.5, "µs"), bar=2.0, at_most=True).as_json()
    assert json.loads(json.dumps(row)) == row
    assert row["bound"] == "at_most"


def test_a_storm_is_as_many_incidents_as_there_are_keys_and_calm_is_none(monkeypatch, settings) -> None:
    monkeypatch.setattr(bench_storm, "REPEATS", 1)
    calm, storm = bench_storm.measure(settings, keys=20)
    assert calm.note.startswith("0 incidents, 0 alerts")
    assert "of calm; 20 incidents, " in storm.note
    assert storm.ratio == pytest.approx(storm.value / calm.value)
    assert storm.bar == bench_storm.LEAST_STORM_RATIO


def test_a_storm_is_measured_by_a_command_of_its_own(monkeypatch) -> None:
    rows = [Row("calm", 9.0, "records/CPU·s"), Row("storm", 3.0, "records/CPU·s", 0.33, 0.5)]
    monkeypatch.setattr(bench_storm, "measure", lambda *_, **__: rows)
    done = CliRunner().invoke(command, ["--storm", "--json", "--check"])
    assert done.exit_code == 1, "a bar is missed"
    assert [row["verdict"] for row in json.loads(done.stdout)["rows"]] == [None, "short"]
    assert "0.33" in CliRunner().invoke(command, ["--storm"]).output
