"""Gauges that are read off the shards when Prometheus asks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from heapq import nlargest

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stream.alerts import printable
from stream.core.view import KeyView
from stream.worker.monitor import Monitor
from stream.worker.shards import Shards
from stream.worker.table import metric

TOP_KEYS = ("tokens_per_second", "expected_tokens_per_second", "upper_tokens_per_second", "score")
MAX_TOP_KEYS = 20
MAX_INCIDENT_KEYS = 200
"""Keys with an open incident beyond this are left out: a campaign must not fill Prometheus."""
TOP_KEYS_AGE_SECONDS = 10.0
"""Sorting a million keys takes a second: not at every scrape."""
EXPIRY_SECONDS = 3600.0
"""A key that was silent for this long, in its shard's event time, and has no incident, is shown no more."""
MAX_LABEL = 256


class LiveCollector(Collector):
    """Lag, watermarks, keys, open incidents and the top keys of this worker's shards."""

    def __init__(self, shards: Shards, monitor: Monitor, clock: Callable[[], float] = time.monotonic) -> None:
        self._shards = shards
        self._monitor = monitor
        self._clock = clock
        self._top: list[KeyView] = []
        self._top_at = -math.inf

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families for Prometheus."""
        shards = [shard for _, shard in sorted(self._shards.live.items())]
        yield _gauge("overdraw_ready", [((), 0.0 if self._monitor.unready() else 1.0)])
        yield _gauge("overdraw_keys_tracked", [((), float(sum(len(shard.core) for shard in shards)))])
        yield _gauge("overdraw_state_bytes", [((), float(sum(shard.state_bytes for shard in shards)))])
        open_alerts: dict[tuple[str, ...], float] = {}
        for shard in shards:
            for alert in shard.open.values():
                labels = (alert.kind, alert.severity)
                open_alerts[labels] = open_alerts.get(labels, 0.0) + 1
        yield _gauge("overdraw_alerts_open", list(open_alerts.items()))
        lags = ((shard.partition, self._monitor.lag(shard.partition)) for shard in shards)
        yield _gauge("overdraw_consumer_lag_events", [((str(p),), float(lag)) for p, lag in lags if lag is not None])
        watch = self._monitor.intake
        held = sorted(watch.intakes.live) if watch is not None else []
        lags = ((partition, watch.lag(partition) if watch is not None else None) for partition in held)
        yield _gauge("overdraw_intake_lag_events", [((str(p),), float(lag)) for p, lag in lags if lag is not None])
        marks = [(shard.partition, shard.core.watermark) for shard in shards]
        yield _gauge(
            "overdraw_watermark_timestamp_seconds", [((str(p),), mark) for p, mark in marks if math.isfinite(mark)]
        )
        views = {printable(view.key_id, MAX_LABEL): view for view in self.top()}
        for name in TOP_KEYS:
            values = ((key_id, getattr(view, name)) for key_id, view in views.items())
            yield _gauge(f"overdraw_top_key_{name}", [((key,), value) for key, value in values if value is not None])

    def top(self) -> list[KeyView]:
        """The busiest keys of all shards and those with an open incident; some seconds old at most."""
        now = self._clock()
        if now - self._top_at >= TOP_KEYS_AGE_SECONDS:
            self._top_at, self._top = now, top_keys(self._shards, MAX_TOP_KEYS)
        return self._top


def top_keys(shards: Shards, count: int) -> list[KeyView]:
    """The `count` busiest keys of this worker, and those with an open incident, busiest first."""
    calm: list[KeyView] = []
    alarmed: list[KeyView] = []
    for shard in shards.live.values():
        for view in shard.core.top(count):
            if view.open_incidents:
                alarmed.append(view)
            elif shard.core.newest - view.last_seen <= EXPIRY_SECONDS:
                calm.append(view)

    def rate(view: KeyView) -> float:
        return view.tokens_per_second

    chosen = nlargest(count, calm, key=rate) + nlargest(MAX_INCIDENT_KEYS, alarmed, key=rate)
    return sorted(chosen, key=rate, reverse=True)


def _gauge(name: str, values: list[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily:
    row = metric(name)
    family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family
