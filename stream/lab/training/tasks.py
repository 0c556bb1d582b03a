"""What each head is fitted to, and the newcomers' own tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream.core.channels import STATISTICS
from stream.core.channels.newcomer import Newcomer
from stream.core.channels.shape import Shape
from stream.core.residuals import QUICK
from stream.core.rule import Rule
from stream.lab.training.heads import Pair, Task, fit
from stream.lab.training.record import LARGE, SHAPED
from stream.lab.training.samples import Sample

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
LEAST_PEAKS = 5
LEAST_STEP = 0.01


def fit_rule(pairs: Sequence[Pair]) -> Rule:
    """Fit the heads one by one; every world counts the same."""
    quick, volume, joint = (fit(task, pairs) for task in TASKS)
    return Rule(quick, volume, joint)


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
