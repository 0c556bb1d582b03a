"""The notifier as a process on a real Kafka: told once, whoever else is down, and whatever is killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).parent.parent / "notify"))

from services import CHECKS, Service, environ_of, made_alert

from stream.alerts import Alert
from stream.settings import Settings
from stream.worker.notifier.consumer import group_of
from stream.worker.outbox import alert_record
from stream.worker.topics import create_topics
from tests.kafka.workers import environment

FILE = """
[notifiers.pd]
type = "pagerduty"
url = "{url}/v2/enqueue"
routing_key_env = "PD_KEY"

[notifiers.chat]
type = "slack"
url_env = "SLACK_URL"

[notifiers.bus]
type = "webhook"
url = "{url}/hook"
secret_env = "SIGNING"
"""


async def until(what: str, condition: Callable[[], Awaitable[Any] | Any], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        held = condition()
        if await held if asyncio.iscoroutine(held) else held:
            return
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.05)


async def write(settings: Settings, *alerts: Alert, abort: bool = False) -> None:
    """Alerts as a worker writes them: in one transaction."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.broker, transactional_id=f"{settings.app_id}-test")
    await producer.start()
    try:
        await producer.begin_transaction()
        for alert in alerts:
            key, value, headers = alert_record(alert, settings.app_id, 0)[:3]
            await producer.send(settings.alert_topic, value, key=key, partition=0, headers=list(headers))
        await (producer.abort_transaction() if abort else producer.commit_transaction())
    finally:
        await producer.stop()


@pytest.fixture
def notifier(settings: Settings, tmp_path: Path) -> Any:
    """Starts notifiers; the last one's process and log."""
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str, port: int = 0) -> tuple[subprocess.Popen[bytes], Path]:
        file, log = tmp_path / "notify.toml", tmp_path / f"notifier-{len(started)}.log"
        file.write_text(FILE.format(url=url))
        more = {"OVERDRAW_NOTIFY_FILE": str(file), "OVERDRAW_NOTIFIER_PORT": str(port)}
        more["OVERDRAW_INSTANCE_ID"] = "notifier-0"
        with log.open("w") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "stream", "notifier"],
                    env=environment(settings, **more, **environ_of(url)), stdout=out, stderr=subprocess.STDOUT,
                )
            )  # fmt: skip
        return started[-1], log

    yield start
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


async def test_an_incident_is_told_once_whoever_is_down_and_whatever_is_killed(
    settings: Settings, notifier: Any
) -> None:
    service = await Service().start()
    answers = {"/services": (503, {}, b"down")}

    async def answer(request: Any) -> Any:
        from aiohttp import web

        status, headers, body = next((v for k, v in answers.items() if request.path.startswith(k)), (200, {}, b"ok"))
        return web.Response(status=status, headers=headers, body=body)

    service.usual = answer
    taken: dict[str, str] = {"pd": "/v2/enqueue", "chat": "/services", "bus": "/hook"}

    def told(name: str) -> int:
        return sum(request.path.startswith(taken[name]) for request, _ in service.requests)

    async def committed(name: str) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
        await admin.start()
        try:
            places = await admin.list_consumer_group_offsets(group_of(settings, name))
        finally:
            await admin.close()
        return max((place.offset for place in places.values()), default=0)

    try:
        await create_topics(settings)
        now = time.time()
        opened = [made_alert(key=f"key-{n}", at=now, started_at=now - 600) for n in range(3)]
        over = [made_alert(key=f"key-{n}", at=now + 1, started_at=now - 600, status="resolved") for n in range(3)]
        first, log = notifier(service.url)
        await write(settings, made_alert(key="never", at=now, started_at=now - 600), abort=True)
        await write(settings, *opened)
        await until(f"all but the dead one have it\n{log.read_text()}", lambda: told("pd") == told("bus") == 3)
        await until("the dead one was tried", lambda: told("chat") >= 1)

        async def kept() -> bool:
            return min(await committed("pd"), await committed("bus")) > 3

        await until("the place is kept", kept)
        assert await committed("chat") <= 2, "what was not delivered is not committed"
        first.send_signal(signal.SIGKILL)
        first.wait()

        service.requests.clear()
        answers.clear()
        second, log = notifier(service.url)
        await write(settings, *over)
        await until(f"everybody has the end\n{log.read_text()}", lambda: told("pd") == told("bus") == 3)
        await until("the dead one has caught up", lambda: told("chat") == 6)
        for request, body in service.requests:
            name = next(name for name, path in taken.items() if request.path.startswith(path))
            CHECKS[name](request, body)
            assert b"never" not in body, "what was aborted was never said"
        url = next(word for word in log.read_text().split() if word.startswith("http://127.0.0.1"))
        await check_served(url)
        second.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(second.wait, 20) == 0, log.read_text()
        assert "0123456789abcdef" not in log.read_text(), "no secret in a log"
    finally:
        await service.stop()


async def test_ten_thousand_incidents_at_once_are_some_messages_and_one_digest(
    settings: Settings, notifier: Any
) -> None:
    service = await Service().start()
    paths = {"pd": "/v2/enqueue", "chat": "/services", "bus": "/hook"}

    def sent(name: str) -> list[bytes]:
        return [body for request, body in service.requests if request.path.startswith(paths[name])]

    try:
        await create_topics(settings)
        now = time.time()
        for start in range(0, 10_000, 1_000):  # ten shards' transactions, say
            keys = range(start, start + 1_000)
            await write(settings, *(made_alert(key=f"key-{n}", at=now, started_at=now - 600) for n in keys))
        process, log = notifier(service.url)
        for name in ("pd", "chat"):
            await until(f"{name} has a digest\n{log.read_text()}", lambda name=name: len(sent(name)) > 20, 180)
        # a program gets each of them; people 20 and a digest
        await until("the bus has all", lambda: len(sent("bus")) == 10_000, 180)
        for name in ("pd", "chat"):
            # the limit fills again, by two a minute: a slow machine takes more than one to read them all
            assert 21 <= len(sent(name)) <= 30
            (digest,) = [body.decode() for body in sent(name) if b"more incidents at once, told in one" in body]
            assert int(re.search(r"([\d,]+) more incidents", digest)[1].replace(",", "")) > 1_000
        for request, body in service.requests:
            if b"at once" in body:
                CHECKS[next(name for name, path in paths.items() if request.path.startswith(path))](request, body)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0, log.read_text()
    finally:
        await service.stop()


async def check_served(url: str) -> None:
    from aiohttp import ClientSession

    async with ClientSession() as session:
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200, await answer.text()
        async with session.get(f"{url}/metrics") as answer:
            text = await answer.text()
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["overdraw_notifications_total", "chat", "delivered"] == 6
    assert values["overdraw_notifications_total", "delivered", "pd"] == 3
    assert values["overdraw_notifier_queue_messages", "bus"] == 0
    assert values["overdraw_notifier_ready",] == 1
