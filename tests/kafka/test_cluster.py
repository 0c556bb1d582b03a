"""Several embedded brokers, the older release, and a disk without room: what is acknowledged stays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from stream.broker import BrokerError, EmbeddedCluster, EmbeddedKafka
from stream.embedded.server import serves
from stream.settings import Settings
from stream.worker.cluster import cluster
from tests.kafka.test_broker import broker_command
from tests.kafka.workers import admin

TOPIC = TopicPartition("copied", 0)


async def create_topic(bootstrap: str, copies: int) -> None:
    async with admin(bootstrap) as client:
        answer = await client.create_topics([NewTopic(TOPIC.topic, 1, copies)])
        assert answer.topic_errors[0][1] == 0


async def send(bootstrap: str, *values: bytes) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=30_000
    ) as producer:
        for value in values:
            await producer.send_and_wait(TOPIC.topic, value, partition=0)


async def read(bootstrap: str) -> list[bytes]:
    """Everything that the topic holds."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer, asyncio.timeout(30):
        consumer.assign([TOPIC])
        await consumer.seek_to_beginning()
        end = (await consumer.end_offsets([TOPIC]))[TOPIC]
        values: list[bytes] = []
        while await consumer.position(TOPIC) < end:
            values.append((await consumer.getone()).value)
        return values


async def in_step(bootstrap: str) -> set[int]:
    """The nodes whose copy of the topic is complete."""
    async with admin(bootstrap) as client:
        (topic,) = await client.describe_topics([TOPIC.topic])
        return set(topic["partitions"][0]["isr"])


async def until_in_step(bootstrap: str, wanted: set[int]) -> None:
    deadline = time.monotonic() + 40
    while (found := await in_step(bootstrap)) != wanted:
        assert time.monotonic() < deadline, f"{found} instead of {wanted}"
        await asyncio.sleep(0.1)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_three_brokers_go_on_without_one_and_it_catches_up(tmp_path: Path) -> None:
    with EmbeddedCluster(data_dir=tmp_path / "data") as kafka:
        assert len(kafka.bootstrap.split(",")) == 3
        async with cluster(Settings(broker=kafka.bootstrap)) as facts:
            assert await facts.brokers() == 3
        await create_topic(kafka.bootstrap, 3)
        await send(kafka.bootstrap, b"all three")
        await until_in_step(kafka.bootstrap, {1, 2, 3})
        lost = kafka.nodes[0]
        where = lost.bootstrap
        lost.kill()
        assert "signal 9" in str(lost.death())
        await send(kafka.bootstrap, b"two of three")
        await until_in_step(kafka.nodes[1].bootstrap, {2, 3})
        await asyncio.to_thread(lost.start)
        assert (lost.bootstrap, lost.death(), kafka.death()) == (where, None, None)
        await until_in_step(where, {1, 2, 3})
        await asyncio.to_thread(kafka.nodes[2].stop)
        await send(kafka.bootstrap, b"the other two")
        cluster_id = kafka.cluster_id
        kafka.kill()
        assert kafka.death() is not None
    with EmbeddedCluster(data_dir=tmp_path / "data") as kafka:
        assert kafka.cluster_id == cluster_id
        assert await read(kafka.bootstrap) == [b"all three", b"two of three", b"the other two"]


@pytest.mark.parametrize(
    ("version", "room", "said"),
    [
        pytest.param("4.1.1", 0, "", id="at once"),
        pytest.param("3.9.2", 50_000, "File too large", id="when a segment has grown, on the older release"),
    ],
)
async def test_a_broker_whose_disk_is_full_ends_and_keeps_all_that_it_acknowledged(
    version: str, room: int, said: str
) -> None:
    with EmbeddedKafka(version=version) as kafka:
        (node,) = kafka.nodes
        async with cluster(Settings(broker=kafka.bootstrap)) as facts:
            assert await facts.release() == version.rpartition(".")[0]
        await create_topic(kafka.bootstrap, 1)
        acknowledged: list[bytes] = []
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True)
        await producer.start()

        async def produce() -> None:
            while True:
                value = b"%0100d" % len(acknowledged)
                await producer.send_and_wait(TOPIC.topic, value, partition=0)
                acknowledged.append(value)

        producing = asyncio.create_task(produce())
        await until(lambda: len(acknowledged) > 100)
        node.fill_disk(room)
        await until(lambda: node.pid is None)
        assert "ended with code 1" in str(node.death())
        assert said in str(node.death())
        before = len(acknowledged)
        await asyncio.to_thread(node.start)
        await until(lambda: len(acknowledged) > before + 100)
        producing.cancel()
        await asyncio.gather(producing, return_exceptions=True)
        await producer.stop()
        kept = await read(kafka.bootstrap)
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1, "one that was on its way"


def test_only_a_broker_that_runs_can_find_its_disk_full() -> None:
    with pytest.raises(BrokerError, match=r"does not run: start\(\) it first"):
        EmbeddedKafka().nodes[0].fill_disk()


def test_the_command_runs_several_brokers_until_most_are_gone() -> None:
    with broker_command("--nodes", "3", "--kafka", "3.9.2", "--port", "0", "--json") as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        ports = [int(where.rpartition(":")[2]) for where in facts["ready"].split(",")]
        assert [serves(port) for port in ports] == [True, True, True]
        assert facts["kafka"] == "3.9.2"
        assert len(facts["pids"]) == 3
        os.kill(facts["pids"][2], signal.SIGKILL)
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert f"node 3 at 127.0.0.1:{ports[2]} has ended; the others go on\n" in lines
        assert [serves(port) for port in ports] == [True, True, False]
        os.kill(facts["pids"][0], signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 3
    assert errors.count("ended with signal 9") == 2
    assert "Traceback" not in errors
    assert not Path(facts["data"]).exists()
