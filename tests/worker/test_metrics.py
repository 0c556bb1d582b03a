from __future__ import annotations

import re
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stream.alerts import (
    Alert,
    ChannelScore,
    DataQuality,
    Entity,
    Kind,
    Severity,
    Status,
    Window,
    alert_id_of,
    fingerprint_of,
)
from stream.worker.live_metrics import MAX_INCIDENT_KEYS, LiveCollector, top_keys
from stream.worker.metrics import Ages, Metrics
from stream.worker.monitor import Monitor
from stream.worker.table import TABLE, metric, metric_table
from tests.worker.fakes import T0, Bench, call

CONTRACT = [
    "overdraw_events_total",
    "overdraw_calls_total",
    "overdraw_tokens_total",
    "overdraw_dead_letters_total",
    "overdraw_missing_usage_total",
    "overdraw_keys_tracked",
    "overdraw_buckets_closed_total",
    "overdraw_alerts_total",
    "overdraw_alerts_open",
    "overdraw_excess_tokens_total",
    "overdraw_detection_delay_seconds",
    "overdraw_event_age_seconds",
    "overdraw_consumer_lag_events",
    "overdraw_watermark_timestamp_seconds",
    "overdraw_state_bytes",
    "overdraw_state_flush_seconds",
    "overdraw_recovery_seconds",
    "overdraw_rebalances_total",
    "overdraw_top_key_tokens_per_second",
    "overdraw_top_key_expected_tokens_per_second",
    "overdraw_top_key_upper_tokens_per_second",
    "overdraw_top_key_score",
    "overdraw_late_tokens_total",
    "overdraw_build_info",
]


class Measured(Bench):
    """A bench whose observer is the real one."""

    def __init__(self, partitions: int = 1, **changes: Any) -> None:
        super().__init__(partitions=partitions, **changes)
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        object.__setattr__(self.tools, "observer", self.metrics)
        self.monitor = Monitor(self.tools, self.shards)
        self.registry.register(LiveCollector(self.shards, self.monitor, self.settings, clock=lambda: 0.0))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_the_contracts_series_are_all_there() -> None:
    assert set(CONTRACT) <= {row.name for row in TABLE}


def test_every_row_says_what_it_means_and_names_its_unit() -> None:
    for row in metric_table():
        assert re.fullmatch(r"overdraw_[a-z_]+", row.name)
        assert row.help.endswith((".", ".)"))
        assert row.type in ("counter", "gauge", "histogram")
        assert (row.type == "counter") == row.name.endswith("_total")
        if row.name.endswith("_seconds"):
            assert row.unit == "seconds"
    assert len({row.name for row in TABLE}) == len(TABLE)


