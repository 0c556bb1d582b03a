"""The process of `overdraw responder`: the responder, its metrics and its status, and the end."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import SecretStr

from stream import __version__
from stream.alerts import rfc3339
from stream.response.config import ResponseConfig
from stream.response.gateways import gateways_of
from stream.response.record import Response
from stream.settings import Settings
from stream.worker.ending import Exit
from stream.worker.responder.orders import Orders
from stream.worker.responder.responder import Responder
from stream.worker.server import Server
from stream.worker.serving import asked_to_stop, run_until
from stream.worker.table import metric

MAX_SHOWN = 200

log = logging.getLogger(__name__)


class ResponderMetrics(Collector):
    """The counters, and the gauges that are read off the board when asked."""

    def __init__(self, registry: CollectorRegistry, gateways: list[str]) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.responder: Responder | None = None
        steps, failures = metric("overdraw_responses_total"), metric("overdraw_gateway_failures_total")
        self._steps = Counter(steps.name, steps.help, steps.labels, registry=registry)
        self._failures = Counter(failures.name, failures.help, failures.labels, registry=registry)
        for name in gateways:  # one that begins with its first failure has no rise to be seen
            self._failures.labels(name)
        build = metric("overdraw_build_info")
        self._build = GaugeMetricFamily(build.name, build.help, labels=build.labels)
        self._build.add_metric([__version__, platform.python_version()], 1.0)
        for collect in (ProcessCollector, PlatformCollector, GCCollector):
            collect(registry=registry)
        registry.register(self)

    def stepped(self, response: Response) -> None:
        """Count a new state."""
        self._steps.labels(response.action, response.state).inc()

    def failed(self, gateway: str) -> None:
        """Count an attempt that a gateway did not take."""
        self._failures.labels(gateway).inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges for Prometheus."""
        yield self._build
        row = metric("overdraw_responses")
        family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        responses = [] if self.responder is None else list(self.responder.board.responses.values())
        for (action, state), count in Tally((one.action, one.state) for one in responses if one.open).items():
            family.add_metric([action, state], count)
        yield family
        row = metric("overdraw_responder_ready")
        ready = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        ready.add_metric([], float(self.responder is not None and self.responder.down is None))
        yield ready


class ResponderServer(Server):
    """Health, metrics and `/api/status` of the responder."""

    def __init__(
        self, settings: Settings, config: ResponseConfig, responder: Responder, registry: CollectorRegistry, end: Exit
    ) -> None:
        super().__init__(settings, registry, unready=self._reasons, die=end.die, setting="responder_port")
        self._config, self._responder = config, responder
        self._began = time.time()

    def _reasons(self) -> list[str]:
        return [] if self._responder.down is None else [f"responder: {self._responder.down}"]

    def status(self) -> dict[str, Any]:
        """See `Server`: what is open, newest first, as `overdraw response list --json` has it."""
        reasons = self._reasons()
        open_ones = [one for one in self._responder.board.responses.values() if one.open]
        newest = sorted(open_ones, key=lambda one: one.created_at, reverse=True)[:MAX_SHOWN]
        return {
            "version": __version__,
            "app_id": self._settings.app_id,
            "started": rfc3339(round(self._began)),
            "ready": not reasons,
            "reasons": reasons,
            "at_work": self._responder.at_work,
            "mode": self._config.mode,
            "gateways": list(self._config.gateways),
            "open": len(open_ones),
            "responses": [one.model_dump(mode="json") for one in newest],
        }


async def serve(
    settings: Settings, config: ResponseConfig, keys: dict[str, SecretStr], alert_partitions: int, ending: Exit
) -> None:
    """Run until `ending` hears a signal."""
    registry = CollectorRegistry()
    gateways = gateways_of(config, keys)
    metrics = ResponderMetrics(registry, list(gateways))
    orders = Orders(settings)
    metrics.responder = responder = Responder(
        settings, config, gateways, alert_partitions, orders, stepped=metrics.stepped, failed=metrics.failed
    )
    server = ResponderServer(settings, config, responder, registry, ending)
    await server.start()
    stop = asked_to_stop(ending)
    tasks = [asyncio.create_task(orders.topic.run()), asyncio.create_task(responder.run())]
    await run_until(stop, tasks, ending)
    for gateway in gateways.values():
        await gateway.close()
    await server.stop()
    ending.closed()
