"""What is wrong with a share of the records, and with one gateway of several."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.step import Step
from stream.events import Arrival, Call
from stream.worker.faults import FAULTS, WINDOW_RECORDS, WINDOW_SECONDS, Shares
from stream.worker.instances import (
    HALF_SECONDS,
    LEAST_RECORDS,
    MAX_INSTANCES,
    SHOWN,
    Instances,
    Seen,
    shown,
    skewed,
    skews,
)
from stream.worker.sample import Sample
from tests.worker.fakes import T0, Watched, call, make_settings

FIELDS = {"late": "late", "missing_usage": "unmetered", "duplicates": "duplicates", "zero_usage": "zero_usage"}


def step(name: str, flawed: int, records: int = 1000) -> Step:
    """So many records, `flawed` of which have a fault."""
    counted = {"accepted": records - (flawed if name in ("late", "duplicates") else 0)}
    return Step(**counted, **{FIELDS[name]: flawed})  # type: ignore[arg-type]


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_limit_itself_is_no_alert_and_more_is(fault) -> None:
    most = round(fault.share * 1000)
    assert Shares().add(step(fault.name, most), 0.0)[fault.name] is None
    found = Shares().add(step(fault.name, most + 1), 0.0)
    assert [name for name, finding in found.items() if finding is not None] == [fault.name]
    assert found[fault.name].observed == most + 1


def test_fewer_than_a_hundred_records_prove_nothing() -> None:
    assert not any(Shares().add(step("late", 99, 99), 0.0).values())


def test_the_share_is_of_the_last_records_and_of_the_last_hour_only() -> None:
    shares = Shares()
    assert shares.add(step("late", 500), 0.0)["late"] is not None
    assert shares.add(step("late", 0, WINDOW_RECORDS), 1.0)["late"] is None
    shares = Shares()
    shares.add(step("late", 500), 0.0)
    assert shares.add(step("late", 0), WINDOW_SECONDS + 1)["late"] is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_share_around_its_limit_does_not_flap_and_after_a_restart_neither(fault) -> None:
    most = round(fault.share * 1000)
    shares = Shares()
    counts = (most + 1, most - 2, most + 1, most - 2)
    assert all(shares.add(step(fault.name, count), 0.0)[fault.name] is not None for count in counts)
    again = Shares([fault.name])
    assert again.add(step(fault.name, 0, 99), 0.0)[fault.name] is not None, "too few to say that it is over"
    assert again.add(step(fault.name, 0), 0.0)[fault.name] is None


# ---------------------------------------------------------------- gateways


def arrivals(calls: Sequence[tuple[float, str | None]], **fields: object) -> list[Arrival]:
    return [
        (i, time, Call(f"e-{i}", time, "k", input_tokens=1, output_tokens=1, gateway=gateway, **fields))  # type: ignore[arg-type]
        for i, (time, gateway) in enumerate(calls)
    ]


def round_robin(offsets: dict[str, float], each: int = LEAST_RECORDS) -> list[tuple[float, str | None]]:
    """Calls in the order in which they come, with the times that each gateway's clock says."""
    return [(T0 + i + offset, gateway) for i in range(each) for gateway, offset in offsets.items()]


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ({"a": 0, "b": 0.4, "c": -0.3}, {"a": 0, "b": 0, "c": 0}),
        ({"a": 0, "b": -90, "c": 0}, {"a": 0, "b": -90, "c": 0}),
        ({"a": 0, "b": 120, "c": 0}, {"a": 0, "b": 120, "c": 0}),  # the one ahead, and not all the others behind
        ({"a": 0, "b": -50}, {"a": 0, "b": -50}),
        ({"a": 0}, {}),
    ],
)
def test_a_clock_is_told_from_the_others_by_the_order_of_the_log(offsets, expected) -> None:
    instances = Instances()
    instances.add(arrivals(round_robin(offsets, 50)), -math.inf, 0.0)
    found = skews(instances.seen())
    assert found.keys() == expected.keys()
    for gateway, skew in found.items():
        assert abs(skew - expected[gateway]) < 2
    finding = skewed(found, 30.0)
    assert (finding is None) == all(abs(offset) < 30 for offset in expected.values())
    if finding is not None:
        assert "gateway b is" in finding.text


def test_a_backlog_and_batched_delivery_are_no_wrong_clock() -> None:
    instances = Instances()
    # b comes in batches of a minute, and stopped half an hour before the others: all of it is read at once
    calls: list[tuple[float, str | None]] = []
    for minute in range(60):
        calls += [(T0 + 60 * minute + i, "a") for i in range(60)]
        if minute < 30:
            calls += [(T0 + 60 * minute + i, "b") for i in range(60)]
    instances.add(arrivals(calls), -math.inf, 0.0)
    assert skewed(skews(instances.seen()), 5.0) is None


