"""A worker ends when it is told to, whatever hangs, and by itself when it is stuck: on a Kafka that is hurt."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stream.broker import EmbeddedKafka
from stream.partition import partition_of
from stream.settings import Settings
from stream.worker.agents import SLICE_RECORDS
from stream.worker.ending import STOP_SECONDS
from stream.worker.topics import create_topics
from tests.kafka.workers import Start, Worker, applied_to_the_end, dumped, eventually, feed, sums, traffic

LIMIT_SECONDS = 10.0
MOST_LINES = 40
"""What an outage of less than a minute may add to the log, however many partitions there are."""


async def under_way(settings: Settings, start: Start, count: int = 2000, **options: Any) -> Worker:
    """A worker that has applied some traffic."""
    await create_topics(settings)
    worker = await asyncio.to_thread(start(settings, **options).wait_ready)
    await feed(settings, traffic()[:count])
    await applied_to_the_end(settings, [worker])
    return worker


# ---------------------------------------------------------------------- told to end


async def test_a_worker_whose_broker_was_killed_ends_in_time(
    fragile: tuple[EmbeddedKafka, Settings], start: Start
) -> None:
    broker, settings = fragile
    worker = await under_way(settings, start)
    await feed(settings, traffic()[2000:2500])
    broker.kill()
    code, seconds = await asyncio.to_thread(worker.end)
    assert (code, seconds < LIMIT_SECONDS) == (0, True), worker.said()
    assert "Traceback" not in worker.said()


async def test_a_worker_whose_broker_hangs_ends_in_time(fragile: tuple[EmbeddedKafka, Settings], start: Start) -> None:
    broker, settings = fragile
    settings = settings.model_copy(update={"partitions": 24})
    worker = await under_way(settings, start)
    await feed(settings, traffic()[2000:2500])
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)  # its connections stay open, and nothing answers
    try:
        code, seconds = await asyncio.to_thread(worker.end)
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    assert (code, seconds < LIMIT_SECONDS) == (0, True), worker.said()
    assert "Traceback" not in worker.said()


SLOW_STATE = """
import asyncio, stream.worker.tools as tools
real = tools.read_state
async def slow(*arguments, **options):
    print("reading", flush=True)
    await asyncio.to_thread(__import__("time").sleep, 100)
tools.Tools.__dataclass_fields__["read"].default = slow
tools.Tools.__init__.__defaults__ = tuple(slow if d is real else d for d in tools.Tools.__init__.__defaults__)
"""


async def test_a_worker_ends_in_time_in_the_midst_of_a_recovery(settings: Settings, start: Start) -> None:
    await create_topics(settings)
    worker = start(settings, before=SLOW_STATE)
    await asyncio.to_thread(eventually, lambda: "reading" in worker.said(), 30, "a recovery")
    assert not worker.is_ready()
    code, seconds = await asyncio.to_thread(worker.end)
    assert (code, seconds < LIMIT_SECONDS) == (0, True), worker.said()


async def test_a_worker_ends_in_time_before_its_first_assignment(settings: Settings, start: Start) -> None:
    await create_topics(settings)
    never = "import faust\nasync def none(*_): await __import__('asyncio').sleep(1000)\n"
    worker = start(settings, before=f"{never}faust.App._on_partitions_assigned = none")
    await asyncio.to_thread(eventually, lambda: worker.url, 30, "HTTP")
    code, seconds = await asyncio.to_thread(worker.end)
    assert (code, seconds < LIMIT_SECONDS) == (0, True), worker.said()


def test_a_worker_that_waits_for_a_deaf_broker_ends_at_once(settings: Settings, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        worker = start(settings.model_copy(update={"broker": f"127.0.0.1:{deaf.getsockname()[1]}"}))
        connection, _ = deaf.accept()
        with connection:
            code, seconds = worker.end()
    assert (code, seconds < LIMIT_SECONDS) == (0, True), worker.said()


CRASHING = """
from stream.worker.agents import Intake
async def take(self, event): raise ZeroDivisionError("sabotage")
Intake.take = take
"""
BLOCKED = """
from stream.worker.agents import Intake
async def take(self, event):
    print("blocked", flush=True)
    while True: pass
Intake.take = take
"""


@pytest.mark.parametrize("again", [False, True], ids=["one signal", "two signals"])
async def test_a_worker_whose_loop_is_blocked_ends_in_time_and_at_once_by_a_second_signal(
    settings: Settings, start: Start, again: bool
) -> None:
    await create_topics(settings)
    worker = await asyncio.to_thread(start(settings, before=BLOCKED).wait_ready)
    await feed(settings, traffic()[:50])
    await asyncio.to_thread(eventually, lambda: "blocked" in worker.said(), 30, "the loop blocked")
    begun = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    if again:
        await asyncio.sleep(1.0)
        worker.process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(worker.process.wait, 15)
    assert code == (128 + 15 if again else 1)
    assert time.monotonic() - begun < (STOP_SECONDS if again else LIMIT_SECONDS)


# ---------------------------------------------------------------------- stuck


async def test_a_worker_whose_agent_crashes_ends_in_time(settings: Settings, start: Start) -> None:
    await create_topics(settings)
    worker = await asyncio.to_thread(start(settings, before=CRASHING).wait_ready)
    await feed(settings, traffic()[:50])
    await asyncio.to_thread(eventually, lambda: "sabotage" in worker.said(), 30, "the crash")
    code, seconds = await asyncio.to_thread(worker.end)
    assert seconds < LIMIT_SECONDS, worker.said()
    assert code in (0, 1)


QUICK = """
import stream.worker.group as g, stream.worker.monitor as m
g.OFFSETS_TIMEOUT_SECONDS = m.STUCK_SECONDS = m.LAST_CHANCE_SECONDS = m.ASK_ANEW_SECONDS = 2.0
"""
PATIENCE_SECONDS = 4.0
DEAF = """
from stream.worker.agents import Intake
async def take(self, event): await __import__("asyncio").Event().wait()
Intake.take = take
"""
ENDED = """
from stream.worker import agents
def add_agent(app, name, topic, take):
    async def agent(stream):
        async for event in stream.noack().events():
            print("the stream ends", flush=True)
            return
    app.agent(topic, name=name)(agent)
