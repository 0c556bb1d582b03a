"""The operators' word as it stands on the topic: what is read, what is refused and why, what of it holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.cli.common import BadInput
from stream.cli.operators import end_of, message_of, scope_of, seconds_of, time_of
from stream.control import AHEAD_SECONDS, KINDS, MAX_BYTES, MESSAGE, ControlError, read_message, write_message
from stream.events import REASONS
from stream.standing import Standing

AT = 1_772_323_200.0
ALERT = "8d0254295b2f2b0ef765e512efe32f4e"
KEY = {"type": "key", "id": "key-1"}
CONTENT: dict[str, dict[str, Any]] = {
    "acknowledge": {"alert_id": ALERT, "entity": KEY, "severity": "high"},
    "mute": {"entity": KEY, "until": AT + 3600},
    "unmute": {"entity": KEY},
    "feedback": {"alert_id": ALERT, "key_id": "key-1", "verdict": "wrong"},
    "maintenance": {"scope": {"type": "all"}, "begin": AT, "until": AT + 3600},
    "allow": {"scope": KEY, "tokens_per_hour": 5},
    "remove": {"rule": "r1"},
    "block": {"key_id": "key-1"},
    "unblock": {"key_id": "key-1"},
}


def raw(kind: str = "block", **changes: Any) -> bytes:
    content = {"kind": kind, "id": "r1", "at": "2026-03-01T00:00:00Z", "by": "ann", "why": "because"}
    content |= CONTENT.get(kind, {}) | changes
    return json.dumps({name: value for name, value in content.items() if value is not ...}).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_and_written_alike(kind: str) -> None:
    message = read_message(raw(kind), AT)
    assert (message.kind, message.by, message.why, message.at) == (kind, "ann", "because", AT)
    assert read_message(write_message(message)) == message
    assert len(message.subject) < 600


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (None, "control_malformed", "empty"),
        (b"", "control_malformed", "empty"),
        (b"\xff\xfe", "control_malformed", "JSON"),
        (b"[]", "control_malformed", "object"),
        (b"x" * (MAX_BYTES + 1), "control_malformed", "bytes"),
        (raw("shout"), "control_kind", "'shout' is no kind"),
        (raw("a\x1b[31m"), "control_kind", r"a\x1b[31m"),
        (raw(kind=...), "control_kind", "no kind"),
        (raw(why=...), "control_malformed", "why"),
        (raw(by=""), "control_malformed", "by"),
        (raw(id="a b"), "control_malformed", "id"),
        (raw(surprise=1), "control_malformed", "surprise"),
        (raw(key_id=""), "control_malformed", "key_id"),
        (raw(at="2026-03-01T00:00:00"), "control_dated", "no zone"),
        (raw(at="soon"), "control_dated", "at"),
        (raw(at=1e15), "control_dated", "at"),
        (raw(at=AT + AHEAD_SECONDS + 1), "control_dated", "clock"),
        (raw(until=AT), "control_dated", "before it begins"),
        (raw("mute", until=AT - 1), "control_dated", "before it begins"),
        (raw("mute", until=AT + 91 * 86_400), "control_dated", "at most 90 days"),
        (raw("maintenance", until=AT + 32 * 86_400), "control_dated", "at most 31 days"),
        (raw("allow", scope={"type": "all"}), "control_malformed", "a key, an org or a pattern"),
        (raw("allow", scope={"type": "key"}), "control_malformed", "names whom"),
        (raw("allow", tokens_per_hour=0), "control_malformed", "tokens_per_hour"),
        (raw("feedback", verdict="perhaps"), "control_malformed", "verdict"),
        (raw("acknowledge", alert_id="x"), "control_malformed", "alert_id"),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(value: bytes | None, reason: str, words: str) -> None:
    with pytest.raises(ControlError) as refused:
        read_message(value, AT)
    assert refused.value.reason == reason
    assert reason in REASONS
    assert words in str(refused.value)
    assert str(refused.value).isprintable()


@given(value=st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(value: bytes) -> None:
    with pytest.raises(ControlError):
        read_message(value)


@given(text=st.text(min_size=1, max_size=256))
def test_any_id_is_taken_as_it_is(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    message = MESSAGE.validate_python(json.loads(raw(key_id=text)))
    assert read_message(write_message(message)) == message


def test_what_was_taken_back_or_is_over_does_not_hold() -> None:
    standing = Standing(
        read_message(value)
        for value in (
            raw("mute"),
            raw("allow", id="a", scope={"type": "org", "id": "acme"}),
            raw("allow", id="b", scope=KEY, tokens_per_hour=9),
            raw("maintenance", id="m"),
            raw("block"),
            raw("block", key_id="key-2", until=AT + 60),
            raw("unblock"),
            raw("remove", rule="m"),
        )
    )
    assert [one.kind for one in standing.at(AT)] == ["mute", "allow", "allow", "block"]
    assert [one.kind for one in standing.at(AT + 3600)] == ["allow", "allow"]
    assert set(standing.blocked(AT)) == {"key-2"}
    allowed = standing.allowed("key-1", "acme", AT)
    assert allowed is not None
    assert allowed.tokens_per_hour == 9
    assert standing.allowed("key-3", None, AT) is None
    assert standing.rule("a", AT) is not None
    assert standing.rule("m", AT) is None


def test_times_and_lengths_are_read_or_refused_with_a_hint() -> None:
    assert seconds_of("90m") == 5400
    assert end_of("2h", None, AT) == AT + 7200
    assert end_of(None, "2026-03-01T01:00Z", AT) == AT + 3600
    assert end_of(None, None, AT) is None
    for wrong in ("2", "h", "-1h", "0h", "2 weeks"):
        with pytest.raises(BadInput, match="90m, 4h or 2d"):
            seconds_of(wrong)
    with pytest.raises(BadInput, match="no zone"):
        time_of("2026-03-01T01:00")
    with pytest.raises(BadInput, match="leave one out"):
        end_of("2h", "2026-03-01T01:00Z", AT)


def test_a_scope_is_given_once() -> None:
    assert str(scope_of(None, "acme", None)) == "org acme"
    assert str(scope_of(None, None, None, everything=True)) == "all keys"
    for given_scopes in ((None, None, None), ("a", "b", None)):
        with pytest.raises(BadInput, match="once"):
            scope_of(*given_scopes)


def test_what_the_schema_does_not_allow_is_bad_input_in_one_line() -> None:
    with pytest.raises(BadInput, match="why"):
        message_of("block", "ann", "", AT, key_id="k")
    with pytest.raises(BadInput, match="at most 90 days"):
        message_of("mute", "ann", "x", AT, entity=KEY, until=AT + 100 * 86_400)
    assert message_of("block", "ann", "x", AT, key_id="k").id != message_of("block", "ann", "x", AT, key_id="k").id
