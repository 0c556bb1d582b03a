"""What the channels say of a world's keys, bucket by bucket, with nothing opening an incident."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.core.channels import STATISTICS
from stream.core.channels.base import Laws
from stream.core.channels.shape import (
    CALLS,
    INPUT,
    LEAST_WINDOW_CALLS,
    LIMIT,
    OUTPUT,
    RATIO,
    UNIFORM,
    Shape,
    aspects_of,
)
from stream.core.key import KeyState
from stream.core.priors import Priors
from stream.core.residuals import QUICK
from stream.core.rule import CONTEXT
from stream.core.rules import NEWCOMER, SHAPE, Rules
from stream.lab.evaluation.detector import KeyTraffic, summed, traffic_of
from stream.lab.worlds.world import World
from stream.settings import Settings

Floats = NDArray[np.float32]
KEYS_A_TASK = 8
TRAIT_DAYS = 3
LEVEL_OFFSET = 0.003
"""Tokens per second inside the population's logarithm: about 1,000 a day."""
_NONE = Laws.__new__(Laws)
_NONE.laws = []
LARGE, SHAPED = 1, 2
"""Bits of a row: some window holds enough excess; the shape of the calls was judged."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key's rows. Columns of `values` are STATISTICS, of the contexts CONTEXT; rows are the world's.

    rows, values, context, flags: the steps at which something might be said
    quick_rows, quick_values, quick_context: the buckets at which the windows of minutes might say something
    peak_days, peaks: days of use, and each law's highest z on it (-inf: none), in the order of STANDARDISED
    young_rows, young: steps of the first week, and the newcomer's number at them
    traits: ln of tokens per second and three aspects of the shape after three days of use (NaN: too few calls)
    """

    key: int
    rows: NDArray[np.int32]
    values: Floats
    context: Floats
    flags: NDArray[np.uint8]
    quick_rows: NDArray[np.int32]
    quick_values: Floats
    quick_context: Floats
    peak_days: NDArray[np.int32]
    peaks: Floats
    young_rows: NDArray[np.int32]
    young: Floats
    traits: Floats


class _Ear:
    """Stands in for the rule: hears what it is asked, and finds nothing."""

    def __init__(self) -> None:
        self.quick: tuple[Sequence[float], Sequence[float]] | None = None
        self.slow: tuple[Sequence[float], Sequence[float], int] | None = None

    def quick_score(self, values: Sequence[float], context: Sequence[float]) -> float:
        """Note it."""
        self.quick = (values[:QUICK], context)
        return 0.0

    def slow_score(self, values: Sequence[float], context: Sequence[float], large: bool, shaped: bool) -> float:
        """Note it."""
        self.slow = (values, context, LARGE * large | SHAPED * shaped)
        return 0.0

    def needed(self, statistic: int, context: Sequence[float], score: float) -> float:
        """Nothing is ever enough."""
        return math.inf


@dataclass(frozen=True, slots=True)
class Task:
    """Some keys for one process."""

    traffic: tuple[KeyTraffic, ...]
    priors: Priors
    first: int


def record(
    world: World, priors: Priors, *, jobs: int, report: Callable[[str], None] = lambda line: None
) -> list[KeyRecord]:
    """The records of all keys of a world, in their order."""
    count = len(world.key_ids)
    tasks = [
        Task(tuple(traffic_of(world, key) for key in range(first, min(first + KEYS_A_TASK, count))), priors,
             world.first_bucket)
        for first in range(0, count, KEYS_A_TASK)
    ]  # fmt: skip
    records: list[KeyRecord] = []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(_walk, tasks):
            records += part
    report(f"{world.name}: {count} keys recorded")
    return records


def _walk(task: Task) -> list[KeyRecord]:
    rules = Rules(Settings(), task.priors)
    ear = _Ear()
    rules.rule = ear  # type: ignore[assignment]
    rules.open_score = rules.hold_score = math.inf
    return [_of_key(traffic, rules, ear, task.first) for traffic in task.traffic]


def _of_key(traffic: KeyTraffic, rules: Rules, ear: _Ear, first: int) -> KeyRecord:
    key = KeyState(traffic.key_id, rules)
    per_day = rules.calendar.per_day
    laws = [law for channel in key.channels for law in getattr(channel, "laws", _NONE).laws]
    steps: list[tuple[int, Sequence[float], Sequence[float], int]] = []
    quick: list[tuple[int, Sequence[float], Sequence[float]]] = []
    young: list[tuple[int, float]] = []
    peaks: dict[int, list[float]] = {}
    traits = [math.nan] * 4
    for row, sums in zip(traffic.rows.tolist(), traffic.sums.tolist(), strict=True):
        bucket = first + row
        if key.next_bucket < 0:
            key.next_bucket = bucket
        key.open[bucket] = summed(key.open_bucket(bucket, bucket, traffic.lost), sums)
        key.catch_up(bucket, traffic.lost)
        ear.quick = ear.slow = None
        last = (bucket + 1) % per_day == 0
        if last:
            before = [law.peak for law in laws]
        key.close(key.open.pop(bucket), bucket + 1)
        day = peaks.setdefault(row // per_day, [-math.inf] * len(laws))
        for i, law in enumerate(laws):
            peak = before[i] if last else law.peak
            if peak > day[i]:
                day[i] = peak
        if ear.slow is not None:
            steps.append((row, *ear.slow))
        if ear.quick is not None:
            quick.append((row, *ear.quick))
        newcomer = key.channels[NEWCOMER].values[0]
        if newcomer > 0:
            young.append((row, newcomer))
        if math.isnan(traits[0]) and key.baseline.age >= TRAIT_DAYS * per_day:
            traits = _traits(key)
    return KeyRecord(
        key=traffic.key,
        rows=np.array([row for row, *_ in steps], np.int32),
        values=np.array([values for _, values, _, _ in steps], np.float32).reshape(-1, len(STATISTICS)),
        context=np.array([context for _, _, context, _ in steps], np.float32).reshape(-1, len(CONTEXT)),
        flags=np.array([flags for *_, flags in steps], np.uint8),
        quick_rows=np.array([row for row, *_ in quick], np.int32),
        quick_values=np.array([values for _, values, _ in quick], np.float32).reshape(-1, QUICK),
        quick_context=np.array([context for *_, context in quick], np.float32).reshape(-1, len(CONTEXT)),
        peak_days=np.array(list(peaks), np.int32),
        peaks=np.array(list(peaks.values()), np.float32).reshape(-1, len(laws)),
        young_rows=np.array([row for row, _ in young], np.int32),
        young=np.array([value for _, value in young], np.float32),
        traits=np.array(traits, np.float32),
    )


def _traits(key: KeyState) -> list[float]:
    """The key's place in the population."""
    shape = key.channels[SHAPE]
    assert isinstance(shape, Shape)
    window = shape.windows[1]
    level = math.log(key.baseline.level.get() / key.rules.settings.bucket_seconds + LEVEL_OFFSET)
    if window[CALLS] <= LEAST_WINDOW_CALLS or window[INPUT] <= 0 or window[OUTPUT] <= 0:
        return [level, math.nan, math.nan, math.nan]
    aspects = aspects_of(window)
    return [level, aspects[LIMIT], aspects[RATIO], aspects[UNIFORM]]
