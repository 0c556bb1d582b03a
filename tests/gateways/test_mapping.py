"""The mapping file: what it may say, and what is said of one that will not do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.events import ApiCall
from stream.gateways import gateway
from stream.gateways.adapter import Options
from stream.gateways.errors import InputError
from stream.gateways.mapping import CONVERTERS, UNITS
from stream.gateways.paths import Reader, path_of

HEAD = '[fields]\nevent_id = "id"\ntime = "t"\nkey_id = "k"\n'


def read(text: str, record: Any) -> Any:
    parse = gateway("mapping").parser(Options(mapping=text))
    [(_, _, call)], rejects = parse([(0, json.dumps({"id": "r", "t": 1.7e9, "k": "key"} | record).encode(), 2e9)])
    assert rejects == []
    return call


@pytest.mark.parametrize(
    ("line", "record", "field", "value"),
    [
        ('duration_ms = { path = "d", unit = "s" }', {"d": 1.5}, "duration_ms", 1500.0),
        ('duration_ms = { path = "d", unit = "us" }', {"d": "1500"}, "duration_ms", 1.5),
        ('period_seconds = { path = "d", unit = "ms" }', {"d": 60_000}, "period_seconds", 60.0),
        ('cost_usd = { path = "c", unit = "micros" }', {"c": 2_000_000}, "cost_usd", 2.0),
        ('input_tokens = { path = "n", unit = "thousands" }', {"n": 1.5}, "input_tokens", 1500),
        ('output_tokens = ["a", "b"]', {"a": None, "b": "7"}, "output_tokens", 7),
        ('calls = { value = 3 }', {}, "calls", 3),
        ('model = "m[1].name"', {"m": [{}, {"name": "x"}]}, "model", "x"),
        ('model = "m[1].name"', {"m": [{}]}, "model", None),
        ('org_id = "o"', {"o": 17}, "org_id", "17"),
        ("org_id = \"a['b.c']\"", {"a": {"b.c": "x"}}, "org_id", "x"),
        ('client_ip = "ip"', {"ip": "203.0.113.77"}, "client_ip", "203.0.113.0/24"),
        ('asn = "asn"', {"asn": "64500"}, "asn", 64500),
        ('status = "s"', {"s": "weird"}, "status", None),
    ],
)  # fmt: skip
def test_a_field_comes_from_its_path_in_its_unit(line: str, record: Any, field: str, value: Any) -> None:
    assert getattr(read(HEAD + line, record), field) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fields", "no TOML"),
        ("fields = 3", "no table"),
        ("x = 1\n" + HEAD, "unknown 'x'"),
        ('zeros_are_missing = "yes"\n' + HEAD, "true or false"),
        ('[fields]\nevent_id = "id"', "nothing of time, key_id"),
        (HEAD + 'tokens = "x"', "no field 'tokens'"),
        (HEAD + 'input_token = "x"', "did you mean input_tokens"),
        (HEAD + "model = 3", "is a path"),
        (HEAD + "model = []", "list of one to"),
        (HEAD + "model = [1]", "list of one to"),
        (HEAD + 'model = "a..b"', "is no path"),
        (HEAD + 'model = { path = "a", value = "b" }', "and not both"),
        (HEAD + "model = { }", "needs a path"),
        (HEAD + 'model = { path = "a", type = "int" }', "no option 'type'"),
        (HEAD + 'model = { path = "a", unit = "ms" }', "it has none"),
        (HEAD + 'duration_ms = { path = "a", unit = "hours" }', "there are s, ms, us, ns"),
        (HEAD + 'model = { path = "a", zone = "UTC" }', "only time has"),
        (HEAD.replace('"t"', '{ path = "t", zone = "Mars/Olympus" }'), "Europe/Berlin"),
        (HEAD.replace('"k"', '"headers.authorization"'), "holds the secret itself"),
        (HEAD + 'model = "a.b"\norg_id = "a"', "looks inside it"),
        (HEAD + 'model = "a.b"\norg_id = "a[0]"', "not both"),
        (HEAD + 'model = { value = [1] }', "is a text or a number"),
    ],
)  # fmt: skip
def test_a_file_that_will_not_do_says_what_will(text: str, words: str) -> None:
    with pytest.raises(InputError, match=r"mapping: |asked for|looks inside") as error:
        gateway("mapping").parser(Options(mapping=text))
    assert words in str(error.value)


def test_every_field_has_a_converter() -> None:
    assert set(CONVERTERS) | set(UNITS) == set(ApiCall.model_fields)


def test_what_no_path_leads_to_is_not_decoded() -> None:
    reader = Reader({"key": [path_of("k")]})
    record = reader.decode(b'{"k": "key", "prompt": "\xff not even UTF-8", "messages": [' + b"{}," * 10_000 + b"{}]}")
    assert reader.read(record) == {"key": "key"}
    assert record.__struct_fields__ == ("f0",)
