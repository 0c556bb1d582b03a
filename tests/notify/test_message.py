"""What a message says, and that what it gives to paste into a shell does that and nothing else."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest
from services import ALERTS, EVIL, T0, made, made_alert

from stream.alerts import Alert, Entity
from stream.notify.message import Message
from stream.notify.shell import command_line, shell_word

URL = "http://127.0.0.1:1"
IDS = [
    "key-17",
    "-rf",
    "--help",
    "a b",
    "it's",
    "`touch gone`",
    "$(touch gone)",
    "'; touch gone; '",
    "\\'; touch gone; '",
    '"; touch gone; "',
    "!!",
    "*",
    "~root",
    "a\nb",
    "a\rb\x1b[31m",
    "\u202egone",
    "schlüssel 🔑 \U000e0001",
    "\\x27; touch gone #",
    "&amp; <!channel> |",
    "{{.}} ${HOME} %s \\n",
    EVIL[:256],
]


def words_of(commands: list[str], tmp_path: object) -> list[list[str]]:
    """What bash makes of each: the words that `overdraw` is called with, and nothing else runs."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = "set -o histexpand; overdraw() { printf '%s\\0' \"$@\"; printf '\\1\\0'; }\n" + "\n".join(commands)
    done = subprocess.run(
        [bash, "--norc"], input=script.encode(), capture_output=True, cwd=str(tmp_path), timeout=20,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}, check=True,
    )  # fmt: skip
    assert done.stderr == b""
    calls = done.stdout.decode("utf-8").split("\1\0")[:-1]
    return [call.split("\0")[:-1] for call in calls]


def test_a_command_holds_the_very_id_and_runs_nothing_of_it(tmp_path) -> None:
    commands = [command_line("overdraw", "block", "--why", text, last=text) for text in IDS]
    expected = [["block", "--why", text, *(["--"] if text.startswith("-") else []), text] for text in IDS]
    assert words_of(commands, tmp_path) == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", IDS)
def test_a_command_is_one_line_of_ascii_without_what_services_make_markup_of(text: str) -> None:
    word = shell_word(text)
    assert word.isascii()
    assert word.isprintable()
    assert "`" not in word


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_shell_can_be_given_makes_no_command(text: str) -> None:
    assert command_line("overdraw", "unblock", last=text) == ""


@pytest.mark.parametrize("name", ["am", "pd", "chat"])
def test_what_a_service_shows_is_what_is_pasted(name: str, tmp_path) -> None:
    def shown(key: str) -> list[str]:
        alert = made_alert(key=key)
        body = json.loads(made(URL, name)[0].alert(Message(alert, "", None, None), T0).body)
        if name == "am":
            notes = body[0]["annotations"]
            return [notes["command"], notes["block_command"], notes["undo_command"]]
        if name == "pd":
            return [text for text in body["payload"]["custom_details"].values() if text.startswith("overdraw ")]
        text = body["blocks"][-1]["text"]["text"]
        return [html.unescape(code) for code in re.findall("`([^`]*)`", text)]

    commands = [command for key in IDS for command in shown(key)]
    calls = words_of(commands, tmp_path)
    assert [call[0] for call in calls] == ["explain", "block", "unblock"] * len(IDS)
    assert [call[-1] for call in calls[1::3]] == IDS
    assert [call[-1] for call in calls[2::3]] == IDS


def labels_of(alert: Alert) -> list[str]:
    return [command.label for command in Message(alert, "").commands()]


@pytest.mark.parametrize(
    ("what", "labels", "why"),
    [
        ("an opened one", ["Look", "Block for 2h", "Undo"], "it goes on"),
        ("a resolved one", ["Look", "Undo"], "there is nothing left to stop, perhaps something to undo"),
        ("a group", ["Look"], "a network is no key that a gateway could refuse"),
        ("a blind detector", ["Look"], "the gateway's keys have nothing to do with it"),
    ],
)
def test_the_commands_fit_what_the_alert_is_about(what: str, labels: list[str], why: str) -> None:
    assert labels_of(ALERTS[what]) == labels, why


def test_the_message_says_who_what_how_much_since_when_what_is_gone_and_how_sure() -> None:
    text = Message(made_alert(), "", "acme", "http://am:9093").text()
    for words in (
        "[HIGH] key key-17 uses 45.3 ×",
        "Who: key key-17 (owner: acme)",
        "What: surge: many times its usual tokens",
        "How much: 105 k tokens in 10 min, usual are 2.32 k, at most 9 k: 45.3 ×",
        "Since: 2026-02-28T23:50:00Z, 10 min so far",
        "Gone: 2.1 M tokens above the baseline (900 k of them output), 630 k an hour, 12.50 USD",
        "Channels: surge z 5.1, jump z 3.2",
        "Confidence: a clean key shows this on one day in 1 k; baseline of 21 active days",
        "Why high: two million tokens above the baseline",
        "Do: Ask the owner of the key.",
        "Look: overdraw explain ",
        "Block for 2h: overdraw block --for 2h --why 'alert ",
        "Undo: overdraw unblock --why 'alert ",
        "Dashboard: https://grafana/",
        "Runbook: https://wiki/surge",
        "Silence: http://am:9093/#/silences/new?filter=",
    ):
        assert words in text


def test_half_a_command_is_never_said() -> None:
    key = "\u202e" * 256
    alert = made_alert(entity=Entity(type="key", id=key))
    body = json.loads(made(URL, "chat")[0].alert(Message(alert, "", None, None), T0).body)
    text = body["blocks"][-1]["text"]["text"]
    assert len(text) <= 3000
    assert text.count("`") % 2 == 0
    assert text.startswith("Look: `overdraw explain ")
