"""`overdraw notify` and `overdraw notifier`: what they say of a service, of alerts, and of what is missing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from services import ALERTS, CHECKS, KEY, Service, made_alert

from stream.__main__ import cli


@pytest.fixture
def served() -> Iterator[Service]:
    """The service on a loop of its own: the commands under test bring theirs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    service = asyncio.run_coroutine_threadsafe(Service().start(), loop).result(10)
    yield service
    asyncio.run_coroutine_threadsafe(service.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def file(served: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PD_KEY", KEY)
    path = tmp_path / "notify.toml"
    path.write_text(
        f'[notifiers.pd]\ntype = "pagerduty"\nurl = "{served.url}/v2/enqueue"\nrouting_key_env = "PD_KEY"\n'
    )
    monkeypatch.setenv("OVERDRAW_NOTIFY_FILE", str(path))
    return path


def run(*words: str, code: int = 0, text: str | None = None) -> Result:
    done = CliRunner().invoke(cli, words, input=text)
    assert done.exit_code == code, done.output
    assert KEY not in done.output
    return done


def test_a_test_message_is_marked_opened_and_resolved(served: Service, file: Path) -> None:
    served.usual = (202, {}, b'{"status": "success"}')
    done = run("notify", "test", "pd")
    assert done.output.splitlines()[0].startswith('opened    taken: 202 Accepted: {"status"')
    for request, body in served.requests:
        CHECKS["pd"](request, body)
    opened, resolved = served.bodies()
    assert "TEST" in opened["payload"]["summary"]
    assert opened["payload"]["severity"] == "info"
    assert resolved["event_action"] == "resolve"
    assert opened["dedup_key"] == resolved["dedup_key"]


def test_what_came_back_is_said_and_what_to_do(served: Service, file: Path) -> None:
    served.usual = (401, {}, f"who is {KEY}?".encode())
    done = run("notify", "test", "pd", code=3)
    assert "NOT TAKEN: 401 Unauthorized: who is ***?" in done.output
    assert "check its credentials" in done.output
    said = json.loads(run("notify", "test", "pd", "--json", code=3).output.splitlines()[0])
    assert said["messages"]["opened"]["verdict"] == "refused"


def test_a_notifier_that_is_not_in_the_file_is_named_with_those_that_are(file: Path) -> None:
    assert "there is no notifier 'oncall'" in run("notify", "test", "oncall", code=2).output
    assert "known are pd" in run("notify", "test", "oncall", code=2).output


@pytest.mark.parametrize("words", [("notify", "test", "pd"), ("notify", "show", "-"), ("notifier",)])
def test_without_a_file_or_its_secrets_it_is_said_how_to_give_them(
    file: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    if words != ("notify", "show", "-"):
        monkeypatch.delenv("PD_KEY")
        assert "there is no variable PD_KEY" in run(*words, code=2).output
    monkeypatch.delenv("OVERDRAW_NOTIFY_FILE")
    assert "set notify_file (OVERDRAW_NOTIFY_FILE)" in run(*words, code=2).output


def test_a_notifier_without_a_broker_says_so(file: Path) -> None:
    done = run("notifier", "--set", "broker=127.0.0.1:1", code=3)
    assert "no Kafka broker answers at 127.0.0.1:1" in done.output


@pytest.mark.parametrize("what", ALERTS)
def test_an_alert_is_shown_with_who_would_be_told(file: Path, what: str) -> None:
    alert = ALERTS[what]
    done = run("notify", "show", "-", text=alert.model_dump_json() + "\n")
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output
    paged = alert.severity in ("high", "critical") and not alert.historical
    assert f"Told: {'pd' if paged else 'nobody'}" in done.output.splitlines()[-1]
    assert "javascript:" not in done.output


def test_the_message_says_who_what_how_much_since_when_what_is_gone_and_what_to_do(file: Path) -> None:
    text = run("notify", "show", "-", text=made_alert().model_dump_json()).output
    for words in (
        "Who: key key-17",
        "What: surge: many times its usual tokens",
        "How much: 105 k tokens in 10 min, usual are 2.32 k, at most 9 k: 45.3 ×",
        "Since: 2026-02-28T23:50:00Z, 10 min so far",
        "Gone: 2.1 M tokens above the baseline (900 k of them output), 630 k an hour, 12.50 USD",
        "Channels: surge z 5.1, jump z 3.2",
        "Confidence: a clean key shows this on one day in 1 k; baseline of 21 active days; 20% of the calls without",
        "Do: Ask the owner of the key.",
        f"Look: overdraw explain {made_alert().alert_id}",
        "Runbook: https://wiki/surge",
    ):
        assert words in text
    over = run("notify", "show", "-", text=made_alert(status="resolved").model_dump_json()).output
    assert "over at 2026-03-01T00:00:00Z after 10 min" in over


def test_what_is_no_alert_is_named_by_its_line(file: Path) -> None:
    done = run("notify", "show", "-", code=2, text=made_alert().model_dump_json() + '\n\n{"alert_id": 7}\n')
    assert "line 3 of - is no alert (alert_id)" in done.output
    assert "absent.jsonl: there is no such file" in run("notify", "show", "absent.jsonl", code=2).output
