from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stream.worker import agents
from stream.worker.agents import SLICE_RECORDS, slices
from stream.worker.transport import split
from tests.worker.fakes import T0, Bench, Event, call, records, until


async def test_a_chunk_for_a_shard_that_is_not_live_is_left_to_be_read_again() -> None:
    bench = Bench()
    event = await bench.take(records([call("a", T0)]))
    assert event.acked
    await bench.assign(0)
    assert bench.shards.next_offset(0) == 0


async def test_a_chunk_ahead_of_the_next_offset_makes_one_seek_and_is_not_applied() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(records([call("z", T0)], start=40))
    await bench.take(records([call("y", T0)], start=41))
    await until(lambda: bench.group.asked.count(("seek", 0, 0)) == 2)  # one at the takeover, one for the hole
    assert bench.calls() == 0
    await bench.take(records([call("a", T0)]), begin=0)
    assert bench.calls() == 1


async def test_a_hole_that_the_log_confirms_is_accepted_and_counted() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(records([call("a", T0)], start=3), begin=0)
    assert bench.calls() == 1
    await bench.flush()
    assert (bench.observer.counts["holed"], bench.observer.counts["gap"], bench.losses) == (3, 0, [])


async def test_a_hole_that_retention_made_is_told_as_a_gap_with_what_lies_behind_it() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    bench.kafka.source_start[0] = 8
    await bench.take(records([call("b", T0)], start=8), begin=1)
    assert bench.observer.counts["gap"] == 0
    await bench.flush()
    assert (bench.observer.counts["gap"], bench.observer.counts["holed"]) == (7, 0)
    alerts = [json.loads(value) for _, value, _ in bench.kafka.topics[bench.settings.alert_topic]]
    assert [(alert["kind"], alert["observed"]) for alert in alerts] == [("feed", 7)]
    assert "7 offsets were deleted" in bench.losses[0]


async def test_what_retention_took_after_a_hole_of_markers_counts_at_most_as_much_as_the_hole() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    await bench.take(records([call("b", T0)], start=4), begin=1)
    await bench.take(records([call("c", T0)], start=8), begin=5)
    bench.kafka.source_start[0] = 7
    await bench.flush()
    assert (bench.observer.counts["gap"], bench.observer.counts["holed"]) == (5, 1)


async def test_a_hole_among_what_is_read_again_is_no_loss() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call(f"e{i}", T0) for i in range(10)]))
    await bench.flush()
    other = Bench(bench.kafka)
    await other.assign(0)
    bench.kafka.source_start[0] = 4
    await other.take(bench.kafka.source[0][4:], begin=0)
    await other.take(bench.kafka.feed([call("new", T0)]))
    await other.flush()
    assert (other.calls(), other.observer.counts["gap"]) == (11, 0)


async def test_a_hole_that_lies_wholly_in_what_is_read_again_is_not_looked_into() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call(f"e{i}", T0) for i in range(10)]))
    await bench.flush()
    other = Bench(bench.kafka)
    await other.assign(0)
    log = bench.kafka.source[0]
    await other.take(log[:3], begin=0)
    await other.take(log[4:8], begin=3)
    assert other.shards.live[0].holes == []
    assert await other.flush()
    await other.take([*log[9:], *bench.kafka.feed([call("new", T0)])], begin=8)
    assert await other.flush()
    assert (other.calls(), other.observer.counts["holed"], other.observer.counts["gap"]) == (11, 0, 0)


async def test_a_hole_that_nobody_can_look_into_is_not_passed_over_in_silence() -> None:
    bench = Bench()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    await bench.flush()

    async def start(partition: int) -> int:
        raise OSError("no broker")

    real, bench.group.start = bench.group.start, start  # type: ignore[method-assign]
    bench.kafka.feed([call("lost", T0)] * 7)
    await bench.take(bench.kafka.feed([call("b", T0)]), begin=1)
    assert not await bench.flush()
    bench.kafka.source_start[0] = 8
    bench.group.start = real  # type: ignore[method-assign]
    await until(lambda: bench.shards.ready(0) is not None)
    assert bench.observer.counts["gap"] == 7


async def test_the_holes_that_transactions_leave_are_looked_at_together() -> None:
    bench = Bench()
    await bench.assign(0)
    asked = 0

    async def start(partition: int) -> int:
        nonlocal asked
        asked += 1
        return 0

    bench.group.start = start  # type: ignore[method-assign]
    assert await bench.flush(), "else the first records would be written by themselves"
    for number in range(20):
        await bench.take(records([call(f"e{number}", T0)], start=2 * number + 1), begin=2 * number)
    assert await bench.flush()
    assert bench.calls() == 20
    assert bench.observer.counts["holed"] == 20
    assert asked == 1
    assert bench.observer.counts["gap"] == 0


