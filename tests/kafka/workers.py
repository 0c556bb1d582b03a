"""Workers as processes, traffic on a real source topic, and what a worker should make of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from stream.lab.chaos.topics import records_of
from stream.partition import partition_of
from stream.security import client_options
from stream.settings import Settings

HOUR = 3600
DAYS = 10
START = 1_772_323_200.0
"""2026-03-01: a backlog, so that days of traffic can be learned from in seconds."""


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The process environment that makes these settings."""
    chosen = {
        f"OVERDRAW_{name.upper()}": str(value)
        for name, value in settings.model_dump(exclude_defaults=True, exclude={"web_token", "data_dir"}).items()
    }
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OVERDRAW_")}
    return {**plain, **chosen, "PYTHONUNBUFFERED": "1", **more}


def overdraw(settings: Settings, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "stream", *arguments]
    return subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=60, **options)


def eventually(condition: Callable[[], Any], seconds: float = 60.0, what: str | Callable[[], str] = "") -> Any:
    """The first true value of a condition; polls with a deadline, and then says what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    said = what() if callable(what) else what
    raise AssertionError(f"not within {seconds} s: {said or condition}")


class Worker:
    """`overdraw worker` as a process; give it back with `end`. `before` is Python that runs in it first: sabotage."""

    def __init__(
        self, settings: Settings, folder: Path, instance: str = "worker-0", *arguments: str, before: str = ""
    ) -> None:
        self.settings = settings
        self.instance = instance
        self.log = folder / f"{instance}-{time.monotonic_ns()}.log"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"{before}\nfrom stream.__main__ import main\nmain()", "worker", *arguments],
                env=environment(settings, OVERDRAW_INSTANCE_ID=instance, OVERDRAW_WEB_PORT="0"),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def url(self) -> str | None:
        found = re.search(r"HTTP on (http://\S+)", self.said())
        return found[1] if found else None

    def get(self, path: str) -> Any:
        """The answer as JSON; None while there is none."""
        if self.url is None:
            return None
        try:
            with urlopen(self.url + path, timeout=5) as answer:
                return json.load(answer)
        except HTTPError as error:
            return json.load(error)
        except (URLError, OSError):
            return None

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.said()
        return bool((self.get("/readyz") or {}).get("ready"))

    def wait_ready(self) -> Worker:
        eventually(self.is_ready, 60, lambda: f"ready\n{self.said()}")
        return self

    def partitions(self) -> dict[int, dict[str, Any]]:
        status = self.get("/api/status") or {"partitions": []}
        return {row["partition"]: row for row in status["partitions"] if row["live"]}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> tuple[int, float]:
        """SIGTERM; the exit code and the seconds that it took."""
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15), time.monotonic() - begun
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the worker did not end\n{self.said()}") from None


Start = Callable[..., Worker]
"""What the fixture `start` gives: `start(settings, *arguments, instance=…, before=…)`."""


def traffic(keys: int = 12, attacked: Iterable[int] = (0, 1, 2), seed: int = 3) -> list[tuple[str, bytes]]:
    """Ten days of hourly buckets in order of time; some keys are drained for four hours near the end."""
    rnd = random.Random(seed)
    events: list[tuple[float, str, int, int]] = []
    hours = DAYS * 24
    for hour in range(hours):
        events += [
            (START + hour * HOUR + i * 170.0, f"key-{i % keys}", rnd.randrange(4000, 6000), rnd.randrange(2000, 3000))
            for i in range(20)
        ]
        if hours - 12 <= hour < hours - 8:
            events += [
                (START + hour * HOUR + 3400.0 + i, f"key-{key}", 25_000, 25_000) for key in attacked for i in range(100)
            ]
    events.sort()
    return [
        (
            key_id,
            json.dumps(
                {
                    "event_id": f"{seed}-{number}",
                    "time": moment,
                    "key_id": key_id,
                    "input_tokens": given,
                    "output_tokens": taken,
                }
            ).encode(),
        )
        for number, (moment, key_id, given, taken) in enumerate(events)
    ]


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An administrator's connection."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def feed(settings: Settings, events: Sequence[tuple[str, bytes]], per_second: float = 0.0) -> None:
    """Produce keyed events in order."""
    producer = AIOKafkaProducer(**client_options(settings), enable_idempotence=True, linger_ms=5)
    await producer.start()
    begun, sent = time.monotonic(), 0
    try:
        for first in range(0, len(events), 200):
            batch = events[first : first + 200]
            waiting = [
                await producer.send(
                    settings.source_topic,
                    value,
                    partition=partition_of(key_id, settings.partitions),
                    key=key_id.encode(),
                )
                for key_id, value in batch
            ]
            await asyncio.gather(*waiting)
            sent += len(batch)
            if per_second:
                await asyncio.sleep(max(0.0, begun + sent / per_second - time.monotonic()))
    finally:
        await producer.stop()


def sums(events: Iterable[tuple[str, bytes]]) -> dict[str, tuple[int, int, int]]:
    """Calls, input and output tokens of every key."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for key_id, value in events:
        content = json.loads(value)
        for place, amount in enumerate((1, content["input_tokens"], content["output_tokens"])):
            totals[key_id][place] += amount
    return {key_id: (total[0], total[1], total[2]) for key_id, total in totals.items()}


