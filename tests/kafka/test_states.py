"""States that cannot be used and logs that have lost something, with real workers on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from stream.core.state import SHARD_KEY, VERSION, ShardRecord, pack_shard
from stream.lab.chaos.topics import records_of
from stream.lab.chaos.verdict import said_of, undisturbed
from stream.settings import Settings
from stream.worker.fitting import misfit
from stream.worker.recovery import WORKER_KEYS
from stream.worker.topics import create_topics
from tests.kafka.workers import (
    Start,
    Worker,
    admin,
    applied_to_the_end,
    dumped,
    eventually,
    feed,
    sums,
    traffic,
)

ANEW = "is not the topic that was read before"
EVENTS = traffic(keys=6, attacked=(0, 1))


@pytest.fixture
def two(settings: Settings) -> Settings:
    """Two partitions, hourly buckets, and small attacks that count."""
    changes = {
        "bucket_seconds": 3600,
        "min_excess_tokens": 1000.0,
        "flush_seconds": 0.2,
        "session_timeout_seconds": 6.0,
    }
    return settings.model_copy(update=changes)


async def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """Markers included."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.broker, isolation_level="read_uncommitted")
    await consumer.start()
    try:
        found = await consumer.end_offsets([TopicPartition(topic, p) for p in range(settings.partitions)])
        return {tp.partition: offset for tp, offset in found.items()}
    finally:
        await consumer.stop()


async def delete_records(settings: Settings, before: dict[int, int]) -> None:
    """What retention does: the source begins at these offsets."""
    async with admin(settings.broker) as client:
        await client.delete_records(
            {TopicPartition(settings.source_topic, p): RecordsToDelete(offset) for p, offset in before.items()}
        )


async def alerts_of(settings: Settings) -> list[Any]:
    return [json.loads(record.value) for record in await records_of(settings, settings.alert_topic)]


async def feed_alerts(settings: Settings) -> list[Any]:
    return [alert for alert in await alerts_of(settings) if alert["kind"] == "feed"]