async def test_of_several_holes_only_what_retention_took_is_a_gap() -> None:
    bench = Bench()
    await bench.assign(0)
    bench.kafka.source_start[0] = 3
    for begin, first in ((0, 2), (3, 4)):
        await bench.take(records([call(f"e{first}", T0)], start=first), begin=begin)
    assert await bench.flush()
    assert (bench.observer.counts["gap"], bench.observer.counts["holed"]) == (2, 1)


async def test_a_flush_amid_what_is_only_read_again_keeps_count_of_what_is_not_written() -> None:
    bench = Bench()
    await bench.assign(0)
    chunk = bench.kafka.feed([call(f"e{i}", T0) for i in range(3 * SLICE_RECORDS)])
    await bench.take(chunk)
    await bench.flush()
    other = Bench(bench.kafka)
    await other.assign(0)
    await other.flush()  # its owner's record
    shard = other.shards.live[0]
    taking = asyncio.create_task(other.intake.take(Event(0, chunk, 0)))
    while not shard.unflushed:  # noqa: ASYNC110 - the moment between two slices is short
        await asyncio.sleep(0)
    assert shard.unflushed < len(chunk)
    await other.flush()
    await taking
    await other.flush()
    assert shard.unflushed == 0


async def test_a_large_chunk_lets_others_have_their_turn_between_slices() -> None:
    bench = Bench()
    await bench.assign(0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    await bench.take(bench.kafka.feed([call(f"e{i}", T0) for i in range(5 * agents.SLICE_RECORDS)]))
    other.cancel()
    assert turns >= 5
    assert bench.calls() == 5 * agents.SLICE_RECORDS


async def test_a_shard_that_is_revoked_amid_a_chunk_takes_no_more_of_it() -> None:
    bench = Bench()
    await bench.assign(0)
    chunk = bench.kafka.feed([call(f"e{i}", T0) for i in range(4 * agents.SLICE_RECORDS)])
    event = Event(0, chunk)
    taking = asyncio.create_task(bench.intake.take(event))
    await asyncio.sleep(0)
    await bench.shards.on_revoked()
    await taking
    shard = bench.shards.live[0]
    assert shard.committed + 1 == shard.sequencer.next == bench.calls() < len(chunk)
    await bench.assign(0)
    await bench.take(chunk)
    assert bench.calls() == len(chunk)


async def test_a_failure_of_the_core_drops_the_shard_and_never_escapes(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.assign(0)
    shard = bench.shards.live[0]

    def observe(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    shard.core.observe = observe  # type: ignore[method-assign]
    event = await bench.take(bench.kafka.feed([call("a", T0)]))
    assert event.acked
    assert shard.broken
    assert "ZeroDivisionError: a defect" in caplog.text
    await until(lambda: bench.shards.ready(0) is not None)


async def test_an_event_is_in_the_future_by_its_own_records_timestamp() -> None:
    bench = Bench()
    await bench.assign(0)
    assert await bench.flush(), "else the first records are written at once"
    old = bench.kafka.feed([call("ok", T0 + 299), call("future", T0 + 301)], timestamp=T0)
    await bench.take(old)
    shard = bench.shards.live[0]
    assert bench.calls() == 1
    assert shard._pending.reasons == ["future"]


async def test_without_a_timestamp_the_wall_clock_decides_what_is_in_the_future() -> None:
    bench = Bench()
    bench.clock.now = T0 + 1000
    await bench.assign(0)
    chunk = [r._replace(timestamp=None) for r in records([call("ok", T0 + 1299), call("future", T0 + 1301)])]
    await bench.take(chunk)
    assert bench.calls() == 1


def test_slices_begin_at_the_first_record_that_is_due() -> None:
    parts = list(slices(records([b""] * 10), 4, size=4))
    assert [[record.offset for record in part] for part in parts] == [[4, 5, 6, 7], [8, 9]]


def test_chunks_of_one_fetch_begin_where_their_predecessor_ended() -> None:
    batch = [r for r in records([b""] * 9) if r.offset not in (0, 4)]
    assert [(chunk.begin, chunk[0].offset, len(chunk)) for chunk in split(batch, 0, size=3)] == [
        (0, 1, 3),
        (4, 5, 3),
        (8, 8, 1),
    ]
