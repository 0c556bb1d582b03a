from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from stream.core.state import SHARD_KEY
from stream.settings import Settings
from stream.worker import rebuild
from stream.worker.monitor import (
    ASK_ANEW_SECONDS,
    BROKER_SILENT_SECONDS,
    LAST_CHANCE_SECONDS,
    REFUSAL_SECONDS,
    STUCK_SECONDS,
    TAKEOVER_SECONDS,
    UNASSIGNED_SECONDS,
)
from stream.worker.recovery import StateLog
from stream.worker.tools import EXIT_STUCK
from tests.worker.fakes import T0, FakeJournal, Watched, call, until

PATIENCE = STUCK_SECONDS + LAST_CHANCE_SECONDS


def codes(bench: Watched) -> set[int]:
    return {code for code, _ in bench.deaths}


async def behind(**changes: Any) -> Watched:
    """A worker with one live shard, and a record that nobody applies: the agent, the fetcher or the thread is dead."""
    bench = Watched(**changes)
    await bench.assign(0)
    bench.kafka.feed([call("a", T0)])
    await bench.look(2)
    return bench


async def test_lag_without_progress_is_not_ready_and_then_ends_the_process() -> None:
    bench = await behind()
    assert bench.monitor.unready() == []
    await bench.look(STUCK_SECONDS + 1)
    assert "no progress" in bench.monitor.unready()[0]
    assert bench.deaths == []
    await bench.look(LAST_CHANCE_SECONDS)
    assert codes(bench) == {EXIT_STUCK}


async def test_a_shard_that_works_off_a_backlog_is_not_stuck() -> None:
    bench = Watched()
    await bench.assign(0)
    backlog = bench.kafka.feed([call(f"e{i}", T0) for i in range(100)])
    for record in backlog[:10]:
        await bench.take([record])
        await bench.flush()
        await bench.look(30)
    assert bench.deaths == []


async def test_a_worker_with_nothing_to_do_is_never_stuck() -> None:
    bench = Watched()
    await bench.assign(0)
    await bench.look(10 * PATIENCE)
    assert (bench.deaths, bench.monitor.unready()) == ([], [])


async def test_a_shard_that_fails_in_circles_is_stuck_however_busy_it_is() -> None:
    bench = Watched()
    await bench.assign(0)
    bench.kafka.feed([call(f"e{i}", T0) for i in range(10)])
    for _ in range(20):
        bench.kafka.fail_next.append(OSError("message too large"))
        await bench.take(bench.kafka.source[0])
        await bench.look(5)
        await bench.flush()
        await bench.look(5)
        await bench.assign(0)
    assert codes(bench) == {EXIT_STUCK}


async def test_one_partition_that_hangs_among_others_that_go_on_is_found() -> None:
    bench = Watched(partitions=2)
    await bench.assign(0, 1)
    bench.kafka.feed([call("a", T0)], partition=1)
    for number in range(int(PATIENCE) + 3):
        await bench.take(bench.kafka.feed([call(f"e{number}", T0)]))
        await bench.flush()
        await bench.look()
    assert codes(bench) == {EXIT_STUCK}
    assert "partition 1" in bench.deaths[0][1]


async def test_a_flush_that_hangs_is_a_lack_of_progress() -> None:
    bench = Watched()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    bench.kafka.hang = True
    flush = asyncio.create_task(bench.flush())
    await bench.look(PATIENCE + 3)
    assert codes(bench) == {EXIT_STUCK}
    bench.kafka.hang = False
    assert await flush


