"""One suite that every adapter passes: what it takes, what it refuses and why, and that nothing breaks it."""

from __future__ import annotations

import json
import random
import tracemalloc
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.events import REASONS
from stream.gateways import GATEWAYS
from stream.gateways.adapter import MAX_ELEMENTS, SECRETS, Options
from stream.gateways.canonical import records_of
from stream.gateways.errors import InputError
from stream.gateways.overdraw import parse
from stream.gateways.quick import MAX_RECORD_BYTES
from stream.gateways.recognise import recognise
from stream.settings import IntakeFormat
from tests.gateways.fixtures import FIXTURES, FORMATS, Fixture
from tests.gateways.fuzz import BY_FORMAT, JSONISH, NOW, by_mutation, encoded, mutated, places, said, survives

MARKERS = ("PROMPT-marker", "SECRET-marker", "203.0.113.77", "198.51.100.200")
GOOD = {format: next(f for f in fixtures if f.calls and not f.rejects) for format, fixtures in BY_FORMAT.items()}


def test_every_format_of_the_intake_has_records_here() -> None:
    assert set(FORMATS) == GATEWAYS.keys() - {"overdraw", "csv"}
    assert set(get_args(IntakeFormat)) == GATEWAYS.keys() - {"csv"}


@pytest.mark.parametrize("fixture", FIXTURES, ids=str)
def test_a_record_becomes_its_calls_and_its_refusals(fixture: Fixture) -> None:
    calls, rejects = fixture.parse([(7, fixture.value, NOW)])
    assert [reject.reason for reject in rejects] == fixture.rejects
    assert len(calls) == len(fixture.calls)
    for (position, time, call), expected in zip(calls, fixture.calls, strict=True):
        assert (position, time) == (7, call.time)
        assert {name: getattr(call, name) for name in expected} == expected


@pytest.mark.parametrize("fixture", FIXTURES, ids=str)
def test_no_prompt_no_secret_and_no_address_is_left(fixture: Fixture) -> None:
    calls, rejects = fixture.parse([(7, fixture.value, NOW)])
    records = [bytes(value) for _, value in records_of([(7, fixture.value)], fixture.parse)]
    shown = repr(calls) + repr(rejects) + repr(records)
    for marker in MARKERS:
        assert marker not in shown


@pytest.mark.parametrize("fixture", FIXTURES, ids=str)
def test_the_calls_are_the_same_as_canonical_records(fixture: Fixture) -> None:
    calls, rejects = fixture.parse([(7, fixture.value, NOW)])
    again, refused = parse([(number, value, NOW) for number, value in records_of([(7, fixture.value)], fixture.parse)])
    assert [said(call) for _, _, call in again] == [said(call) for _, _, call in calls]
    assert [(r.position, r.reason, r.message, r.element) for r in refused] == [
        (r.position, r.reason, r.message, r.element) for r in rejects
    ]


@pytest.mark.parametrize("fixture", [f for f in FIXTURES if f.calls and f.format != "mapping"], ids=str)
def test_a_format_is_recognised_by_its_content(fixture: Fixture) -> None:
    seen = recognise([fixture.value])
    assert seen.format == fixture.format
    assert seen.sign


@pytest.mark.parametrize(("field", "value"), [("key_id", "key"), ("event_id", "1"), ("time", 1.7e9)])
def test_the_canonical_format_is_recognised_and_others_are_not_guessed(field: str, value: Any) -> None:
    record = {"event_id": "1", "time": 1.7e9, "key_id": "key"}
    assert recognise([b"", b"{", json.dumps([record]).encode()]).format == "overdraw"
    assert recognise([b"key_id,time", b"k,1"]).format == "csv"
    with pytest.raises(InputError, match="of no format"):
        recognise([b'{"of":["x","model","y"]}'])
    with pytest.raises(InputError, match=r"names at the top: .*--format.*--mapping"):
        recognise([json.dumps({name: v for name, v in record.items() if name != field}).encode()])
    with pytest.raises(InputError, match="none of its first records is a JSON object"):
        recognise([b"17", b"\xff", b"[]"])


@pytest.mark.parametrize("format", FORMATS)
def test_good_records_around_bad_ones_count_and_keep_their_places(format: str) -> None:
    fixture = GOOD[format]
    good, count = fixture.value, len(fixture.calls)
    bad = [None, b"", b" ", b"{", b"[", b"17", b"null", b'"text"', b"\xff\xfe", b"{}", b"[17]", b"[[]]", b'{"a":NaN']
    records = [record for value in bad for record in (good, value)] + [good]
    calls, rejects = fixture.parse([(position, value, NOW) for position, value in enumerate(records)])
    assert [p for p, _, _ in calls] == [p for p in range(0, len(records), 2) for _ in range(count)]
    assert [reject.position for reject in rejects] == list(range(1, len(records), 2))
    assert {reject.reason for reject in rejects} <= REASONS.keys()
    assert all(reject.message for reject in rejects)


@pytest.mark.parametrize("format", FORMATS)
def test_a_bad_element_of_an_array_is_told_by_its_place(format: str) -> None:
    fixture = GOOD[format]
    one = fixture.record[0] if isinstance(fixture.record, list) else fixture.record
    count = len(fixture.parse([(0, json.dumps(one).encode(), NOW)])[0])
    calls, rejects = fixture.parse([(3, json.dumps([one, 17, one, {}, one]).encode(), NOW)])
    assert len(calls) == 3 * count
    assert [reject.element for reject in rejects] == [count, 2 * count + 1]


