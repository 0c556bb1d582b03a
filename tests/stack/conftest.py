"""The whole stack: Kafka with the settings of deploy/compose.yaml, two workers, Prometheus, Alertmanager, an attack.

What a test of this folder needs from the machine and does not find is a failure that names the remedy, never a skip.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from parts import (
    OVERDRAW,
    PARTITIONS,
    READY_SECONDS,
    TOKEN,
    WORKERS,
    Processes,
    Stack,
    Webhook,
    alertmanager_config,
    broker_settings,
    get,
    prometheus_config,
    until,
)

from stream.broker import EmbeddedKafka
from stream.embedded.server import free_port
from stream.lab.demo_traffic import DemoTraffic
from stream.lab.produce import Producer, Timed
from stream.settings import Settings

INTAKE = "calls-not-keyed"


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Path of a program on the PATH."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            remedy = {"npm": "install Node.js with npm"}.get(name, "run `make test-stack`, which installs it")
            pytest.fail(f"{name} is not on the PATH: {remedy}")
        return path

    return find


def trouble(now: float) -> list[Timed]:
    """One record of everything that a gateway does wrong, all of one key."""
    call = {"time": now - 30, "key_id": "untidy", "input_tokens": 100, "output_tokens": 200}
    records = [
        {**call, "event_id": "once"},
        {**call, "event_id": "twice"},
        {**call, "event_id": "twice"},
        {**call, "event_id": "late", "time": now - 86_400},
        {**call, "event_id": "mute", "input_tokens": None, "output_tokens": None},
        {**call, "event_id": "wrong", "output_tokens": -1},
    ]
    return [(now, "untidy", json.dumps(record).encode()) for record in records] + [(now, "untidy", b"{broken")]


async def send_traffic(settings: Settings, traffic: DemoTraffic, pause_seconds: float) -> float:
    """Three weeks of history, an attack of 50 minutes that goes on, and trouble; returns when the live part began."""
    began = math.inf
    async with Producer(settings) as producer:
        for window in traffic:
            if window.live:
                began = min(began, time.time())
            await producer.send(window.records)
            if window.live and pause_seconds:
                await asyncio.sleep(pause_seconds)
        await producer.send(trouble(traffic.now))
    return began


def one_a_second(now: float) -> str:
    """Calls for the intake, one a second, for longer than the tests take; by two gateways in turn."""
    call = {"key_id": "unkeyed", "output_tokens": 5}
    calls = ({**call, "event_id": f"unkeyed-{i}", "time": now + i, "gateway": f"gw-{i % 2}"} for i in range(600))
    return "".join(json.dumps(call) + "\n" for call in calls)


@contextmanager
def running_stack(
    program: Callable[[str], str], folder: Path, *, pause_seconds: float = 0.0, scenario: str = "surge"
) -> Iterator[Stack]:
    """Everything up, and traffic with an attack and with all that can be wrong with records on its way.

    scenario: of the demo's
    pause_seconds: between windows of the traffic's live part, so that it can be watched; 0: as fast as it goes
    """
    prometheus, alertmanager = program("prometheus"), program("prometheus-alertmanager")
    since = time.time()
    with ExitStack() as held:
        kafka_port, prometheus_port, alertmanager_port, *web_ports = (free_port() for _ in range(3 + WORKERS))
        kafka = held.enter_context(EmbeddedKafka(port=kafka_port, extra_properties=broker_settings(kafka_port)))
        webhook = Webhook()
        held.callback(webhook.end)
        processes = Processes(folder)
        held.callback(processes.end)
        settings = {
            "OVERDRAW_BROKER": kafka.bootstrap,
            "OVERDRAW_PARTITIONS": str(PARTITIONS),
            # here an incident has to be there to be shown; how soon one is found at which price is measured elsewhere
            "OVERDRAW_FALSE_ALERTS_PER_1000_KEY_DAYS": "500",
        }
        by_hand = {**settings, "OVERDRAW_SOURCE_TOPIC": INTAKE}
        settings["OVERDRAW_INTAKE_TOPIC"] = INTAKE
        processes.finish("topics", *OVERDRAW, "topics", "create", seconds=READY_SECONDS, **settings)
        for number, port in enumerate(web_ports):
            processes.start(
                f"worker-{number}",
                *(*OVERDRAW, "worker"),
                **settings,
                # loopback, but written so that the worker does not take it for that: as with 0.0.0.0 it wants the token
                OVERDRAW_WEB_HOST="127.1",
                OVERDRAW_WEB_PORT=str(port),
                OVERDRAW_WEB_TOKEN=TOKEN,
            )
        processes.start(
            "alertmanager",
            alertmanager,
            f"--config.file={alertmanager_config(folder, webhook.url)}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{alertmanager_port}",
            "--cluster.listen-address=",
        )
        scrape = prometheus_config(
            folder,
            [f"127.0.0.1:{port}" for port in web_ports],
            f"127.0.0.1:{alertmanager_port}",
            scrape_interval="1s",
            scrape_timeout="1s",
            evaluation_interval="1s",
        )
        processes.start(
            "prometheus",
            prometheus,
            f"--config.file={scrape}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        )
        traffic = DemoTraffic(time.time(), scenario)
        assert traffic.attacked is not None
        running = Stack(
            kafka.bootstrap,
            [f"http://127.0.0.1:{port}" for port in web_ports],
            f"http://127.0.0.1:{prometheus_port}",
            f"http://127.0.0.1:{alertmanager_port}",
            webhook,
            traffic.attacked,
            since,
            processes,
        )

        def ready() -> bool:
            processes.check()
            workers = all(get(f"{worker}/readyz", TOKEN)[0] == 200 for worker in running.workers)
            return workers and all(
                get(f"{url}/-/ready")[0] == 200 for url in (running.prometheus, running.alertmanager)
            )

        until("workers, Prometheus and Alertmanager are ready", ready)
        until(
            "the first scrapes", lambda: len(running.ask("query", query='up{job="overdraw"} == 1')["result"]) == WORKERS
        )
        live_since = asyncio.run(
            send_traffic(Settings(broker=kafka.bootstrap, partitions=PARTITIONS), traffic, pause_seconds)
        )
        calls = folder / "calls.jsonl"
        calls.write_text(one_a_second(time.time()))
        processes.start("feed", *OVERDRAW, "feed", str(calls), "--speed", "1", **by_hand)
        yield replace(running, live_since=live_since)
        processes.check()


@pytest.fixture(scope="session")
def stack(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack for all tests of a run."""
    with running_stack(program, tmp_path_factory.mktemp("stack")) as running:
        yield running
