"""Several embedded brokers, the older release, and a disk without room: what is acknowledged stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.broker import EmbeddedCluster
from stream.settings import Settings
from stream.worker.cluster import cluster

TOPIC = TopicPartition("copied", 0)


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


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
        assert (lost.bootstrap, lost.death()) == (where, None)
        await until_in_step(where, {1, 2, 3})
        await asyncio.to_thread(kafka.nodes[2].stop)
        await send(kafka.bootstrap, b"the other two")
        cluster_id = kafka.cluster_id
    with EmbeddedCluster(data_dir=tmp_path / "data") as kafka:
        assert kafka.cluster_id == cluster_id
        assert await read(kafka.bootstrap) == [b"all three", b"two of three", b"the other two"]
