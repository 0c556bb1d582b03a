"""One experiment's world: brokers, topics, workers and a gateway that goes on sending, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from stream.broker import EmbeddedCluster, EmbeddedKafka
from stream.lab.chaos.fleet import ChaosError, Ending, Worker, until
from stream.lab.chaos.topics import records_of
from stream.lab.chaos.traffic import LEARNING_HOURS, Traffic
from stream.lab.produce import ProduceError, Producer, Sendable, Timed
from stream.settings import Settings, load_settings

PARTITIONS = 8
BUCKET_SECONDS = 3600
LATENESS_SECONDS = 600.0
STEP_SECONDS = 0.05
START_SECONDS = 60.0
WORK_SECONDS = 60.0
"""Far more than a session timeout and a recovery take."""
DRAIN_SECONDS = 120.0
PATIENCE_SECONDS = 180.0
"""The gateway waits so long for its broker: longer than any experiment takes it away."""
CLIENT_SECONDS = 15.0
"""A client that gets nothing through for so long is given up; leaders move, and brokers restart, within seconds."""
CLIENT_PAUSE_SECONDS = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it: kills, seconds of an outage and of undisturbed work before and after, events per second.

    keys: how many the traffic has, with events `per_hour` of all of them together

    The long form is for the table, the short one for the tests: fewer keys, some on each partition.
    """

    kills: int
    outage_seconds: float
    settled_seconds: float
    rate: float
    keys: int
    per_hour: int


LONG = Scale(kills=20, outage_seconds=60.0, settled_seconds=3.0, rate=1500.0, keys=48, per_hour=240)
SHORT = Scale(kills=3, outage_seconds=8.0, settled_seconds=1.0, rate=600.0, keys=32, per_hour=160)


@dataclass(slots=True)
class Progress:
    """Which partitions have committed more than when they were first seen."""

    first: dict[int, int] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)

    def look(self, committed: Mapping[int, int]) -> None:
        """Take up what is committed now."""
        for partition, offset in committed.items():
            if offset > self.first.setdefault(partition, offset):
                self.moved.add(partition)


@dataclass(slots=True)
class World:
    """What an experiment works with. `back` collects how long it took until records were processed again, in s."""

    settings: Settings
    scale: Scale
    kafka: EmbeddedKafka | EmbeddedCluster
    traffic: Traffic
    workers: list[Worker]
    random: Random
    back: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gone: list[Any] = field(default_factory=list)
    """Records that were applied, and that the source does not hold any more."""
    lost: dict[int, int] = field(default_factory=dict)
    """Offsets by partition of the source that were deleted before they were read."""
    codes: dict[str, int] = field(default_factory=dict)
    """Exit codes by worker that are right at the end, where they are not 0."""
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    sending: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ the gateway

    async def gateway(self) -> None:
        """Send days of traffic at once, then hour after hour at the scale's rate, until there is enough.

        A client of which nothing is acknowledged for a while is given up, and what it had not got through is sent
        again by a new one: as gateways do it, and aiokafka's has been seen to hang after the loss of a leader.
        """
        topic = self.settings.intake_topic or self.settings.source_topic
        settings = self.settings.model_copy(update={"source_topic": topic})
        steps, step, failing_since = self._steps(), list[Timed](), math.inf
        while True:
            try:
                async with Producer(settings, patience_seconds=CLIENT_SECONDS) as producer:
                    while step or (step := await anext(steps, [])):
                        await producer.send(self._addressed(step))
                        await producer.flush()
                        step, failing_since = [], math.inf
                    return
            except ProduceError:
                failing_since = min(failing_since, time.monotonic())
                if time.monotonic() - failing_since > PATIENCE_SECONDS:
                    raise
                self.traffic.truth.repeated += len(step)
                await asyncio.sleep(CLIENT_PAUSE_SECONDS)

    async def _steps(self) -> AsyncIterator[list[Timed]]:
        """What is sent at once, each at its time."""
        for _ in range(LEARNING_HOURS):
            yield self.traffic.hour()
        size, due = max(1, round(self.scale.rate * STEP_SECONDS)), time.monotonic()
        while not self.enough.is_set():
            records = self.traffic.hour()
            for first in range(0, len(records), size):
                yield records[first : first + size]
                due = max(due + STEP_SECONDS, time.monotonic() - 1.0)  # no rush behind an outage
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        if rest := self.traffic.rest():
            yield rest

    def _addressed(self, records: Sequence[Timed]) -> Sequence[Sendable]:
        """As the gateway keys them: not at all, where there is an intake for that."""
        return records if self.settings.intake_topic is None else [(at, None, value) for at, _, value in records]

    # ------------------------------------------------------------------ the workers

    async def committed(self, rows: str = "partitions") -> dict[int, int]:
        """The last committed offset of every partition, over all workers; `rows` as in `Worker.committed`."""
        found: dict[int, int] = {}
        for held in await asyncio.gather(*(worker.committed(rows) for worker in self.workers)):
            for partition, offset in held.items():
                found[partition] = max(offset, found.get(partition, -1))
        return found

    async def all_at_work(self, seconds: float = WORK_SECONDS) -> float:
        """Wait until every partition has committed more than when it was first seen; the seconds that it took."""
        progress = Progress()

        async def everywhere() -> bool:
            progress.look(await self.committed())
            return len(progress.moved) == self.settings.partitions

        return await until(everywhere, seconds, f"records are processed on every partition\n{self._logs()}")

    async def at_work(self, worker: Worker, seconds: float = WORK_SECONDS) -> float:
        """Wait until a worker has committed more than when it was first seen; the seconds that it took."""
        progress = Progress()

        async def anywhere() -> bool:
            progress.look(await worker.committed())
            return bool(progress.moved)

        return await until(anywhere, seconds, f"{worker.instance} processes records\n{worker.last_lines()}")

    async def settled(self) -> None:
        """End the traffic, and wait until every partition is committed to the last record of its log."""
        self.enough.set()
        if self.sending is not None:
            await self.sending
        if self.settings.intake_topic is not None:
            await self._read_to_end(self.settings.intake_topic, "intake")
        await self._read_to_end(self.settings.source_topic, "partitions")

    async def _read_to_end(self, topic: str, rows: str) -> None:
        last: dict[int, int] = {}
        for record in await records_of(self.settings, topic):
            last[record.partition] = record.offset

        async def done() -> bool:
            held = await self.committed(rows)
            return all(held.get(partition, -1) >= offset for partition, offset in last.items())

        await until(done, DRAIN_SECONDS, f"{topic} is applied to its end {last}\n{self._logs()}")

    async def end_workers(self) -> dict[str, Ending]:
        """SIGTERM to all that run, at once; how each of them ended."""
        running = [worker for worker in self.workers if worker.running]
        endings = await asyncio.gather(*(worker.end() for worker in running))
        return {worker.instance: ending for worker, ending in zip(running, endings, strict=True)}

    def _logs(self) -> str:
        return "\n".join(f"-- {worker.instance}\n{worker.last_lines()}" for worker in self.workers)


