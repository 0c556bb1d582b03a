"""The canonical parser: every record is accepted or refused with a reason, and good ones around bad ones count."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.events import LATEST_TIME, MAX_TOKENS, REASONS, ApiCall, Call
from stream.gateways.overdraw import ALIASES, parse
from stream.gateways.quick import MAX_RECORD_BYTES
from stream.gateways.traits import REDUCED

NOW = 1_800_000_000.0
GOOD = b'{"event_id":"good","time":1700000000,"key_id":"k","input_tokens":5}'


def record(**fields: Any) -> bytes:
    return json.dumps({"event_id": "e", "time": 1_700_000_000, "key_id": "k"} | fields).encode()


def raw(tail: str) -> bytes:
    return b'{"event_id":"e","time":1700000000,"key_id":"k",' + tail.encode("utf-8", "surrogatepass") + b"}"


def without(name: str) -> bytes:
    return json.dumps({k: v for k, v in json.loads(record()).items() if k != name}).encode()


def judge(value: bytes | None, latest: float = NOW) -> list[str]:
    """Reasons of a record between two good ones, which must both count."""
    calls, rejects = parse([(1, GOOD, latest), (2, value, latest), (3, GOOD, latest)])
    assert [position for position, _, _ in calls if position != 2] == [1, 3]
    assert all(reject.position == 2 and reject.message for reject in rejects)
    return [reject.reason for reject in rejects]


BAD = [
    # why, record, reason
    ("no value (a tombstone)", None, "empty"),
    ("empty", b"", "empty"),
    ("blanks", b" \t\r\n", "empty"),
    ("cut off", GOOD[:-1], "broken_json"),
    ("two values", GOOD + GOOD, "broken_json"),
    ("a NUL byte", b"\0", "broken_json"),
    ("a byte order mark in the middle of a stream", b"\xef\xbb\xbf" + GOOD, "broken_json"),
    ("python, not JSON", b"{'event_id': 'e'}", "broken_json"),
    ("leading zero", raw('"calls":01'), "broken_json"),
    ("raw line break in a string", raw('"model":"a\nb"'), "broken_json"),
    ("lone surrogate, escaped", raw('"model":"\\ud800"'), "broken_json"),
    ("lone surrogate in the id, escaped", raw('"key_id":"\\udfff"'), "broken_json"),
    ("lone surrogate, encoded", raw('"model":"\ud800"'), "invalid_utf8"),
    ("brackets without end", b"[" * 100_000, "broken_json"),
    ("an object nested 100,000 deep in a field that is ignored", raw('"x":' + '{"a":' * 100_000), "broken_json"),
    ("5,000 digits", raw('"input_tokens":1' + "0" * 5000), "broken_json"),
    ("not UTF-8", record(model="X").replace(b"X", b"\xff"), "invalid_utf8"),
    ("UTF-16", GOOD.decode().encode("utf-16"), "invalid_utf8"),
    ("a number", b"12", "not_an_object"),
    ("a text", b'"text"', "not_an_object"),
    ("null", b"null", "not_an_object"),
    ("longer than is read", record(model="x" * MAX_RECORD_BYTES), "too_large"),
    ("no event_id", without("event_id"), "missing_field"),
    ("no time", without("time"), "missing_field"),
    ("no key_id", without("key_id"), "missing_field"),
    ("nothing", b"{}", "missing_field"),
    ("null id", record(event_id=None), "wrong_type"),
    ("null key", record(key_id=None), "wrong_type"),
    ("null time", record(time=None), "wrong_type"),
    ("number as an id", record(key_id=5), "wrong_type"),
    ("true as a count", record(calls=True), "wrong_type"),
    ("true as a number", record(duration_ms=True), "wrong_type"),
    ("true as a time", record(time=True), "wrong_type"),
    ("null calls", record(calls=None), "wrong_type"),
    ("text as a count", record(input_tokens="12"), "wrong_type"),
    ("12.0 as a count", record(input_tokens=12.0), "wrong_type"),
    ("1e3 as a count", raw('"input_tokens":1e3'), "wrong_type"),
    ("a list as a count", record(input_tokens=[1]), "wrong_type"),
    ("empty id", record(event_id=""), "out_of_range"),
    ("empty key", record(key_id=""), "out_of_range"),
    ("long id", record(event_id="x" * 129), "too_long"),
    ("long key", record(key_id="x" * 257), "too_long"),
    ("long key in emoji", record(key_id="😀" * 257), "too_long"),
    ("a string of 7 MB", record(model="x" * 7_000_000), "too_long"),
    ("negative tokens", record(output_tokens=-1), "out_of_range"),
    ("absurd tokens", record(output_tokens=MAX_TOKENS + 1), "out_of_range"),
    ("tokens beyond 64 bits", record(output_tokens=10**30), "out_of_range"),
    ("no calls", record(calls=0), "out_of_range"),
    ("period of nothing", record(period_seconds=0), "out_of_range"),
    ("period too small for a float", raw('"period_seconds":1e-400'), "out_of_range"),
    ("period of a month", record(period_seconds=30 * 86_400), "out_of_range"),
    ("limit of nothing", record(max_output_tokens=0), "out_of_range"),
    ("negative cost", record(cost_usd=-0.01), "out_of_range"),
    ("NaN", record(cost_usd=math.nan), "out_of_range"),
    ("infinity", record(duration_ms=math.inf), "out_of_range"),
    ("a number beyond floats", raw('"duration_ms":1e400'), "out_of_range"),
    ("asn of 33 bits", record(asn=2**32), "out_of_range"),
    ("status", record(status=-1), "out_of_range"),
    ("time in words", record(time="yesterday"), "bad_time"),
    ("digits as text", record(time="1700000000"), "bad_time"),
    ("no such day", record(time="2026-02-30T00:00:00Z"), "bad_time"),
    ("no zone", record(time="2026-02-01T00:00:00"), "time_without_zone"),
    ("1970", record(time=0), "time_out_of_range"),
    ("1970 in words", record(time="1970-01-01T00:00:00Z"), "time_out_of_range"),
    ("2200", record(time="2200-01-01T00:00:00Z"), "time_out_of_range"),
    ("milliseconds", record(time=1_700_000_000_000), "time_out_of_range"),
    ("NaN as a time", record(time=math.nan), "time_out_of_range"),
    ("time of 400 digits", record(time=10**400), "time_out_of_range"),
    ("year 1 east of Greenwich", record(time="0001-01-01T00:00:00+23:59"), "time_out_of_range"),
    ("a clock that is ahead", record(time=NOW + 1), "future"),
    ("a clock that is ahead, in words", record(time="2027-02-01T00:00:00Z"), "future"),
]


@pytest.mark.parametrize(("value", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_record_has_its_reason_and_the_good_ones_around_it_count(value: bytes | None, reason: str) -> None:
    assert judge(value) == [reason]


def test_every_reason_of_this_parser_has_a_row() -> None:
    later = {"misrouted", "too_many_keys", "not_a_call", "bad_evidence"}  # the shard's, and other formats'
    later |= {reason for reason in REASONS if reason.startswith("control_")}
    assert {row[2] for row in BAD} == REASONS.keys() - later


@pytest.mark.parametrize(
    ("time", "hint"),
    [
        (1_700_000_000_000, "milliseconds: divide by 1,000"),
        (1_700_000_000_000_000, "microseconds: divide by 1,000,000"),
        (1_700_000_000_000_000_000, "nanoseconds: divide by 1,000,000,000"),
        (12, "between the years 2000 and 2100"),
    ],
)
def test_a_time_in_the_wrong_unit_is_told_which(time: int, hint: str) -> None:
    _, [reject] = parse([(1, record(time=time), NOW)])
    assert hint in reject.message


def test_a_message_never_repeats_what_the_record_holds() -> None:
    secret = "sk-very-secret"
    _, rejects = parse([(1, record(key_id=secret * 40), NOW), (2, record(calls=secret), NOW)])
    assert len(rejects) == 2
    assert not any(secret in reject.message for reject in rejects)


def test_an_elements_reason_names_it_and_its_neighbours_count() -> None:
    elements = [GOOD, b"1", b"null", b"[]", record(calls=0), GOOD, b"{}"]
    calls, rejects = parse([(9, b"[" + b",".join(elements) + b"]", NOW)])
    assert [(position, call.input_tokens) for position, _, call in calls] == [(9, 5), (9, 5)]
    assert [(r.element, r.reason) for r in rejects] == [
        (1, "not_an_object"),
        (2, "not_an_object"),
        (3, "not_an_object"),
        (4, "out_of_range"),
        (6, "missing_field"),
    ]
    assert json.loads(rejects[3].value)["calls"] == 0


def test_an_empty_array_holds_no_event() -> None:
    assert parse([(1, b"[]", NOW)]) == ([], [])


GOOD_ROWS = [
    ("whole seconds", record(), {"time": 1_700_000_000.0}),
    ("fractions", record(time=1_700_000_000.25), {"time": 1_700_000_000.25}),
    ("zone", record(time="2026-03-01T00:00:00+01:00"), {"time": 1_772_319_600.0}),
    ("lower case", record(time="2026-03-01t00:00:00z"), {"time": 1_772_323_200.0}),
    ("nanoseconds in words", record(time="2026-03-01T00:00:00.123456789Z"), {"time": 1_772_323_200.123456}),
    ("nulls", record(org_id=None, input_tokens=None, cost_usd=None), {"org_id": None, "input_tokens": None}),
    ("whole number as a float", record(cost_usd=3), {"cost_usd": 3.0}),
    ("the largest", record(input_tokens=MAX_TOKENS), {"input_tokens": MAX_TOKENS}),
    ("a field twice: the last one holds", raw('"calls":2,"calls":3'), {"calls": 3}),
    ("a pair of surrogates is one character", raw('"model":"\\ud83d\\ude00"'), {"model": "😀"}),
    ("a NUL in an id is text", record(key_id="a\0b"), {"key_id": "a\0b"}),
    ("what is ignored may be anything", raw('"x":[NaN,{"y":1e999}]'), {}),
    ("longest key", record(key_id="😀" * 256), {"key_id": "😀" * 256}),
]


@pytest.mark.parametrize(("value", "fields"), [row[1:] for row in GOOD_ROWS], ids=[row[0] for row in GOOD_ROWS])
def test_a_good_record_is_read_as_it_is_meant(value: bytes, fields: dict[str, Any]) -> None:
    [(position, time, call)], rejects = parse([(4, value, NOW)])
    assert (position, rejects) == (4, [])
    for name, expected in fields.items():
        assert (time if name == "time" else getattr(call, name)) == expected


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_of_opentelemetry_is_the_field(alias: str) -> None:
    field = ALIASES[alias]
    value: Any = 7 if "tokens" in alias else "text"
    fields = {name: v for name, v in json.loads(record()).items() if name != field}
    [(_, _, call)], rejects = parse([(1, json.dumps(fields | {alias: value}).encode(), NOW)])
    assert rejects == []
    assert getattr(call, field) == (REDUCED[field](value) if field in REDUCED else value)


def test_the_own_name_wins_over_an_alias() -> None:
    [(_, _, call)], _ = parse([(1, record(**{"gen_ai.usage.input_tokens": 7, "input_tokens": 5}), NOW)])
    assert call.input_tokens == 5


def test_the_quick_twin_has_the_fields_and_limits_of_the_authority() -> None:
    schema = ApiCall.model_json_schema(by_alias=False)
    twin = {field.encode_name: field for field in msgspec.structs.fields(Call)}
    assert list(twin) == list(ApiCall.model_fields)
    words = {
        "ge": "minimum",
        "gt": "exclusiveMinimum",
        "le": "maximum",
        "min_length": "minLength",
        "max_length": "maxLength",
    }
    for name, field in twin.items():
        if name == "time":
            assert set(get_args(field.type)) == {float, str}
            continue
        options = [type(None)] if type(None) in get_args(field.type) else []
        inner = next((part for part in get_args(field.type) if part is not type(None)), field.type)
        kind, meta = (inner if options else field.type).__origin__, (inner if options else field.type).__metadata__[0]
        theirs = schema["properties"][name]
        branches = theirs.get("anyOf", [theirs])
        [main] = [branch for branch in branches if branch["type"] != "null"]
        assert main["type"] == {str: "string", int: "integer", float: "number"}[kind], name
        assert (len(branches) == 2) == bool(options), name
        limits = {words[key]: getattr(meta, key) for key in words if getattr(meta, key) is not None}
        assert limits == {key: value for key, value in main.items() if key in words.values()}, name
        required = field.default is msgspec.NODEFAULT
        assert required == (name in schema["required"]), name
        assert required or field.default == ApiCall.model_fields[name].default, name


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10),
    st.integers(),
    st.sampled_from(
        [MAX_TOKENS, MAX_TOKENS + 1, 2**32 - 1, 2**32, 2**53 + 1, 2**63, 2**64, 10**9, 10**9 + 1, 999, 1000]
    ),
    st.floats(),
    st.sampled_from([0.0, -0.0, 12.0, 1e9, 1e12, 604_800.0, 604_800.5, 5e-324]),
    st.text(max_size=5),
    st.integers(1, 4100).map("x".__mul__),
    st.sampled_from(["x" * n for n in (64, 65, 128, 129, 256, 257, 4096, 4097)]),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.floats(946_684_799, LATEST_TIME + 1),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
NAMES = [*ApiCall.model_fields, *ALIASES, "other"]


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), ODD, max_size=8), st.sets(st.sampled_from(["event_id", "time", "key_id"]))
)
@example({"user_agent.original": "x"}, set())
@example({"client.address": "x", "client_ip": None}, set())
def test_the_quick_way_and_the_authority_agree(fields: dict[str, Any], left_out: set[str]) -> None:
    document = {k: v for k, v in json.loads(record()).items() if k not in left_out} | fields
    calls, rejects = parse([(1, json.dumps(document).encode(), math.inf)])
    assert len(calls) + len(rejects) == 1
    try:
        authority = ApiCall.model_validate(document)
    except ValueError:
        assert rejects
        assert rejects[0].reason in REASONS
        return
    assert not rejects, rejects
    _, time, call = calls[0]
    mine = {name: getattr(call, name) for name in ApiCall.model_fields} | {"time": time}
    traits = {
        name: reduce(value) for name, reduce in REDUCED.items() if (value := getattr(authority, name)) is not None
    }
    expected = authority.model_dump() | traits
    assert mine == expected
    assert {name: type(value) for name, value in mine.items()} == {name: type(v) for name, v in expected.items()}


JSONISH = st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner))


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    value = bytearray(draw(st.sampled_from([GOOD, b"[" + GOOD + b"," + GOOD + b"]", record(model="ü", cost_usd=0.5)])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(value)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.none(), st.binary(max_size=40), mutilated(), JSONISH.map(lambda v: json.dumps(v).encode())))
def test_whatever_the_bytes_every_event_is_accepted_or_has_a_reason(value: bytes | None) -> None:
    calls, rejects = parse([(7, value, NOW)])
    assert all(reject.reason in REASONS for reject in rejects)
    for position, time, call in calls:
        assert position == 7
        assert 0 < time <= NOW
        for name in ("event_id", "key_id", "org_id", "user_id", "model"):
            (getattr(call, name) or "").encode()
    expected = 1
    if value is not None and value.lstrip().startswith(b"["):
        try:
            expected = len(json.loads(value))
        except (ValueError, RecursionError):
            expected = len(calls) + len(rejects)
            assert expected >= 1
    assert len(calls) + len(rejects) == expected
