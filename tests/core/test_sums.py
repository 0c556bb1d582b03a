"""What a call adds: sums over a period in whole numbers, missing usage estimated, nothing lost and nothing negative."""

from __future__ import annotations

import math
from array import array
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from stream.core.bucket import LOG_SCALE, MAX_MODELS, OTHER_MODELS, OpenBucket
from stream.core.key import KeyState
from stream.core.shard import Shard
from stream.core.state import SUMS, unpack_sums
from stream.core.sums import add_to_bucket, micros, scaled_logs, shares
from stream.events import EARLIEST_TIME, LATEST_TIME, MAX_CALLS, MAX_PERIOD_SECONDS, MAX_TOKENS, Call
from stream.settings import Settings

START = 1_772_323_200.0
lengths = st.sampled_from([60, 300, 600, 3600])
tokens = st.none() | st.integers(0, MAX_TOKENS)


def call(time=START, **fields):
    return Call(event_id="e", time=time, key_id="k", **fields)


def bucket(estimated_input=500.0, estimated_output=200.0):
    return OpenBucket(0, array("f", (math.inf, 0.0, estimated_input, estimated_output, 0.0)))


def add(into, record):
    add_to_bucket(
        into, record, record.calls, record.input_tokens, record.output_tokens, record.reasoning_tokens,
        micros(record.cost_usd),
    )  # fmt: skip
    return into


def added(*records):
    into = bucket()
    for record in records:
        add(into, record)
    return into


def sums_of(into):
    return {name: getattr(into, name) for name in OpenBucket.__slots__ if name not in ("plan", "threshold", "links")}


def one(**fields):
    """One answered call whose usage is known."""
    return call(**{"input_tokens": 10, "output_tokens": 20, "status": 200} | fields)


# names whose classes come in another order than the names, and more of them than are counted by themselves
MODELS = [None, *(f"model-{i}" for i in range(12))]
records = st.builds(
    call,
    calls=st.sampled_from([1, 1, 2, 7]),
    input_tokens=st.none() | st.integers(0, 10_000),
    output_tokens=st.none() | st.integers(0, 10_000),
    reasoning_tokens=st.none() | st.integers(0, 100),
    max_output_tokens=st.none() | st.integers(1, 5_000),
    status=st.sampled_from([None, 200, 429]),
    model=st.sampled_from(MODELS),
    cost_usd=st.none() | st.floats(0, 10),
)


