"""Every Prometheus series of a worker, defined once. Base units, bounded labels, key ids only in the top-K families."""

from __future__ import annotations

import platform
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from stream import __version__
from stream.events import REASONS
from stream.worker.live import Flush, LiveShard
from stream.worker.recovery import StateLog

AGE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 86_400.0)
DELAY_BUCKETS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0)
FLUSH_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RECOVERY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One family: its name as Prometheus shows it, its type, labels, unit and what it says."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()


TABLE = (
    Metric("overdraw_events_total", "counter", "Records of the source, by what became of them: accepted, duplicate, late, dead_letter.", ("outcome",), "events"),
    Metric("overdraw_calls_total", "counter", "API calls in accepted records.", (), "calls"),
    Metric("overdraw_tokens_total", "counter", "Tokens of accepted records, by direction: input, output.", ("direction",), "tokens"),
    Metric("overdraw_late_tokens_total", "counter", "Tokens of records that came too late to be counted.", (), "tokens"),
    Metric("overdraw_missing_usage_total", "counter", "Accepted records whose gateway gave no token counts.", (), "events"),
    Metric("overdraw_dead_letters_total", "counter", "Refused records, by reason code.", ("reason",), "events"),
    Metric("overdraw_buckets_closed_total", "counter", "Buckets of keys that were closed and judged.", (), "buckets"),
    Metric("overdraw_alerts_total", "counter", "Alerts written, by kind, severity and status (opened, updated, resolved).", ("kind", "severity", "status"), "alerts"),
    Metric("overdraw_excess_tokens_total", "counter", "Tokens above the baseline in incidents, by kind.", ("kind",), "tokens"),
    Metric("overdraw_detection_delay_seconds", "histogram", "From the start of an incident's first anomalous bucket to its detection, in event time.", (), "seconds", DELAY_BUCKETS),
    Metric("overdraw_event_age_seconds", "histogram", "From an event's own time to its application to the state.", (), "seconds", AGE_BUCKETS),
    Metric("overdraw_state_flush_seconds", "histogram", "Duration of a shard's transaction.", (), "seconds", FLUSH_BUCKETS),
    Metric("overdraw_recovery_seconds", "histogram", "From the assignment of a partition to its first record.", (), "seconds", RECOVERY_BUCKETS),
    Metric("overdraw_rebalances_total", "counter", "Assignments of partitions to this worker.", (), "assignments"),
    Metric("overdraw_shards_dropped_total", "counter", "Shards thrown away after a failure, to be read again from the log.", (), "shards"),
    Metric("overdraw_skipped_offsets_total", "counter", "Offsets passed over, by cause: empty (markers, compaction) or deleted (retention: data lost).", ("cause",), "offsets"),
    Metric("overdraw_keys_tracked", "gauge", "Keys known to this worker's shards.", (), "keys"),
    Metric("overdraw_alerts_open", "gauge", "Open incidents of this worker's shards.", ("kind", "severity"), "incidents"),
    Metric("overdraw_consumer_lag_events", "gauge", "Records between a shard and its log's end.", ("partition",), "events"),
    Metric("overdraw_watermark_timestamp_seconds", "gauge", "Event time up to which a shard's buckets are closed.", ("partition",), "seconds"),
    Metric("overdraw_state_bytes", "gauge", "Packed state of this worker's shards, estimated from what was read and written last.", (), "bytes"),
    Metric("overdraw_ready", "gauge", "1 while the worker is assigned, recovered and not stuck.", (), ""),
    Metric("overdraw_top_key_tokens_per_second", "gauge", "Rate of the busiest keys and of those with an open incident, in their last closed bucket.", ("key_id",), "tokens/s"),
    Metric("overdraw_top_key_expected_tokens_per_second", "gauge", "What the baseline expects of these keys.", ("key_id",), "tokens/s"),
    Metric("overdraw_top_key_upper_tokens_per_second", "gauge", "Upper end of what is usual for these keys.", ("key_id",), "tokens/s"),
    Metric("overdraw_top_key_score", "gauge", "Score of these keys, 0 to 1.", ("key_id",), ""),
    Metric("overdraw_build_info", "gauge", "1; version and Python as labels.", ("version", "python"), ""),
)  # fmt: skip
"""All series but those of the process and the platform, which prometheus_client brings along."""

TOP_KEYS = ("tokens_per_second", "expected_tokens_per_second", "upper_tokens_per_second", "score")
AT_SCRAPE = {m.name for m in TABLE if m.kind == "gauge"} - {"overdraw_build_info"}
"""Gauges that `live_metrics.LiveCollector` reads off the shards when it is asked."""


def metric_table() -> list[dict[str, Any]]:
    """The table as data: name, type, labels, unit, help.

    >>> metric_table()[0]["name"]
    'overdraw_events_total'
    """
    return [{"name": m.name, "type": m.kind, "labels": list(m.labels), "unit": m.unit, "help": m.help} for m in TABLE]


def metric(name: str) -> Metric:
    """The row of a family; raises KeyError on an unknown name."""
    return _ROWS[name]


_ROWS = {row.name: row for row in TABLE}


