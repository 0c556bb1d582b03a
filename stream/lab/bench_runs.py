"""The runs of the bench that need processes: the raw loop, the worker on the same topic, and `replay`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from stream.embedded.server import free_port
from stream.lab.bench_core import Installation
from stream.lab.bench_traffic import Timed, Traffic
from stream.lab.produce import Producer
from stream.lab.workers import STOP_SECONDS, WorkerProcess, events_applied, worker_process
from stream.settings import Settings
from stream.worker.journal import Journal
from stream.worker.topics import create_topics

START_POLL_SECONDS = 0.1
POLL_SECONDS = 1.0
"""A scrape costs the worker some 10 ms with its process metrics: once a second that is a percent."""
PATIENCE_SECONDS = 120.0
"""Without one more event applied for this long, a run has failed."""


class BenchError(Exception):
    """A measurement cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """What a worker took for all events of a topic: CPU from the first to the last, the most memory, closed buckets."""

    rate: float
    peak_bytes: int
    buckets_closed: int


def of_kind(settings: Settings, kind: str) -> Settings:
    """The same settings with a source topic for one kind of event."""
    return settings.model_copy(update={"source_topic": f"bench-{kind}"})


async def fill(settings: Settings, values: Iterable[Sequence[Timed]]) -> None:
    """Write the events to the source topic, keyed as gateways do it."""
    await create_topics(settings)
    async with Producer(settings) as producer:
        windows = iter(values)
        while (window := await asyncio.to_thread(next, windows, None)) is not None:
            await producer.send(window)


async def child(*arguments: str, module: str = "stream.lab.bench_child") -> dict[str, Any]:
    """Run a module that measures itself; its last line is the result."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = errors.decode("utf-8", "replace").strip().splitlines()[-3:]
        raise BenchError(f"the {arguments[0]} run ended with exit code {process.returncode}: {' / '.join(said)}")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


async def raw_rate(settings: Settings, events: int) -> float:
    """Events per CPU-second of the raw loop."""
    result = await child("raw", settings.broker, settings.source_topic, str(events))
    return float(result["events"] / result["cpu_seconds"])


async def replay_run(path: Path) -> tuple[float, float]:
    """CPU seconds and peak bytes of `overdraw replay` on a file."""
    result = await child("replay", str(path))
    return float(result["cpu_seconds"]), float(result["peak_bytes"])


def write_file(path: Path, traffic: Traffic, kind: str, count: int) -> None:
    """The first `count` events of all, of a kind, as JSON lines."""
    with path.open("wb") as out:
        for window in traffic.values(kind, count, from_the_start=True):
            out.writelines(value + b"\n" for _, _, value in window)


async def worker_run(settings: Settings, name: str, installation: Installation, events: int) -> WorkerRun:
    """Let a fresh worker, which knows the installation from the state topic, apply all events of the source topic."""
    chosen = settings.model_copy(
        update={
            "app_id": name,
            "alert_topic": f"{name}-alerts",
            "dead_letter_topic": f"{name}-dead",
            "state_topic": f"{name}-state",
            "group_evidence_topic": f"{name}-evidence",
            "group_state_topic": f"{name}-groups",
            "web_host": "127.0.0.1",
            "web_port": free_port(),
        }
    )
    await create_topics(chosen)
    await _write_states(chosen, installation)
    async with worker_process(chosen, name) as worker:
        run = asyncio.create_task(_watch(worker, f"http://127.0.0.1:{chosen.web_port}/metrics", events))
        death = asyncio.create_task(worker.death())
        try:
            done, _ = await asyncio.wait({run, death}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return run.result()
        finally:
            run.cancel()
            death.cancel()
            await asyncio.gather(run, death, return_exceptions=True)


async def _write_states(settings: Settings, installation: Installation) -> None:
    for partition, states in installation.states.items():
        journal = Journal(settings, partition)
        await journal.open()
        try:
            await journal.write({settings.state_topic: [(key, value, ()) for key, value in states]})
        finally:
            await asyncio.wait_for(journal.close(), STOP_SECONDS)


async def _watch(worker: WorkerProcess, url: str, events: int) -> WorkerRun:
    """CPU time from the last moment at which nothing was applied to the first at which all was written.

    Both ends are read to the worker's disadvantage: the end of its start-up and the idling at the end count.
    """
    process = psutil.Process(worker.process.pid)
    start: tuple[list[str], float] | None = None
    begun = False
    peak = applied = 0
    loop = asyncio.get_running_loop()
    moved = loop.time()
    async for text in _scrapes(url):
        now = events_applied(text)
        peak = max(peak, process.memory_info().rss)
        marks = _series(text, "overdraw_watermark_timestamp_seconds")
        if not begun:
            # the watermarks are read when they are asked for, the counters only move with a flush
            begun = now > 0 or (start is not None and len(marks) == len(start[0]) and marks != start[0])
            if not begun:
                start = (marks, _cpu(process))
        if now > applied:
            moved, applied = loop.time(), now
        if applied >= events:
            break
        if loop.time() - moved > PATIENCE_SECONDS:
            raise BenchError(f"the worker stands still at {applied:,} of {events:,} events: is the machine very busy?")
        await asyncio.sleep(POLL_SECONDS if begun else START_POLL_SECONDS)
    seconds = _cpu(process) - (start[1] if start is not None else 0.0)
    closed = sum(float(line.rsplit(" ", 1)[1]) for line in _series(text, "overdraw_buckets_closed_total"))
    return WorkerRun(applied / max(seconds, 1e-9), peak, int(closed))


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def _scrapes(url: str) -> AsyncIterator[str]:
    """The worker's metrics, again and again, from when it answers."""
    async with _session() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    text = await answer.text()
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(START_POLL_SECONDS)
                continue
            yield text


def _series(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(name) and not line.startswith("#")]


def _cpu(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
