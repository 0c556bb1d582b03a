"""A topic that is not keyed by key id, through real workers and a real Kafka: each record counts once."""

from __future__ import annotations

import asyncio
import json
import random
import time
from urllib.request import urlopen

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from stream.lab.chaos.topics import records_of
from stream.lab.chaos.verdict import said_of, undisturbed
from stream.partition import partition_of
from stream.settings import Settings, load_settings
from stream.worker.cluster import cluster
from stream.worker.journal import INTAKE, Journal
from stream.worker.places import Place, Places
from stream.worker.topics import create_topics
from tests.kafka.workers import (
    Start,
    Worker,
    all_passed,
    dumped,
    eventually,
    overdraw,
    sums,
    traffic,
)

BAD = [b'{"broken', b'{"event_id": "x", "time": 1, "key_id": "k"}', b"\xff\xfe", b"[7]"]


@pytest.fixture
def unkeyed(settings: Settings) -> Settings:
    """Four source partitions, six of the intake, hourly buckets, and small attacks that count."""
    changes = {
        "partitions": 4,
        "bucket_seconds": 3600,
        "allowed_lateness_seconds": 6 * 3600.0,
        "min_excess_tokens": 1000.0,
        "flush_seconds": 0.2,
        "session_timeout_seconds": 6.0,
        "intake_topic": f"{settings.app_id}-raw",
    }
    return load_settings({**settings.model_dump(exclude={"web_token"}), **changes}, environ={})


async def make_topics(settings: Settings, intake_partitions: int) -> None:
    """All topics; the intake's with a number of partitions of its own."""
    async with cluster(settings) as kafka:
        error, words = await kafka.create(settings.intake_topic or "", intake_partitions, 1, {})
        assert error == 0, words
    await create_topics(settings)


def mixed(events: list[tuple[str, bytes]], rnd: random.Random) -> list[bytes]:
    """The values of events, some in arrays, bad records among them; unknown fields hold what nobody must see again."""
    values, rest = [], [value[:-1] + b', "prompt": "a secret", "client_ip": "192.0.2.77"}' for _, value in events]
    while rest:
        count = rnd.choice((1, 1, 1, 3, 7))
        part, rest = rest[:count], rest[count:]
        values.append(part[0] if count == 1 else b"[" + b", ".join(part) + b"]")
        if rnd.random() < 0.02:
            values.append(rnd.choice(BAD))
    return values


async def pour(settings: Settings, values: list[bytes], partitions: int, per_second: float, rnd: random.Random) -> None:
    """Produce values to the intake topic, each to any partition."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.broker, enable_idempotence=True, linger_ms=5)
    await producer.start()
    begun, sent = asyncio.get_running_loop().time(), 0
    try:
        for first in range(0, len(values), 50):
            batch = values[first : first + 50]
            waiting = [
                await producer.send(settings.intake_topic, value, partition=rnd.randrange(partitions))
                for value in batch
            ]
            await asyncio.gather(*waiting)
            sent += len(batch)
            if per_second:
                await asyncio.sleep(max(0.0, begun + sent / per_second - asyncio.get_running_loop().time()))
    finally:
        await producer.stop()


async def test_an_unkeyed_topic_is_counted_exactly_while_workers_are_killed(unkeyed: Settings, start: Start) -> None:
    rnd = random.Random(11)
    events = traffic()
    values = mixed(events, rnd)
    await make_topics(unkeyed, 6)
    workers = [start(unkeyed), start(unkeyed, instance="worker-1")]
    pouring = asyncio.create_task(pour(unkeyed, values, 6, 500, rnd))
    for victim in (0, 1, 0):
        await asyncio.to_thread(workers[victim].wait_ready)
        await asyncio.sleep(rnd.uniform(0.1, 1.0))
        workers[victim].kill()
        workers[victim] = start(unkeyed, instance=f"worker-{victim}")
    await pouring
    await all_passed(unkeyed, workers, 6)
    assert dumped(unkeyed) == sums(events)
    letters = [json.loads(record.value) for record in await records_of(unkeyed, unkeyed.dead_letter_topic)]
    places = [(letter["topic"], letter["partition"], letter["offset"], letter["element"]) for letter in letters]
    assert len(places) == len(set(places)), "each dead letter once"
    assert {topic for topic, *_ in places} == {unkeyed.intake_topic}
    bad = sum(value in BAD for value in values)
    assert len(letters) == bad
    source = await records_of(unkeyed, unkeyed.source_topic)
    assert not any(b"secret" in record.value or b"192.0.2.77" in record.value for record in source)
    expected = (await undisturbed(unkeyed))[0]
    assert expected
    said = [json.loads(record.value) for record in await records_of(unkeyed, unkeyed.alert_topic)]
    assert sorted((said_of(alert) for alert in said if alert["kind"] != "feed"), key=str) == expected
    assert all("Traceback" not in worker.said() for worker in workers)


def scrape(worker: Worker) -> str:
    with urlopen(f"{worker.url}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def reset_offsets(settings: Settings, partitions: int) -> None:
    """What an operator may do: set the group's offsets of the intake topic back to the beginning."""
    # in a transaction, for a plain commit is refused until the last member has left the group
    journal = Journal(settings, 0, "operator")
    await journal.open()
    try:
        await journal.write({}, {(settings.intake_topic or "", partition): (0, "") for partition in range(partitions)})
    finally:
        await journal.close()