def test_what_a_gateway_showed_is_forgotten_after_twenty_minutes() -> None:
    instances = Instances()
    instances.add(arrivals([(T0, "a")]), -math.inf, 0.0)
    instances.turn(HALF_SECONDS)
    assert instances.seen()["a"].records == 1
    instances.turn(2 * HALF_SECONDS)
    assert instances.seen() == {}


@given(st.lists(st.tuples(st.floats(T0, T0 + 100), st.one_of(st.none(), st.text(max_size=300))), max_size=300))
def test_whatever_gateways_call_themselves_is_bounded_and_printable(calls) -> None:
    instances = Instances()
    instances.add(arrivals(calls), -math.inf, 0.0)
    instances.add(arrivals([(T0, f"gateway-{i}") for i in range(3 * MAX_INSTANCES)]), T0, 1.0)
    seen = instances.seen()
    assert len(seen) <= MAX_INSTANCES
    labels = shown(seen)
    assert len(labels) <= SHOWN
    assert all(label.isprintable() and len(label) <= 65 for label in labels)


def test_usage_that_failed_calls_lack_is_not_held_against_a_gateway() -> None:
    instances = Instances()
    failed = [(0, T0, Call("e", T0, "k", status=500, gateway="a")), (1, T0, Call("f", T0, "k", gateway="a"))]
    instances.add(failed, -math.inf, 0.0)
    assert instances.seen() == {"a": Seen(2, 1, 0.0)}


# ---------------------------------------------------------------- in a worker


async def test_one_feed_incident_names_all_that_is_wrong_and_ends_when_it_is_over() -> None:
    bench = Watched()
    await bench.assign(0)

    async def take(values: list[bytes]) -> None:
        await bench.take(bench.kafka.feed(values, 0, T0 + 3600))
        await bench.look()
        await bench.flush(0)

    def told() -> tuple[str, set[str]]:
        alert = bench.alerts()[-1]
        assert alert["kind"] == "feed"
        return alert["status"], {channel["name"] for channel in alert["channels"]}

    await take([call(f"a-{i}", T0 + i, output_tokens=None, gateway="a") for i in range(300)])
    assert told() == ("opened", {"missing_usage"})
    assert bench.alerts()[-1]["data_quality"]["missing_usage"] > 0.9
    pairs = [(f"b-{i}", T0 + 300 + i - late, gateway) for i in range(40) for gateway, late in (("a", 0), ("b", 8))]
    await take([call(f"{name}-{gateway}", time, gateway=gateway) for name, time, gateway in pairs])
    assert told() == ("updated", {"missing_usage", "skew"})
    assert "the clock of gateway b is 8 s behind the others'" in bench.alerts()[-1]["summary"]
    bench.pass_time(2 * HALF_SECONDS)
    await take([call(f"c-{i}", T0 + 340 + i / 10, gateway="a") for i in range(10_000)])
    assert told() == ("resolved", {"missing_usage", "skew"})
    assert len({alert["alert_id"] for alert in bench.alerts()}) == 1


# ---------------------------------------------------------------- at the end of a topic


def looked(calls: list[Arrival]) -> list[tuple[str, str]]:
    sample = Sample(make_settings(allowed_lateness_seconds=60))
    sample.add(0, calls)
    return [(finding.level, finding.text) for finding in sample.findings("calls data")]


def test_a_sample_without_faults_is_one_good_line() -> None:
    calls = arrivals(round_robin({"a": 0, "b": 0}, 50))
    assert looked(calls) == [("ok", "of 100 events none is late, double or without usage; 2 gateways name themselves")]


def test_a_sample_names_each_fault_and_the_gateway_that_has_it() -> None:
    good = arrivals(round_robin({"a": 0, "b": -40}, 50))
    poor = [(i, time, Call(f"m-{i}", time, "k", gateway="c")) for i, time, _ in good]
    late = [(500, T0 - 3600, Call("late", T0 - 3600, "k", 1)) for _ in range(3)]  # type: ignore[arg-type]
    (level, line), *hints = looked([*good, *good[:40], *poor, *late])
    assert level == "ok"
    assert "1.2% too late, 41.2% without token counts, 16.5% seen before" in line
    assert {level for level, _ in hints} == {"hint"}
    text = "\n".join(text for _, text in hints)
    for words in ("too late to be counted", "say no token counts", "had been sent before", "clock of gateway b is 40 s",
                  "the gateways c (100%)"):  # fmt: skip
        assert words in text