async def hangs(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("step", ["is_member", "open", "seek", "read"])
async def test_a_takeover_that_hangs_for_ever_ends_the_process(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Watched()
    if step == "open":
        monkeypatch.setattr("tests.worker.fakes.FakeJournal.open", hangs)
    elif step == "read":
        object.__setattr__(bench.tools, "read", hangs)
    else:
        monkeypatch.setattr(bench.group, step, hangs)
    bench.kafka.feed([call("a", T0)])
    bench.group.mine = {0}
    bench.shards.on_assigned([0])
    await asyncio.sleep(0.02)
    await bench.look(TAKEOVER_SECONDS - 5)
    assert bench.deaths == []
    assert bench.monitor.unready()[0] == "partition 0 is being recovered"
    await bench.look(10)
    assert codes(bench) == {EXIT_STUCK}
    await bench.shards.on_revoked()


async def test_a_recovery_that_takes_many_minutes_may_as_long_as_it_gets_further() -> None:
    bench = Watched()
    begun: list[StateLog] = []

    async def read(settings: Settings, partition: int, log: StateLog, **_: Any) -> StateLog:
        begun.append(log)
        return await hangs()  # type: ignore[no-any-return]

    object.__setattr__(bench.tools, "read", read)
    bench.kafka.feed([call("a", T0)])
    bench.group.mine = {0}
    bench.shards.on_assigned([0])
    await until(lambda: bool(begun))
    for _ in range(10):
        begun[0].reached += 1000
        await bench.look(TAKEOVER_SECONDS - 5)
    assert bench.deaths == []
    begun[0].reached -= 5000  # read again after a failure: as far as this it has been before
    await bench.look(10)
    assert codes(bench) == {EXIT_STUCK}
    await bench.shards.on_revoked()


async def test_a_rebuild_that_takes_many_minutes_may_as_long_as_it_reads_or_deletes_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = Watched()
    await first.assign(0)
    await first.take(first.kafka.feed([call(name, T0, key_id=name) for name in "abcde"]))
    assert await first.flush()
    first.kafka.state[0].append((SHARD_KEY, b"damaged"))
    bench = Watched(first.kafka, rebuild=True)
    go = {"state": asyncio.Event(), "rebuild": asyncio.Event(), "deletion": asyncio.Event()}
    go["state"].set()
    begun: list[StateLog] = []
    turns = asyncio.Semaphore(0)
    write = FakeJournal.write

    async def read(settings: Settings, partition: int, log: StateLog, **_: Any) -> StateLog:
        begun.append(log)
        await go[log.purpose].wait()
        log.reached = 0
        return await bench.kafka.read(settings, partition, log)

    async def in_turn(journal: FakeJournal, *batches: Any) -> None:
        await turns.acquire()
        await write(journal, *batches)

    object.__setattr__(bench.tools, "read", read)
    monkeypatch.setattr(FakeJournal, "write", in_turn)
    monkeypatch.setattr(rebuild, "CHUNK_RECORDS", 1)
    bench.group.mine = {0}
    bench.shards.on_assigned([0])
    for purpose in ("rebuild", "deletion"):
        await until(lambda purpose=purpose: bool(begun) and begun[-1].purpose == purpose)  # type: ignore[misc]
        for _ in range(3):
            begun[-1].reached += 1
            await bench.look(TAKEOVER_SECONDS - 5)
        go[purpose].set()
        turns.release()
    for deleted in range(1, 5):
        await until(lambda deleted=deleted: begun[-1].deleted == deleted)  # type: ignore[misc]
        await bench.look(TAKEOVER_SECONDS - 5)
        turns.release()
    await until(lambda: begun[-1].deleted == 5)
    await bench.look(TAKEOVER_SECONDS - 5)
    assert bench.deaths == []
    await bench.look(10)
    assert codes(bench) == {EXIT_STUCK}, "it does not get further"
    await bench.shards.on_revoked()


async def test_a_worker_that_the_group_no_longer_knows_does_not_wait_for_ever() -> None:
    bench = await behind()
    bench.group.member = False
    bench.shards.drop(bench.shards.live[0], "fenced")
    await bench.look(TAKEOVER_SECONDS + 3)
    assert codes(bench) == {EXIT_STUCK}
    bench.group.mine = set()
    await bench.shards.on_revoked()


# ---------------------------------------------------------------------- the group


async def test_a_group_that_never_assigns_ends_the_process() -> None:
    bench = Watched()
    await bench.look(UNASSIGNED_SECONDS - 1)
    assert bench.deaths == []
    await bench.look(3)
    assert codes(bench) == {EXIT_STUCK}


async def test_a_slow_rebalance_is_not_counted_as_a_lack_of_progress() -> None:
    bench = await behind()
    await bench.look(STUCK_SECONDS - 5)
    await bench.shards.on_revoked()
    await bench.look(STUCK_SECONDS)
    await bench.assign(0)
    await bench.look(5)
    assert bench.deaths == []


async def test_a_group_that_rebalances_again_and_again_without_any_progress_is_stuck() -> None:
    bench = await behind()
    for _ in range(10):
        await bench.shards.on_revoked()
        await bench.look(20)
        await bench.assign(0)
        await bench.look(5)
    assert codes(bench) == {EXIT_STUCK}


async def test_rebalances_with_progress_between_them_are_a_worker_at_work() -> None:
    bench = Watched()
    await bench.assign(0)
    for number in range(20):
        await bench.shards.on_revoked()
        await bench.look(20)
        await bench.assign(0)
        await bench.take(bench.kafka.feed([call(f"e{number}", T0)]))
        await bench.flush()
        await bench.look(2)
    assert bench.deaths == []


async def test_ready_means_assigned_and_recovered() -> None:
    bench = Watched(partitions=2)
    assert "no partitions are assigned yet" in bench.monitor.unready()[0]
    await bench.assign(0)
    assert bench.monitor.unready() == []
    bench.shards.assigned = {0, 1}
    assert bench.monitor.unready() == ["partition 1 is being recovered"]
    bench.shards.assigned = set()
    assert bench.monitor.unready() == [], "a worker in reserve is ready"


# ---------------------------------------------------------------------- the broker


async def test_a_broker_that_is_away_for_hours_makes_unready_but_never_stuck(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = await behind()
    bench.group.silent = True
    caplog.set_level(logging.INFO)
    caplog.clear()
    for _ in range(600):
        bench.pass_time(11)
        await bench.monitor.look_once()
    assert "broker has not answered" in bench.monitor.unready()[0]
    assert bench.deaths == []
    bench.group.silent = False
    await bench.look(20)
    assert bench.deaths == []
    assert [record.message.split(" (")[0].split(",")[0] for record in caplog.records] == [
        "the broker does not answer",
        "the broker answers again",
    ]


async def test_a_broker_that_no_longer_accepts_the_password_is_said_to_and_not_at_every_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = await behind()
    bench.group.silent = True
    bench.refused = "Kafka at kafka:9093 does not accept user overdraw with this password: look at kafka_username"
    await bench.look(ASK_ANEW_SECONDS + 4 * REFUSAL_SECONDS - 1)
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert said == [f"{bench.refused}; this worker waits, and a new one would not start"] * 4
    assert bench.deaths == []
    bench.refused, bench.group.silent = None, False
    await bench.look()
    assert "the broker answers again" in caplog.text


async def test_a_consumer_that_is_not_there_yet_is_no_broker_that_was_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Watched()
    bench.group.silent = True
    await bench.look(3)
    bench.group.silent = False
    await bench.assign(0)
    await bench.look()
    assert "broker" not in caplog.text


async def test_a_short_failure_keeps_the_worker_ready() -> None:
    bench = Watched()
    await bench.assign(0)
    await bench.look()
    bench.group.silent = True
    await bench.look(BROKER_SILENT_SECONDS - 5)
    assert bench.monitor.unready() == []


async def test_a_broker_that_comes_and_goes_does_not_hide_a_worker_that_is_stuck() -> None:
    bench = await behind()
    for _ in range(20):
        bench.group.silent = True
        await bench.look(40)
        bench.group.silent = False
        await bench.look(20)
    assert codes(bench) == {EXIT_STUCK}


async def test_a_consumer_that_gets_no_answer_where_others_do_is_dead() -> None:
    bench = await behind()
    bench.group.silent = True
    bench.others_ends = {0: 1}
    await bench.look(ASK_ANEW_SECONDS + PATIENCE - 3)
    assert bench.deaths == []
    await bench.look(8)
    assert codes(bench) == {EXIT_STUCK}


async def test_a_consumer_that_cannot_tell_its_ends_but_reads_on_is_left_alone_and_ready() -> None:
    bench = Watched()
    await bench.assign(0)
    bench.group.silent = True
    for number in range(100):
        await bench.take(bench.kafka.feed([call(f"e{number}", T0)]))
        await bench.flush()
        bench.others_ends = {0: bench.kafka.end(0)}
        await bench.look(3)
    assert (bench.deaths, bench.monitor.unready()) == ([], [])


async def test_a_consumer_that_never_comes_up_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Watched()

    async def nothing() -> dict[int, int]:
        return {}

    monkeypatch.setattr(bench.group, "ends", nothing)
    bench.others_ends = {0: 0}
    await bench.look(ASK_ANEW_SECONDS + UNASSIGNED_SECONDS + 3)
    assert codes(bench) == {EXIT_STUCK}


async def test_a_process_that_was_suspended_for_an_hour_is_not_stuck_when_it_wakes_up() -> None:
    bench = await behind()
    bench.pass_time(3600)
    await bench.monitor.look_once()
    assert bench.deaths == []
    await until(lambda: bench.shards.ready(0) is not None)
    await bench.take(bench.kafka.source[0])
    await bench.flush()
    await bench.look(PATIENCE)
    assert (bench.deaths, bench.monitor.unready()) == ([], [])
