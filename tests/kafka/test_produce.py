"""Simulated calls into a real Kafka: on their key's partition, in order, all of them, at the pace that was said."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from click.testing import CliRunner

from stream.broker import EmbeddedKafka
from stream.cli.simulate import command
from stream.lab.produce import ProduceError, Producer, produce
from stream.lab.simulate import simulate
from stream.lab.simulate_output import records
from stream.partition import partition_of
from stream.settings import Settings


async def create(settings: Settings, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    await admin.create_topics([NewTopic(settings.source_topic, partitions, 1)])
    async with asyncio.timeout(20):
        while settings.source_topic not in await admin.list_topics():  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
    await admin.close()


async def read(settings: Settings, count: int) -> dict[int, list[tuple[str, bytes]]]:
    found: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.broker, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(settings.source_topic, p) for p in range(settings.partitions)])
        deadline = time.monotonic() + 30
        while sum(map(len, found.values())) < count and time.monotonic() < deadline:
            for where, messages in (await consumer.getmany(timeout_ms=500, max_records=5000)).items():
                found[where.partition] += [(m.key.decode(), m.value) for m in messages]
    finally:
        await consumer.stop()
    return found


async def test_every_record_is_on_its_keys_partition_and_in_order(settings: Settings) -> None:
    await create(settings, 2)
    run = simulate("surge", seed=1, keys=30, days=1, rate=0.2)
    sent = [record for hour in run for record in records(hour)]
    steps: list[int] = []
    assert await produce(settings, (records(hour) for hour in run), sent=steps.append) == len(sent) == sum(steps)
    found = await read(settings, len(sent))
    expected: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    for _, key, value in sent:
        expected[partition_of(key, 2)].append((key, value))
    assert dict(found) == dict(expected)


async def test_a_pace_is_kept(settings: Settings) -> None:
    await create(settings, 2)
    window = [(100.0 + i, f"k{i}", b"{}") for i in range(11)]
    begin = time.monotonic()
    assert await produce(settings, [window[:4], [], window[4:]], speed=10) == 11
    assert 1.0 <= time.monotonic() - begin < 6.0
    assert sum(map(len, (await read(settings, 11)).values())) == 11


async def test_a_missing_topic_is_not_made_but_named(settings: Settings) -> None:
    for _ in range(2):
        with pytest.raises(ProduceError, match=f"no topic {settings.source_topic}.*overdraw topics create"):
            await produce(settings, [])


async def test_another_number_of_partitions_is_refused_with_both_numbers(settings: Settings) -> None:
    await create(settings, 3)
    with pytest.raises(ProduceError, match="has 3 partitions, the setting partitions is 2"):
        await produce(settings, [])


async def test_a_record_longer_than_the_broker_takes_is_an_error_and_not_silence(settings: Settings) -> None:
    await create(settings, 2)
    assert await produce(settings, [[(1.0, "k", b"x"), (1.0, "k", b"x" * 700_000), (1.0, "k", b"x")]]) == 3
    with pytest.raises(ProduceError, match="longer than the broker takes"):
        await produce(settings, [[(1.0, "k", b"x" * 2_000_000)]])


async def test_a_producer_whose_broker_has_gone_leaves_no_task_behind(fragile: tuple[EmbeddedKafka, Settings]) -> None:
    broker, settings = fragile
    await create(settings, settings.partitions)
    before = asyncio.all_tasks()
    with suppress(ProduceError):
        async with Producer(settings, patience_seconds=1.0) as producer:
            broker.kill()
            await producer.send([(1.0, "k", b"{}")])
            await producer.flush()
    assert asyncio.all_tasks() == before


def test_the_command_sends_and_writes_labels(settings: Settings, tmp_path: Path) -> None:
    asyncio.run(create(settings, 2))
    labels = tmp_path / "labels.jsonl"
    args = ["--scenario", "surge", "--keys", "10", "--days", "0.5", "--rate", "0.1", "--to", "kafka", "--labels"]
    args += [str(labels), "--set", f"broker={settings.broker}", "--set", f"source_topic={settings.source_topic}"]
    result = CliRunner().invoke(command, [*args, "--set", "partitions=2"])
    assert result.exit_code == 0, result.output
    count = int(result.output.split()[0].replace(",", ""))
    found = asyncio.run(read(settings, count))
    calls = [json.loads(value) for part in found.values() for _, value in part]
    assert len(calls) == count > 1000
    assert time.time() - 43_200 - 60 <= min(call["time"] for call in calls)
    assert max(call["time"] for call in calls) <= time.time()
    assert [json.loads(line)["family"] for line in labels.read_text().splitlines()] == ["surge", "surge"]
