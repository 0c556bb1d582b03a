"""Fitting the decision rule: logistic heads over bags of moments, their exceedance tables, the tail by context.

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
from scipy.optimize import minimize

from stream.core.rule import CONTEXT, TAIL_FEATURES, Decades, Head, Tail, tail_features
from stream.lab.training.samples import AFTER_ROWS, Numbers, Rows, Sample
from stream.lab.worlds.world import Episode

Floats = NDArray[np.float64]
ROUNDS = 5
PENALTY = 0.02
MOST_CONTEXT = 4.0
CLEAN_WEIGHT = 500.0
"""Of all clean key-days against all attacks: the odds are even about where one key-day in 1,000 is exceeded."""
FIRST_BIAS, FIRST_WEIGHT = -4.0, 0.4
LARGEST = 40
"""The tail of a table is an exponential above so many of the largest daily peaks."""
LEVELS = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.015, 0.01, 0.007, 0.005)
DECADES_BEYOND = 3.0
TAIL_PENALTY_FREQUENCY, TAIL_PENALTY_EXCESS = 1.0, 4.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A world without its attacks and with them."""

    clean: Sample
    attacked: Sample


@dataclass(frozen=True, slots=True)
class Task:
    """What a head is fitted to: attacks that `wants` picks, the statistics that may have weight, rows by flags."""

    name: str
    wants: Callable[[Episode], bool]
    statistics: tuple[str, ...]
    flags: int


def fit(task: Task, pairs: Sequence[Pair]) -> Head:
    """Fit one head; every world counts the same. `task.statistics` name the columns of its rows."""
    count = len(task.statistics)
    theta = np.concatenate([np.full(count, FIRST_WEIGHT), np.zeros(len(CONTEXT)), [FIRST_BIAS]])
    for _ in range(ROUNDS):
        found = [_bags(task, pair, theta) for pair in pairs]
        loud, calm, loud_weight, calm_weight = (np.concatenate(part) for part in zip(*found, strict=True))
        theta = _minimise(loud, calm, loud_weight, calm_weight, count)
    head = Head(
        name=task.name,
        bias=round(float(theta[-1]), 3),
        weights=tuple((i, round(float(theta[i]), 3)) for i in range(count) if theta[i] >= 0.0005),
        context=tuple(round(float(weight), 3) for weight in theta[count:-1]),
        decades=Decades((0.0, 1.0), (0.0, 1.0)),
    )
    odds = [odds_of(head, rows_of(task, pair.clean)) for pair in pairs]
    table = decades(
        [
            (rows_of(task, pair.clean), o, usable(task, pair.clean), pair.clean.key_days)
            for pair, o in zip(pairs, odds, strict=True)
        ]
    )
    return Head(head.name, head.bias, head.weights, head.context, table)


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
    for i, weight in head.weights:
        total += np.float32(weight) * rows.values[:, i]
    return total


def _design(rows: Rows, places: Any, count: int) -> Floats:
    values = rows.values[places, :count].astype(np.float64)
    return np.hstack([values, rows.context[places].astype(np.float64), np.ones((len(values), 1))])


