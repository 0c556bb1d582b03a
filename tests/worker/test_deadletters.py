from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from stream.events import Reject
from stream.worker.deadletters import MAX_STRING, dead_letter, known_fields
from tests.worker.fakes import T0, Record


def letter(value: bytes, **changes: Any) -> Any:
    reject = Reject(**{"position": 7, "reason": "wrong_type", "message": "no", "value": value, **changes})
    _, packed, headers = dead_letter(reject, Record(7, value, int(T0 * 1000), 3), "api-calls")
    assert dict(headers)["reason"] == reject.reason.encode()
    return json.loads(packed or b"")


def test_a_dead_letter_says_why_and_where_and_how_to_find_the_record() -> None:
    value = b'{"key_id": "k", "calls": "9 or so"}'
    assert letter(value) == {
        "reason": "wrong_type",
        "message": "no",
        "topic": "api-calls",
        "partition": 3,
        "offset": 7,
        "element": None,
        "timestamp": "2026-03-01T00:00:00Z",
        "size": len(value),
        "sha256": sha256(value).hexdigest(),
        "record": {"key_id": "k", "calls": "9 or so"},
        "further": 0,
    }


def test_prompts_user_agents_and_whatever_is_unknown_stay_out() -> None:
    value = b'{"key_id": "k", "messages": [{"content": "a secret"}], "user_agent": "curl", "api_key": "sk-secret"}'
    text = json.dumps(letter(value))
    assert "secret" not in text
    assert "curl" not in text
    assert letter(value)["record"] == {"key_id": "k"}


def test_a_secret_inside_a_known_field_of_the_wrong_shape_stays_out() -> None:
    assert letter(b'{"model": {"prompt": "secret"}, "org_id": ["secret"]}')["record"] == {
        "model": "(object)",
        "org_id": "(array)",
    }


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("192.0.2.77:4711", "(no address)"),
        (17, 17),
    ],
)
def test_a_client_address_is_cut_to_its_network(address: object, shown: object) -> None:
    assert letter(json.dumps({"client_ip": address}).encode())["record"] == {"client_ip": shown}
    assert letter(json.dumps({"client.address": address}).encode())["record"] == {"client_ip": shown}


@pytest.mark.parametrize("value", [b"", b"{", b"[1, 2]", b'"text"', b"\xff\xfe", b"[" * 100_000, b"1" * 10_000])
def test_what_is_no_object_has_no_record(value: bytes) -> None:
    assert letter(value)["record"] is None


def test_absurd_values_are_made_harmless() -> None:
    fields = known_fields(b'{"key_id": "' + b"x" * 1000 + b'", "calls": ' + b"9" * 300 + b', "cost_usd": NaN}')
    assert fields is not None
    assert fields["key_id"] == "(text of 1000 characters)"
    assert fields["calls"] == "(integer of more than 64 bits)"
    assert fields["cost_usd"] == "(nan)"


def test_a_text_that_is_too_long_for_its_field_is_not_told() -> None:
    """It may be a prompt that a mapping has put in the wrong place."""
    prompt = "secret words of a prompt, more of them than any number has"
    told = known_fields(json.dumps({"input_tokens": prompt, "time": prompt, "model": "x" * MAX_STRING}).encode())
    assert told == {"input_tokens": "(text of 58 characters)", "time": "(text of 58 characters)", "model": "x" * 256}
    assert known_fields(b'{"input_tokens": "12 tokens", "time": "2026-03-01 12:00"}') == {
        "input_tokens": "12 tokens",
        "time": "2026-03-01 12:00",
    }
    assert known_fields(b'{"time": "my words", "input_tokens": "sk-1"}') == {
        "time": "(text of 8 characters)",
        "input_tokens": "(text of 4 characters)",
    }, "short ones neither, if they do not begin as a number does"


def test_of_an_array_only_the_refused_element_is_told() -> None:
    whole = b'[{"key_id": "good"}, {"key_id": "bad"}]'
    reject = Reject(7, "missing_field", "no", b'{"key_id":"bad"}', 1)
    _, packed, _ = dead_letter(reject, Record(7, whole, None, 0), "api-calls")
    content = json.loads(packed or b"")
    assert (content["element"], content["record"], content["size"]) == (1, {"key_id": "bad"}, len(whole))
    assert content["timestamp"] is None


def test_a_reject_of_the_core_is_told_from_the_records_own_value() -> None:
    reject = Reject(7, "misrouted", "elsewhere")
    _, packed, _ = dead_letter(reject, Record(7, b'{"key_id": "k"}', 0, 0), "api-calls")
    assert json.loads(packed or b"")["record"] == {"key_id": "k"}
