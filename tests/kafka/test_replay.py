"""`overdraw replay kafka:TOPIC`: what a topic holds gives just what the same records in a file give."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner

from stream.__main__ import cli
from stream.partition import partition_of
from stream.settings import Settings
from stream.worker.topics import create_topics


def options_of(settings: Settings) -> list[str]:
    names = ("broker", "partitions")
    return [part for name in names for part in ("--set", f"{name}={getattr(settings, name)}")]


async def write(settings: Settings, lines: list[bytes], *, aborted: bytes) -> None:
    """Each record where its key lives; among them a transaction that never was."""
    await create_topics(settings)
    async with AIOKafkaProducer(bootstrap_servers=settings.broker) as producer:
        for line in lines:
            key = json.loads(line).get("key_id", "none")
            await producer.send(settings.source_topic, line, partition=partition_of(key, settings.partitions))
    async with AIOKafkaProducer(bootstrap_servers=settings.broker, transactional_id=settings.app_id) as producer:
        await producer.begin_transaction()
        await producer.send(settings.source_topic, aborted, partition=0)
        await producer.flush()
        await producer.abort_transaction()


async def hang(settings: Settings) -> AIOKafkaProducer:
    """A transaction that has not ended."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.broker, transactional_id=f"{settings.app_id}-2")
    await producer.start()
    await producer.begin_transaction()
    await producer.send(settings.source_topic, b"{", partition=0)
    await producer.flush()
    return producer


def replayed(source: str, settings: Settings, *more: str, code: int = 0) -> tuple[list[str], dict[str, object], str]:
    answer = CliRunner().invoke(cli, ["replay", source, "--json", *options_of(settings), *more])
    assert answer.exit_code == code, answer.output
    *alerts, summary = answer.stdout.splitlines()
    return alerts, json.loads(summary) | {"seconds": 0}, answer.stderr


def test_a_topic_gives_what_its_records_give_in_a_file(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    options = "--scenario surge --seed 4 --keys 12 --days 16 --rate 0.03 --to"
    made = CliRunner().invoke(cli, ["simulate", *options.split(), str(path)])
    assert made.exit_code == 0, made.output
    lines = path.read_bytes().splitlines()
    lines.insert(700, b'{"no": "call"}')
    path.write_bytes(b"\n".join(lines) + b"\n")
    asyncio.run(write(settings, lines, aborted=b"{"))
    of_file, of_topic = replayed(str(path), settings), replayed(f"kafka:{settings.source_topic}", settings)
    assert of_topic[0] == of_file[0]
    assert any('"opened"' in alert for alert in of_file[0])
    assert of_topic[1] == of_file[1]
    assert of_file[1]["events"]["dead_letters"] == {"missing_field": 1}
    assert f"{settings.source_topic}, partition " in of_topic[2]
    assert ", offset " in of_topic[2]


def test_what_is_left_out_and_what_differs_from_the_workers_is_said(settings: Settings) -> None:
    async def run() -> str:
        await create_topics(settings)
        producer = await hang(settings)
        try:
            other = settings.model_copy(update={"partitions": 3})
            _, summary, said = await asyncio.to_thread(replayed, f"kafka:{settings.source_topic}", other, code=2)
        finally:
            await producer.abort_transaction()
            await producer.stop()
        assert summary["events"]["read"] == 0
        return said

    said = asyncio.run(run())
    assert "has 2 partitions, and partitions is 3" in said
    assert "up to 1 records stand behind a transaction that has not ended" in said


def test_an_empty_topic_and_none_at_all(settings: Settings) -> None:
    asyncio.run(create_topics(settings))
    alerts, summary, said = replayed(f"kafka:{settings.source_topic}", settings, code=2)
    assert (alerts, summary["events"]["read"]) == ([], 0)
    assert "nothing was read: there is no record in it" in said
    answer = CliRunner().invoke(cli, ["replay", "kafka:not-there", *options_of(settings)])
    assert answer.exit_code == 2
    assert "there is no topic not-there" in answer.output


@pytest.mark.parametrize("flag", [["--format", "csv"], ["--map", "key_id=account"]])
def test_a_topic_is_no_table(settings: Settings, flag: list[str]) -> None:
    answer = CliRunner().invoke(cli, ["replay", "kafka:calls", *options_of(settings), *flag])
    assert answer.exit_code == 2
    assert "calls is a topic, and csv" in answer.output
