"""A labelled world through the detector that users get: what it opened, paged and resolved, key by key.

Buckets are fed as sums and closed one by one, through the incidents of `stream.core.reporting`. So what is measured is
what a worker would say, but for its early alerts: it opens a surge inside its bucket, here it opens at the bucket's
close, which is the same incident, found some minutes later.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stream.alerts import Alert, DataQuality
from stream.core.bucket import ESTIMATED_INPUT, ESTIMATED_OUTPUT, OpenBucket
from stream.core.key import KeyState, Skips
from stream.core.reporting import settle
from stream.core.rules import Rules
from stream.lab.evaluation.summed import Summed
from stream.lab.worlds.world import World

PAGES = ("high", "critical")
T = TypeVar("T")
KEYS_A_TASK = 8
"""So few that progress shows and no process waits long for another at the end."""
QUALITY = DataQuality(missing_usage=0.0, late=0.0, duplicates=0.0, lag_seconds=0.0)
SUMS = (
    "calls", "known_calls", "input_tokens", "output_tokens", "reasoning_tokens", "saturated", "log_output",
    "log_output_squares", "same_model",
)  # fmt: skip
"""What a world holds of a bucket."""

Progress = Callable[[int, int], None]
"""Is told how many keys are done, and of how many."""


MakeRules = Callable[[], Rules]
"""What makes the rules, in each process anew, such as `partial(Rules, settings)`; it has to be picklable."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One incident of one key, as its alerts told it; `key` is a column of the world, the others are rows of it.

    started: the first anomalous bucket; detected: the bucket whose close brought the first alert
    paged: the bucket whose close made it high or critical, None if it never was
    resolved: its last bucket, None if it was open at the end
    steps: all that a worker would have said of it
    """

    key: int
    started: int
    detected: int
    kind: str
    paged: int | None = None
    resolved: int | None = None
    steps: tuple[Alert, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class KeyTraffic:
    """One key's part of a world: its rows with calls, the sums there (SUMS), and the stretches that were lost."""

    key: int
    key_id: str
    rows: NDArray[np.int64]
    sums: NDArray[np.int64]
    lost: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Some keys for one process; buckets are the world's, of event time from `first` to `end`."""

    traffic: tuple[KeyTraffic, ...]
    rules: MakeRules
    first: int
    end: int
    keys: int


def detect(
    world: World,
    make_rules: MakeRules,
    *,
    columns: Sequence[int] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Alarm]:
    """The incidents of a world's keys, or of those in `columns`, by key and time; the same for any number of jobs.

    Raises ValueError if the rules are for other buckets than the world's.
    """
    bucket_seconds = make_rules().settings.bucket_seconds
    if bucket_seconds != world.bucket_seconds:
        raise ValueError(f"buckets of {world.bucket_seconds} s, but rules for {bucket_seconds} s")
    alarms: list[Alarm] = []
    for found in each_of(do, tasks_of(world, make_rules, columns), jobs, progress):
        alarms += found
    return alarms


def tasks_of(world: World, make_rules: MakeRules, columns: Sequence[int] | None = None) -> list[Task]:
    """The keys of a world, or those in `columns`, some for each task."""
    chosen = range(len(world.key_ids)) if columns is None else columns
    first, end, keys = world.first_bucket, world.first_bucket + len(world.calls), len(world.key_ids)
    return [
        Task(tuple(traffic_of(world, key) for key in chosen[start : start + KEYS_A_TASK]), make_rules, first, end, keys)
        for start in range(0, len(chosen), KEYS_A_TASK)
    ]


def each_of(work: Callable[[Task], T], tasks: Sequence[Task], jobs: int, progress: Progress | None) -> Iterator[T]:
    """What each task comes to, in the order of the tasks."""
    keys = sum(len(task.traffic) for task in tasks)
    done = 0
    for task, result in zip(tasks, _work(work, tasks, jobs), strict=True):
        done += len(task.traffic)
        if progress is not None:
            progress(done, keys)
        yield result


def _work(work: Callable[[Task], T], tasks: Sequence[Task], jobs: int) -> Iterator[T]:
    if jobs == 1 or len(tasks) < 2:
        yield from map(work, tasks)
        return
    # spawned, not forked: a fork in the midst of another library's threads can hang
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)), multiprocessing.get_context("spawn"), initializer=leave_interrupts_to_the_parent
    )
    try:
        yield from pool.map(work, tasks)
    finally:
        pool.shutdown(cancel_futures=True)