async def test_offsets_that_were_reset_count_nothing_twice(unkeyed: Settings, start: Start) -> None:
    rnd = random.Random(5)
    events = traffic()[:1500]
    first, more = mixed(events[:1000], rnd), mixed(events[1000:], rnd)
    await make_topics(unkeyed, 3)
    worker = start(unkeyed)
    await pour(unkeyed, first, 3, 0, rnd)
    await all_passed(unkeyed, [worker], 3)
    assert worker.end()[0] == 0, worker.said()
    passed = len(await records_of(unkeyed, unkeyed.source_topic))
    assert passed == 1000
    await reset_offsets(unkeyed, 3)
    again = start(unkeyed)
    await pour(unkeyed, more, 3, 0, rnd)
    await all_passed(unkeyed, [again], 3)
    assert len(await records_of(unkeyed, unkeyed.source_topic)) == 2000 + 500, "all of it was written again"
    assert dumped(unkeyed) == sums(events)
    text = await asyncio.to_thread(scrape, again)
    assert 'overdraw_events_total{outcome="duplicate"} 1000.0' in text
    assert 'overdraw_intake_records_total{outcome="passed"} 1500.0' in text
    # the ends are looked at once a second
    caught_up = 'overdraw_intake_lag_events{partition="0"} 0.0'
    await asyncio.to_thread(eventually, lambda: caught_up in scrape(again), 30, "the lag is known to be over")
    assert again.end()[0] == 0, again.said()


