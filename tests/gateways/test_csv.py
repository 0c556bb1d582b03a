"""The csv format: a row becomes the canonical object, and what is no row becomes a dead letter."""

from __future__ import annotations

import csv as stdlib_csv
import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.events import REASONS, ApiCall
from stream.gateways import GATEWAYS, gateway
from stream.gateways.csv import INTEGERS, MAX_ROW_LINES, NUMBERS, rows
from stream.gateways.errors import InputError
from stream.gateways.overdraw import parse

NOW = 1_800_000_000.0
HEADER = b"event_id,time,key_id,input_tokens,model,cost_usd"


def lines(text: bytes) -> list[tuple[int, bytes]]:
    return list(enumerate(text.split(b"\n"), 1))


def read(text: bytes, *args: Any, **options: Any) -> list[tuple[int, Any]]:
    return [(number, json.loads(value)) for number, value in rows(lines(text), *args, **options)]


def judge(text: bytes, *args: Any, **options: Any) -> tuple[list[int], list[tuple[int, str]]]:
    """Lines that count, and lines with a reason."""
    calls, rejects = parse([(number, value, NOW) for number, value in rows(lines(text), *args, **options)])
    return [position for position, _, _ in calls], [(reject.position, reject.reason) for reject in rejects]


def test_a_row_is_the_object_of_its_header() -> None:
    text = HEADER + b"\na,2026-03-01T00:00:00Z,k,12,m,0.5\n"
    expected = {"event_id": "a", "time": "2026-03-01T00:00:00Z", "key_id": "k"}
    assert read(text) == [(2, expected | {"input_tokens": 12, "model": "m", "cost_usd": 0.5})]


def test_fields_come_from_mapped_columns_and_constants() -> None:
    text = b"when,who,n,model\n1700000000,k,5,m"
    mapping = {"time": "when", "input_tokens": "n"}
    constants = {"key_id": "azure", "status": "200", "model": "fixed"}
    expected = {"event_id": "row-2", "time": 1_700_000_000, "key_id": "azure"}
    assert read(text, mapping, constants) == [(2, expected | {"model": "fixed", "input_tokens": 5, "status": 200})]


def test_ids_of_rows_can_have_a_prefix_so_that_two_files_differ() -> None:
    assert [v["event_id"] for _, v in read(b"time,key_id\n1,k\n\n2,k", row_prefix="b")] == ["b-2", "b-4"]


CELLS = [
    # field, cell, value in the object (None: absent)
    ("input_tokens", "54", 54),
    ("input_tokens", "54.0", 54),
    ("input_tokens", " 54 ", 54),
    ("input_tokens", "1e3", 1000),
    ("input_tokens", "+5", 5),
    ("input_tokens", "007", 7),
    ("input_tokens", "5.5", 5.5),
    ("input_tokens", "-5", -5),
    ("input_tokens", "9" * 30, 10**30 - 1),
    ("input_tokens", "", None),
    ("input_tokens", "  ", None),
    ("input_tokens", "nan", "nan"),
    ("input_tokens", "inf", "inf"),
    ("input_tokens", "1e999", "1e999"),
    ("input_tokens", "1_000", "1_000"),
    ("input_tokens", "٣", "٣"),
    ("input_tokens", "12 tokens", "12 tokens"),
    ("input_tokens", "9" * 5000, "9" * 5000),
    ("cost_usd", "1", 1.0),
    ("cost_usd", ".5", 0.5),
    ("cost_usd", "$5", "$5"),
    ("model", " m ", " m "),
    ("model", "12", "12"),
    ("time", "1700000000", 1_700_000_000.0),
    ("time", "1700000000.25", 1_700_000_000.25),
    ("time", "2023-11-16 18:15:46.6805900", 1_700_158_546.68059),
    ("time", "2023-11-16T18:15:46", 1_700_158_546.0),
    ("time", "2023-11-16T18:15:46Z", "2023-11-16T18:15:46Z"),
    ("time", "2023-11-16 18:15:46+02:00", "2023-11-16 18:15:46+02:00"),
    ("time", "11/16/2023 6:15 PM", "11/16/2023 6:15 PM"),
    ("time", "", None),
]


@pytest.mark.parametrize(("field", "cell", "value"), CELLS)
def test_a_cell_is_read_as_its_field_wants_it(field: str, cell: str, value: object) -> None:
    names = list(dict.fromkeys(["event_id", "time", "key_id", field]))
    cells = ["e", "1700000000", "k", cell] if len(names) == 4 else ["e", cell, "k"]
    [(_, call)] = read(f"{','.join(names)}\n{','.join(cells)}".encode())
    assert call.get(field) == value
    assert type(call.get(field)) is type(value)


