"""`overdraw check` without a broker: what it says of settings, and what it never shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from stream.__main__ import cli
from stream.cli.check import command
from stream.settings import SettingsError, load_settings
from stream.worker.inspection import (
    Finding,
    _connection_findings,
    _retention_findings,
    settings_findings,
    shown_settings,
)

NOBODY = "broker=127.0.0.1:1"


def levels(environ: dict[str, str] | None = None, **values: object) -> dict[str, str]:
    settings = load_settings(values, environ=environ or {})
    return {finding.subject: finding.level for finding in settings_findings(settings)}


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
    assert levels({"OVERDRAW_WEB_TOKEN": token or ""}, web_host=host)["web"] == level


def test_secrets_are_never_shown() -> None:
    settings = load_settings(
        {
            "dashboard_url": "https://me:hunter2@grafana.example/d/1",
            "kafka_security_protocol": "SASL_SSL",
            "kafka_username": "overdraw",
        },
        environ={"OVERDRAW_KAFKA_PASSWORD": "geheim", "OVERDRAW_WEB_TOKEN": "geheim"},
    )
    shown = json.dumps(shown_settings(settings))
    assert json.loads(shown)["kafka_password"] == "***"
    assert "geheim" not in shown
    assert "hunter2" not in shown
    assert "grafana.example/d/1" in shown


def test_without_a_broker_the_rest_is_still_said_and_the_exit_is_3() -> None:
    answer = CliRunner().invoke(command, ["--set", NOBODY])
    assert answer.exit_code == 3
    assert "ok       settings: valid" in answer.stdout
    assert "problem  broker: no Kafka answers at 127.0.0.1:1\n         → start it, or" in answer.stdout
    answer = CliRunner().invoke(command, ["--set", NOBODY, "--json"], env={"OVERDRAW_WEB_TOKEN": "geheim"})
    report = json.loads(answer.stdout)
    assert (answer.exit_code, report["ok"], report["settings"]["web_token"]) == (3, False, "***")


def test_a_password_on_the_command_line_is_refused_and_not_repeated() -> None:
    answer = CliRunner().invoke(cli, ["check", "--set", NOBODY, "--set", "kafka_password=geheim"])
    assert isinstance(answer.exception, SettingsError)
    assert "others can read it there" in str(answer.exception)
    assert "geheim" not in str(answer.exception) + answer.output


@pytest.mark.parametrize(
    ("protocol", "mechanism", "level", "words"),
    [
        ("PLAINTEXT", "SCRAM-SHA-512", None, ""),
        ("SASL_SSL", "PLAIN", "ok", "SASL_SSL as overdraw, by PLAIN; certificates and host names are checked"),
        ("SASL_PLAINTEXT", "PLAIN", "hint", "the password and all that goes over the wire can be read"),
        ("SASL_PLAINTEXT", "SCRAM-SHA-512", "hint", "without TLS all that goes over the wire can be read"),
    ],
)
def test_it_is_said_how_kafka_is_spoken_to(protocol: str, mechanism: str, level: str | None, words: str) -> None:
    user = {"kafka_username": "overdraw", "kafka_password_file": "password"} if protocol.startswith("SASL") else {}
    settings = load_settings(
        {"kafka_security_protocol": protocol, "kafka_sasl_mechanism": mechanism, **user}, environ={}
    )
    findings = _connection_findings(settings)
    assert [finding.level for finding in findings] == ([] if level is None else [level])
    assert all(words in finding.text for finding in findings)


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
