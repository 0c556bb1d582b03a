"""`overdraw check` without a broker: what it says of settings, and what it never shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from stream.cli.check import command
from stream.settings import load_settings
from stream.worker.inspection import Finding, _retention_findings, settings_findings, shown_settings

NOBODY = "broker=127.0.0.1:1"


def levels(**values: object) -> dict[str, str]:
    return {finding.subject: finding.level for finding in settings_findings(load_settings(values, environ={}))}


@pytest.mark.parametrize(
    ("host", "token", "level"),
    [
        ("127.0.0.1", None, "ok"),
        ("::1", None, "ok"),
        ("localhost", None, "ok"),
        ("0.0.0.0", None, "problem"),
        ("", None, "problem"),
        ("gateway.example", None, "problem"),
        ("0.0.0.0", "secret", "ok"),
    ],
)
def test_a_web_server_open_to_others_needs_a_token(host: str, token: str | None, level: str) -> None:
    assert levels(web_host=host, web_token=token)["web"] == level


def test_secrets_are_never_shown() -> None:
    settings = load_settings(
        {"web_token": "geheim", "dashboard_url": "https://me:hunter2@grafana.example/d/1"}, environ={}
    )
    shown = json.dumps(shown_settings(settings))
    assert "geheim" not in shown
    assert "hunter2" not in shown
    assert "grafana.example/d/1" in shown


def test_without_a_broker_the_rest_is_still_said_and_the_exit_is_3() -> None:
    answer = CliRunner().invoke(command, ["--set", NOBODY])
    assert answer.exit_code == 3
    assert "ok       settings: valid" in answer.stdout
    assert "problem  broker: no Kafka answers at 127.0.0.1:1\n         → start it, or" in answer.stdout
    answer = CliRunner().invoke(command, ["--set", NOBODY, "--set", "web_token=geheim", "--json"])
    report = json.loads(answer.stdout)
    assert (answer.exit_code, report["ok"], report["settings"]["web_token"]) == (3, False, "***")


class FakeCluster:
    """A cluster whose source topic is configured as told."""

    def __init__(self, **values: str) -> None:
        self._values = {name.replace("_", "."): value for name, value in values.items()}

    async def topic_settings(self, names: list[str]) -> dict[str, tuple[int, dict[str, str]]]:
        return dict.fromkeys(names, (0, self._values))


async def retention(**values: str) -> list[Finding]:
    fake: Any = FakeCluster(**values)
    return await _retention_findings(fake, load_settings({}, environ={}))


@pytest.mark.parametrize(
    ("milliseconds", "level", "words"),
    [
        ("-1", "ok", "unlimited: a first start reads that far back"),
        ("604800000", "ok", "7 days: a first start reads that far back, and what it finds that is older than 1 hour"),
        ("7200000", "hint", "2 hours: a worker that is down for longer loses calls"),
        ("600000", "problem", "10 minutes: open buckets alone reach back 11 minutes"),
    ],
)
async def test_retention_is_judged_by_what_a_restart_reads(milliseconds: str, level: str, words: str) -> None:
    (finding,) = await retention(retention_ms=milliseconds)
    assert finding.level == level
    assert finding.text.startswith(words)


async def test_a_retention_by_size_is_a_hint() -> None:
    findings = await retention(retention_ms="-1", retention_bytes="5000000000")
    assert [finding.level for finding in findings] == ["ok", "hint"]
    assert "5.0 GB a partition" in findings[1].text
