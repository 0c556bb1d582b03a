"""What happens when more comes in than can be written: bounds, and that nothing is lost by them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.worker import deadletters, live
from stream.worker.agents import SLICE_RECORDS
from tests.worker.fakes import T0, Bench, call, until

CHUNK = 20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_UNFLUSHED", 50)


class Reading(Bench):
    """A bench with Kafka's side of the intake: fetches a chunk where a partition is not paused."""

    def unread(self, partition: int) -> bool:
        return partition not in self.group.paused and self.group.position[partition] < self.kafka.end(partition)

    async def fetch(self, partition: int, size: int = CHUNK) -> None:
        if self.unread(partition):
            begin = self.group.position[partition]
            chunk = self.kafka.source[partition][begin : begin + size]
            self.group.position[partition] = chunk[-1].offset + 1
            await self.take(chunk, begin)

    def fill(self, partition: int, count: int) -> None:
        self.kafka.feed([call(f"{partition}-{i}", T0) for i in range(count)], partition)


@pytest.mark.usefixtures("small")
async def test_a_partition_whose_writing_stalls_is_paused_while_the_others_go_on() -> None:
    bench = Reading(partitions=2)
    await bench.assign(0, 1)
    bench.fill(0, 200)
    bench.fill(1, 200)
    stalled = bench.shards.live[0]
    async with stalled.flushing:
        while bench.unread(0) or bench.unread(1):
            await bench.fetch(0)
            await bench.fetch(1)
            await bench.flush(1)
            await until(lambda: not bench.shards.live[1].held)
        assert stalled.held
        assert bench.group.paused == {0}
        assert 50 < bench.calls(partition=0) == stalled.unflushed <= 50 + CHUNK
        assert bench.calls(partition=1) == 200
    while bench.calls(partition=0) < 200:
        await bench.flush(0)
        await until(lambda: not bench.shards.live[0].held)
        await bench.fetch(0)
    assert bench.calls(partition=0) == 200


@pytest.mark.usefixtures("small")
async def test_chunks_that_were_fetched_before_the_pause_are_read_again() -> None:
    bench = Reading()
    await bench.assign(0)
    bench.fill(0, 200)
    chunks = [bench.kafka.source[0][begin : begin + CHUNK] for begin in range(0, 200, CHUNK)]
    async with bench.shards.live[0].flushing:
        for chunk in chunks:
            await bench.take(chunk, chunk[0].offset)
        applied = bench.calls()
        assert 50 < applied <= 50 + CHUNK
        assert bench.group.paused == {0}
    await bench.flush()
    await until(lambda: not bench.shards.live[0].held)
    assert bench.group.asked[-2:] == [("seek", 0, applied), ("resume", 0)]


@pytest.mark.usefixtures("small")
async def test_faust_that_resumes_a_held_partition_is_put_right() -> None:
    bench = Reading()
    await bench.assign(0)
    bench.fill(0, 200)
    async with bench.shards.live[0].flushing:
        while not bench.shards.live[0].held:
            await bench.fetch(0)
        bench.group.paused.clear()
        before = bench.calls()
        await bench.fetch(0)
        assert (bench.calls(), bench.group.paused) == (before, {0})


@pytest.mark.usefixtures("small")
async def test_a_held_shard_that_is_assigned_anew_reads_on() -> None:
    bench = Reading()
    await bench.assign(0)
    bench.fill(0, 200)
    async with bench.shards.live[0].flushing:
        while not bench.shards.live[0].held:
            await bench.fetch(0)
    await bench.shards.on_revoked()
    await bench.assign(0)
    assert bench.group.paused == set()
    while bench.calls() < 200:
        await bench.fetch(0)
        await bench.flush()
        await until(lambda: not bench.shards.live[0].held)


async def test_a_flood_of_garbage_is_written_in_transactions_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FLUSH_BYTES", 20_000)
    bench = Bench()
    await bench.assign(0)
    sizes: list[int] = []
    journal = bench.shards.live[0].journal
    real = journal.write

    async def write(batches: object) -> None:
        letters = batches.get(bench.settings.dead_letter_topic, ())  # type: ignore[attr-defined]
        sizes.append(sum(len(value) for _, value, _ in letters))
        await real(batches)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "write", write)
    chunk = bench.kafka.feed([b"{"] * (10 * SLICE_RECORDS))
    await bench.take(chunk)
    await bench.flush()
    letters = bench.kafka.topics[bench.settings.dead_letter_topic]
    one_slice = SLICE_RECORDS * max(len(value) for _, value, _ in letters)
    assert len(letters) == len(chunk)
    assert len(sizes) >= 5
    assert max(sizes) <= 20_000 + 2 * one_slice


