"""A shard on its way back: how its state is read, how far it is, and what others see of it meanwhile."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.state import SUMS
from stream.worker import acquire
from stream.worker.recovery import FEED_KEY, OWNER_KEY, SAMPLE_RECORDS, StateLog
from stream.worker.tools import EXIT_BAD_STATE
from tests.worker.fakes import T0, Bench, call, until
from tests.worker.test_web import Served

names = st.sampled_from([b"oa", b"ka", b"ob", b"\x00shard", OWNER_KEY, FEED_KEY])
writes = st.lists(st.tuples(names, st.one_of(st.none(), st.binary(max_size=5))), max_size=40)


@given(written=writes, cuts=st.lists(st.integers(0, 40), max_size=5))
def test_the_last_write_of_each_key_holds_however_the_log_is_cut(written: Any, cuts: list[int]) -> None:
    log = StateLog()
    places = sorted({0, len(written), *(min(cut, len(written)) for cut in cuts)})
    for begin, end in pairwise(places):
        log.take(written[begin:end])
    last = {key: value for key, value in dict(written).items() if value is not None}
    assert {**log.worker, **{key: value for key, value in log.states.items() if value is not None}} == last
    assert set(log.worker) <= {OWNER_KEY, FEED_KEY}
    assert not set(log.states) & {OWNER_KEY, FEED_KEY}
    assert log.records == len(written)
    assert log.bytes == sum(len(key) + len(value or b"") for key, value in written)


def test_what_is_taken_up_elsewhere_is_kept_only_there() -> None:
    taken: list[Any] = []
    log = StateLog(taken.extend)
    log.take([(b"oa", b"1"), (OWNER_KEY, b"me"), (b"ob", None)])
    assert taken == [(b"oa", b"1"), (b"ob", None)]
    assert (log.states, log.worker) == ({}, {OWNER_KEY: b"me"})


def test_the_sample_is_the_beginning_of_the_log_without_its_deletions() -> None:
    log = StateLog(lambda _: None)
    for number in range(2 * SAMPLE_RECORDS):
        log.take([(b"o%d" % number, None if number % 2 else b"x"), (OWNER_KEY, b"me")])
    assert log.sample == [(b"o%d" % (2 * number), b"x") for number in range(SAMPLE_RECORDS)]


def test_an_empty_log_is_read_at_once_and_says_so_without_dividing_by_nothing() -> None:
    assert StateLog().share == 0.0
    assert str(StateLog(begin=10, reached=20, end=20)) == "100 % of 10 offsets"
    assert str(StateLog(begin=0, reached=493_830, end=1_234_567)) == "40 % of 1,234,567 offsets"


class Slow:
    """Reads as `Bench` does, but halts on its way until it is let go."""

    def __init__(self, bench: Bench) -> None:
        self.go = asyncio.Event()
        self.reached = asyncio.Event()
        self._real = bench.kafka.read
        object.__setattr__(bench.tools, "read", self.read)

    async def read(self, settings: Any, partition: int, log: StateLog, *, stable: bool = False) -> StateLog:
        log.begin, log.reached, log.end = 0, 493_830, 1_234_567
        log.take([(OWNER_KEY, b"half")])
        self.reached.set()
        await self.go.wait()
        log.begin = log.reached = 0
        return await self._real(settings, partition, log, stable=stable)


async def test_a_worker_that_recovers_says_how_far_it_is() -> None:
    served = Served()
    slow = Slow(served)
    await served.web.start()
    try:
        served.group.mine = {0, 1}
        served.shards.on_assigned([0, 1])
        await until(lambda: len(served.shards.reading) == 2)
        _, answer = await served.json("/readyz")
        assert answer["reasons"] == [
            "partition 0 is being recovered: 40 % of 1,234,567 offsets",
            "partition 1 is being recovered: 40 % of 1,234,567 offsets",
        ]
        _, status = await served.json("/api/status")
        assert status["recovering"][0] == {
            "partition": 0, "share": 0.4, "offsets": 1_234_567, "records": 1, "bytes": len(OWNER_KEY) + 4,
        }  # fmt: skip
        slow.go.set()
        await until(lambda: all(served.shards.ready(p) for p in (0, 1)))
        assert await served.json("/readyz") == (200, {"ready": True, "reasons": []})
        assert (await served.json("/api/status"))[1]["recovering"] == []
    finally:
        await served.web.stop()


async def test_a_recovery_that_is_no_longer_wanted_is_told_of_no_more() -> None:
    bench = Bench()
    slow = Slow(bench)
    bench.group.mine = {0}
    bench.shards.on_assigned([0])
    await slow.reached.wait()
    assert list(bench.shards.reading) == [0]
    await bench.shards.on_revoked()
    await until(lambda: not bench.shards.reading)
    assert bench.shards.ready(0) is None


async def test_the_log_tells_of_a_long_recovery_now_and_then_and_of_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    await bench.assign(0)
    for number in range(9):
        await bench.take(bench.kafka.feed([call(f"e{number}", T0, key_id=f"key-{number}")]))
    await bench.flush()
    total = len(bench.kafka.state[0])
    size = sum(len(key) + len(value or b"") for key, value in bench.kafka.state[0])
    caplog.set_level("INFO")
    await Bench(bench.kafka).assign(0)
    assert "recovering" not in caplog.text, "a short one is not worth a line"
    monkeypatch.setattr(acquire, "PROGRESS_SECONDS", -1.0)
    await Bench(bench.kafka).assign(0)
    told = [record.message for record in caplog.records if "recovering" in record.message]
    assert told[0].startswith(f"partition 0: recovering: 0 % of {total} offsets, ")
    assert len(told) == -(-total // bench.kafka.slice_records)
    ends = [record.message for record in caplog.records if "live at offset" in record.message]
    assert "with 9 keys, after" in ends[-1]
    assert f"({total} records, {size / 1e6:.1f} MB read, epoch " in ends[-1]


async def test_a_state_that_is_damaged_somewhere_in_the_middle_ends_the_process_and_writes_nothing() -> None:
    bench = Bench()
    await bench.assign(0)
    for number in range(9):
        await bench.take(bench.kafka.feed([call(f"e{number}", T0, key_id=f"key-{number}")]))
    await bench.flush()
    name = next(key for key, _ in bench.kafka.state[0][4:] if key[:1] == SUMS)
    bench.kafka.state[0].append((name, b"\x01 damaged"))
    before = list(bench.kafka.state[0])
    heir = Bench(bench.kafka)
    heir.group.mine = {0}
    heir.shards.on_assigned([0])
    await until(lambda: bool(heir.deaths))
    assert heir.deaths[0][0] == EXIT_BAD_STATE
    assert "damaged" in heir.deaths[0][1]
    assert bench.kafka.state[0] == before
    assert heir.shards.ready(0) is None


async def test_the_size_of_the_state_is_estimated_from_what_was_read() -> None:
    bench = Bench()
    await bench.assign(0)
    for number in range(20):
        await bench.take(bench.kafka.feed([call(f"e{number}", T0, key_id=f"key-{number}")]))
    await bench.flush()
    size = sum(len(key) + len(value or b"") for key, value in bench.kafka.state[0] if key[:1] in (b"o", b"k"))
    heir = Bench(bench.kafka)
    await heir.assign(0)
    assert size * 0.5 < heir.shards.live[0].state_bytes < size * 2
