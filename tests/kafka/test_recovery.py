"""Recovery on a real broker: only what is committed, all of it, however the log is compacted meanwhile."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.settings import Settings
from stream.worker import recovery
from stream.worker.journal import Journal
from stream.worker.recovery import OWNER_KEY, StateLog, read_state
from stream.worker.topics import create_topics
from tests.kafka.test_worker import assert_exact
from tests.kafka.workers import Worker, applied_to_the_end, feed, sums, traffic

COMPACTED_AT_ONCE = {
    "cleanup.policy": "compact",
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1",
    "delete.retention.ms": "100",
    "file.delete.delay.ms": "0",
}
"""Segments are closed, compacted and deleted while they are being read; markers vanish soon after."""
COMPACTION_SECONDS = 40.0
READS_OF_HOLES = 10
QUIET_KEYS = 301

Begin = Callable[[], Awaitable[Journal]]


@pytest.fixture
async def begin(settings: Settings) -> Any:
    """Opens journals of partition 0, each of which fences the one before; all are closed in the end."""
    journals: list[Journal] = []

    async def open_one() -> Journal:
        journals.append(Journal(settings, 0))
        await journals[-1].open()
        return journals[-1]

    yield open_one
    for journal in journals:
        await journal.close()


async def write(journal: Journal, settings: Settings, **values: bytes | None) -> None:
    await journal.write({settings.state_topic: [(name.encode(), value, ()) for name, value in values.items()]})


async def leave_open(journal: Journal, settings: Settings, **values: bytes) -> None:
    """Write what is on the broker and never committed, as an owner does that is killed in mid-transaction."""
    producer = journal._producer
    await producer.begin_transaction()
    for name, value in values.items():
        await producer.send_and_wait(settings.state_topic, value, key=name.encode(), partition=0)


def kept(log: StateLog) -> dict[bytes, bytes]:
    return {key: value for key, value in log.states.items() if value is not None}


async def test_the_last_committed_write_of_each_key_is_read_and_nothing_else(settings: Settings, begin: Begin) -> None:
    await create_topics(settings)
    first = await begin()
    await write(first, settings, oa=b"1", ob=b"2", oc=b"3")
    await first.write({settings.state_topic: [(OWNER_KEY, b"first", ())]})
    await write(first, settings, oa=b"4", ob=None)
    await leave_open(first, settings, oa=b"never", od=b"never")
    second = await begin()
    await write(second, settings, oc=b"5", oe=b"")
    log = await read_state(settings, 0)
    assert kept(log) == {b"oa": b"4", b"oc": b"5", b"oe": b""}
    assert log.worker == {OWNER_KEY: b"first"}
    assert (log.begin, log.reached) == (0, log.end)
    assert log.records == 8
    assert log.bytes == len("oa1 ob2 oc3 oa4 ob oc5 oe".replace(" ", "")) + len(OWNER_KEY) + len("first")
    assert (log.source_start, log.source_end) == (0, 0)


async def test_a_log_that_ends_in_what_was_never_committed_is_read_to_its_end(settings: Settings, begin: Begin) -> None:
    await create_topics(settings)
    first = await begin()
    await write(first, settings, oa=b"1")
    await leave_open(first, settings, oa=b"never")
    stable = await read_state(settings, 0, stable=True)
    assert kept(stable) == {b"oa": b"1"}, "a look without a fence ends before the open transaction"
    await begin()
    log = await read_state(settings, 0)
    assert kept(log) == {b"oa": b"1"}
    assert log.end > stable.end, "the fence has aborted it, and its marker is behind it"
    assert log.reached == log.end


async def test_a_partition_without_a_record_is_read_at_once(settings: Settings) -> None:
    await create_topics(settings)
    log = await read_state(settings, 1)
    assert (kept(log), log.worker, log.records, log.end) == ({}, {}, 0, 0)


async def test_a_log_that_never_comes_to_its_end_is_given_up_with_the_place(
    settings: Settings, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a fence an open transaction hides what is behind it until it times out."""
    await create_topics(settings)
    await leave_open(await begin(), settings, oa=b"never")
    monkeypatch.setattr(recovery, "STALL_SECONDS", 0.5)
    with pytest.raises(TimeoutError, match="at offset 0 of 1"):
        await read_state(settings, 0)