async def test_garbage_that_cannot_be_written_holds_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_OWED_BYTES", 20_000)
    bench = Reading()
    await bench.assign(0)
    bench.kafka.feed([b"{"] * 1000)
    async with bench.shards.live[0].flushing:
        for _ in range(50):
            await bench.fetch(0)
        shard = bench.shards.live[0]
        assert bench.group.paused == {0}
        assert 20_000 < shard.owed_bytes < 20_000 + CHUNK * 1000
    await bench.flush()
    await until(lambda: not bench.shards.live[0].held)
    assert shard.owed_bytes == 0


async def test_an_array_of_garbage_counts_whole_and_has_a_bounded_number_of_letters() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([json.dumps([0] * 5000).encode(), b"{", json.dumps([0] * 3).encode()]))
    await bench.flush()
    letters = [json.loads(value) for _, value, _ in bench.kafka.topics[bench.settings.dead_letter_topic]]
    assert Counter(letter["offset"] for letter in letters) == {0: deadletters.MAX_LETTERS, 1: 1, 2: 3}
    assert [letter["further"] for letter in letters if letter["further"]] == [5000 - deadletters.MAX_LETTERS]
    assert bench.observer.counts["dead"] == 5004


async def test_of_several_large_flushes_one_is_packed_and_written_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(partitions=3)
    await bench.assign(0, 1, 2)
    for partition in (0, 1, 2):
        await bench.take(bench.kafka.feed([call(f"{partition}-{i}", T0, f"k{i}") for i in range(20)], partition))
        await bench.flush(partition)  # so that the size of a key's record is known
        await bench.take(bench.kafka.feed([call(f"{partition}+{i}", T0, f"k{i}") for i in range(20)], partition))
    under_way, most = 0, 0

    def watched(real: Any) -> Any:
        async def write(batches: object) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            await real(batches)
            under_way -= 1

        return write

    for shard in bench.shards.live.values():
        monkeypatch.setattr(shard.journal, "write", watched(shard.journal.write))
    monkeypatch.setattr(live, "LARGE_BYTES", 1000)
    assert await asyncio.gather(*(bench.flush(partition) for partition in (0, 1, 2))) == [True] * 3
    assert most == 1


STEPS = st.lists(
    st.tuples(st.sampled_from(["fetch", "fetch", "fetch", "flush", "stall", "go", "fail", "faust"]), st.integers(0, 1)),
    max_size=60,
)


@pytest.mark.slow
@given(STEPS)
def test_whatever_stalls_and_fails_memory_is_bounded_and_every_record_counts_once(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        bench = Reading(partitions=2)
        await bench.assign(0, 1)
        total = 120
        for partition in (0, 1):
            bench.fill(partition, total)
        for step, partition in steps:
            shard = bench.shards.live.get(partition)
            if step == "fetch":
                await bench.fetch(partition)
            elif step == "flush" and shard is not None and not bench.kafka.hang:
                await bench.flush(partition)
            elif step == "stall":
                bench.kafka.hang = True
            elif step == "go":
                bench.kafka.hang = False
            elif step == "fail":
                bench.kafka.fail_next.append(OSError("gone"))
            elif step == "faust":
                bench.group.paused.discard(partition)
            await asyncio.sleep(0)
            for kept in bench.shards.live.values():
                assert kept.unflushed <= live.MAX_UNFLUSHED + CHUNK
        bench.kafka.hang = False
        bench.kafka.fail_next.clear()
        async with asyncio.timeout(20):
            while not all(bench.shards.ready(p) and bench.calls(partition=p) == total for p in (0, 1)):
                for partition in (0, 1):
                    await bench.fetch(partition)
                    if bench.shards.ready(partition):
                        await bench.flush(partition)
                    await asyncio.sleep(0.002)
        for partition in (0, 1):
            await bench.flush(partition)
        for partition in (0, 1):
            state = await bench.kafka.read(bench.settings, partition)
            core = bench.tools.core(partition)
            core.load(list(state.states.items()))
            view = core.key("k")
            assert view is not None
            assert view.calls == total

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "MAX_UNFLUSHED", 50)
        patch.setattr("stream.worker.logs.REPEAT_SECONDS", 0.0)
        asyncio.run(run())
