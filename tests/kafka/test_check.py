"""`overdraw check` on a real broker, through the real front door."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

from aiokafka import AIOKafkaProducer

from stream.broker import EmbeddedKafka
from stream.core.key import KeyState
from stream.core.rules import Rules
from stream.core.state import SUMS, pack_sums
from stream.settings import Settings
from stream.worker.topics import create_topics

NAMES = (
    "broker", "app_id", "source_topic", "alert_topic", "dead_letter_topic", "state_topic", "group_evidence_topic",
    "group_state_topic", "control_topic", "partitions",
)  # fmt: skip


def check(settings: Settings, *options: str) -> tuple[int, str]:
    flags = [part for name in NAMES for part in ("--set", f"{name}={getattr(settings, name)}")]
    answer = subprocess.run(
        [sys.executable, "-m", "stream", "check", *flags, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.stderr == ""
    return answer.returncode, answer.stdout


def report(settings: Settings, *options: str) -> tuple[int, dict[str, Any]]:
    code, output = check(settings, "--json", *options)
    return code, json.loads(output)


async def write_states(settings: Settings, ages_days: list[float]) -> None:
    """States of keys, each last seen so many days before the newest one."""
    producer: Any = AIOKafkaProducer(bootstrap_servers=settings.broker)
    await producer.start()
    try:
        for number, age in enumerate(ages_days):
            key = KeyState(f"key-{number}", Rules(settings))
            key.calls = 1
            key.first_seen = key.last_seen = 1_772_409_600.0 - 86_400 * age
            partition = number % settings.partitions
            name = SUMS + key.key_id.encode()
            await producer.send_and_wait(settings.state_topic, pack_sums(key), key=name, partition=partition)
    finally:
        await producer.stop()


def test_missing_topics_are_found_with_exit_1_and_made_ones_are_ok(settings: Settings) -> None:
    code, output = check(settings)
    assert code == 1
    assert "Kafka 4.1 at " in output
    assert f"problem  {settings.state_topic}: there is no such topic\n         → run `overdraw topics create`" in output
    asyncio.run(create_topics(settings))
    code, facts = report(settings)
    assert (code, facts["ok"]) == (0, True)
    assert {finding["level"] for finding in facts["findings"]} == {"ok"}
    assert {finding["subject"] for finding in facts["findings"]} >= {
        "settings",
        "web",
        "broker",
        "consumer group",
        "transactional id",
        settings.source_topic,
        settings.alert_topic,
        settings.dead_letter_topic,
        settings.state_topic,
        settings.group_evidence_topic,
        settings.group_state_topic,
        f"{settings.source_topic} retention",
    }


def test_what_is_wrong_is_a_problem_with_a_remedy(settings: Settings) -> None:
    asyncio.run(create_topics(settings))
    code, facts = report(settings, "--set", "partitions=7", "--set", "web_host=0.0.0.0", "--set", "bucket_seconds=3600")
    assert (code, facts["ok"]) == (1, False)
    problems = [finding for finding in facts["findings"] if finding["level"] == "problem"]
    assert {problem["subject"] for problem in problems} == {
        "web",
        settings.source_topic,
        settings.alert_topic,
        settings.dead_letter_topic,
        settings.state_topic,
    }
    assert all(problem["remedy"] for problem in problems)


def test_the_keys_on_the_state_topic_tell_what_the_dials_mean(settings: Settings) -> None:
    asyncio.run(create_topics(settings))
    _, facts = report(settings)
    assert facts["forecast"]["keys"] == {"known": 0, "active": 0}
    asyncio.run(write_states(settings, ages_days=[0.0, 0.5, 3.0]))
    code, facts = report(settings, "--set", "false_alerts_per_1000_key_days=10")
    assert code == 0
    assert facts["forecast"]["keys"] == {"known": 3, "active": 2}
    assert facts["forecast"]["false_alerts_per_week"] == 0.14
    assert {"false alerts", "false pages", "priors"} <= {finding["subject"] for finding in facts["findings"]}
    assert facts["findings"] == report(settings, "--set", "false_alerts_per_1000_key_days=10")[1]["findings"]


def test_a_cluster_that_cannot_hold_its_own_topics_is_found(fresh_name: str) -> None:
    properties = {"offsets.topic.replication.factor": "3"}
    with EmbeddedKafka(extra_properties=properties) as broker:
        code, facts = report(Settings(broker=broker.bootstrap, app_id=fresh_name))
    assert code == 1
    (finding,) = [finding for finding in facts["findings"] if finding["subject"] == "consumer group"]
    assert finding["level"] == "problem"
    assert "offsets.topic.replication.factor" in finding["remedy"]
