"""Fitting the decision rule: logistic heads over bags of moments.

A head is fitted to bags: of an attack the moment that speaks loudest for it, of a clean key-day the loudest too, so
both are chosen again with each round's weights (multiple-instance learning, after T. G. Dietterich et al., Artificial
Intelligence 89, 1997).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

from stream.core.channels import STATISTICS
from stream.core.rule import (
    CONTEXT,
    TAIL_FEATURES,
    UNPREDICTABILITY,
    Head,
    Tail,
)
from stream.lab.training.samples import AFTER_ROWS, Numbers, Rows, Sample
from stream.lab.training.tails import scores, sigmoid
from stream.lab.worlds.world import Episode

Floats = NDArray[np.float64]
ROUNDS = 5
PENALTY = 0.02
LEAST_WEIGHT = 0.0005
LEAST_WEIGHTS = {"level_1d": 1.2, "level_5d": 0.8, "cusum": 1.0, "creep": 1.8}
"""Of the head for volume. Fitted alone they are near 0 for keys that nobody can predict; held at this they cost nothing
on clients that were not fitted to, and a day at ten times its level counts whatever the key."""
MOST_CONTEXT = 4.0
LEAST_CONTEXT = {"size": 0.0, "relative_size": 0.0}
"""More tokens above the baseline never make a key less suspicious."""
CLEAN_WEIGHT = 500.0
"""Of all clean key-days against all attacks: the odds are even about where one key-day in 1,000 is exceeded."""
FIRST_BIAS, FIRST_WEIGHT = -4.0, 0.4


@dataclass(frozen=True, slots=True)
class Pair:
    """A world without its attacks and with them."""

    clean: Sample
    attacked: Sample


@dataclass(frozen=True, slots=True)
class Task:
    """What a head is fitted to: the attacks that `wants` picks; rows with one of `flags`, 0: those of minutes alone.

    statistics: columns of the rows' values that may have weight
    """

    name: str
    wants: Callable[[Episode], bool]
    statistics: tuple[int, ...]
    flags: int


def fit(task: Task, pairs: Sequence[Pair]) -> Head:
    """Fit one head, every world counting the same. Its tail is yet to be fitted: for now every score is 0."""
    count = len(task.statistics)
    least = [LEAST_WEIGHTS.get(STATISTICS[i], 0.0) if task.name == "volume" else 0.0 for i in task.statistics]
    theta = np.concatenate([np.full(count, FIRST_WEIGHT), np.zeros(count + len(CONTEXT)), [FIRST_BIAS]])
    for _ in range(ROUNDS):
        found = [_bags(task, pair, theta) for pair in pairs]
        loud, calm, loud_weight, calm_weight = (np.concatenate(part) for part in zip(*found, strict=True))
        theta = _minimise(loud, calm, loud_weight, calm_weight, least)
    return Head(
        name=task.name,
        bias=round(float(theta[-1]), 3),
        weights=tuple(
            (statistic, round(float(theta[i]), 3), round(float(theta[count + i]), 3))
            for i, statistic in enumerate(task.statistics)
            if max(theta[i], theta[count + i]) >= LEAST_WEIGHT
        ),
        context=tuple(round(float(weight), 3) for weight in theta[2 * count : -1]),
        tail=Tail(math.inf, (0.0,) * len(TAIL_FEATURES), (0.0,) * len(TAIL_FEATURES)),
    )


def rows_of(task: Task, sample: Sample) -> Rows:
    """The rows that a head looks at."""
    return sample.quick if task.flags == 0 else sample.steps


def usable(task: Task, sample: Sample) -> NDArray[np.bool_]:
    """Clean rows at which a head speaks."""
    rows = rows_of(task, sample)
    return rows.clean & ((rows.flags & task.flags) > 0 if task.flags else True)


def odds_of(head: Head, rows: Rows) -> Numbers:
    """A head's log odds at each row."""
    total = rows.context @ np.array(head.context, np.float32) + np.float32(head.bias)
    steady = _steadiness(rows.context)
    for i, weight, further in head.weights:
        total += (np.float32(weight) + np.float32(further) * steady) * rows.values[:, i]
    return total


def scores_of(head: Head, rows: Rows) -> Numbers:
    """`Head.score` of each row."""
    return scores(head.tail, odds_of(head, rows), rows.context)


def _steadiness(context: Numbers) -> Numbers:
    """`stream.core.rule.steadiness` of each row."""
    steady: Numbers = (1 / (1 + np.exp(context[:, UNPREDICTABILITY]))).astype(np.float32)
    return steady


def _design(rows: Rows, places: Any, statistics: Sequence[int]) -> Floats:
    values, context = rows.values[places][:, statistics].astype(np.float64), rows.context[places]
    steady = _steadiness(context)[:, None]
    return np.hstack([values, values * steady, context.astype(np.float64), np.ones((len(values), 1))])


def _bags(task: Task, pair: Pair, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Design rows of attacks and of clean days, and their weights."""
    count = len(task.statistics)
    rows = rows_of(task, pair.attacked)
    places = []
    wanted = [episode for episode in pair.attacked.world.attacks if task.wants(episode)]
    for episode in wanted:
        part = rows.within(episode.key, episode.first, episode.last + AFTER_ROWS)
        design = _design(rows, part, task.statistics)
        scores = (
            np.where((rows.flags[part] & task.flags) > 0, design @ theta, -np.inf) if task.flags else design @ theta
        )
        if len(scores) and np.isfinite(scores.max()):
            places.append(part.start + int(scores.argmax()))
    calm_rows = rows_of(task, pair.clean)
    steady = _steadiness(calm_rows.context)[:, None]
    weights = theta.astype(np.float32)
    calm_scores = (calm_rows.values[:, task.statistics] * (weights[:count] + steady * weights[count : 2 * count])).sum(
        axis=1
    )
    calm_scores += calm_rows.context @ weights[2 * count : -1]
    calm = calm_rows.peaks(calm_scores, usable(task, pair.clean))
    return (
        _design(rows, places, task.statistics),
        _design(calm_rows, calm, task.statistics),
        np.full(len(places), 1 / max(len(wanted), 1)),
        np.full(len(calm), CLEAN_WEIGHT / pair.clean.key_days),
    )


def _minimise(loud: Floats, calm: Floats, loud_weight: Floats, calm_weight: Floats, least: Sequence[float]) -> Floats:
    """Weighted logistic regression, weights of evidence at least `least`."""
    count = len(least)

    def loss(theta: Floats) -> tuple[float, Floats]:
        a, b = loud @ theta, calm @ theta
        value = (loud_weight * np.logaddexp(0, -a)).sum() + (calm_weight * np.logaddexp(0, b)).sum()
        slope = -loud.T @ (loud_weight * sigmoid(-a)) + calm.T @ (calm_weight * sigmoid(b))
        slope[:-1] += PENALTY * theta[:-1]
        return float(value + PENALTY / 2 * (theta[:-1] ** 2).sum()), slope

    size = loud.shape[1]
    bounds = (
        [(bound, None) for bound in least]
        + [(0.0, None)] * count
        + [(LEAST_CONTEXT.get(name, -MOST_CONTEXT), MOST_CONTEXT) for name in CONTEXT]
        + [(None, None)]
    )
    found = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    theta: Floats = found.x
    return theta
