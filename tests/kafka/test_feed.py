"""`overdraw feed` into a real broker: all of it, in order, where it belongs, and nothing lost when it is stopped."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.broker import EmbeddedKafka
from stream.lab import produce
from stream.lab.feed import Feed
from stream.lab.produce import ProduceError
from stream.partition import partition_of
from stream.settings import Settings, load_settings
from stream.worker.topics import create_topics

START = 1_772_323_200


def call(number: int, key: str, at: float = START) -> bytes:
    return json.dumps({"event_id": f"e-{number}", "time": at, "key_id": key, "output_tokens": number}).encode()


def command(path: str, settings: Settings, *options: str) -> list[str]:
    names = (
        "source_topic", "alert_topic", "dead_letter_topic", "state_topic", "group_evidence_topic", "group_state_topic",
        "control_topic", "partitions",
    )  # fmt: skip
    flags = [part for name in names for part in ("--set", f"{name}={getattr(settings, name)}")]
    return [sys.executable, "-m", "stream", "feed", path, "--broker", settings.broker, *flags, *options]


def feed(path: Path, settings: Settings, *options: str) -> tuple[int, dict[str, Any], str]:
    answer = subprocess.run(
        command(str(path), settings, *options, "--json"), capture_output=True, text=True, timeout=60, check=False
    )
    return answer.returncode, json.loads(answer.stdout or "{}"), answer.stderr


def start(words: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


async def log_of(settings: Settings) -> dict[int, list[tuple[bytes | None, bytes]]]:
    """(key, value) of every record, by partition."""
    partitions = [TopicPartition(settings.source_topic, number) for number in range(settings.partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=settings.broker) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        log: dict[int, list[tuple[bytes | None, bytes]]] = {tp.partition: [] for tp in partitions}
        async with asyncio.timeout(30):
            for tp in partitions:
                while await consumer.position(tp) < ends[tp]:
                    for part, records in (await consumer.getmany(timeout_ms=200)).items():
                        log[part.partition] += [(record.key, record.value) for record in records]
    return log


@pytest.fixture
async def topics(settings: Settings) -> Settings:
    await create_topics(settings)
    return settings


async def test_a_file_arrives_whole_in_order_and_on_its_partitions(topics: Settings, tmp_path: Path) -> None:
    calls = [call(number, f"ключ-{number % 50}") for number in range(12_000)]
    with gzip.open(tmp_path / "calls.jsonl.gz", "wb") as file:
        file.write(b"\n".join(calls))
    code, summary, errors = feed(tmp_path / "calls.jsonl.gz", topics, "--speed", "0")
    assert (code, errors) == (0, "")
    assert (summary["records"], summary["events"], summary["without_key"]) == (12_000, 12_000, 0)
    assert summary["reached"] == "2026-03-01T00:00:00Z"
    log = await log_of(topics)
    for partition, records in log.items():
        expected = [c for n, c in enumerate(calls) if partition_of(f"ключ-{n % 50}", topics.partitions) == partition]
        assert [value for _, value in records] == expected
    assert {key.decode() for records in log.values() for key, _ in records if key} == {f"ключ-{n}" for n in range(50)}


async def test_arrays_are_taken_apart_and_unreadable_records_go_without_a_key(topics: Settings, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(
        b"\n".join([b"[" + call(1, "a") + b"," + call(2, "b") + b"]", b"{broken", b"", call(3, "a"), b"[]"])
    )
    code, summary, _ = feed(path, topics, "--speed", "0")
    assert code == 0
    assert (summary["records"], summary["events"], summary["without_key"]) == (4, 4, 1)
    records = [record for part in (await log_of(topics)).values() for record in part]
    assert sorted(records, key=lambda record: record[1]) == sorted(
        [(b"a", call(1, "a")), (b"b", call(2, "b")), (None, b"{broken"), (b"a", call(3, "a"))],
        key=lambda record: record[1],
    )


async def test_a_csv_is_mapped_on_the_way(topics: Settings, tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_text("account,created,out\nk1,2026-03-01T00:00:00Z,7\n")
    options = ("--map", "key_id=account", "--map", "time=created", "--map", "output_tokens=out", "--const", "model=m")
    code, summary, errors = feed(path, topics, "--speed", "0", *options)
    assert (code, summary["events"], errors) == (0, 1, "")
    ((key, value),) = [record for part in (await log_of(topics)).values() for record in part]
    assert key == b"k1"
    assert json.loads(value).items() >= {"key_id": "k1", "output_tokens": 7, "model": "m"}.items()


async def test_a_record_that_the_topic_does_not_take_is_named_and_the_others_arrive(
    topics: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl"
    huge = b'{"key_id": "a", "user_id": "' + b"x" * 1_100_000 + b'"}'
    long = b'{"key_id": "a", "user_id": "' + b"x" * 900_000 + b'"}'
    path.write_bytes(b"\n".join([call(1, "a"), huge, long, call(2, "a")]))
    code, summary, errors = feed(path, topics, "--speed", "0")
    assert code == 1
    assert (summary["events"], summary["too_large"]) == (3, 1)
    assert f"line 2: {len(huge):,} bytes are more than the topic takes" in errors
    values = [value for part in (await log_of(topics)).values() for _, value in part]
    assert values == [call(1, "a"), long, call(2, "a")]


async def test_the_pace_is_the_files_own_times_the_speed(topics: Settings, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"\n".join(call(number, "a", START + 40 * number) for number in range(4)))
    begin = time.monotonic()
    code, summary, _ = feed(path, topics, "--speed", "60")
    assert code == 0
    assert summary["events"] == 4
    assert summary["seconds"] >= 2.0, "120 s of the file at 60 times their pace"
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stop_confirms_what_was_sent_and_says_how_much(
    topics: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "calls.jsonl"
    # the last one is due in an hour
    path.write_bytes(b"\n".join([*(call(i, "a", START + i / 1000) for i in range(100)), call(100, "a", START + 3600)]))
    process = start(command(str(path), topics, "--json"))
    try:
        async with asyncio.timeout(30):
            while sum(map(len, (await log_of(topics)).values())) < 100:
                assert process.poll() is None
                await asyncio.sleep(0.05)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    summary = json.loads(output)
    assert process.returncode == 130
    assert (summary["events"], summary["interrupted"]) == (100, True)
    assert "Traceback" not in errors
    assert sum(map(len, (await log_of(topics)).values())) == 100


async def test_a_pipe_that_stays_open_is_sent_at_once_and_can_be_stopped(topics: Settings) -> None:
    process = start(command("-", topics, "--speed", "0", "--json"))
    assert process.stdin is not None
    try:
        process.stdin.write(call(1, "a").decode() + "\n")
        process.stdin.flush()
        async with asyncio.timeout(30):
            while not sum(map(len, (await log_of(topics)).values())):
                assert process.poll() is None
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        # with its pipe still open: reading must not hold it up
        assert await asyncio.to_thread(process.wait, 30) == 130
    finally:
        process.kill()
        output, errors = process.communicate()
    assert json.loads(output)["events"] == 1
    assert "Traceback" not in errors
    assert "Fatal Python error" not in errors


async def test_a_file_that_is_damaged_in_the_middle_gives_all_before_it_and_exit_2(
    topics: Settings, tmp_path: Path
) -> None:
    packed = gzip.compress(b"\n".join(call(number, "a") for number in range(2000)))
    path = tmp_path / "calls.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    code, summary, errors = feed(path, topics, "--speed", "0")
    assert code == 2
    assert "ends too early" in errors
    assert 0 < summary["events"] < 2000
    assert sum(map(len, (await log_of(topics)).values())) == summary["events"]


async def test_a_missing_topic_and_another_partition_count_are_named(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(call(1, "a"))
    code, _, errors = feed(path, settings)
    assert code == 3
    assert f"there is no topic {settings.source_topic}: make it with `overdraw topics create`" in errors
    await create_topics(settings)
    code, _, errors = feed(path, settings.model_copy(update={"partitions": 5}))
    assert code == 3
    assert f"topic {settings.source_topic} has 2 partitions, the setting partitions is 5" in errors


def test_a_broker_that_restarts_in_between_loses_and_doubles_nothing(fresh_name: str) -> None:
    with EmbeddedKafka() as broker:
        settings = load_settings({"broker": broker.bootstrap, "source_topic": fresh_name, "partitions": 2}, environ={})
        asyncio.run(create_topics(settings))
        calls = [call(number, f"k{number % 9}") for number in range(4000)]
        with Feed(settings, 0) as playing:
            playing.play(enumerate(calls[:2000]))
            broker.kill()
            broker.start()
            playing.play(enumerate(calls[2000:]))
        assert playing.tally.sent == 4000
        log = asyncio.run(log_of(settings))
    assert sorted(value for part in log.values() for _, value in part) == sorted(calls)


def test_a_broker_that_goes_away_ends_it_with_a_message(fresh_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce, "PATIENCE_SECONDS", 1.0)
    with EmbeddedKafka() as broker:
        settings = load_settings({"broker": broker.bootstrap, "source_topic": fresh_name, "partitions": 2}, environ={})
        asyncio.run(create_topics(settings))
        playing = Feed(settings, 0)

        def play() -> None:
            with playing:
                playing.play([(1, call(1, "a"))])
                broker.kill()
                playing.play([(2, call(2, "a"))])

        with pytest.raises(ProduceError, match=r"took no more records \(no answer for 1 s\): is it still up\?"):
            play()
    assert playing.tally.sent <= 1
