"""The process of `overdraw notifier`: all notifiers of the file at once, their metrics, and the end."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stream import __version__
from stream.alerts import rfc3339
from stream.notify.client import Client
from stream.notify.config import NotifyConfig, Secrets
from stream.notify.delivery import OUTCOMES, Deliverer
from stream.notify.hush import Hush
from stream.notify.services import notifier_of
from stream.settings import Settings
from stream.worker.control.topic import ControlTopic, Said
from stream.worker.ending import Exit
from stream.worker.notifier.lane import lanes_of
from stream.worker.notifier.line import Line
from stream.worker.server import Server
from stream.worker.serving import asked_to_stop, run_until
from stream.worker.table import metric

LISTEN_SECONDS = 10.0

log = logging.getLogger(__name__)


class NotifierMetrics(Collector):
    """The counters, and the gauges that are read off the lines when asked."""

    def __init__(self, registry: CollectorRegistry) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        row = metric("overdraw_notifications_total")
        self._told = Counter(row.name, row.help, row.labels, registry=registry)
        self.lines: list[Line] = []
        build = metric("overdraw_build_info")
        self._build = GaugeMetricFamily(build.name, build.help, labels=build.labels)
        self._build.add_metric([__version__, platform.python_version()], 1.0)
        for collect in (ProcessCollector, PlatformCollector, GCCollector):
            collect(registry=registry)
        registry.register(self)

    def told(self, name: str, outcome: str) -> None:
        """Count a message."""
        self._told.labels(name, outcome).inc()

    def expect(self, name: str) -> None:
        """Begin all series of a notifier at 0: one that begins with its first failure has no rise to be seen."""
        for outcome in OUTCOMES:
            self._told.labels(name, outcome)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges for Prometheus."""
        yield self._build
        yield self._gauge("overdraw_notifier_ready", {(): float(not any(line.down for line in self.lines))})
        lines = self.lines
        yield self._gauge("overdraw_notifier_lag_seconds", {(line.name,): line.lag_seconds for line in lines})
        yield self._gauge("overdraw_notifier_queue_messages", {(line.name,): float(line.waiting) for line in lines})
        yield self._gauge("overdraw_notifier_incidents", {(line.name,): float(len(line.desk)) for line in lines})

    @staticmethod
    def _gauge(name: str, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
        row = metric(name)
        family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family


class NotifierServer(Server):
    """Health, metrics and `/api/status` of the notifier."""

    def __init__(
        self,
        settings: Settings,
        lines: list[Line],
        registry: CollectorRegistry,
        ending: Exit,
        listening: Listening | None = None,
    ) -> None:
        super().__init__(settings, registry, unready=self._reasons, die=ending.die, setting="notifier_port")
        self._lines = lines
        self._listening = listening or Listening(settings)
        self._began = time.time()

    def _reasons(self) -> list[str]:
        return [f"notifier {line.name}: {line.down}" for line in self._lines if line.down is not None]

    def status(self) -> dict[str, Any]:
        """See `Server`: of each notifier what waits, how long, and what its service said last."""
        reasons = self._reasons()
        return {
            "version": __version__,
            "app_id": self._settings.app_id,
            "started": rfc3339(round(self._began)),
            "ready": not reasons,
            "reasons": reasons,
            "control": {"offset": self._listening.topic.offset, "trouble": self._listening.topic.trouble},
            "notifiers": [
                {
                    "name": line.name,
                    "partitions": line.places.partitions,
                    "waiting": line.waiting,
                    "aside": line.aside,
                    "lag_seconds": round(line.lag_seconds, 3),
                    "open_incidents": len(line.desk),
                    "only_in_a_digest": line.desk.digested(),
                    "held": len(line.holds),
                    "trouble": line.trouble(),
                }
                for line in self._lines
            ],
        }


def make_line(
    name: str,
    settings: Settings,
    config: NotifyConfig,
    secrets: Secrets,
    metrics: NotifierMetrics,
    hush: Hush,
    pages: Callable[[Collection[str]], bool] = lambda names: False,
) -> tuple[Line, Client]:
    """One notifier with its HTTP client, which is to be closed at the end."""
    notifier, chosen = notifier_of(config, name, secrets), config.notifiers[name]
    client = Client(
        notifier, timeout_seconds=chosen.timeout_seconds, proxy=chosen.proxy, secrets=list(secrets.values())
    )
    metrics.expect(name)

    def told(outcome: str) -> None:
        metrics.told(name, outcome)

    deliverer = Deliverer(
        client,
        at_once=lanes_of(notifier),
        give_up_seconds=chosen.give_up_hours * 3600,
        told=told,
        say=lambda words: log.warning("notifier %s: %s", name, words),
    )
    return Line(name, settings, config, notifier, deliverer, told=told, hush=hush, pages=pages), client


class Pagers:
    """Says whether one of some notifiers is a pager that works: then a channel need not tell what it tells."""

    def __init__(self, config: NotifyConfig) -> None:
        self._names = config.pagers()
        self.lines: list[Line] = []

    def __call__(self, names: Collection[str]) -> bool:
        """Whether one of them pages; one that is down does not: better told twice than not at all."""
        return any(
            line.name in names and line.name in self._names and line.down is None and line.trouble() is None
            for line in self.lines
        )


class Listening:
    """What operators say, as far as it is for notifiers."""

    def __init__(self, settings: Settings) -> None:
        self.hush = Hush()
        self.topic = ControlTopic(settings, self._begin, self._hear)
        self._fresh = Hush()
        self._complete = asyncio.Event()

    def _begin(self, _: str | None) -> None:
        self._fresh = Hush()

    def _hear(self, batch: Sequence[Said], complete: bool) -> None:
        for said in batch:
            if said.message is not None:
                self._fresh.take(said.message)
        if complete:  # until then what was known before holds
            self.hush.become(self._fresh)
            self._complete.set()

    async def first(self) -> None:
        """Wait until all that was said so far is known, for some seconds at most: better a page too many than none."""
        try:
            await asyncio.wait_for(self._complete.wait(), LISTEN_SECONDS)
        except TimeoutError:
            log.warning("nothing is known of mutes and acknowledgements: %s", self.topic.trouble)


async def serve(settings: Settings, config: NotifyConfig, secrets: Mapping[str, Secrets], ending: Exit) -> None:
    """Run until `ending` hears a signal."""
    registry = CollectorRegistry()
    metrics = NotifierMetrics(registry)
    listening = Listening(settings)
    pages = Pagers(config)
    made = [
        make_line(name, settings, config, secrets[name], metrics, listening.hush, pages) for name in config.notifiers
    ]
    metrics.lines = pages.lines = lines = [line for line, _ in made]
    server = NotifierServer(settings, lines, registry, ending, listening)
    await server.start()
    stop = asked_to_stop(ending)
    tasks = [asyncio.create_task(listening.topic.run())]
    await listening.first()
    tasks += [asyncio.create_task(line.run()) for line in lines]
    await run_until(stop, tasks, ending)
    for _, client in made:
        await client.close()
    await server.stop()
    ending.closed()