def leave_interrupts_to_the_parent() -> None:
    """What each process of a pool begins with: Ctrl-C ends the parent, which ends the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def do(task: Task) -> list[Alarm]:
    """Take a task's keys through all their buckets."""
    rules = task.rules()
    alarms: list[Alarm] = []
    for traffic in task.traffic:
        alarms += alarms_of(traffic.key, alerts_of(traffic, rules, task.first, task.end, task.keys), rules, task.first)
    return alarms


def traffic_of(world: World, key: int) -> KeyTraffic:
    """One key's part of a world."""
    rows = np.flatnonzero(world.calls[:, key])
    sums = np.stack([getattr(world, name)[rows, key] for name in SUMS], axis=1)
    edges = np.flatnonzero(np.diff(world.lost[:, key].astype(np.int8), prepend=0, append=0)) + world.first_bucket
    lost = tuple((int(edges[i]), int(edges[i + 1])) for i in range(0, len(edges), 2))
    return KeyTraffic(key, world.key_ids[key], rows, sums, lost)


def alerts_of(traffic: KeyTraffic, rules: Rules, first: int, end: int, keys: int) -> list[Alert]:
    """The alerts of one key, as a shard would send them; `keys` is the size of the installation."""
    key = KeyState(traffic.key_id, rules)
    skips: Skips = traffic.lost
    alerts: list[Alert] = []
    for row, sums in zip(traffic.rows.tolist(), traffic.sums.tolist(), strict=True):
        bucket = first + row
        alerts += settle(key, bucket, skips, QUALITY, keys)[0]  # an open incident is carried on through silence
        opened = key.open[bucket] = summed(key.open_bucket(bucket, bucket, skips), sums)
        early = key.incident is None and opened.is_over(rules.settings.min_calls)
        closed = settle(key, bucket + 1, skips, QUALITY, keys)[0]
        alerts += told_early(closed) if early else closed
    alerts += settle(key, end, skips, QUALITY, keys)[0]
    return alerts


def told_early(closed: list[Alert]) -> list[Alert]:
    """The alerts of a bucket in which a worker opens before it closes: as a ticket, which the close may make a page."""
    if not closed or closed[0].status != "opened" or closed[0].severity not in PAGES:
        return closed
    opened = closed[0]
    return [
        opened.model_copy(update={"severity": "warning"}), opened.model_copy(update={"status": "updated"}), *closed[1:],
    ]  # fmt: skip


def summed(opened: OpenBucket, sums: Sequence[int]) -> Summed:
    """An opened bucket with its sums; usage that the gateway did not give is estimated as the shard does."""
    bucket = Summed(opened.index, opened.plan)
    (
        bucket.calls, known, bucket.input_tokens, bucket.output_tokens, bucket.reasoning_tokens, bucket.saturated,
        bucket.log_output, bucket.log_output_squares, bucket.pairs,
    ) = sums  # fmt: skip
    vague = bucket.calls - known
    if vague:
        bucket.vague_calls = vague
        bucket.vague_input = round(opened.plan[ESTIMATED_INPUT] * vague)
        bucket.vague_output = round(opened.plan[ESTIMATED_OUTPUT] * vague)
        bucket.input_tokens += bucket.vague_input
        bucket.output_tokens += bucket.vague_output
        bucket.missing = 2 * vague
    return bucket


def alarms_of(key: int, alerts: Sequence[Alert], rules: Rules, first: int) -> Iterator[Alarm]:
    """One alarm an incident, out of all its alerts."""
    seconds = rules.settings.bucket_seconds
    incidents: dict[str, list[Alert]] = {}
    for alert in alerts:
        incidents.setdefault(alert.alert_id, []).append(alert)
    for steps in incidents.values():
        opened, last = steps[0], steps[-1]
        page = next((alert.updated_at for alert in steps if alert.severity in PAGES), None)
        yield Alarm(
            key=key,
            started=int(opened.started_at // seconds) - first,
            detected=_closed(opened.detected_at, rules) - first,
            kind=opened.kind,
            paged=None if page is None else _closed(page, rules) - first,
            resolved=None if last.resolved_at is None else int(last.resolved_at // seconds) - 1 - first,
            steps=tuple(steps),
        )


def _closed(time: float, rules: Rules) -> int:
    """The bucket whose close an alert of event time `time` came from."""
    return int((time - rules.lateness) // rules.settings.bucket_seconds) - 1
