"""The whole of Overdraw on one machine, in a minute: embedded Kafka, simulated traffic, a worker, the alert."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from aiokafka import AIOKafkaConsumer

from stream.alerts import Alert
from stream.broker import EmbeddedKafka
from stream.embedded.server import free_port
from stream.lab.demo_traffic import DemoTraffic, plan_of
from stream.lab.produce import Producer
from stream.lab.workers import WorkerDied, WorkerProcess, events_applied, worker_process
from stream.settings import Settings
from stream.worker.topics import create_topics

WORKER_START_SECONDS = 60.0
CATCH_UP_SECONDS = 180.0
POLL_SECONDS = 0.5
KEYS_SHOWN = 8
AFTER_SECONDS = 3.0
"""How long after the last call the demo still waits for an alert."""


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(slots=True)
class Story:
    """What the demo has to show at a moment; the screen reads it, the demo writes it."""

    scenario: str
    summary: str
    stage: str = "starting"
    broker: str = ""
    web: str = ""
    sent: int = 0
    learned: int = 0
    event_time: float = 0.0
    live: bool = False
    attacked: str | None = None
    members: frozenset[str] = frozenset()
    attack_start: float = 0.0
    ready_at: float = 0.0
    found_after: float | None = None
    keys: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)

    def is_hit(self, alert: Alert) -> bool:
        """Whether an alert is about the attack: about its key, or about a group of which most named keys are in it."""
        if alert.status != "opened":
            return False
        if alert.entity.type == "key" or alert.members is None:
            return len(self.members) == 1 and alert.entity.id in self.members
        named = {member.key_id for member in alert.members.top}
        return len(named & self.members) > len(named) / 2


class Screen(Protocol):
    """Where the story is told."""

    def stage(self, story: Story) -> None:
        """A new stage has begun."""

    def alert(self, story: Story, alert: Alert) -> None:
        """An alert has arrived."""

    def tick(self, story: Story) -> None:
        """Some time has passed."""


class Demo:
    """One run of the demo. `run` returns True if the attack was found, or in `calm` if nothing was.

    seconds: the run ends after that long, counted from the ready broker; None: when the traffic has been played, or
    with `stay` not before it is cancelled
    """

    def __init__(self, settings: Settings, scenario: str, seconds: float | None, stay: bool, screen: Screen) -> None:
        self._base, self._seconds, self._stay, self._screen = settings, seconds, stay, screen
        self.story = Story(scenario, plan_of(scenario).summary)

    def _enter(self, stage: str) -> None:
        self.story.stage = stage
        self._screen.stage(self.story)

    async def run(self) -> bool:
        """Boot, play, watch, clean up. Raises DemoError, or BrokerError if Kafka cannot be started."""
        story = self.story
        self._enter("starting Kafka (the first time, 45 MB are downloaded)")
        kafka = EmbeddedKafka(cache_dir=self._base.data_dir)
        try:
            await asyncio.to_thread(kafka.start)
            story.broker, story.ready_at = kafka.bootstrap, time.monotonic()
            port = self._base.web_port if "web_port" in self._base.model_fields_set else free_port()
            story.web = f"http://127.0.0.1:{port}"
            settings = self._base.model_copy(
                update={"broker": kafka.bootstrap, "web_host": "127.0.0.1", "web_port": port, "web_token": None}
            )
            await create_topics(settings)
            self._enter("starting the worker")
            async with worker_process(settings, "demo") as worker:
                await self._play(settings, worker)
        except WorkerDied as error:
            raise DemoError(str(error)) from error
        finally:
            await asyncio.to_thread(kafka.close)
        opened = [alert for alert in story.alerts if alert.status == "opened"]
        return story.found_after is not None if story.attacked is not None else not opened

    async def _play(self, settings: Settings, worker: WorkerProcess) -> None:
        """Everything that runs at once; ends with the traffic, the time, the worker's death, or a cancellation."""
        tasks = [
            asyncio.create_task(self._drive(settings)),
            asyncio.create_task(self._watch_alerts(settings)),
            asyncio.create_task(self._watch_keys()),
            asyncio.create_task(worker.death()),
        ]
        if self._seconds is not None:
            left = self._seconds - (time.monotonic() - self.story.ready_at)
            tasks.append(asyncio.create_task(asyncio.sleep(max(0.0, left))))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self, settings: Settings) -> None:
        """The history as fast as it goes, then the live part at its pace."""
        story = self.story
        loop = asyncio.get_running_loop()
        await self._until(lambda: self._ready(story.web), WORKER_START_SECONDS, "the worker is not ready")
        self._enter("three weeks of history, as fast as they go")
        traffic = DemoTraffic(time.time(), story.scenario)
        story.attacked, story.attack_start = traffic.attacked, traffic.attack_start
        story.members = traffic.members
        begin = 0.0
        async with Producer(settings) as producer:
            windows = iter(traffic)
            while (window := await asyncio.to_thread(next, windows, None)) is not None:
                if window.live and not story.live:
                    await producer.flush()
                    self._enter("the detector learns from the history")
                    await self._until(self._caught_up, CATCH_UP_SECONDS, "the worker does not catch up")
                    story.live, begin = True, loop.time()
                    self._enter(f"live traffic, {traffic.speed:,.0f} times as fast as the clock")
                if window.live:
                    due = begin + (window.until - traffic.live_start) / traffic.speed
                    await asyncio.sleep(max(0.0, due - loop.time()))
                await producer.send(window.records)
                if window.live:
                    await producer.flush()
                story.sent += len(window.records)
                story.event_time = window.until
        self._enter("the traffic has been played")
        await asyncio.sleep(AFTER_SECONDS)
        if self._stay or self._seconds is not None:
            await asyncio.Event().wait()

    async def _caught_up(self) -> bool:
        return self.story.learned >= self.story.sent

    async def _until(self, condition: Any, seconds: float, complaint: str) -> None:
        """Poll until `condition()` holds; DemoError after `seconds`."""
        deadline = time.monotonic() + seconds
        while not await condition():
            if time.monotonic() > deadline:
                raise DemoError(f"{complaint} after {seconds:.0f} s: is the machine very busy?")
            await asyncio.sleep(0.1)

    @staticmethod
    async def _ready(web: str) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{web}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def _watch_alerts(self, settings: Settings) -> None:
        consumer = AIOKafkaConsumer(
            settings.alert_topic,
            bootstrap_servers=settings.broker,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            async for record in consumer:
                self._take(Alert.model_validate_json(record.value))
        finally:
            await consumer.stop()

    def _take(self, alert: Alert) -> None:
        story = self.story
        story.alerts.append(alert)
        if story.is_hit(alert) and story.found_after is None and alert.detected_at >= story.attack_start:
            story.found_after = time.monotonic() - story.ready_at
        self._screen.alert(story, alert)

    async def _watch_keys(self) -> None:
        """The worker's own page of its busiest keys, and how many events it has applied."""
        story = self.story
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, json.JSONDecodeError):
                    async with session.get(f"{story.web}/api/keys?top={KEYS_SHOWN}") as answer:
                        story.keys = (await answer.json())["keys"]
                    async with session.get(f"{story.web}/metrics") as answer:
                        story.learned = events_applied(await answer.text())
                self._screen.tick(story)
                await asyncio.sleep(POLL_SECONDS)