def test_a_time_without_a_zone_is_taken_in_the_zone_that_is_said() -> None:
    text = b"time,key_id\n2023-06-01 12:00:00,k\n2023-12-01 12:00:00,k\n2023-12-01 12:00:00Z,k"
    times = [value["time"] for _, value in read(text, zone="Europe/Berlin")]
    assert times == [1_685_613_600.0, 1_701_428_400.0, "2023-12-01 12:00:00Z"]  # summer is +2, winter is +1


def test_number_fields_are_those_of_the_authority() -> None:
    kinds: dict[str, set[str]] = {"integer": set(), "number": set()}
    for name, schema in ApiCall.model_json_schema(by_alias=False)["properties"].items():
        for branch in schema.get("anyOf", [schema]):
            kinds.get(branch["type"], set()).add(name)
    assert kinds == {"integer": set(INTEGERS), "number": NUMBERS | {"time"}}


ROWS = [
    # why, rows under the header, lines that count, lines with a reason
    ("all good", b"a,1.7e9,k,1,m,\nb,1.7e9,k,1,m,", [2, 3], []),
    ("blank lines", b"a,1.7e9,k,1,m,\n\n \r\n\nb,1.7e9,k,1,m,\n", [2, 6], []),
    ("line ends of Windows", b"a,1.7e9,k,1,m,\r\nb,1.7e9,k,1,m,\r\n", [2, 3], []),
    ("too few cells: the rest is absent", b"a,1.7e9,k", [2], []),
    ("too few cells for a call", b"a,1.7e9\nb,1.7e9,k,1,m,", [3], [(2, "missing_field")]),
    ("too many cells", b"a,1.7e9,k,1,m,,x\nb,1.7e9,k,1,m,", [3], [(2, "not_an_object")]),
    ("too many cells that spell JSON", b'{"event_id":"a","time":1.7e9,"key_id":"k"' + b',"x":1' * 9 + b"}", [], None),
    ("line break in a cell", b'a,1.7e9,"k\n\n2",1,m,\nb,1.7e9,k,1,m,', [2, 5], []),
    ("not a number", b"a,1.7e9,k,many,m,\nb,1.7e9,k,1,m,", [3], [(2, "wrong_type")]),
    ("NaN", b"a,1.7e9,k,NaN,m,", [], [(2, "wrong_type")]),
    ("half a token", b"a,1.7e9,k,1.5,m,", [], [(2, "wrong_type")]),
    ("negative", b"a,1.7e9,k,-1,m,", [], [(2, "out_of_range")]),
    ("huge", b"a,1.7e9,k," + b"9" * 40 + b",m,", [], [(2, "out_of_range")]),
    ("milliseconds", b"a,1700000000000,k,1,m,", [], [(2, "time_out_of_range")]),
    ("a time nobody can read", b"a,noon,k,1,m,\nb,1.7e9,k,1,m,", [3], [(2, "bad_time")]),
    ("an empty id is no id", b",1.7e9,k,1,m,", [], [(2, "missing_field")]),
    ("only commas", b",,,,,", [], [(2, "missing_field")]),
    ("not UTF-8", b"a,1.7e9,k\xff,1,m,\nb,1.7e9,k,1,m,", [3], [(2, "invalid_utf8")]),
    ("not UTF-8 in quotes", b'a,1.7e9,"k\n\xff",1,m,\nb,1.7e9,k,1,m,', [4], [(2, "invalid_utf8")]),
    ("encoded surrogate", b"a,1.7e9,\xed\xa0\x80,1,m,", [], [(2, "invalid_utf8")]),
    ("NUL", b"a,1.7e9,k\0,1,m,\nb,1.7e9,k,1,m,", [3], [(2, "broken_json")]),
    ("not UTF-8, in JSON", b'{"event_id":"a","time":1.7e9,"key_id":"k","x":"\xff"}', [], [(2, "invalid_utf8")]),
    ("NUL, in JSON", b'{"event_id":"a","time":1.7e9,"key_id":"k","x":"\0"}', [], [(2, "broken_json")]),
    ("a stray quote takes no row with it", b'a,1.7e9,"k\nb,1.7e9,k\nc,1.7e9,k', [3, 4], [(2, "not_an_object")]),
    ("two", b'a,1.7e9,"k\nb,1.7e9,k\nc,1.7e9,"k', [3], [(2, "not_an_object"), (4, "not_an_object")]),
    ("one, then not UTF-8", b'a,1.7e9,"k\nb\xff,1.7e9,k', [], [(2, "not_an_object"), (3, "invalid_utf8")]),
    ("text behind a quote", b'a,1.7e9,"k"x,1,m,\nb,1.7e9,k,1,m,', [3], [(2, "not_an_object")]),
    ("quotes inside a cell are text", b'a,1.7e9,k"x",1,"m""n",', [2], []),
]