@pytest.mark.parametrize("format", FORMATS)
def test_the_future_is_refused(format: str) -> None:
    fixture = GOOD[format]
    calls, rejects = fixture.parse([(3, fixture.value, 1_700_000_000.0)])
    assert calls == []
    assert {reject.reason for reject in rejects} == {"future"}
    assert len(rejects) == len(fixture.calls)


def hostile() -> list[tuple[str, bytes, str | None]]:
    """Why, a record, and the reason for which every format refuses it (None: it may differ)."""
    return [
        ("brackets", b"[" * 100_000, "broken_json"),
        ("objects", b'{"a":' * 100_000, "broken_json"),
        ("depth in what is ignored", b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", None),
        ("a long array of nothing", b"[" + b"0," * 400_000 + b"0]", "too_large"),
        ("a long array of objects", b"[" + b"{}," * 300_000 + b"{}]", "too_large"),
        ("a huge record", b'{"a":"' + b"x" * MAX_RECORD_BYTES + b'"}', "too_large"),
        ("a huge record of small values", b'{"a":[' + b"0," * 3_000_000 + b"0]}", "too_large"),
        ("a number of 100,000 digits", b'{"a":1' + b"0" * 100_000 + b"}", None),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\x00" * 100, "invalid_utf8"),
    ]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("value", "reason"), [row[1:] for row in hostile()], ids=[row[0] for row in hostile()])
def test_a_hostile_record_is_refused_in_bounded_memory(format: str, value: bytes, reason: str | None) -> None:
    read = GOOD[format].parse
    tracemalloc.start()
    try:
        calls, rejects = read([(1, value, NOW)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert calls == []
    assert len(rejects) == 1
    assert reason in (None, rejects[0].reason)
    assert len(rejects[0].message) <= 400
    assert peak < 160 << 20


@pytest.mark.parametrize("format", ["otel", "openai-usage"])
def test_a_record_of_too_many_calls_is_refused_whole(format: str) -> None:
    fixture = BY_FORMAT[format][0]
    if format == "otel":
        thin = {"attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "1"}}]}
        record: Any = {"resourceSpans": [{"scopeSpans": [{"spans": [thin] * (MAX_ELEMENTS + 1)}]}]}
    else:
        record = {"start_time": 1, "end_time": 2, "results": [{"num_model_requests": 1}] * (MAX_ELEMENTS + 1)}
    value = json.dumps(record, separators=(",", ":")).encode()
    calls, rejects = fixture.parse([(1, value, NOW)])
    assert (calls, [reject.reason for reject in rejects]) == ([], ["too_large"])


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_header_of_secrets_is_no_key(name: str) -> None:
    for text in (name, f"request.headers.{name}", f"request.headers['{name}']", name.upper()):
        with pytest.raises(InputError, match="holds the secret itself"):
            Options(key_from=(text,))


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_client_sends_in_latin_1_or_as_half_a_pair_costs_no_call(format: str) -> None:
    fixture = GOOD[format]
    odd = fixture.value.replace(b"curl/8", b"\xe9\\ud800").replace(b"OpenAI/Python", b"\xe9\\ud800")
    odd = odd.replace(b"m-large", b"m\xff")
    calls, rejects = fixture.parse([(1, odd, NOW)])
    assert rejects == []
    assert len(calls) == len(fixture.calls)
    for _, _, call in calls:
        (call.model or "").encode()


@pytest.mark.parametrize(
    ("format", "more"),
    [
        ("apisix", {"server": {"hostname": "gw-1"}}),
        ("kong", {"gateway": "gw-1"}),
        ("envoy", {"gateway": "gw-1"}),
        ("otel", [{"key": "k8s.pod.name", "value": {"stringValue": "gw-1"}}]),
    ],
)
def test_a_record_says_which_instance_of_the_gateway_wrote_it(format: str, more: Any) -> None:
    fixture = GOOD[format]
    record = json.loads(json.dumps(fixture.record[0] if isinstance(fixture.record, list) else fixture.record))
    if format == "otel":
        for batch in (*record.get("resourceSpans", ()), *record.get("resourceLogs", ())):
            batch.setdefault("resource", {}).setdefault("attributes", []).extend(more)
    else:
        record |= more
    calls, _ = fixture.parse([(1, json.dumps(record).encode(), NOW)])
    assert {call.gateway for _, _, call in calls} == {"gw-1"}


# ---------------------------------------------------------------------- whatever comes; `fuzz.py` runs a million


@pytest.mark.parametrize("format", FORMATS)
@given(seed=st.integers(0, 2**32), times=st.integers(1, 4), odd=JSONISH)
@settings(max_examples=60)
def test_no_mutation_of_a_record_breaks_an_adapter(format: str, seed: int, times: int, odd: Any) -> None:
    rng = random.Random(seed)
    fixture = rng.choice(BY_FORMAT[format])
    document = fixture.record
    for _ in range(times):
        if places(document):
            document = mutated(document, rng, odd)
    survives(fixture, encoded(document))


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
@settings(max_examples=60)
def test_no_change_of_bytes_breaks_an_adapter(format: str, data: st.DataObject) -> None:
    fixture = data.draw(st.sampled_from(BY_FORMAT[format]))
    value = bytearray(fixture.value.replace(b"PROMPT-marker", b"text"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value)))
        value[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    survives(fixture, bytes(value))


@pytest.mark.parametrize("format", FORMATS)
@given(value=st.one_of(st.binary(max_size=40), JSONISH.map(lambda v: json.dumps(v).encode())))
def test_nothing_at_all_breaks_an_adapter(format: str, value: bytes) -> None:
    survives(GOOD[format], value)


@pytest.mark.parametrize("format", [*FORMATS, "overdraw", "csv"])
def test_no_piece_of_other_records_breaks_an_adapter(format: str) -> None:
    by_mutation(format, 1, 400)
