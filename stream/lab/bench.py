"""The bench: what the detector costs, as ratios to a raw consumer loop in the same run, on one machine, right now.

Seconds of another machine mean little, and seconds of a busy one less: everything is CPU time of the process that is
measured, and what is compared runs in turns.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream import native
from stream.broker import EmbeddedKafka
from stream.lab import bench_recovery
from stream.lab import bench_runs as runs
from stream.lab.bench_core import Installation, core_rows, learn
from stream.lab.bench_groups import group_rows
from stream.lab.bench_table import Row, number, replay_rows, worker_rows
from stream.lab.bench_traffic import KINDS, Traffic, density
from stream.settings import Settings

DEFAULT_EVENTS = 1_000_000
"""So many that a worker's start and end, which count against it, are a percent or two."""
REPLAYED_EVENTS = 400_000
QUICK_EVENTS = 60_000
MOST_EVENTS = 2_000_000
KEYS = 300
HISTORY_DAYS = 8.0
"""A key is judged from its fourth day on, and among new keys to its seventh: then it is one like most."""
REPEATS = 3
REPLAY_TIMES = (4, 8)
"""Of the events, for the two files of `replay`: by default what the second has more comes after the keys' third day,
from when on they are judged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `events` of each kind through Kafka; four times as many, and eight times, by `replay`.

    brief: only what is judged as a ratio to the raw loop
    """

    events: int = DEFAULT_EVENTS
    keys: int = KEYS
    history_days: float = HISTORY_DAYS
    repeats: int = REPEATS
    recovered: tuple[int, ...] = (bench_recovery.KEYS,)
    """Numbers of keys whose states are recovered."""
    brief: bool = False

    @property
    def replayed(self) -> tuple[int, int]:
        """Events of the shorter and the longer file."""
        small, large = (times * min(self.events, REPLAYED_EVENTS) for times in REPLAY_TIMES)
        return small, large


@dataclass(frozen=True, slots=True)
class Report:
    """The rows, and in words what traffic they are about."""

    traffic: str
    rows: list[Row]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {"traffic": self.traffic, "core": native.core(), "rows": [row.as_json() for row in self.rows]}


class Bench:
    """One run; `tell` takes lines of progress. Raises BenchError, BrokerError or ProduceError, each with what to do."""

    def __init__(self, settings: Settings, plan: Plan, tell: Callable[[str], None]) -> None:
        # whatever the user's settings say of addresses and topics: this runs on a broker of its own
        self._settings = settings.model_copy(update={"web_token": None, "instance_id": None})
        self._plan, self._tell = plan, tell

    async def run(self) -> Report:
        """Measure everything; leaves nothing behind, also when it is cancelled."""
        plan, settings = self._plan, self._settings
        self._tell(f"drawing {plan.keys} keys with {plan.history_days:g} days of history")
        traffic = await asyncio.to_thread(Traffic.make, plan.events, plan.keys, plan.history_days)
        installation = await asyncio.to_thread(learn, traffic, settings)
        dense = await asyncio.to_thread(lambda: density(traffic.calls(plan.events)))
        rows: list[Row] = []
        if not plan.brief:
            self._tell("the core: closing buckets and packing states")
            rows += await asyncio.to_thread(core_rows, traffic, installation, settings)
            self._tell("groups: shards that tell of their keys, and shards that do not")
            rows += await asyncio.to_thread(group_rows, traffic, installation, settings, plan.events)
            rows = await self._replays(traffic) + rows
        rows = await self._through_kafka(traffic, installation) + rows
        return Report(self._words(dense, installation), rows)

    def _words(self, dense: tuple[float, float, int], installation: Installation) -> str:
        per_second, per_bucket, active = dense
        return (
            f"{self._plan.events:,} events of {active} active keys ({installation.keys} of {self._plan.keys} known for "
            f"{self._plan.history_days:g} days), {number(per_second)} calls/s, {self._settings.partitions} partitions: "
            f"{number(per_bucket)} events per closed bucket of a key; core: {native.core()}"
        )

    async def _through_kafka(self, traffic: Traffic, installation: Installation) -> list[Row]:
        self._tell("starting Kafka")
        kafka = EmbeddedKafka(cache_dir=self._settings.data_dir, tell=self._tell)
        rows: list[Row] = []
        try:
            await asyncio.to_thread(kafka.start)
            settings = self._settings.model_copy(update={"broker": kafka.bootstrap})
            for kind in KINDS:
                rows += await self._raw_and_worker(runs.of_kind(settings, kind), kind, traffic, installation)
            for keys in () if self._plan.brief else self._plan.recovered:
                self._tell(f"recovery of {keys:,} keys: writing their states to Kafka, and reading them")
                rows += await bench_recovery.recovery_rows(settings, installation, keys, self._plan.repeats)
        finally:
            await asyncio.to_thread(kafka.close)
        return rows

    async def _raw_and_worker(
        self, settings: Settings, kind: str, traffic: Traffic, installation: Installation
    ) -> list[Row]:
        events = self._plan.events
        self._tell(f"{kind} events: writing {events:,} to Kafka")
        await runs.fill(settings, traffic.values(kind, events))
        raw: list[float] = []
        worker: list[runs.WorkerRun] = []
        for turn in range(self._plan.repeats):
            of = f"{turn + 1} of {self._plan.repeats}"
            raw.append(await runs.raw_rate(settings, events))
            self._tell(f"{kind} events: raw loop {of}: {number(raw[-1])} events/CPU·s")
            worker.append(await runs.worker_run(settings, f"bench-{kind}-{turn}", installation, events))
            self._tell(f"{kind} events: worker {of}: {number(worker[-1].rate)} events/CPU·s")
        peak = max(run.peak_bytes for run in worker)
        return [
            *worker_rows(kind, raw, [run.rate for run in worker]),
            Row(
                f"worker's memory, {kind} events", peak / 1e6, "MB",
                note=f"its most; {worker[-1].buckets_closed:,} buckets closed",
            ),
        ]  # fmt: skip

    async def _replays(self, traffic: Traffic) -> list[Row]:
        rows: list[Row] = []
        with tempfile.TemporaryDirectory(prefix="overdraw-bench-") as folder:
            path = Path(folder) / "calls.jsonl"
            for kind in KINDS:
                spent = []
                for count in self._plan.replayed:
                    self._tell(f"{kind} events: replay of {count:,}")
                    await asyncio.to_thread(runs.write_file, path, traffic, kind, count)
                    spent.append(await runs.replay_run(path))
                rows += replay_rows(kind, spent[0], spent[1], self._plan.replayed)
        return rows