agents.add_agent = add_agent
"""
DEAD_THREAD = """
import threading
from stream.worker.transport import BatchThread
real = BatchThread._fetch_records
async def fetch(self, consumer, active, timeout=None, max_records=None):
    drained = await real(self, consumer, active, timeout=timeout, max_records=max_records)
    if any(drained.values()):
        print("the thread hangs", flush=True)
        threading.Event().wait()
    return drained
BatchThread._fetch_records = fetch
"""


@pytest.mark.parametrize("sabotage", [DEAF, ENDED, CRASHING, DEAD_THREAD], ids=["deaf", "ended", "crashing", "thread"])
async def test_a_worker_that_does_nothing_ends_by_itself_to_be_started_again(
    sabotage: str, settings: Settings, start: Start
) -> None:
    await create_topics(settings)
    worker = await asyncio.to_thread(start(settings, before=QUICK + sabotage).wait_ready)
    await feed(settings, traffic()[:50])
    code = await asyncio.to_thread(worker.process.wait, 60)
    assert code in ((1, 75) if sabotage == CRASHING else (75,)), worker.said()
    healthy = await asyncio.to_thread(start(settings).wait_ready)
    await applied_to_the_end(settings, [healthy])
    assert dumped(settings) == sums(traffic()[:50])


async def test_a_worker_outlives_a_broker_that_is_away_and_says_so_in_few_lines(
    fragile: tuple[EmbeddedKafka, Settings], start: Start
) -> None:
    broker, settings = fragile
    settings = settings.model_copy(update={"partitions": 24})
    quick = f"{QUICK}m.BROKER_SILENT_SECONDS = 5.0\n"
    worker = await under_way(settings, start, before=quick)
    events = traffic()[2000:]
    feeding = asyncio.create_task(feed(settings, events[:2000], per_second=1000))
    await asyncio.sleep(1.0)
    said = len(worker.said().splitlines())
    broker.kill()
    await asyncio.to_thread(
        eventually,
        lambda: "the broker has not answered" in str(worker.get("/readyz")),
        40,
        "the worker is not ready",
    )
    await asyncio.sleep(2 * PATIENCE_SECONDS)  # the watchdog does not strike while no broker answers
    assert worker.process.poll() is None, worker.said()
    lines = worker.said().splitlines()[said:]
    assert len(lines) <= MOST_LINES, "\n".join(lines)
    assert sum("the broker does not answer" in line for line in lines) == 1
    await asyncio.to_thread(broker.start)
    await feeding
    await asyncio.to_thread(worker.wait_ready)
    await feed(settings, events[2000:])
    await applied_to_the_end(settings, [worker])
    assert dumped(settings) == sums(traffic())
    text = worker.said()
    assert text.count("the broker answers again") == 1
    assert "Traceback" not in text
    assert len(text.splitlines()) - said <= 2 * MOST_LINES


# ---------------------------------------------------------------------- more than can be written

STALLING = """
import asyncio, os
from stream.worker import live
from stream.worker.journal import Journal
live.MAX_UNFLUSHED = {most}
real = Journal._write
async def write(self, records, offsets):
    while self.partition == 0 and os.path.exists({path!r}):
        await asyncio.sleep(0.05)
    await real(self, records, offsets)
Journal._write = write
"""
MOST_UNFLUSHED = 300


async def test_a_partition_that_cannot_be_written_is_paused_and_the_others_go_on(
    settings: Settings, start: Start, tmp_path: Path
) -> None:
    await create_topics(settings)
    stall = tmp_path / "stall"
    worker = start(settings, before=STALLING.format(most=MOST_UNFLUSHED, path=str(stall)))
    await asyncio.to_thread(worker.wait_ready)
    stall.touch()
    events = traffic()
    await feed(settings, events)
    ends = Counter(partition_of(key_id, settings.partitions) for key_id, _ in events)
    await asyncio.to_thread(
        eventually, lambda: worker.partitions()[1]["committed"] == ends[1] - 1, 30, "the other partition is read"
    )
    await asyncio.to_thread(eventually, lambda: "reads no more" in worker.said(), 30, "the partition is held")
    assert worker.partitions()[0]["applied"] < MOST_UNFLUSHED + SLICE_RECORDS < ends[0]
    stall.unlink()
    await applied_to_the_end(settings, [worker])
    assert dumped(settings) == sums(events)
    assert "dropped" not in worker.said()
