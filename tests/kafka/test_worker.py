"""The worker as it runs in earnest: real Kafka, real processes, killed and moved about."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest

from stream.alerts import Alert
from stream.lab.chaos.topics import records_of
from stream.lab.chaos.verdict import said_of, undisturbed
from stream.settings import Settings
from stream.worker.topics import create_topics
from tests.kafka.workers import (
    Start,
    applied_to_the_end,
    dumped,
    eventually,
    feed,
    overdraw,
    sums,
    traffic,
)


@pytest.fixture
def eight(settings: Settings) -> Settings:
    """Eight partitions, hourly buckets, and small attacks that count."""
    changes = {
        "partitions": 8,
        "bucket_seconds": 3600,
        "min_excess_tokens": 1000.0,
        "flush_seconds": 0.2,
        "session_timeout_seconds": 6.0,
    }
    return settings.model_copy(update=changes)


async def alerts_of(settings: Settings) -> list[Any]:
    return await records_of(settings, settings.alert_topic)


async def assert_exact(settings: Settings, events: list[tuple[str, bytes]]) -> None:
    """Sums, offsets and alerts are those of a run in which nothing went wrong."""
    assert dumped(settings) == sums(events)
    said = [json.loads(record.value) for record in await alerts_of(settings)]
    twice = [pair for pair, n in Counter((alert["alert_id"], alert["sequence"]) for alert in said).items() if n > 1]
    assert twice == []
    expected = (await undisturbed(settings))[0]
    assert expected, "the traffic holds an attack"
    assert sorted((said_of(alert) for alert in said if alert["kind"] != "feed"), key=str) == expected


async def test_events_become_sums_alerts_and_dead_letters(eight: Settings, start: Start) -> None:
    events = traffic()
    bad = [("key-1", b'{"broken'), ("key-2", b'{"event_id": "x", "time": 1, "key_id": "k"}'), ("key-3", b"\xff\xfe")]
    bad.append(("key-4", json.dumps({"event_id": "m", "time": 1_772_323_200, "key_id": "elsewhere"}).encode()))
    mixed = list(events)
    rnd = random.Random(1)
    for number in range(100):
        mixed.insert(rnd.randrange(len(mixed)), bad[number % len(bad)])
    worker = start(eight, "--create-topics").wait_ready()
    assert "created topic" in worker.said()
    await feed(eight, mixed)
    await applied_to_the_end(eight, [worker])

    for key_id, (calls, given, taken) in sums(events).items():
        view = worker.get(f"/api/keys/{key_id}")
        assert (view["calls"], view["input_tokens"], view["output_tokens"]) == (calls, given, taken)
    letters = [json.loads(record.value) for record in await records_of(eight, eight.dead_letter_topic)]
    reasons = Counter(letter["reason"] for letter in letters)
    assert sum(reasons.values()) == 100
    assert set(reasons) == {"broken_json", "time_out_of_range", "invalid_utf8", "misrouted"}
    source = {(r.partition, r.offset): r.value for r in await records_of(eight, eight.source_topic)}
    for letter in letters:
        assert len(source[letter["partition"], letter["offset"]]) == letter["size"]

    records = await alerts_of(eight)
    assert records
    for record in records:
        alert = Alert.model_validate_json(record.value)
        headers = {name: value.decode() for name, value in record.headers}
        assert record.key.decode() == alert.fingerprint
        assert headers["ce_id"] == f"{alert.alert_id}:{alert.sequence}"
        assert headers["ce_type"] == f"overdraw.alert.{alert.status}"
        assert alert.historical, "ten days of backlog page nobody"
        assert alert.severity in ("info", "warning")

    tail = overdraw(eight, "alerts", "tail", "--from-beginning", "--for", "3", "--json")
    assert tail.returncode == 0
    assert len(tail.stdout.splitlines()) == len(records)
    plain = overdraw(eight, "alerts", "tail", "--from-beginning", "--for", "3")
    assert len(plain.stdout.splitlines()) == len(records)

    code, seconds = worker.end()
    assert code == 0, worker.said()
    assert seconds < 10
    assert "Traceback" not in worker.said()
    await assert_exact(eight, events)


async def test_of_two_workers_the_second_takes_over_what_the_first_gives_up(eight: Settings, start: Start) -> None:
    await create_topics(eight)
    events = traffic()
    first, second = start(eight), start(eight, instance="worker-1")
    await asyncio.to_thread(
        eventually,
        lambda: (
            first.partitions().keys() | second.partitions().keys() == set(range(8))
            and len(first.partitions()) == len(second.partitions()) == 4
        ),
        60,
        "four partitions each",
    )
    feeding = asyncio.create_task(feed(eight, events, per_second=1500))
    await asyncio.sleep(1.5)
    code, seconds = await asyncio.to_thread(first.end)
    assert (code, seconds < 10) == (0, True), first.said()
    await asyncio.to_thread(eventually, lambda: len(second.partitions()) == 8, 15, "all with the second")
    await feeding
    await applied_to_the_end(eight, [second])
    stranger = second.get("/api/keys/never%20seen")
    assert "never seen" in stranger["error"]
    assert second.end()[0] == 0
    await assert_exact(eight, events)


async def test_the_older_of_two_workers_with_one_name_gives_way(eight: Settings, start: Start) -> None:
    await create_topics(eight)
    older = start(eight).wait_ready()
    younger = start(eight)
    assert await asyncio.to_thread(older.process.wait, 40) == 70
    assert "also runs in a newer process" in older.said()
    await asyncio.to_thread(younger.wait_ready)


async def test_missing_topics_are_named_with_the_command_that_makes_them(eight: Settings) -> None:
    done = overdraw(eight, "worker")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert eight.source_topic in done.stderr
    assert "overdraw topics create" in done.stderr


async def test_another_partition_count_is_refused_naming_both_sides(eight: Settings) -> None:
    await create_topics(eight)
    done = overdraw(eight.model_copy(update={"partitions": 4}), "worker", "--create-topics")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "8 partitions" in done.stderr
    assert "says 4" in done.stderr


@pytest.mark.parametrize("command", [["worker"], ["state", "dump"], ["alerts", "tail", "--for", "1"]])
def test_without_a_broker_there_is_one_line_and_exit_code_3(settings: Settings, command: list[str]) -> None:
    done = overdraw(settings.model_copy(update={"broker": "127.0.0.1:1"}), *command)
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert "127.0.0.1:1" in lines[0]


@pytest.mark.parametrize("command", [["state", "dump"], ["alerts", "tail", "--for", "1"]])
def test_a_missing_topic_is_one_line_and_exit_code_2(eight: Settings, command: list[str]) -> None:
    done = overdraw(eight, *command)
    assert done.returncode == 2
    assert "overdraw topics create" in done.stderr
    assert "Traceback" not in done.stderr


def test_fausts_own_commands_work_on_our_app(eight: Settings) -> None:
    done = overdraw(eight, "faust", "agents")
    assert done.returncode == 0, done.stderr
    assert "detect" in done.stdout
