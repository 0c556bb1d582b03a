"""What each head is fitted to, and the newcomers' own tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream.core.channels import STATISTICS
from stream.core.channels.newcomer import Newcomer
from stream.core.channels.shape import Shape
from stream.core.residuals import QUICK
from stream.core.rule import Head
from stream.lab.training.heads import Pair, Task, fit
from stream.lab.training.record import LARGE, SHAPED
from stream.lab.training.samples import Numbers, Sample

VOLUME_FAMILIES = frozenset({"surge", "drift", "ramp", "quiet_hours", "hidden_usage"})
EVERYTHING = tuple(i for i, name in enumerate(STATISTICS) if name not in Newcomer.statistics)
"""A newcomer is judged by its own number alone."""
TASKS = (
    Task("quick", lambda episode: episode.family == "surge", tuple(range(QUICK)), 0),
    Task(
        "volume",
        lambda episode: episode.family in VOLUME_FAMILIES,
        tuple(i for i in EVERYTHING if STATISTICS[i] not in Shape.statistics),
        LARGE,
    ),
    # a mimic has no shape of its own: it teaches nothing here
    Task(
        "joint",
        lambda episode: not episode.mimic and episode.family in VOLUME_FAMILIES | {"shape"},
        EVERYTHING,
        LARGE | SHAPED,
    ),
)
NEWCOMER_SHARES = (0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.007, 0.005, 0.003, 0.002)
JOINT_SHARES = (0.03, 0.01, 0.003, 0.001)
"""The rarest of them is exceeded by some ten key-days of a kind."""
BEYOND = 3.0
"""From there on a score is worth as many decades as it says."""
LEAST_PEAKS = 5
LEAST_STEP = 0.01


def fit_heads(pairs: Sequence[Pair]) -> tuple[Head, ...]:
    """Fit the heads one by one, in the order of TASKS; every world counts the same."""
    return tuple(fit(task, pairs) for task in TASKS)


def joint_tail(kinds: Sequence[tuple[Numbers, int]]) -> list[tuple[float, float]]:
    """(score, share of clean key-days whose highest score exceeds it): the highest head's score is a maximum of three.

    `kinds` are of each kind of traffic the highest scores of clean key-days, and how many days there were. Of each
    share the score is the highest that any kind needs: the dial is kept everywhere, not on average.
    """
    scores = []
    for found, days in kinds:
        peaks = np.sort(found)[::-1]
        scores.append([float(peaks[min(int(share * days), len(peaks) - 1)]) for share in JOINT_SHARES])
    needed = [round(max(column), 3) for column in zip(*scores, strict=True)]
    tail = list(zip(needed, JOINT_SHARES, strict=True))
    return [*tail, (round(needed[-1] + BEYOND, 3), JOINT_SHARES[-1] * 10**-BEYOND)]


def newcomer_tail(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """(number, share of young key-days whose highest number exceeds it), as far as enough days reach."""
    peaks = np.sort(np.concatenate([sample.newcomers for sample in samples]))[::-1]
    days = sum(sample.young_days for sample in samples)
    tail: list[tuple[float, float]] = []
    for share in NEWCOMER_SHARES:
        place = int(share * days)
        if LEAST_PEAKS <= place < len(peaks) and (not tail or peaks[place] > tail[-1][0] + LEAST_STEP):
            tail.append((round(float(peaks[place]), 3), share))
    return tail