def settings_on(broker: str, **changes: object) -> Settings:
    """Settings of one experiment: hourly buckets, a short session, and the dial wide open.

    So there are incidents all the time: what is shown is that none is lost or doubled, not that they are right.
    """
    base: dict[str, object] = {
        "broker": broker, "partitions": PARTITIONS,
        "bucket_seconds": BUCKET_SECONDS, "allowed_lateness_seconds": LATENESS_SECONDS, "min_excess_tokens": 2000.0,
        "false_alerts_per_1000_key_days": 1000.0,
        "session_timeout_seconds": 6.0,
    }  # fmt: skip
    return load_settings({**base, **changes}, environ={})


@asynccontextmanager
async def world_of(
    kafka: EmbeddedKafka | EmbeddedCluster,
    settings: Settings,
    scale: Scale,
    *,
    workers: int,
    seed: int,
    faults: bool,
) -> AsyncIterator[World]:
    """Topics, running workers and a gateway that sends; whatever happens, all of it is gone at the end."""
    async with AsyncExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="overdraw-chaos-")))
        session = await held.enter_async_context(aiohttp.ClientSession())
        fleet = [Worker(settings, f"worker-{number}", folder, session) for number in range(workers)]
        traffic = Traffic(
            keys=scale.keys,
            per_hour=scale.per_hour,
            seed=seed,
            faults=faults,
            lateness=LATENESS_SECONDS,
            late=settings.intake_topic is None,
        )
        world = World(settings, scale, kafka, traffic, fleet, Random(seed))
        for worker in fleet:
            held.push_async_callback(worker.kill)
        gateway = world.sending = asyncio.create_task(world.gateway())
        held.push_async_callback(_cancelled, gateway)
        await asyncio.gather(*(worker.start() for worker in fleet))
        await _beside(gateway, world.all_at_work(START_SECONDS))
        yield world


async def _beside(task: asyncio.Task[None], work: Awaitable[float]) -> None:
    """Do some work; should the task beside it fail first, that is what is told."""
    doing = asyncio.ensure_future(work)
    await asyncio.wait({task, doing}, return_when=asyncio.FIRST_COMPLETED)
    if task.done() and not doing.done():
        doing.cancel()
        task.result()
        raise ChaosError("the gateway ended before the workers were at work")
    await doing


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
