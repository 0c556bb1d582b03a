"""A storm: what a worker does while thousands of keys have an open incident, against calm in one run.

The same keys make as many records either way, and what a worker does with each is measured up to Kafka: the shard, the
records of its states, and the alerts as they are written. In the storm every record stands for a few hundred calls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from stream.core.shard import Shard
from stream.core.state import SHARD_KEY, SUMS, pack_shard, unpack_shard
from stream.events import Arrival, Call
from stream.lab.bench_core import States
from stream.lab.bench_table import Row
from stream.lab.simulate import BUCKET_SECONDS
from stream.settings import Settings
from stream.worker.outbox import alert_record, as_found

KEYS = 10_000
ORIGINALS, HISTORY_DAYS = 4, 14
"""The keys are copies of these: steady ones, old enough to be judged by all that is known of a key."""
START = 1_772_323_200.0  # 2026-03-01T00:00:00Z
RECORDS_A_BUCKET = 10
BUCKETS = 3
FLUSH_RECORDS = 5_000
"""What a flush of a busy worker holds."""
INPUT_TOKENS, OUTPUT_TOKENS = 700, 300
"""Of a call."""
STORM_CALLS = 300
"""That a record stands for in the storm."""
LEAST_STORM_RATIO = 0.5
"""Of the calm rate: an open incident is judged at every step, a calm key hourly, and its alerts are written."""
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Run:
    """CPU seconds over `records`, and what came of them; `longest`: of one flush."""

    seconds: float
    records: int
    longest: float
    alerts: int
    open: int


def measure(settings: Settings, keys: int = KEYS, tell: Callable[[str], None] = lambda _: None) -> list[Row]:
    """The rows of a storm of `keys` incidents; the middle one of some turns."""
    settings = settings.model_copy(update={"partitions": 1, "max_keys": max(settings.max_keys, 2 * keys)})
    tell(f"{ORIGINALS} keys with {HISTORY_DAYS} days of history, as {keys:,}")
    states = copies(learned(settings), keys)
    names = [name[1:].decode() for name, _ in states if name[:1] == SUMS]
    calm, storm = [], []
    for turn in range(REPEATS):
        tell(f"calm and storm, {turn + 1} of {REPEATS}")
        calm.append(run(settings, states, names, 1))
        storm.append(run(settings, states, names, STORM_CALLS))
    return rows_of(_middle(calm), _middle(storm), keys)


def rows_of(calm: Run, storm: Run, keys: int) -> list[Row]:
    """What is shown of calm and storm over as many records."""
    rate, stormy = calm.records / calm.seconds, storm.records / storm.seconds
    return [
        Row(f"calm, {keys:,} keys", rate, "records/CPU·s", note=_note("", calm)),
        Row(
            f"storm, {keys:,} keys at once", stormy, "records/CPU·s", stormy / rate, LEAST_STORM_RATIO,
            note=_note("of calm; ", storm),
        ),
    ]  # fmt: skip


def _note(before: str, run: Run) -> str:
    return f"{before}{run.open:,} incidents, {run.alerts:,} alerts, longest flush {run.longest:.1f} CPU·s"


def learned(settings: Settings) -> States:
    """The states of a shard that has known its keys for days: with a season, and a little unlike each other."""
    shard = Shard(0, settings, partition_of=lambda _: 0)
    arrivals: list[Arrival] = []
    for bucket in range(HISTORY_DAYS * 86_400 // BUCKET_SECONDS):
        season = 1 + 0.5 * math.cos(2 * math.pi * bucket * BUCKET_SECONDS / 86_400)
        for key in range(ORIGINALS):
            calls = max(1, round(RECORDS_A_BUCKET * season * (0.8 + 0.4 * ((bucket * 7919 + key * 31) % 101) / 101)))
            moment = START + bucket * BUCKET_SECONDS + key
            call = Call(
                event_id=f"h{bucket}", time=moment, key_id=f"key-{key}", calls=calls,
                input_tokens=INPUT_TOKENS * calls, output_tokens=OUTPUT_TOKENS * calls, model="m-large",
            )  # fmt: skip
            arrivals.append((len(arrivals), moment, call))
    shard.observe(arrivals, -1)
    return shard.changes()


def copies(states: States, keys: int) -> States:
    """A shard's record, and its keys under so many other names."""
    by_key: dict[bytes, States] = {}
    shard: States = []
    for name, value in states:
        if name == SHARD_KEY:
            shard.append((name, pack_shard(msgspec.structs.replace(unpack_shard(value), keys=keys))))
        else:
            by_key.setdefault(name[1:], []).append((name, value))
    originals = [pair for pair in by_key.values() if any(name[:1] == SUMS for name, _ in pair)]
    named = [(name + b"-%d" % copy, value) for copy in range(keys) for name, value in originals[copy % len(originals)]]
    return [*named, *shard]


def run(settings: Settings, states: States, names: list[str], calls: int) -> Run:
    """Some buckets of the keys, each record standing for so many `calls`, as a worker takes it flush by flush."""
    shard = Shard(0, settings, partition_of=lambda _: 0)
    shard.load(states)
    total = longest = 0.0
    records = alerts = 0
    for chunk in _flushes(names, calls):
        begin = time.thread_time()
        step = shard.observe(chunk, chunk[-1][0])
        written = [
            alert_record(as_found(one, one.updated_at, settings.backlog_seconds), "bench", 0) for one in step.alerts
        ]
        shard.changes()
        spent = time.thread_time() - begin
        total, longest = total + spent, max(longest, spent)
        records, alerts = records + len(chunk), alerts + len(written)
    return Run(total, records, longest, alerts, sum(1 for _ in shard.open_alerts()))


def _flushes(names: list[str], calls: int) -> Iterator[list[Arrival]]:
    first = START + HISTORY_DAYS * 86_400
    chunk: list[Arrival] = []
    pace = BUCKET_SECONDS / (RECORDS_A_BUCKET * len(names))
    for number in range(BUCKETS * RECORDS_A_BUCKET * len(names)):
        moment = first + number * pace
        call = Call(
            event_id=f"s{number}", time=moment, key_id=names[number % len(names)], calls=calls,
            input_tokens=INPUT_TOKENS * calls, output_tokens=OUTPUT_TOKENS * calls, model="m-large",
        )  # fmt: skip
        chunk.append((number, moment, call))
        if len(chunk) == FLUSH_RECORDS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _middle(runs: list[Run]) -> Run:
    return sorted(runs, key=lambda one: one.seconds)[len(runs) // 2]