class Ages(Collector):
    """A histogram that takes many values at once: one value at a time would cost more than the detection."""

    def __init__(self, row: Metric) -> None:
        self._row = row
        self._counts = [0] * (len(row.buckets) + 1)
        self._sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Take up values, in any order."""
        ordered = sorted(values)
        below = 0
        for place, bound in enumerate(self._row.buckets):
            upto = bisect_right(ordered, bound, below)
            self._counts[place] += upto - below
            below = upto
        self._counts[-1] += len(ordered) - below
        self._sum += sum(ordered)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The family for Prometheus."""
        total, cumulative = 0, []
        for bound, count in zip((*map(str, self._row.buckets), "+Inf"), self._counts, strict=True):
            total += count
            cumulative.append((bound, float(total)))
        yield HistogramMetricFamily(self._row.name, self._row.help, buckets=cumulative, sum_value=self._sum)


class Metrics:
    """The worker's counters and histograms, told by the shards (`tools.Observer`) of what became true."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # a second series for every counter, which nobody reads
        self.registry = registry
        self._made: dict[str, Any] = {}
        for row in TABLE:
            if row.name in AT_SCRAPE:
                continue
            if row.name == "overdraw_event_age_seconds":
                self._ages = Ages(row)
                registry.register(self._ages)
            elif row.kind == "counter":
                self._made[row.name] = Counter(row.name, row.help, row.labels, registry=registry)
            elif row.kind == "histogram":
                self._made[row.name] = Histogram(
                    row.name, row.help, row.labels, buckets=row.buckets, registry=registry
                )
            else:
                self._made[row.name] = Gauge(row.name, row.help, row.labels, registry=registry)
        self._made["overdraw_build_info"].labels(__version__, platform.python_version()).set(1)
        for outcome in ("accepted", "duplicate", "late", "dead_letter"):
            self._made["overdraw_events_total"].labels(outcome)
        for direction in ("input", "output"):
            self._made["overdraw_tokens_total"].labels(direction)
        for cause in ("empty", "deleted"):
            self._made["overdraw_skipped_offsets_total"].labels(cause)
        for reason in REASONS:
            self._made["overdraw_dead_letters_total"].labels(reason)
        for collect in (ProcessCollector, PlatformCollector, GCCollector):
            collect(registry=registry)

    def _add(self, name: str, amount: float, *labels: str) -> None:
        if amount:
            family = self._made[name]
            (family.labels(*labels) if labels else family).inc(amount)

    def flushed(self, shard: LiveShard, flush: Flush, seconds: float) -> None:
        """See `Observer`: counters tell of committed records only, so a shard that is read again counts once."""
        step = flush.step
        self._made["overdraw_state_flush_seconds"].observe(seconds)
        self._add("overdraw_events_total", step.accepted, "accepted")
        self._add("overdraw_events_total", step.duplicates, "duplicate")
        self._add("overdraw_events_total", step.late, "late")
        self._add("overdraw_events_total", len(flush.reasons), "dead_letter")
        self._add("overdraw_calls_total", step.calls)
        self._add("overdraw_tokens_total", step.input_tokens, "input")
        self._add("overdraw_tokens_total", step.output_tokens, "output")
        self._add("overdraw_late_tokens_total", step.late_tokens)
        self._add("overdraw_missing_usage_total", step.missing_usage)
        self._add("overdraw_buckets_closed_total", step.buckets_closed)
        for reason in flush.reasons:
            self._add("overdraw_dead_letters_total", 1, reason)
        before = dict(shard.open)
        for alert in flush.alerts:
            self._add("overdraw_alerts_total", 1, alert.kind, alert.severity, alert.status)
            last = before.get(alert.fingerprint)
            known = last.excess_tokens if last is not None and last.alert_id == alert.alert_id else 0.0
            self._add("overdraw_excess_tokens_total", max(0.0, alert.excess_tokens - known), alert.kind)
            before[alert.fingerprint] = alert
            if alert.status == "opened" and alert.kind != "feed":
                delay = max(0.0, alert.detected_at - alert.started_at)
                self._made["overdraw_detection_delay_seconds"].observe(delay)

    def recovered(self, shard: LiveShard, state: StateLog, seconds: float) -> None:
        """See `Observer`."""
        self._made["overdraw_recovery_seconds"].observe(seconds)

    def dropped(self) -> None:
        """See `Observer`."""
        self._add("overdraw_shards_dropped_total", 1)

    def holed(self, offsets: int) -> None:
        """See `Observer`."""
        self._add("overdraw_skipped_offsets_total", offsets, "empty")

    def gap(self, offsets: int) -> None:
        """See `Observer`."""
        self._add("overdraw_skipped_offsets_total", offsets, "deleted")

    def rebalanced(self) -> None:
        """See `Observer`."""
        self._add("overdraw_rebalances_total", 1)

    def aged(self, times: Sequence[float], now: float) -> None:
        """See `Observer`."""
        self._ages.observe([now - time for time in times])


def names(rows: Iterable[Metric] = TABLE) -> set[str]:
    """The names of all families."""
    return {row.name for row in rows}
