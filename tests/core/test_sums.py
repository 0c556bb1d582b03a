"""What a call adds: sums over a period in whole numbers, missing usage estimated, nothing lost and nothing negative."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.bucket import OpenBucket
from stream.core.sums import add_to_bucket, micros, shares
from stream.events import EARLIEST_TIME, LATEST_TIME, MAX_CALLS, MAX_PERIOD_SECONDS, MAX_TOKENS, Call

START = 1_772_323_200.0
lengths = st.sampled_from([60, 300, 600, 3600])
tokens = st.none() | st.integers(0, MAX_TOKENS)


def call(time=START, **fields):
    return Call(event_id="e", time=time, key_id="k", **fields)


def bucket(estimated_input=500.0, estimated_output=200.0):
    return OpenBucket(0, array("f", (math.inf, 0.0, estimated_input, estimated_output, 0.0)))


def add(into, record):
    add_to_bucket(into, record, record.calls, record.input_tokens, record.output_tokens, micros(record.cost_usd))
    return into


@given(
    time=st.floats(EARLIEST_TIME, LATEST_TIME, exclude_max=True),
    period=st.floats(1e-9, MAX_PERIOD_SECONDS),
    bucket_seconds=lengths,
    calls=st.integers(1, MAX_CALLS),
    input_tokens=tokens,
    output_tokens=tokens,
    cost=st.none() | st.floats(0, 1e9),
    closed=st.integers(-3, 2100),
)
def test_a_sum_is_spread_in_whole_numbers_that_add_up(
    time, period, bucket_seconds, calls, input_tokens, output_tokens, cost, closed
):
    record = call(
        time,
        period_seconds=period,
        calls=calls,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost_usd=cost,
    )
    first_open = int(time // bucket_seconds) - 2000 + closed
    parts = list(shares(record, time, bucket_seconds, first_open))
    assert sum(part.calls for part in parts) == calls
    for name, total in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        given_parts = [getattr(part, name) for part in parts]
        assert given_parts == [None] * len(parts) if total is None else sum(given_parts) == total
    assert sum(part.cost_micros for part in parts) == micros(cost)
    assert min(min(part.calls, part.tokens, part.cost_micros) for part in parts) >= 0
    assert [part.bucket for part in parts] == list(range(parts[0].bucket, parts[0].bucket + len(parts)))
    assert parts[-1].end == time or parts[-1].bucket == first_open - 1
    assert all(part.bucket * bucket_seconds <= part.end <= (part.bucket + 1) * bucket_seconds for part in parts)


@given(period=st.floats(1, MAX_PERIOD_SECONDS), offset=st.floats(0, 3600), behind=st.integers(0, 300))
def test_what_has_closed_comes_as_one_share_and_the_rest_as_before(period, offset, behind):
    time = START + offset
    record = call(time, period_seconds=period, calls=1000, input_tokens=123_457)
    first_open = int(time // 300) - behind
    whole = list(shares(record, time, 300))
    parts = list(shares(record, time, 300, first_open))
    assert [part for part in parts if part.bucket >= first_open] == [p for p in whole if p.bucket >= first_open]
    late = [part for part in parts if part.bucket < first_open]
    assert len(late) <= 1
    assert sum(part.tokens for part in late) == sum(part.tokens for part in whole if part.bucket < first_open)


@pytest.mark.parametrize(
    ("period", "time", "parts", "why"),
    [
        (300.0, START + 300.0, [100], "the whole bucket, ending at its end"),
        (600.0, START + 450.0, [25, 50, 25], "by the time spent in each"),
        (1e-9, START, [100], "a moment on the edge is one share"),
        (1e-9, START + 0.5, [100], "a moment inside is one share"),
        (300.0, START + 310.0, [97, 3], "rounded, and it adds up"),
    ],
)
def test_a_period_is_shared_by_the_time_spent_in_each_bucket(period, time, parts, why):
    record = call(time, period_seconds=period, input_tokens=100)
    assert [share.input_tokens for share in shares(record, time, 300)] == parts, why


@pytest.mark.parametrize(
    ("fields", "expected", "missing", "why"),
    [
        ({"input_tokens": 7, "output_tokens": 9}, (7, 9), 0, "what is said is taken"),
        ({}, (500, 200), 2, "what is not is estimated by what the key usually takes"),
        ({"input_tokens": 0, "output_tokens": 0}, (0, 0), 0, "zero is said, not missing"),
        ({"input_tokens": 7}, (7, 200), 1, "each direction by itself"),
        ({"calls": 10, "output_tokens": 9}, (5000, 9), 1, "per call"),
        ({"input_tokens": 7, "max_output_tokens": 50}, (7, 50), 1, "at most what the caller allowed"),
        ({"input_tokens": 7, "max_output_tokens": 50, "calls": 3}, (7, 150), 1, "for each call"),
        ({"input_tokens": 7, "max_output_tokens": 900}, (7, 200), 1, "and no more than usual"),
        ({"status": 429}, (0, 0), 2, "a failed call took nothing"),
        ({"status": 500, "input_tokens": 80}, (80, 0), 1, "unless it says so"),
        ({"status": 200}, (500, 200), 2, "an answered call did"),
    ],
)
def test_missing_usage_is_estimated(fields, expected, missing, why):
    into = add(bucket(), call(**fields))
    assert (into.input_tokens, into.output_tokens) == expected, why
    assert into.missing == missing
    assert into.calls == fields.get("calls", 1)


@pytest.mark.parametrize("each", [1e12, 3e38, -1e-4])
def test_an_estimate_stays_within_what_a_record_may_say(each):
    into = add(bucket(each, each), call(calls=MAX_CALLS))
    assert 0 <= into.input_tokens <= MAX_TOKENS
    assert 0 <= into.output_tokens <= MAX_TOKENS


def test_a_cost_is_summed_in_whole_millionths():
    into = bucket()
    for cost in (0.1, 0.2, None, 1e-7):
        add(into, call(cost_usd=cost))
    assert into.cost_micros == 300_000