async def test_others_have_their_turn_between_any_two_slices(
    settings: Settings, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_topics(settings)
    journal = await begin()
    await write(journal, settings, **{f"o{number}": b"x" * 100 for number in range(2000)})
    monkeypatch.setattr(recovery, "SLICE_RECORDS", 50)
    turns: list[str] = []

    async def other() -> None:
        while True:
            turns.append("other")
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    log = await read_state(settings, 0, StateLog(lambda records: turns.append(f"{len(records)} records")))
    beside.cancel()
    slices = [place for place, turn in enumerate(turns) if turn == "50 records"]
    assert len(slices) == 2000 / 50
    assert all("other" in turns[a:b] for a, b in pairwise(slices))
    assert (log.states, log.records) == ({}, 2000)


async def test_a_log_that_is_compacted_while_it_is_read_gives_the_last_write_of_every_key(
    settings: Settings, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads take many fetches, and the segments under them are replaced: positions jump over holes, nothing is lost."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(settings.state_topic, 2, 1, topic_configs=COMPACTED_AT_ONCE)])
    finally:
        await admin.close()
    await create_topics(settings)
    monkeypatch.setattr(recovery, "FETCH_BYTES", 16 << 10)
    rnd = random.Random(7)
    journal = await begin()
    written: dict[bytes, bytes] = {}

    async def write_on() -> None:
        for _ in range(15):
            batch = {b"o%d" % name: rnd.randbytes(300) for name in rnd.sample(range(400), 60)}
            await journal.write({settings.state_topic: [(name, value, ()) for name, value in batch.items()]})
            written.update(batch)
            await asyncio.sleep(0.02)

    compacted = 0
    async with asyncio.timeout(COMPACTION_SECONDS):
        while compacted < READS_OF_HOLES:
            await write_on()
            for _ in range(8):
                log = await read_state(settings, 0)
                assert kept(log) == written
                assert log.reached >= log.end
                compacted += log.records < 0.5 * (log.end - log.begin)


async def test_a_look_without_a_fence_also_takes_what_was_written_while_it_read(
    settings: Settings, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its predecessor may have been compacted away by then, and only one of an earlier time been read."""
    await create_topics(settings)
    journal = await begin()
    await write(journal, settings, oa=b"1", ob=b"2")
    real, passes = recovery._read_to_end, 0

    async def read_to_end(*arguments: Any) -> None:
        nonlocal passes
        await real(*arguments)
        passes += 1
        if passes == 1:
            await write(journal, settings, oa=b"3")
            while (await read_state(settings, 0, stable=True)).states[b"oa"] != b"3":  # noqa: ASYNC110 - the broker's
                await asyncio.sleep(0.01)

    monkeypatch.setattr(recovery, "_read_to_end", read_to_end)
    assert kept(await read_state(settings, 0, stable=True)) == {b"oa": b"3", b"ob": b"2"}


async def test_a_killed_worker_closes_the_buckets_of_keys_that_never_come_back(
    settings: Settings, tmp_path: Path
) -> None:
    """Hundreds of keys that are seen every few days: after a restart their buckets close while they are packed."""
    chosen = settings.model_copy(update={"bucket_seconds": 3600, "min_excess_tokens": 1000.0, "flush_seconds": 0.2})
    await create_topics(chosen)
    events = [
        (f"quiet-{n % QUIET_KEYS}", re.sub(b'"key-\\d+"', b'"quiet-%d"' % (n % QUIET_KEYS), value))
        if n % 2
        else (key, value)
        for n, (key, value) in enumerate(traffic())
    ]
    worker = Worker(chosen, tmp_path)
    try:
        for begin in range(0, len(events), 3500):
            await feed(chosen, events[begin : begin + 3500])
            await applied_to_the_end(chosen, [worker])
            await asyncio.to_thread(worker.kill)
            worker = Worker(chosen, tmp_path)
        await applied_to_the_end(chosen, [worker])
        known = re.findall(r"live at offset \d+ with (\d+) keys", worker.said())
        assert sum(map(int, known)) == len(sums(events))
        code, _ = await asyncio.to_thread(worker.end)
    finally:
        worker.kill()
    assert code == 0, worker.said()
    await assert_exact(chosen, events)