def _bags(task: Task, pair: Pair, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Design rows of attacks and of clean days, and their weights."""
    count = len(task.statistics)
    rows = rows_of(task, pair.attacked)
    places = []
    wanted = [episode for episode in pair.attacked.world.attacks if task.wants(episode)]
    for episode in wanted:
        part = rows.within(episode.key, episode.first, episode.last + AFTER_ROWS)
        design = _design(rows, part, count)
        scores = (
            np.where((rows.flags[part] & task.flags) > 0, design @ theta, -np.inf) if task.flags else design @ theta
        )
        if len(scores) and np.isfinite(scores.max()):
            places.append(part.start + int(scores.argmax()))
    calm_rows = rows_of(task, pair.clean)
    scores = (calm_rows.values[:, :count] @ theta[:count] + calm_rows.context @ theta[count:-1] + theta[-1]).astype(
        np.float32
    )
    calm = calm_rows.peaks(scores, usable(task, pair.clean))
    return (
        _design(rows, places, count),
        _design(calm_rows, calm, count),
        np.full(len(places), 1 / max(len(wanted), 1)),
        np.full(len(calm), CLEAN_WEIGHT / pair.clean.key_days),
    )


def _minimise(loud: Floats, calm: Floats, loud_weight: Floats, calm_weight: Floats, count: int) -> Floats:
    """Weighted logistic regression, weights of evidence at least 0."""

    def loss(theta: Floats) -> tuple[float, Floats]:
        a, b = loud @ theta, calm @ theta
        value = (loud_weight * np.logaddexp(0, -a)).sum() + (calm_weight * np.logaddexp(0, b)).sum()
        slope = -loud.T @ (loud_weight * _sigmoid(-a)) + calm.T @ (calm_weight * _sigmoid(b))
        slope[:-1] += PENALTY * theta[:-1]
        return float(value + PENALTY / 2 * (theta[:-1] ** 2).sum()), slope

    size = loud.shape[1]
    bounds = [(0.0, None)] * count + [(-MOST_CONTEXT, MOST_CONTEXT)] * len(CONTEXT) + [(None, None)]
    found = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    theta: Floats = found.x
    return theta


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


def decades(parts: Sequence[tuple[Rows, Numbers, NDArray[np.bool_], int]]) -> Decades:
    """A table from scores to decades: of each world its rows, scores, those that count, and its key-days."""
    values, weights = [], []
    for rows, scores, among, days in parts:
        peaks = scores[rows.peaks(scores, among)]
        values.append(peaks)
        weights.append(np.full(len(peaks), 1 / (days * len(parts))))
    joint, weight = np.concatenate(values).astype(np.float64), np.concatenate(weights)
    order = np.argsort(-joint)
    joint, weight = joint[order], weight[order]
    share = np.cumsum(weight)
    largest = min(LARGEST, len(joint) - 1)
    mean = float((joint[:largest] * weight[:largest]).sum() / weight[:largest].sum() - joint[largest])
    knots: list[tuple[float, float]] = []
    for level in LEVELS:
        if 1.2 * share[largest] < level <= share[-1]:
            knots.append((float(joint[np.searchsorted(share, level)]), -math.log10(level)))
    knots.append((float(joint[largest]), -math.log10(share[largest])))
    knots.append((knots[-1][0] + mean * math.log(10) * DECADES_BEYOND, knots[-1][1] + DECADES_BEYOND))
    kept = [knots[0]]
    for knot in knots[1:]:
        if knot[0] > kept[-1][0] + 0.005 and knot[1] > kept[-1][1] + 0.005:
            kept.append(knot)
    odds, values_ = zip(*((round(x, 2), round(y, 3)) for x, y in kept), strict=True)
    return Decades(odds, values_)


def fit_tail(parts: Sequence[tuple[Numbers, Numbers, int]], threshold: float) -> Tail:
    """The tail of daily peaks: of each world the peaks (one a key-day), their contexts, and its key-days."""
    features = np.concatenate([np.array([tail_features(row) for row in context.tolist()]) for _, context, _ in parts])
    peaks = np.concatenate([peak for peak, _, _ in parts]).astype(np.float64)
    weight = np.concatenate([np.full(len(peak), 1 / days) for peak, _, days in parts])
    weight /= weight.mean()
    over = peaks > threshold
    size = len(TAIL_FEATURES)

    def frequency(theta: Floats) -> tuple[float, Floats]:
        odds = features @ theta
        slope = features.T @ (weight * (_sigmoid(odds) - over))
        slope[1:] += TAIL_PENALTY_FREQUENCY * theta[1:]
        loss = (weight * (np.logaddexp(0, odds) - over * odds)).sum()
        return float(loss + TAIL_PENALTY_FREQUENCY / 2 * (theta[1:] ** 2).sum()), slope

    above, excess, above_weight = features[over], peaks[over] - threshold, weight[over]

    def spread(theta: Floats) -> tuple[float, Floats]:
        mean = above @ theta
        ratio = excess * np.exp(-mean)
        slope = above.T @ (above_weight * (1 - ratio))
        slope[1:] += TAIL_PENALTY_EXCESS * theta[1:]
        loss = (above_weight * (mean + ratio)).sum()
        return float(loss + TAIL_PENALTY_EXCESS / 2 * (theta[1:] ** 2).sum()), slope

    coefficients = [
        minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B").x.round(4).tolist() for loss in (frequency, spread)
    ]
    return Tail(threshold, tuple(coefficients[0]), tuple(coefficients[1]))