def skipped(worker: Worker, cause: str) -> float:
    with urlopen(f"{worker.url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    name = f'overdraw_skipped_offsets_total{{cause="{cause}"}}'
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


async def run_over(settings: Settings, start: Start, events: list[tuple[str, bytes]]) -> None:
    """One run of a worker over these events, ended in peace."""
    worker = start(settings).wait_ready()
    await feed(settings, events)
    await applied_to_the_end(settings, [worker])
    assert (await asyncio.to_thread(worker.end))[0] == 0, worker.said()


def refused(worker: Worker) -> str:
    """The one line with which a worker ends that cannot start."""
    assert worker.process.wait(60) == 2, worker.said()
    (line,) = [line for line in worker.said().splitlines() if "CRITICAL" in line or line.startswith("Error: ")]
    assert "Traceback" not in worker.said()
    return line


async def test_a_newer_state_on_one_partition_is_refused_and_not_one_record_is_written_there(
    two: Settings, start: Start
) -> None:
    await create_topics(two)
    await run_over(two, start, EVENTS[:400])
    records = [r for r in await records_of(two, two.state_topic) if r.partition == 1 and r.key == SHARD_KEY]
    newer = msgspec.msgpack.encode({**msgspec.msgpack.decode(records[-1].value), "version": VERSION + 1})
    producer = AIOKafkaProducer(bootstrap_servers=two.broker)
    await producer.start()
    await producer.send_and_wait(two.state_topic, newer, SHARD_KEY, partition=1)
    await producer.stop()
    before = await end_offsets(two, two.state_topic)
    line = await asyncio.to_thread(refused, start(two))
    assert "partition 1" in line
    assert f"state version {VERSION + 1}, this one reads up to {VERSION}" in line
    assert (await end_offsets(two, two.state_topic))[1] == before[1]


async def test_another_bucket_length_is_refused_and_rebuilt_under_kill_9_with_nothing_said_twice(
    two: Settings, start: Start
) -> None:
    await create_topics(two)
    await run_over(two, start, EVENTS)
    before = await alerts_of(two)
    assert sorted(map(said_of, before), key=str) == (await undisturbed(two))[0]
    assert before
    other = two.model_copy(update={"bucket_seconds": 1800})
    state = await end_offsets(two, two.state_topic)
    line = await asyncio.to_thread(refused, start(other))
    assert "bucket_seconds=3600, and now it is bucket_seconds=1800" in line
    assert await end_offsets(two, two.state_topic) == state

    for wanted in ("rebuilt from offset 0", "live at offset"):
        worker = start(other, "--rebuild")
        await asyncio.to_thread(eventually, lambda w=worker, text=wanted: text in w.said(), 30, wanted)
        worker.kill()
    worker = start(other, "--rebuild").wait_ready()
    more = traffic(keys=6, attacked=(), seed=4)
    later = [
        (key_id, json.dumps({**json.loads(value), "time": json.loads(value)["time"] + 10 * 86_400}).encode())
        for key_id, value in more[:500]
    ]
    await feed(other, later)
    await applied_to_the_end(other, [worker])
    assert (await asyncio.to_thread(worker.end))[0] == 0, worker.said()
    assert dumped(other) == sums([*EVENTS, *later])
    after = await alerts_of(other)
    assert [a for a in after if a not in before and a["status"] != "resolved"] == []
    assert max(Counter((a["alert_id"], a["sequence"]) for a in after).values()) == 1
    opened, resolved = ({a["alert_id"] for a in before if a["status"] == status} for status in ("opened", "resolved"))
    closed = {a["alert_id"] for a in after if a not in before}
    assert closed == opened - resolved, "what was open still is closed, as the alert topic says it"
    turns = Counter((a["alert_id"], a["status"]) for a in after if a["status"] != "updated")
    assert turns == {(a["alert_id"], status): 1 for a in after for status in ("opened", "resolved")}, "each once"


async def test_a_worker_of_other_settings_is_refused_before_it_takes_anything_from_those_that_run(
    two: Settings, start: Start
) -> None:
    await create_topics(two)
    good = start(two).wait_ready()
    await feed(two, EVENTS[:400])
    await applied_to_the_end(two, [good])
    assigned = good.said().count("assigned partitions")
    bad = start(two.model_copy(update={"bucket_seconds": 600}), instance="worker-1")
    line = await asyncio.to_thread(refused, bad)
    assert line.startswith("Error: partition ")
    assert f" of {two.state_topic}: the state was made with bucket_seconds=3600, and now it is " in line
    assert "assigned" not in bad.said()
    await feed(two, EVENTS[400:500])
    await applied_to_the_end(two, [good])
    assert good.said().count("assigned partitions") == assigned == 1, "the group did not even rebalance"
    assert len(good.partitions()) == 2


async def test_only_where_no_state_that_is_found_fits_a_worker_is_refused_at_the_start(two: Settings) -> None:
    await create_topics(two)
    producer = AIOKafkaProducer(bootstrap_servers=two.broker, transactional_id=f"{two.app_id}-elsewhere")
    await producer.start()

    async def write(partition: int, record: ShardRecord | None, *, abort: bool = False) -> None:
        await producer.begin_transaction()
        value = None if record is None else pack_shard(record)
        await producer.send(two.state_topic, b"an older owner", WORKER_KEYS + b"owner", partition=partition)
        await producer.send(two.state_topic, value, SHARD_KEY, partition=partition)
        await (producer.abort_transaction() if abort else producer.commit_transaction())

    def made(settings: Settings, version: int = VERSION) -> ShardRecord:
        return ShardRecord(
            version, settings.state_digest, -1, None, None, 0, 0, settings=settings.state_settings, keys=0
        )

    other = two.model_copy(update={"bucket_seconds": 600})
    more = two.model_copy(update={"partitions": 4})
    try:
        assert await misfit(two) is None, "an empty topic"
        await write(1, made(two))
        assert await misfit(two) is None
        assert "bucket_seconds=3600, and now it is bucket_seconds=600" in (await misfit(other) or "")
        await write(1, made(more))
        said = await misfit(two) or ""
        assert said.startswith(f"partition 1 of {two.state_topic}: ")
        assert "with partitions=4, and now it is partitions=2" in said
        await write(1, made(two, VERSION + 1))
        assert f"state version {VERSION + 1}, this one reads up to {VERSION}" in (await misfit(two) or "")
        await write(0, made(two), abort=True)
        assert await misfit(two), "what was never committed does not count"
        await write(0, made(two))
        assert await misfit(two) is None, "an upgrade is under way: each is judged at its takeover"
        await write(0, None)
        await write(1, None)
        assert await misfit(two) is None, "a rebuild has deleted them"
    finally:
        await producer.stop()


async def test_what_retention_takes_is_counted_exactly_and_the_worker_ends_with_3(two: Settings, start: Start) -> None:
    await create_topics(two)
    await run_over(two, start, EVENTS[:400])
    applied = await end_offsets(two, two.source_topic)
    await feed(two, EVENTS[400:800])
    await delete_records(two, {0: applied[0] + 30})
    worker = start(two).wait_ready()
    assert skipped(worker, "deleted") == 30
    await applied_to_the_end(two, [worker])

    worker.process.send_signal(signal.SIGSTOP)
    await feed(two, EVENTS[800:1200])
    ends = await end_offsets(two, two.source_topic)
    await delete_records(two, {partition: end - 10 for partition, end in ends.items()})
    worker.process.send_signal(signal.SIGCONT)
    await applied_to_the_end(two, [worker])
    lost = skipped(worker, "deleted")
    assert lost > 30, "a fetch that was under way has brought only its first batch"
    code, _ = await asyncio.to_thread(worker.end)
    assert code == 3, worker.said()
    assert "exit 3, for a log has lost records" in worker.said()
    alerts = await feed_alerts(two)
    assert {alert["entity"]["id"] for alert in alerts} == {"0", "1"}
    total = sum(calls for calls, _, _ in dumped(two).values())
    assert total + lost == 1200, "none of them was taken for a marker, as the evidence topic has some"


async def test_a_source_that_is_deleted_ends_the_worker_and_made_anew_it_is_read_from_its_start(
    two: Settings, start: Start
) -> None:
    await create_topics(two)
    first = EVENTS[:600]
    worker = start(two).wait_ready()
    await feed(two, first)
    await applied_to_the_end(two, [worker])
    async with admin(two.broker) as client:
        await client.delete_topics([two.source_topic])
    assert await asyncio.to_thread(worker.process.wait, 30) == 3, worker.said()
    assert f"the topic {two.source_topic} was deleted" in worker.said()
    assert "Traceback" not in worker.said()
    assert {alert["entity"]["id"] for alert in await feed_alerts(two)} == {"0", "1"}

    await create_topics(two)
    second = EVENTS[600:2000]  # more than before: the offsets alone would not tell
    await feed(two, second)
    worker = start(two).wait_ready()
    await applied_to_the_end(two, [worker])
    assert worker.said().count(ANEW) == 2

    third = EVENTS[2000:2100]
    async with admin(two.broker) as client:
        await client.delete_topics([two.source_topic])
    await create_topics(two)
    await feed(two, third)
    await asyncio.to_thread(eventually, lambda: worker.said().count(ANEW) == 4, 30, "found on both partitions")
    await asyncio.to_thread(eventually, lambda: len(worker.partitions()) == 2, 30, "both again")
    await applied_to_the_end(two, [worker])
    assert (await asyncio.to_thread(worker.end))[0] == 3, worker.said()
    assert "Traceback" not in worker.said()
    assert dumped(two) == sums([*first, *second, *third])
    alerts = await feed_alerts(two)
    assert max(Counter((a["alert_id"], a["sequence"]) for a in alerts).values()) == 1


async def test_a_state_topic_that_is_deleted_under_a_worker_is_never_taken_for_a_beginning(
    two: Settings, start: Start
) -> None:
    await create_topics(two)
    events = EVENTS[:600]
    worker = start(two).wait_ready()
    await feed(two, events)
    await applied_to_the_end(two, [worker])
    async with admin(two.broker) as client:
        await client.delete_topics([two.state_topic])
    assert await asyncio.to_thread(worker.process.wait, 30) == 3, worker.said()
    assert f"the topic {two.state_topic} was deleted" in worker.said()
    await create_topics(two)
    worker = start(two, "--rebuild").wait_ready()
    assert worker.said().count("rebuilt from offset 0") == 2
    await applied_to_the_end(two, [worker])
    assert (await asyncio.to_thread(worker.end))[0] == 0, worker.said()
    assert dumped(two) == sums(events)