def dumped(settings: Settings) -> dict[str, tuple[int, int, int]]:
    """The same, as `overdraw state dump` has it."""
    done = overdraw(settings, "state", "dump", "--json")
    assert done.returncode == 0, done.stderr
    views = [json.loads(line) for line in done.stdout.splitlines()]
    return {view["key_id"]: (view["calls"], view["input_tokens"], view["output_tokens"]) for view in views}


async def ends_of(settings: Settings, topic: str) -> dict[int, int]:
    """The offset of the last record of every partition that has one."""
    return {record.partition: record.offset for record in await records_of(settings, topic)}


async def all_visible(settings: Settings, topic: str) -> None:
    """Wait until a topic has no open transaction: the broker answers a commit before it has written the markers."""
    partitions = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
    levels = ("read_committed", "read_uncommitted")
    options = client_options(settings)
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(AIOKafkaConsumer(**options, isolation_level=level)) for level in levels
        ]
        deadline = time.monotonic() + 60
        while True:
            stable, written = [await reader.end_offsets(partitions) for reader in readers]
            if stable == written:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{topic}: it ends at {written}, and can be read up to {stable}")
            await asyncio.sleep(0.1)


async def all_passed(settings: Settings, workers: Sequence[Worker], intake_partitions: int) -> None:
    """Wait until the intake has committed every partition to its end, and the shards what came of it."""
    ends = await ends_of(settings.model_copy(update={"partitions": intake_partitions}), settings.intake_topic or "")

    def committed() -> bool:
        rows = [row for worker in workers for row in (worker.get("/api/status") or {}).get("intake", []) if row["live"]]
        return {row["partition"]: row["committed"] for row in rows if row["partition"] in ends} == ends

    await asyncio.to_thread(eventually, committed, 60, lambda: "\n".join(worker.said()[-3000:] for worker in workers))
    await all_visible(settings, settings.source_topic)
    await applied_to_the_end(settings, workers)


async def applied_to_the_end(settings: Settings, workers: Sequence[Worker]) -> None:
    """Wait until every partition is committed to its end."""
    ends = await ends_of(settings, settings.source_topic)
    deadline = time.monotonic() + 60
    while True:
        held = {p: row["committed"] for worker in workers for p, row in worker.partitions().items()}
        if all(held.get(partition) == end for partition, end in ends.items()):
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{held} instead of {ends}\n" + "\n".join(w.said()[-3000:] for w in workers))
        await asyncio.sleep(0.1)
