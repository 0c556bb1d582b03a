"""What operators type by mistake is said before it is written; none of this reaches a broker."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from stream.cli.common import BadInput
from stream.cli.operators import scope_of
from stream.cli.word import mute

NOWHERE = ["--set", "broker=127.0.0.1:1"]


@pytest.mark.parametrize("entity_id", ["", "x" * 257])
def test_an_id_that_no_key_can_have_is_not_muted(entity_id: str) -> None:
    done = CliRunner().invoke(mute, ["--for", "1h", "--why", "x", *NOWHERE, "--", entity_id], standalone_mode=False)
    assert isinstance(done.exception, BadInput)
    assert f"1 to 256 characters, and this one {len(entity_id)}" in str(done.exception)


@pytest.mark.parametrize(("key", "pattern", "noted"), [("night*", None, True), ("k", None, False), (None, "n*", False)])
def test_a_pattern_that_is_given_as_an_id_is_noted(
    key: str | None, pattern: str | None, noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = scope_of(key, None, pattern)
    assert scope.id == (key or pattern)
    assert ("--pattern means each key that fits" in capsys.readouterr().err) is noted
