"""The worker's counters and histograms. They tell of what is committed, so a shard that is read again counts once."""

from __future__ import annotations

import platform
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from stream import __version__
from stream.alerts import Alert, Kind, Severity, Status
from stream.events import REASONS
from stream.worker.keeper import Keeper, KeeperFlush
from stream.worker.keying import Keyed
from stream.worker.live import Flush, LiveShard
from stream.worker.recovery import StateLog
from stream.worker.table import TABLE, Metric, metric_table

__all__ = ["Metrics", "metric_table"]

AT_SCRAPE = {m.name for m in TABLE if m.kind == "gauge"} - {"overdraw_build_info"}
"""Gauges that `live_metrics.LiveCollector` reads off the shards when it is asked."""


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
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nobody reads
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
                self._made[row.name] = Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=registry)
            else:
                self._made[row.name] = Gauge(row.name, row.help, row.labels, registry=registry)
        self._made["overdraw_build_info"].labels(__version__, platform.python_version()).set(1)
        for outcome in ("accepted", "duplicate", "late", "dead_letter"):
            self._made["overdraw_events_total"].labels(outcome)
        for outcome in ("passed", "dead_letter"):
            self._made["overdraw_intake_records_total"].labels(outcome)
        for outcome in ("taken", "late", "dead_letter"):
            self._made["overdraw_group_evidence_total"].labels(outcome)
        for direction in ("input", "output"):
            self._made["overdraw_tokens_total"].labels(direction)
        for cause in ("empty", "deleted"):
            self._made["overdraw_skipped_offsets_total"].labels(cause)
        for reason in REASONS:
            self._made["overdraw_dead_letters_total"].labels(reason)
        # a series that begins with its first alert has no rise that Prometheus could see
        for kind in get_args(Kind):
            self._made["overdraw_excess_tokens_total"].labels(kind)
            for severity in get_args(Severity):
                for status in get_args(Status):
                    self._made["overdraw_alerts_total"].labels(kind, severity, status)
        for collect in (ProcessCollector, PlatformCollector, GCCollector):
            collect(registry=registry)

    def _add(self, name: str, amount: float, *labels: str) -> None:
        if amount:
            family = self._made[name]
            (family.labels(*labels) if labels else family).inc(amount)

    def flushed(self, shard: LiveShard, flush: Flush, seconds: float) -> None:
        """See `Observer`."""
        step = flush.step
        self._made["overdraw_state_flush_seconds"].observe(seconds)
        self._add("overdraw_events_total", step.accepted, "accepted")
        self._add("overdraw_events_total", step.duplicates, "duplicate")
        self._add("overdraw_events_total", step.late, "late")
        events = sum(not reason.startswith("control_") for reason in flush.reasons)
        self._add("overdraw_events_total", events, "dead_letter")
        self._add("overdraw_calls_total", step.calls)
        self._add("overdraw_tokens_total", step.input_tokens, "input")
        self._add("overdraw_tokens_total", step.output_tokens, "output")
        self._add("overdraw_late_tokens_total", step.late_tokens)
        self._add("overdraw_missing_usage_total", step.missing_usage)
        self._add("overdraw_zero_usage_total", step.zero_usage)
        self._add("overdraw_out_of_order_total", step.out_of_order)
        self._add("overdraw_buckets_closed_total", step.buckets_closed)
        for reason in flush.reasons:
            self._add("overdraw_dead_letters_total", 1, reason)
        self._alerted(shard.open, flush.alerts)

    def _alerted(self, known: Mapping[str, Alert], alerts: Iterable[Alert]) -> None:
        """Count alerts; `known` are the open ones before them, by fingerprint."""
        before = dict(known)
        for alert in alerts:
            self._add("overdraw_alerts_total", 1, alert.kind, alert.severity, alert.status)
            last = before.get(alert.fingerprint)
            told = last.excess_tokens if last is not None and last.alert_id == alert.alert_id else 0.0
            self._add("overdraw_excess_tokens_total", max(0.0, alert.excess_tokens - told), alert.kind)
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

    def passed_on(self, done: Keyed) -> None:
        """See `Observer`."""
        self._add("overdraw_intake_records_total", done.passed, "passed")
        self._add("overdraw_intake_records_total", len(done.reasons), "dead_letter")
        for reason in done.reasons:
            self._add("overdraw_dead_letters_total", 1, reason)

    def kept(self, keeper: Keeper, flush: KeeperFlush) -> None:
        """See `Observer`."""
        step = flush.step
        self._add("overdraw_group_evidence_total", step.taken, "taken")
        self._add("overdraw_group_evidence_total", step.stale, "late")
        self._add("overdraw_group_evidence_total", len(flush.reasons), "dead_letter")
        self._add("overdraw_group_hours_closed_total", step.hours)
        self._add("overdraw_group_hours_incomplete_total", step.incomplete)
        for reason in flush.reasons:
            self._add("overdraw_dead_letters_total", 1, reason)
        self._alerted(keeper.open, flush.alerts)

    def rebalanced(self) -> None:
        """See `Observer`."""
        self._add("overdraw_rebalances_total", 1)

    def aged(self, times: Sequence[float], now: float) -> None:
        """See `Observer`."""
        self._ages.observe([now - time for time in times])