async def test_what_a_gateway_aborts_never_counts_and_what_it_hides_is_not_late(
    unkeyed: Settings, start: Start
) -> None:
    keyed = unkeyed.model_copy(update={"intake_topic": None, "bucket_seconds": 10, "allowed_lateness_seconds": 0.0})
    await create_topics(keyed)
    gateway = AIOKafkaProducer(bootstrap_servers=keyed.broker, transactional_id=f"{keyed.app_id}-gateway")
    await gateway.start()
    moment = time.time() // 10 * 10 - 301.0  # a second before a bucket ends
    home = partition_of("k", keyed.partitions)

    async def send(producer: AIOKafkaProducer, name: str, at: float) -> None:
        event = {"event_id": name, "time": at, "key_id": "k", "input_tokens": 1, "output_tokens": 1}
        await producer.send_and_wait(keyed.source_topic, json.dumps(event).encode(), partition=home)

    worker = start(keyed).wait_ready()
    async with gateway.transaction():
        await send(gateway, "committed", moment)
    await gateway.begin_transaction()
    await send(gateway, "aborted", moment + 100)
    await gateway.abort_transaction()
    await asyncio.to_thread(eventually, lambda: (worker.get("/api/keys/k") or {}).get("calls") == 1, 20)
    await gateway.begin_transaction()
    await send(gateway, "hidden", moment + 0.1)
    async with AIOKafkaProducer(bootstrap_servers=keyed.broker) as other:
        await send(other, "behind it", moment + 0.2)

    def lag() -> int:
        return (worker.partitions().get(home) or {}).get("lag") or 0

    await asyncio.to_thread(eventually, lambda: lag() == 2, 20, "the lag says that something is hidden")
    assert worker.get("/api/keys/k")["calls"] == 1
    await asyncio.sleep(8)  # an idle shard would have closed its bucket by now, 5 s and a second behind its last record
    await gateway.commit_transaction()
    await asyncio.to_thread(eventually, lambda: worker.get("/api/keys/k")["calls"] == 3, 20, "all but the aborted one")
    await asyncio.to_thread(eventually, lambda: lag() == 0, 20)
    await gateway.stop()
    assert worker.end()[0] == 0, worker.said()


async def test_check_live_finds_a_topic_that_is_not_keyed_and_names_the_intake(unkeyed: Settings) -> None:
    rnd = random.Random(2)
    await make_topics(unkeyed, 3)
    await pour(unkeyed, mixed(traffic()[:600], rnd), 3, 0, rnd)
    done = overdraw(unkeyed, "check", "--live")
    assert done.returncode == 0, done.stdout
    assert f"ok       {unkeyed.intake_topic} keys: " in done.stdout
    assert f"hint     {unkeyed.source_topic} keys: there are no records" in done.stdout
    wrong = unkeyed.model_copy(update={"intake_topic": None, "source_topic": unkeyed.intake_topic, "partitions": 3})
    done = overdraw(wrong, "check", "--live", "--for", "1", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    (problem,) = [finding for finding in report["findings"] if finding["subject"] == f"{wrong.source_topic} keys"]
    assert problem["level"] == "problem"
    assert "keys were seen on several" in problem["text"]
    assert "intake_topic" in problem["remedy"]


async def test_places_are_read_once_no_transaction_is_pending_and_know_a_topic_that_was_made_anew(
    unkeyed: Settings,
) -> None:
    name = unkeyed.intake_topic or ""
    await make_topics(unkeyed, 3)
    places, journal = Places(unkeyed, name), Journal(unkeyed, 0, INTAKE)
    await journal.open()
    try:
        topic = await places.topic()
        assert await places.read([0, 1, 2]) == {}
        place = Place(7, topic, "worker-0", 1_700_000_000_000, 1.5)
        await journal.write({}, {(name, 1): (7, place.metadata)})
        assert await places.read([0, 1, 2]) == {1: place}

        await journal._producer.begin_transaction()
        await journal._send_offsets({(name, 1): (9, place.metadata)})
        reading = asyncio.create_task(places.read([1]))
        await asyncio.wait([reading], timeout=0.3)
        assert not reading.done(), "what is pending may still become true"
        await journal._producer.commit_transaction()
        assert (await reading)[1].offset == 9

        admin = AIOKafkaAdminClient(bootstrap_servers=unkeyed.broker)
        await admin.start()
        try:
            await admin.delete_topics([name])
        finally:
            await admin.close()
        async with asyncio.timeout(20):
            while await is_there(unkeyed, name):  # noqa: ASYNC110 - Kafka tells nobody when it is done
                await asyncio.sleep(0.1)
        await make_topics(unkeyed, 3)
        assert (await places.topic()).identity != topic.identity
    finally:
        await journal.close()
        await places.close()


async def is_there(settings: Settings, topic: str) -> bool:
    async with cluster(settings) as kafka:
        return (await kafka.topics([topic]))[topic].error == 0
