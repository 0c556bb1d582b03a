"""`overdraw check` on a real broker, through the real front door."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

from stream.broker import EmbeddedKafka
from stream.settings import Settings
from stream.worker.topics import create_topics

NAMES = ("broker", "app_id", "source_topic", "alert_topic", "dead_letter_topic", "state_topic", "partitions")


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


def test_a_cluster_that_cannot_hold_its_own_topics_is_found(fresh_name: str) -> None:
    properties = {"offsets.topic.replication.factor": "3"}
    with EmbeddedKafka(extra_properties=properties) as broker:
        code, facts = report(Settings(broker=broker.bootstrap, app_id=fresh_name))
    assert code == 1
    (finding,) = [finding for finding in facts["findings"] if finding["subject"] == "consumer group"]
    assert finding["level"] == "problem"
    assert "offsets.topic.replication.factor" in finding["remedy"]
