"""What operators type by mistake is said before it is written; none of this reaches a broker."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from stream.__main__ import cli
from stream.cli.common import BadInput
from stream.cli.operators import scope_of
from stream.cli.word import mute

NOWHERE = ["--set", "broker=127.0.0.1:1"]


@pytest.mark.parametrize("entity_id", ["", "x" * 257])
def test_an_id_that_no_key_can_have_is_not_muted(entity_id: str) -> None:
    done = CliRunner().invoke(mute, ["--for", "1h", "--why", "x", *NOWHERE, "--", entity_id], standalone_mode=False)
    assert isinstance(done.exception, BadInput)
    assert f"1 to 256 characters, and this one {len(entity_id)}" in str(done.exception)


@pytest.mark.parametrize(
    "words",
    [
        "block k",
        "alerts mute k --for 1h",
        "alerts ack 8d0254295b2f2b0ef765e512efe32f4e",
        "alerts feedback 8d0254295b2f2b0ef765e512efe32f4e wrong",
        "allow add --key k --tokens-per-hour 5",
        "maintenance add --all --for 1h",
        "response approve 3f1c0a9b5d7e2f46",
    ],
)
def test_a_word_that_needs_a_reason_says_so(words: str) -> None:
    done = CliRunner().invoke(cli, [*words.split(), *NOWHERE])
    assert done.exit_code == 2
    assert "Missing option '--why'" in done.output


def test_what_takes_something_back_needs_no_reason() -> None:
    done = CliRunner().invoke(cli, ["unblock", "k", *NOWHERE])
    assert (done.exit_code, "broker" in done.output) == (3, True)


def test_a_planned_event_that_is_over_is_warned_of() -> None:
    words = ["maintenance", "add", "--all", "--why", "x", "--from", "2026-03-01T08:00Z", "--for", "6h", *NOWHERE]
    done = CliRunner().invoke(cli, words)
    assert "Warning: this is over since 2026-03-01T14:00:00Z" in done.output
    words[words.index("2026-03-01T08:00Z")] = "2099-03-01T08:00Z"
    assert "Warning" not in CliRunner().invoke(cli, words).output


@pytest.mark.parametrize(("key", "pattern", "noted"), [("night*", None, True), ("k", None, False), (None, "n*", False)])
def test_a_pattern_that_is_given_as_an_id_is_noted(
    key: str | None, pattern: str | None, noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = scope_of(key, None, pattern)
    assert scope.id == (key or pattern)
    assert ("--pattern means each key that fits" in capsys.readouterr().err) is noted