@pytest.mark.parametrize(("body", "good", "bad"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_bad_row_is_a_dead_letter_and_the_rows_around_it_count(
    body: bytes, good: list[int], bad: list[tuple[int, str]] | None
) -> None:
    assert judge(HEADER + b"\n" + body) == (good, [(2, "not_an_object")] if bad is None else bad)


def test_an_open_quote_before_many_rows_costs_one_row() -> None:
    body = b'a,1.7e9,"k,1,m,\n' + b"b,1.7e9,k,1,m,\n" * (3 * MAX_ROW_LINES)
    good, bad = judge(HEADER + b"\n" + body)
    assert (len(good), bad) == (3 * MAX_ROW_LINES, [(2, "not_an_object")])


HEADERS = [
    # why, header, mapping, constants, what the message must say
    ("no key", b"time,x", {}, {}, ["no column for key_id", "--map key_id=", "--const key_id=", "time, x"]),
    ("no time", b"key_id,x", {}, {}, ["no column for time", "--map time=", "key_id, x"]),
    ("no such column", b"time,key_id", {"model": "m"}, {}, ["--map model=m", "no column 'm'", "time, key_id"]),
    ("no such field", b"time,key_id", {"modell": "m"}, {}, ["no field 'modell'", "input_tokens"]),
    ("no such constant", b"time,key_id", {}, {"nope": "m"}, ["--const nope=m", "no field 'nope'"]),
    ("both", b"time,key_id", {"model": "time"}, {"model": "m"}, ["model", "--map", "--const"]),
    ("empty constant", b"time,key_id", {}, {"model": ""}, ["--const model="]),
    ("twice", b"time,key_id,time", {}, {}, ["2 columns 'time'"]),
    ("semicolons", b"time;key_id", {}, {}, ["semicolons", "commas"]),
    ("UTF-16", "time,key_id".encode("utf-16"), {}, {}, ["UTF-16", "UTF-8"]),
    ("open quote", b'time,"key_id', {}, {}, ["header", "line 1"]),
]


@pytest.mark.parametrize(
    ("header", "mapping", "constants", "words"), [r[1:] for r in HEADERS], ids=[r[0] for r in HEADERS]
)
def test_a_header_that_will_not_do_says_what_will(
    header: bytes, mapping: dict[str, str], constants: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        list(rows(lines(header + b"\n1,2\n"), mapping, constants))
    for word in words:
        assert word in str(error.value)


def test_an_empty_csv_needs_a_header() -> None:
    for text in (b"", b"\n\n"):
        with pytest.raises(InputError, match="empty: a csv needs a header"):
            list(rows(lines(text)))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../UTC", "", "Europe"])
def test_an_unknown_zone_is_an_error_that_shows_a_known_one(zone: str) -> None:
    with pytest.raises(InputError, match="Europe/Berlin"):
        list(rows(lines(b"time,key_id"), zone=zone))


def test_the_modules_limit_on_cells_is_as_it_was() -> None:
    before = stdlib_csv.field_size_limit()
    assert judge(b"time,key_id,other\n1.7e9,k," + b"x" * 200_000) == ([2], [])
    assert stdlib_csv.field_size_limit() == before


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'cvs'.*did you mean 'csv'.*overdraw, .*, csv"):
        gateway("cvs")
    assert all(gateway(name).summary for name in GATEWAYS)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=6))
def test_what_the_csv_module_writes_comes_back(table: list[tuple[str, str, str]]) -> None:
    out = io.StringIO()
    writer = stdlib_csv.writer(out, lineterminator="\n", quoting=stdlib_csv.QUOTE_ALL)
    writer.writerow(["org_id", "key_id", "model", "time"])
    writer.writerows([*row, "1700000000"] for row in table)
    found = [value for _, value in read(out.getvalue().encode())]
    names = ("org_id", "key_id", "model")
    assert [{k: v for k, v in row.items() if k in names} for row in found] == [
        {name: cell for name, cell in zip(names, row, strict=True) if cell} for row in table
    ]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b'"', b',"', b"a,1.7e9,k", b'"",']))))
def test_whatever_the_bytes_no_line_is_lost_and_none_raises(parts: list[bytes]) -> None:
    numbered = lines(b"event_id,time,key_id\n" + b"".join(parts) + b"\ngood,1700000000,k")
    found = list(rows(numbered))
    calls, rejects = parse([(number, value, NOW) for number, value in found])
    assert len(calls) + len(rejects) == len(found)
    assert {reject.reason for reject in rejects} <= REASONS.keys()
    assert [number for number, _ in found] == sorted({number for number, _ in found})
    for _, value in found:
        if value.startswith((b"{", b"[")):
            msgspec.json.decode(value)
