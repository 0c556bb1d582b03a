"""Gauges that are read off the shards when Prometheus asks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from heapq import nlargest

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stream.alerts import Alert, Kind, printable
from stream.core.campaign import HOUR
from stream.core.view import KeyView
from stream.settings import Settings
from stream.worker.instances import Seen, of_all, shown, skews
from stream.worker.live import LiveShard
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
GROUP_GAUGES = (
    "overdraw_groups_tracked", "overdraw_campaigns_open", "overdraw_group_lag_events",
    "overdraw_group_watermark_timestamp_seconds",
)  # fmt: skip
CAMPAIGN_KINDS: tuple[Kind, ...] = ("campaign", "pivot", "respawn")
FAULTS = ("missing_usage", "late", "duplicates", "out_of_order", "zero_usage")
"""Shares of `DataQuality`."""


class LiveCollector(Collector):
    """Lag, watermarks, keys, open incidents and the top keys of this worker's shards."""

    def __init__(
        self,
        shards: Shards,
        monitor: Monitor,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shards = shards
        self._monitor = monitor
        self._settings = settings
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
        for alert in open_of(self._shards, self._monitor):
            labels = (alert.kind, alert.severity)
            open_alerts[labels] = open_alerts.get(labels, 0.0) + 1
        yield _gauge("overdraw_alerts_open", list(open_alerts.items()))
        yield from _groups(self._monitor)
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
        yield from _quality(shards)
        yield from _gateways(shown(of_all([shard.instances for shard in shards])))
        views = {printable(view.key_id, MAX_LABEL): view for view in self.top()}
        for name in TOP_KEYS:
            values = ((key_id, getattr(view, name)) for key_id, view in views.items())
            yield _gauge(f"overdraw_top_key_{name}", [((key,), value) for key, value in values if value is not None])
        yield from _incidents(largest_incidents(self._shards, MAX_INCIDENT_KEYS))
        per_key_day = self._settings.false_alerts_per_1000_key_days / 1000
        yield _gauge("overdraw_false_alert_budget_per_key_day", [((), per_key_day)])
        yield _gauge("overdraw_false_page_budget_per_week", [((), self._settings.false_pages_per_week)])

    def top(self) -> list[KeyView]:
        """The busiest keys of all shards and those with an open incident; some seconds old at most."""
        now = self._clock()
        if now - self._top_at >= TOP_KEYS_AGE_SECONDS:
            self._top_at, self._top = now, top_keys(self._shards, MAX_TOP_KEYS)
        return self._top


def open_of(shards: Shards, monitor: Monitor) -> list[Alert]:
    """The last alert of every open incident of this worker: of its shards, and of the groups if it keeps them."""
    alerts = [alert for _, shard in sorted(shards.live.items()) for alert in shard.open.values()]
    return alerts + (list(monitor.keeping.keepers.open_alerts()) if monitor.keeping is not None else [])


def _groups(monitor: Monitor) -> Iterator[GaugeMetricFamily]:
    """What the keeper of the groups shows; no sample of any family where another worker has it."""
    watch = monitor.keeping
    keeper = watch.keepers.keeper if watch is not None else None
    values: dict[str, list[tuple[tuple[str, ...], float]]] = {name: [] for name in GROUP_GAUGES}
    if watch is not None and keeper is not None:
        kinds = [alert.kind for alert in keeper.open.values()]
        lag, hour = watch.lag(), keeper.core.next_hour
        values["overdraw_groups_tracked"] = [((), float(keeper.tracked))]
        values["overdraw_campaigns_open"] = [((kind,), float(kinds.count(kind))) for kind in CAMPAIGN_KINDS]
        values["overdraw_group_lag_events"] = [] if lag is None else [((), float(lag))]
        values["overdraw_group_watermark_timestamp_seconds"] = [((), hour * HOUR)] if hour >= 0 else []
    for name, samples in values.items():
        yield _gauge(name, samples)


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


def largest_incidents(shards: Shards, count: int) -> list[Alert]:
    """The newest alert of each open incident of a key, of the `count` that drew most above their baseline."""
    alerts = (alert for shard in shards.live.values() for alert in shard.open.values() if alert.entity.type == "key")
    return nlargest(count, alerts, key=lambda alert: alert.excess_tokens)


def _incidents(alerts: list[Alert]) -> Iterator[GaugeMetricFamily]:
    # by its shown id, as with the rates: two ids that look alike must not make a series twice, or no scrape succeeds
    of_key = {printable(alert.entity.id, MAX_LABEL): alert for alert in reversed(alerts)}
    yield _gauge(
        "overdraw_top_key_incident_start_timestamp_seconds",
        [((key, alert.kind, alert.severity), alert.started_at) for key, alert in of_key.items()],
    )
    channels = {(key, channel.name): channel.z for key, alert in of_key.items() for channel in alert.channels}
    yield _gauge("overdraw_top_key_channel_z", list(channels.items()))


def _quality(shards: list[LiveShard]) -> Iterator[GaugeMetricFamily]:
    found = [(str(shard.partition), shard.core.quality()) for shard in shards]
    yield _gauge(
        "overdraw_data_quality_ratio",
        [((partition, fault), getattr(quality, fault)) for partition, quality in found for fault in FAULTS],
    )
    yield _gauge("overdraw_caution_decades", [((partition,), quality.caution) for partition, quality in found])


def _gateways(seen: dict[str, Seen]) -> Iterator[GaugeMetricFamily]:
    yield _gauge("overdraw_gateway_records", [((name,), float(found.records)) for name, found in seen.items()])
    yield _gauge(
        "overdraw_gateway_missing_usage_ratio",
        [((name,), found.missing / found.records) for name, found in seen.items()],
    )
    yield _gauge("overdraw_gateway_clock_skew_seconds", [((name,), skew) for name, skew in skews(seen).items()])


def _gauge(name: str, values: list[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily:
    row = metric(name)
    family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family