async def test_what_is_exported_is_what_the_table_says() -> None:
    bench = Measured()
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    await bench.flush()
    bench.monitor.ends = await bench.group.ends()
    text = generate_latest(bench.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for row in TABLE:
        family = families[row.name.removesuffix("_total")]
        assert family.type == row.kind
        assert family.documentation == row.help
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(row.labels), row.name
    ours = {name for name in families if name.startswith("overdraw_")}
    assert ours == {row.name.removesuffix("_total") for row in TABLE}
    assert {"process_cpu_seconds", "python_info"} <= set(families)


async def test_counters_tell_what_became_of_the_records() -> None:
    bench = Measured()
    await bench.assign(0)
    values = [call("a", T0), call("a", T0), call("b", T0, tokens=5), b"{", call("c", T0 + 600)]
    await bench.take(bench.kafka.feed([*values, call("late", T0)], timestamp=T0 + 600))
    assert bench.value("overdraw_events_total", outcome="accepted") == 0, "nothing is told before it is committed"
    await bench.flush()
    outcomes = ("accepted", "duplicate", "late", "dead_letter")
    assert [bench.value("overdraw_events_total", outcome=o) for o in outcomes] == [3, 1, 1, 1]
    assert bench.value("overdraw_tokens_total", direction="input") == 25
    assert bench.value("overdraw_late_tokens_total") == 11
    assert bench.value("overdraw_dead_letters_total", reason="broken_json") == 1
    assert bench.value("overdraw_dead_letters_total", reason="future") == 0
    assert bench.value("overdraw_buckets_closed_total") == 1
    assert bench.value("overdraw_keys_tracked") == 1
    assert bench.value("overdraw_watermark_timestamp_seconds", partition="0") == T0 + 590


def test_a_fresh_worker_shows_every_counter_at_nought_so_that_the_first_event_is_a_rise() -> None:
    bench = Measured()
    for status in get_args(Status):
        for severity in get_args(Severity):
            labels = {"kind": "surge", "severity": severity, "status": status}
            assert bench.value("overdraw_alerts_total", **labels) == 0
    assert [bench.value("overdraw_excess_tokens_total", kind=kind) for kind in get_args(Kind)] == [0] * 10
    text = generate_latest(bench.registry).decode()
    counters = [row.name for row in TABLE if row.kind == "counter"]
    assert [name for name in counters if not re.search(rf"^{name}\b", text, re.M)] == []


async def test_records_that_are_read_again_after_a_failure_count_once() -> None:
    bench = Measured()
    await bench.assign(0)
    chunk = bench.kafka.feed([call("a", T0)])
    await bench.take(chunk)
    bench.kafka.fail_next.append(OSError())
    await bench.flush()
    await bench.assign(0)
    await bench.take(chunk)
    await bench.flush()
    assert bench.value("overdraw_events_total", outcome="accepted") == 1
    assert bench.value("overdraw_shards_dropped_total") == 1


async def test_lag_is_told_for_own_partitions_only() -> None:
    bench = Measured(partitions=2)
    await bench.assign(1)
    bench.kafka.feed([call("a", T0)] * 7, partition=1)
    bench.kafka.feed([call("a", T0)] * 7, partition=0)
    bench.monitor.ends = await bench.group.ends()
    assert bench.value("overdraw_consumer_lag_events", partition="1") == 7
    assert bench.value("overdraw_consumer_lag_events", partition="0") is None


async def test_top_keys_are_capped_escaped_and_expire() -> None:
    bench = Measured()
    await bench.assign(0)
    values = [call(f"e{i}", T0 + i * 0.1, key_id=f"key-{i}", tokens=i + 1) for i in range(30)]
    values.append(call("x", T0, key_id='evil"\n\x1b[31m', tokens=10**6))
    await bench.take(bench.kafka.feed([*values, call("z", T0 + 120)], timestamp=T0 + 120))
    text = generate_latest(bench.registry).decode()
    lines = [line for line in text.splitlines() if line.startswith("overdraw_top_key_tokens_per_second{")]
    assert len(lines) == 20
    assert sum("evil" in line for line in lines) == 1
    assert "\x1b" not in text
    await bench.take(bench.kafka.feed([call("zz", T0 + 7200)], timestamp=T0 + 7200))
    assert [view.key_id for view in top_keys(bench.shards, 100)] == ["k"]


@given(st.lists(st.floats(-10, 1e6), max_size=200))
def test_ages_in_bulk_are_the_histogram_of_one_at_a_time(values: list[float]) -> None:
    row = metric("overdraw_event_age_seconds")
    ages = Ages(row)
    for begin in range(0, len(values), 50):
        ages.observe(values[begin : begin + 50])
    plain = Histogram("plain", "x", buckets=row.buckets, registry=None)
    for value in values:
        plain.observe(value)
    bulk = {s.labels.get("le"): s.value for family in ages.collect() for s in family.samples if "bucket" in s.name}
    single = {s.labels.get("le"): s.value for family in plain.collect() for s in family.samples if "bucket" in s.name}
    assert bulk == single


def incident(key_id: str, excess: float, severity: str = "high") -> Alert:
    entity = Entity(type="key", id=key_id)
    moments = dict.fromkeys(("started_at", "detected_at", "updated_at"), T0)
    amounts = dict.fromkeys(("expected", "upper", "z", "score", "false_alarm_probability"), 0.5)
    return Alert(
        alert_id=alert_id_of(entity, T0),
        fingerprint=fingerprint_of(entity),
        sequence=0,
        status="opened",
        severity=severity,
        severity_reason="as the test wants it",
        kind="surge",
        entity=entity,
        window=Window(start=T0, end=T0 + 60, horizon_seconds=60),
        observed=excess,
        ratio=None,
        excess_tokens=excess,
        excess_output_tokens=0,
        excess_per_hour=0,
        channels=[ChannelScore(name="surge", z=7.5), ChannelScore(name="jump", z=2.0)],
        data_quality=DataQuality(missing_usage=0, late=0, duplicates=0, lag_seconds=0),
        summary="s",
        suggested_action="a",
        config_digest="d",
        **moments,
        **amounts,
    )


async def test_open_incidents_of_keys_are_told_by_key_the_largest_ones_only_and_escaped() -> None:
    bench = Measured()
    await bench.assign(0)
    alerts = [incident(f"key-{number}", float(number)) for number in range(MAX_INCIDENT_KEYS + 50)]
    alerts += [incident("evil\x1b", 1e6, "critical"), incident("evil\\x1b", 1e5)]
    bench.shards.live[0].open.update({alert.fingerprint: alert for alert in alerts})
    text = generate_latest(bench.registry).decode()
    starts = [line for line in text.splitlines() if line.startswith("overdraw_top_key_incident_start_timestamp")]
    channels = [line for line in text.splitlines() if line.startswith("overdraw_top_key_channel_z{")]
    assert len(starts) == MAX_INCIDENT_KEYS - 1, "two ids that look alike are one series: the larger incident's"
    assert len(channels) == 2 * len(starts)
    name = "overdraw_top_key_incident_start_timestamp_seconds"
    assert bench.value(name, key_id=r"evil\x1b", kind="surge", severity="critical") == T0
    assert bench.value(name, key_id=r"evil\x1b", kind="surge", severity="high") is None
    assert bench.value(name, key_id="key-40", kind="surge", severity="high") is None, "not among the largest"
    assert bench.value("overdraw_top_key_channel_z", key_id="key-249", channel="surge") == 7.5


def test_the_budgets_are_those_of_the_dials() -> None:
    bench = Measured(false_alerts_per_1000_key_days=3, false_pages_per_week=0.5)
    assert bench.value("overdraw_false_alert_budget_per_key_day") == 0.003
    assert bench.value("overdraw_false_page_budget_per_week") == 0.5
