"""What the intake writes says to the detector exactly what the record would have said itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.origins import Origin
from stream.events import Call
from stream.gateways.overdraw import ALIASES, parse
from stream.partition import partition_of
from stream.worker.deadletters import MAX_LETTERS
from stream.worker.keying import ORIGIN_HEADER, Keyed, key_records, origins_of
from tests.worker.fakes import T0, Record, call, records

FUTURE = T0 + 300

names = st.text(max_size=30)
tokens = st.one_of(st.none(), st.integers(0, 10**12))
fields: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.text(min_size=1, max_size=40),
    "time": st.one_of(
        st.floats(T0 - 1e8, T0 + 400),
        st.integers(int(T0) - 10**8, int(T0) + 400),
        st.sampled_from(["2026-02-28T23:59:59.123456Z", "2026-03-01T01:00:00.1+01:00", "2026-02-28t10:00:00z", "soon"]),
    ),
    "key_id": st.text(min_size=1, max_size=40),
    "org_id": names,
    "model": names,
    "operation": st.sampled_from(["chat", "embeddings"]),
    "calls": st.integers(0, 10**9),
    "period_seconds": st.one_of(st.none(), st.floats(0.001, 604_800)),
    "input_tokens": tokens,
    "output_tokens": tokens,
    "max_output_tokens": st.one_of(st.none(), st.integers(1, 10**12)),
    "status": st.one_of(st.none(), st.integers(0, 999)),
    "duration_ms": st.floats(0, 1e9),
    "client_ip": st.sampled_from(["192.0.2.77", "2001:db8:1:2::3", "here", "192.0.2.0/24"]),
    "asn": st.integers(0, 4_294_967_295),
    "cost_usd": st.one_of(st.none(), st.floats(0, 1e9)),
    "user_agent": names,
    "prompt": names,
    **{alias: names if "model" in name or name == "operation" else tokens for alias, name in ALIASES.items()},
}
events = st.fixed_dictionaries(
    {name: fields[name] for name in ("event_id", "time", "key_id")},
    optional={name: strategy for name, strategy in fields.items() if name not in ("event_id", "time", "key_id")},
)
values = st.one_of(
    events.map(lambda event: json.dumps(event).encode()),
    st.lists(st.one_of(events, st.integers(), st.just({"event_id": "x"})), max_size=5).map(
        lambda array: json.dumps(array).encode()
    ),
    st.sampled_from([b"", b"{", b"\xff", b"[]", b'{"event_id": "\\ud800", "time": 1.7e9, "key_id": "k"}']),
)


def keyed(records: list[Record], partitions: int = 4) -> Keyed:
    return key_records(records, topic="raw", identity=b"identity", partitions=partitions, now=T0)


def written(done: Keyed) -> list[Record]:
    """The records as the source would hold them."""
    return [
        Record(number, value, stamp, partition, key, headers)
        for partition, rows in done.keyed.items()
        for number, (key, value, headers, stamp) in enumerate(rows)  # type: ignore[misc]
    ]


@given(value=values)
def test_the_detector_reads_the_same_calls_of_what_the_intake_wrote(value: bytes) -> None:
    direct, refused = parse([(0, value, FUTURE)])
    done = keyed([Record(0, value, int(T0 * 1000))])
    assert sorted(done.reasons) == sorted(reject.reason for reject in refused)
    assert done.passed == len(direct)
    through = []
    for record in sorted(written(done), key=lambda record: origins_of([record])[0][1]):
        arrivals, rejects = parse([(0, record.value, record.timestamp / 1000 + 300)])
        assert rejects == []
        through += arrivals
        assert record.partition == partition_of(arrivals[0][2].key_id, 4)
    for (_, moment, said), (_, again, said_again) in zip(direct, through, strict=True):
        assert moment == again, "to the last bit"
        expected = {name: getattr(said, name) for name in Call.__struct_fields__} | {"time": moment}
        assert {name: getattr(said_again, name) for name in expected} == expected


@given(value=values)
def test_elements_are_numbered_by_their_place_in_the_array(value: bytes) -> None:
    done = keyed([Record(9, value, int(T0 * 1000), partition=3)])
    origins = sorted(origin for _, origin in origins_of(written(done)))
    assert len(set(origins)) == len(origins) == done.passed
    for origin in origins:
        assert origin == Origin(b"identity", 3, 9, origin.element)
    if value[:1] == b"[":
        document = json.loads(value)
        ids = {origin.element: document[origin.element]["event_id"] for origin in origins}
        read = {origins_of([r])[0][1].element: json.loads(r.value or b"")["event_id"] for r in written(done)}
        assert ids == read


def test_prompts_and_addresses_do_not_pass() -> None:
    value = call("a", T0, client_ip="192.0.2.77", prompt="a secret", messages=["a secret"])
    (record,) = written(keyed([Record(0, value, int(T0 * 1000))]))
    assert record.value == (
        b'{"event_id":"a","key_id":"k","input_tokens":10,"output_tokens":1,"client_ip":"192.0.2.0/24",'
        b'"time":1772323200.0}'
    )


@pytest.mark.parametrize(("ahead", "refused"), [(299.0, []), (301.0, ["future"])])
def test_the_future_is_judged_by_the_records_own_timestamp(ahead: float, refused: list[str]) -> None:
    assert keyed([Record(0, call("a", T0 - 5000 + ahead), int((T0 - 5000) * 1000))]).reasons == refused


def test_a_record_without_a_timestamp_gets_the_clocks() -> None:
    for stamp in (None, -1):
        (record,) = written(keyed([Record(0, call("a", T0 + 10), stamp)]))
        assert record.timestamp == T0 * 1000


def test_the_headers_of_others_are_no_origins() -> None:
    others = [("traceparent", b"00-1"), (ORIGIN_HEADER, b"too short"), (ORIGIN_HEADER, None)]
    assert origins_of([Record(0, b"", None, headers=others)]) == []


def test_an_array_of_garbage_counts_whole_and_has_a_bounded_number_of_letters() -> None:
    done = keyed(records([json.dumps([0] * 5000).encode(), b"{"]))
    assert (len(done.letters), len(done.reasons)) == (MAX_LETTERS + 1, 5001)
    furthers = [json.loads(value or b"")["further"] for _, value, *_ in done.letters]
    assert [further for further in furthers if further] == [5000 - MAX_LETTERS]


def test_parts_add_up_to_the_whole() -> None:
    log = [Record(i, call(f"e{i}", T0 + i, f"k{i % 7}") if i % 5 else b"{", int(T0 * 1000)) for i in range(40)]
    whole, parts = keyed(log), Keyed()
    for first in range(0, 40, 9):
        parts.add(keyed(log[first : first + 9]))
    assert parts == whole
