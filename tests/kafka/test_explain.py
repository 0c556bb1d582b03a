"""`overdraw explain` and `ledger` on Kafka: what the state topic and the alert topic hold is what the shard knew."""

from __future__ import annotations

import json

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner

from stream.__main__ import cli
from stream.cli.common import BadInput
from stream.cli.explain import document_of, from_kafka
from stream.cli.explain_text import show
from stream.cli.ledger import from_kafka as ledger_of
from stream.core.season import season_of
from stream.core.shard import Shard
from stream.core.why import explain
from stream.gateways.overdraw import parse
from stream.ledger import Ledger
from stream.partition import partition_of
from stream.settings import Settings
from stream.worker.outbox import alert_record
from stream.worker.topics import create_topics

START = 1_772_323_200.0  # 2026-03-01T00:00:00Z


def traffic() -> list[bytes]:
    """Two keys, hourly sums for sixteen days; one is drained on the last."""
    rows = []
    for hour in range(16 * 24):
        for key, calls in (("key-0", 30 if hour < 15 * 24 + 9 else 4_000), ("key-1", 30)):
            size = 800 + hour * 7 % 150
            row = {"event_id": str(hour), "time": START + hour * 3600 + 1800, "key_id": key, "calls": calls}
            rows.append(row | {"input_tokens": calls * size, "output_tokens": calls * 300})
    return [json.dumps(row).encode() for row in rows]


async def write(settings: Settings, shards: list[Shard]) -> list[str]:
    """Judge some traffic, and write states and alerts as the worker does; returns the ids of alerts."""
    calls, _ = parse([(i, value, 4e9) for i, value in enumerate(traffic())])
    producer = AIOKafkaProducer(bootstrap_servers=settings.broker)
    await producer.start()
    ids = []
    try:
        for shard in shards:
            home = shard.partition
            arrivals = [call for call in calls if partition_of(call[2].key_id, len(shards)) == home]
            for alert in shard.observe(arrivals, len(calls)).alerts:
                ids.append(alert.alert_id)
                name, value, headers = alert_record(alert, settings.app_id, home)
                await producer.send_and_wait(settings.alert_topic, value, name, partition=home, headers=list(headers))
            for name, value in shard.changes():
                await producer.send_and_wait(settings.state_topic, value, name, partition=home)
    finally:
        await producer.stop()
    return ids


async def test_a_key_and_an_alert_are_explained_as_the_shard_knew_them(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings.model_copy(update={"bucket_seconds": 3600})
    await create_topics(settings)
    shards = [Shard(p, settings, partition_of=lambda key: partition_of(key, 2)) for p in range(2)]
    ids = await write(settings, shards)
    home = shards[partition_of("key-0", 2)]
    key = home._keys.held["key-0"]
    answer = await from_kafka("key-0", settings, None)
    assert answer.explanation == explain(key, len(home) * 2)
    assert tuple(answer.season) == season_of(key)
    assert answer.hours == ()
    assert [alert.alert_id for alert in answer.alerts] == [i for i in ids if i in {a.alert_id for a in answer.alerts}]
    assert answer.alerts

    last = answer.alerts[-1]
    of_alert = await from_kafka(last.alert_id, settings, None)
    assert (of_alert.alert_id, of_alert.key_id) == (last.alert_id, "key-0")
    assert of_alert.explanation == answer.explanation
    assert {alert.alert_id for alert in of_alert.alerts} == {last.alert_id}
    assert (await from_kafka("key-0", settings, 4e9)).alerts == []

    document = json.loads(json.dumps(document_of(answer, None)))
    assert len(document["season"]) == 168
    assert document["hours"] == []
    for wanted in ("nobody", "f" * 32):
        with pytest.raises(BadInput, match="overdraw state dump"):
            await from_kafka(wanted, settings, None)
    show(answer, 7.0, None)
    text = capsys.readouterr().out
    assert f"alert {last.alert_id}" in text

    folded = Ledger()
    for alert in answer.alerts:
        folded.take(alert)
    assert (await ledger_of(settings)).entries(key="key-0") == folded.entries()
    assert "as the state has learned the week" in text


def test_without_a_broker_there_is_one_line_and_exit_3() -> None:
    done = CliRunner().invoke(cli, ["explain", "key-0", "--set", "broker=127.0.0.1:1"])
    assert done.exit_code == 3
    assert "no Kafka broker answers at 127.0.0.1:1" in done.output
