"""What days show of a slow attack by what is known then: whether a key rises more than clean ones do by themselves.

`attainable` knows a key's true level and takes noise to be normal. Whoever watches has the weeks before, and clean
keys that change their ways. Here the last day, three and seven days are compared with the days of the weeks before,
working days with working days and weekends with weekends, in standard deviations of the key's own in those weeks and in
those of all keys. An attack is seen if one of these six numbers is higher than clean keys ever make it but for so many
times, each with a threshold that was set on these very days; days in a row are one time, as for the detector. It is no
bound: only the length and the size of a rise are looked at, not its hours, its calls or their shape, and few clean days
set each threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stream.lab.evaluation.attainable import DAY, STEP_SECONDS
from stream.lab.evaluation.keydays import Kind, key_days
from stream.lab.evaluation.scoring import counted
from stream.lab.worlds.world import World

Floats = NDArray[np.float64]

SLOW = frozenset(family for family, seconds in STEP_SECONDS.items() if seconds == DAY)
"""The families that last for days and are a change of volume and nothing else."""
WINDOWS = (1, 3, 7)
HELD = 28
"""Days that are looked back on, the window with them."""
LEAST_DAYS = 4
"""With fewer days of use before there is nothing to compare with."""
OFFSET = 1000.0
PRIOR_VARIANCE = 0.3
PRIOR_DAYS = 7.0
"""The variance of a day's logarithm that counts for so many days of a key's own."""
LAG = 0.3
"""Correlation of a day with the next one, once the kind of day is taken off."""


def seen_by_days(world: World, twin: World, false_per_1000_key_days: float) -> list[bool | None]:
    """For each attack that counts, whether the days see it; None for families of other kinds.

    `twin` is the same world without its attacks: its clean key-days tell how far keys rise by themselves.
    """
    attacked, calm = (_of_days(one) for one in (world, twin))
    days = key_days(twin)
    clean = (days.kinds == Kind.CLEAN) & days.active
    allowed = math.floor(false_per_1000_key_days * int(clean.sum()) / 1000 + 1e-9)
    attacks = counted(world)
    if not clean.any():
        return [None] * len(attacks)
    found: list[bool | None] = [False if one.family in SLOW else None for one in attacks]
    for mine, usual in zip(_rises(attacked), _rises(calm), strict=True):
        limit = _limit(np.where(clean, usual, -np.inf), allowed)
        for number, one in enumerate(attacks):
            if found[number] is False:
                first, last = one.first // world.per_day, (one.last - 1) // world.per_day
                found[number] = bool((mine[first : last + 1, one.key] > limit).any())
    return found


def _limit(numbers: Floats, allowed: int) -> float:
    """The lowest limit that keys get over at most so many times; days x keys, days in a row are one time."""
    limits = np.unique(numbers[np.isfinite(numbers)])
    low, high = 0, len(limits) - 1
    while low < high:
        middle = (low + high) // 2
        over = numbers > limits[middle]
        times = int(over[0].sum() + (over[1:] & ~over[:-1]).sum())
        low, high = (low, middle) if times <= allowed else (middle + 1, high)
    return float(limits[low])


def _of_days(world: World) -> Floats:
    """Tokens, days x keys."""
    starts = np.arange(0, len(world.calls), world.per_day)
    tokens = np.add.reduceat(world.input_tokens + world.output_tokens, starts, axis=0)
    return np.asarray(tokens, np.float64)


def _rises(tokens: Floats) -> Iterator[Floats]:
    """Days x keys: of each of WINDOWS, in own standard deviations, and in those of all; 0 where nothing can be said."""
    logs = np.log1p(tokens / OFFSET)
    # a key's first day has begun somewhere
    used = (tokens > 0) & (np.cumsum(tokens > 0, axis=0) > 1)
    weekend = np.arange(len(logs)) % 7 >= 5
    for window in WINDOWS:
        own, common = np.zeros(logs.shape), np.zeros(logs.shape)
        noise = _noise_of_mean(window)
        for day in range(window + LEAST_DAYS, len(logs)):
            before = np.arange(max(0, day + 1 - HELD), day - window + 1)
            within = np.arange(day - window + 1, day + 1)
            level, count = _levels(logs[before], used[before], weekend[before])
            kind = weekend[before].astype(int)
            rest = np.where(used[before], logs[before] - level[kind], 0.0)
            known = used[before].sum(axis=0)
            variance = ((rest**2).sum(axis=0) + PRIOR_DAYS * PRIOR_VARIANCE) / (np.maximum(known - 2, 0) + PRIOR_DAYS)
            kind = weekend[within].astype(int)
            comparable = used[within] & (count[kind] > 0)
            above = np.where(comparable, logs[within] - level[kind], 0.0)
            part = comparable.sum(axis=0)
            speaks = (2 * part >= window) & used[day] & (known >= LEAST_DAYS)
            mean = np.where(speaks, above.sum(axis=0) / np.maximum(part, 1), 0.0)
            # of the days themselves, and of the level that they are compared with
            scale = np.sqrt(noise * window / np.maximum(part, 1) + (1 + LAG) / (1 - LAG) / np.maximum(known, 1))
            own[day] = mean / (np.sqrt(variance) * scale)
            common[day] = mean / (math.sqrt(PRIOR_VARIANCE) * scale)
        yield own
        yield common


def _levels(logs: Floats, used: NDArray[np.bool_], weekend: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Of working days and of weekends: the mean of each key, and of how many days it is."""
    level, count = np.zeros((2, logs.shape[1])), np.zeros((2, logs.shape[1]))
    for kind in (0, 1):
        those = weekend == bool(kind)
        count[kind] = used[those].sum(axis=0)
        level[kind] = np.where(used[those], logs[those], 0.0).sum(axis=0) / np.maximum(count[kind], 1)
    return level, count


def _noise_of_mean(window: int) -> float:
    """Variance of the mean of so many days, each of variance 1."""
    places = np.arange(window)
    return float((LAG ** np.abs(places[:, None] - places[None, :])).mean())