@given(
    time=st.floats(EARLIEST_TIME, LATEST_TIME, exclude_max=True),
    period=st.floats(1e-9, MAX_PERIOD_SECONDS),
    bucket_seconds=lengths,
    calls=st.integers(1, MAX_CALLS),
    input_tokens=tokens,
    output_tokens=tokens,
    reasoning_tokens=tokens,
    cost=st.none() | st.floats(0, 1e9),
    closed=st.integers(-3, 2100),
)
def test_a_sum_is_spread_in_whole_numbers_that_add_up(
    time, period, bucket_seconds, calls, input_tokens, output_tokens, reasoning_tokens, cost, closed
):
    record = call(
        time,
        period_seconds=period,
        calls=calls,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning_tokens,
        cost_usd=cost,
    )
    first_open = int(time // bucket_seconds) - 2000 + closed
    parts = list(shares(record, time, bucket_seconds, first_open))
    assert sum(part.calls for part in parts) == calls
    for name, total in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        given_parts = [getattr(part, name) for part in parts]
        assert given_parts == [None] * len(parts) if total is None else sum(given_parts) == total
    assert sum(part.reasoning_tokens for part in parts) == (reasoning_tokens or 0)
    assert sum(part.cost_micros for part in parts) == micros(cost)
    assert min(min(part.calls, part.tokens, part.reasoning_tokens, part.cost_micros) for part in parts) >= 0
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


@given(stream=st.lists(records, max_size=40), data=st.data())
def test_the_order_of_records_changes_no_sum(stream, data):
    assert sums_of(added(*stream)) == sums_of(added(*data.draw(st.permutations(stream))))


@given(stream=st.lists(records, min_size=1, max_size=30), data=st.data(), chunk=st.integers(1, 7))
def test_a_shard_sums_its_calls_as_they_are_summed_one_by_one_in_any_order_and_any_chunks(stream, data, chunk):
    """The shard writes the usual call out: this holds it to `add_to_bucket`."""
    shard = Shard(0, Settings(partitions=1), partition_of=lambda key_id: 0)
    numbered = [(i, START + i, structs.replace(r, event_id=str(i), time=START + i)) for i, r in enumerate(stream)]
    log = [(i, time, record) for i, (_, time, record) in enumerate(data.draw(st.permutations(numbered)))]
    for at in range(0, len(log), chunk):
        part = log[at : at + chunk]
        assert shard.observe(part, part[-1][0]).accepted == len(part)
    key = KeyState("k", shard.rules)
    unpack_sums(dict(shard.changes())[SUMS + b"k"], key)
    (into,) = key.open.values()
    alone = OpenBucket(into.index, into.plan)
    for record in stream:
        add(alone, record)
    assert sums_of(into) == sums_of(alone)


@given(output=st.integers(0, 100_000), counts=st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_it_does_not_matter_how_equal_calls_are_grouped_into_records(output, counts):
    def sums(n):
        return one(
            calls=n,
            input_tokens=7 * n,
            output_tokens=output * n,
            reasoning_tokens=3 * n,
            max_output_tokens=500,
            model="m",
        )

    grouped = sums_of(added(*(sums(n) for n in counts)))
    assert grouped == sums_of(added(sums(sum(counts))))
    assert grouped == sums_of(added(*[sums(1)] * sum(counts)))


@given(
    record=records,
    period=st.floats(1, 7200),
    offset=st.floats(0, 3600),
    first_open=st.integers(-30, 30),
)
def test_a_record_over_a_period_adds_up_over_its_buckets(record, period, offset, first_open):
    if record.input_tokens is None or record.output_tokens is None:
        return  # estimates depend on each bucket's plan
    record.period_seconds = period
    time = START + offset
    parts = []
    for share in shares(record, time, 300, int(time // 300) + first_open):
        into = bucket()
        add_to_bucket(
            into, record, share.calls, share.input_tokens, share.output_tokens, share.reasoning_tokens,
            share.cost_micros,
        )  # fmt: skip
        parts.append(into)
    whole = added(record)
    for name, total in sums_of(whole).items():
        if name == "models":
            models = Counter()
            for part in parts:
                models.update(part.models)
            assert models == total
        elif name not in ("index", "early", "missing"):
            assert sum(getattr(part, name) for part in parts) == total, name
            assert min(getattr(part, name) for part in parts) >= 0, name


@pytest.mark.parametrize(
    ("fields", "known", "why"),
    [
        ({}, (1, 10, 20), "answered, and its usage is known"),
        ({"status": None}, (1, 10, 20), "a gateway without a status tells of answers"),
        ({"calls": 4}, (4, 10, 20), "a sum counts all its calls"),
        ({"output_tokens": 0}, (1, 10, 0), "an answer of nothing is known"),
        ({"status": 500}, (0, 0, 0), "a failed call has no shape, whatever it took"),
        ({"output_tokens": None}, (0, 0, 0), "an estimate has no shape"),
        ({"input_tokens": None}, (0, 0, 0), "nor has the other half of it"),
    ],
)
def test_the_shape_is_that_of_answered_calls_whose_usage_is_known(fields, known, why):
    into = added(one(max_output_tokens=1, reasoning_tokens=5, model="m", **fields))
    assert (into.known_calls, into.known_input, into.known_output) == known, why
    calls = known[0]
    assert into.calls == fields.get("calls", 1)
    assert into.reasoning_tokens == (5 if calls else 0)
    assert sum(into.models.values()) == calls
    assert into.saturated == (calls if known[2] else 0)
    assert (into.log_output > 0) == (known[2] > 0)


@pytest.mark.parametrize(
    ("fields", "saturated", "why"),
    [
        ({"output_tokens": 99, "max_output_tokens": 100}, 0, "below the limit"),
        ({"output_tokens": 100, "max_output_tokens": 100}, 1, "at the limit"),
        ({"output_tokens": 100}, 0, "there is no limit"),
        ({"calls": 3, "output_tokens": 300, "max_output_tokens": 100}, 3, "all of a sum reached it"),
        ({"calls": 3, "output_tokens": 299, "max_output_tokens": 100}, 0, "it is not known which of a sum did"),
    ],
)
def test_a_call_is_saturated_if_its_output_reached_the_limit(fields, saturated, why):
    assert added(one(**fields)).saturated == saturated, why


@given(outputs=st.lists(st.integers(0, MAX_TOKENS), min_size=1, max_size=20))
def test_the_logarithms_of_outputs_are_summed_to_within_their_rounding(outputs):
    into = added(*(one(output_tokens=output) for output in outputs))
    logs = [math.log1p(output) for output in outputs]
    slack = 0.5 * len(outputs) + 1e-6
    assert into.log_output == pytest.approx(LOG_SCALE * math.fsum(logs), abs=slack)
    assert into.log_output_squares == pytest.approx(LOG_SCALE * math.fsum(log * log for log in logs), abs=slack)


def test_a_sum_counts_as_so_many_calls_of_its_mean_output():
    log, square = scaled_logs(33.5)
    into = added(one(calls=4, output_tokens=134))
    assert (into.log_output, into.log_output_squares) == (4 * log, 4 * square)


def test_the_same_model_is_counted_in_pairs_of_calls():
    into = added(one(model="a", calls=3), one(model="b"), one(model="b"), one(model=None), one(model=""))
    assert into.same_model() == 3 * 2 + 2 * 1 + 2 * 1


def test_more_models_than_are_held_count_as_one_which_no_order_changes():
    stream = [one(model=f"model-{i}", calls=i + 1) for i in range(MAX_MODELS + 4)]
    into, reverse = added(*stream), added(*reversed(stream))
    assert into.models == reverse.models
    assert len(into.models) == MAX_MODELS + 1
    assert sum(into.models.values()) == into.calls
    single = {(i + 1) for i in range(MAX_MODELS + 4)}
    assert {n for kind, n in into.models.items() if kind != OTHER_MODELS} <= single


def test_a_model_has_the_same_class_in_every_process_for_it_is_stored():
    assert added(one(model="gpt-ü")).models == {59356: 1}
