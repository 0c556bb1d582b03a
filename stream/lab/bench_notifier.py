"""How long an alert takes from a worker's transaction to a webhook: `python -m stream.lab.bench_notifier`.

A real Kafka, the notifier's own reader and HTTP client, and a receiver on loopback; alerts come one after the other.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from statistics import quantiles

from aiohttp import web
from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry

from stream.alerts import Alert, DataQuality, Entity, Window, alert_id_of, fingerprint_of
from stream.broker import EmbeddedKafka
from stream.notify.config import NotifyConfig
from stream.notify.hush import Hush
from stream.security import client_options
from stream.settings import Settings, load_settings
from stream.worker.notifier.service import NotifierMetrics, make_line
from stream.worker.outbox import alert_record
from stream.worker.topics import create_topics

ALERTS = 300
PAUSE_SECONDS = 0.02
WAIT_SECONDS = 120.0
POLL_SECONDS = 0.05


def alert_of(number: int, now: float) -> Alert:
    """An alert of a key of its own, opened now."""
    entity = Entity(type="key", id=f"key-{number}")
    return Alert(
        alert_id=alert_id_of(entity, now), fingerprint=fingerprint_of(entity), sequence=0, status="opened",
        severity="high", severity_reason="bench", kind="surge", entity=entity, started_at=now, detected_at=now,
        updated_at=now, window=Window(start=now - 300, end=now, horizon_seconds=300), observed=2e6, expected=1e3,
        upper=9e3, ratio=2000.0, z=9.0, score=0.99, false_alarm_probability=0.001, excess_tokens=2e6,
        excess_output_tokens=1e6, excess_per_hour=2.4e7,
        data_quality=DataQuality(missing_usage=0, late=0, duplicates=0, lag_seconds=0), summary="bench",
        suggested_action="none", config_digest="0" * 16,
    )  # fmt: skip


class Receiver:
    """A webhook that notes when it was told of which alert, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    async def take(self, request: web.BaseRequest) -> web.Response:
        """Take an event."""
        event = json.loads(await request.read())
        self.at.setdefault(event["data"]["alert_id"], time.monotonic())
        return web.Response(text="ok")


async def _until(held: Callable[[], bool]) -> None:
    while not held():  # noqa: ASYNC110  # nothing tells when a line has its partitions
        await asyncio.sleep(POLL_SECONDS)


async def measure(settings: Settings) -> list[float]:
    """Seconds from the beginning of each alert's transaction to its arrival. Raises TimeoutError."""
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.take))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    config = NotifyConfig.model_validate({"notifiers": {"bus": {"type": "webhook", "url": url}}})
    line, client = make_line("bus", settings, config, {}, NotifierMetrics(CollectorRegistry()), Hush())
    task = asyncio.create_task(line.run())
    producer = AIOKafkaProducer(**client_options(settings), transactional_id=f"{settings.app_id}-0", acks="all")
    await producer.start()
    begun: dict[str, float] = {}
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await _until(lambda: line.down is None)
            for number in range(ALERTS):
                alert = alert_of(number, time.time())
                key, value, headers = alert_record(alert, settings.app_id, 0)[:3]
                begun[alert.alert_id] = time.monotonic()
                async with producer.transaction():
                    await producer.send(settings.alert_topic, value, key=key, partition=0, headers=list(headers))
                await asyncio.sleep(PAUSE_SECONDS)
            await _until(lambda: len(receiver.at) == ALERTS)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await producer.stop()
        await client.close()
        await runner.cleanup()
    return [receiver.at[alert_id] - moment for alert_id, moment in begun.items()]


async def main() -> None:
    """Measure and print."""
    with EmbeddedKafka(cache_dir=load_settings().data_dir) as kafka:
        settings = load_settings({"broker": kafka.bootstrap, "partitions": 1}, environ={})
        await create_topics(settings)
        seconds = await measure(settings)
    cuts = quantiles(seconds, n=100)
    sys.stdout.write(
        f"{len(seconds)} alerts, from the transaction to the webhook: p50 {cuts[49]:.3f} s, p99 {cuts[98]:.3f} s, "
        f"longest {max(seconds):.3f} s\n"
    )


if __name__ == "__main__":
    asyncio.run(main())
