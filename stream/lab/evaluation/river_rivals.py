"""What River offers by itself, one model a key on hourly values: ADWIN, and half-space trees."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from river import anomaly, compose, drift, preprocessing

from stream.lab.evaluation.rolling import Flags, Floats
from stream.lab.worlds.world import World

HOUR_SECONDS = 3600
DELTAS = tuple(10.0**-power for power in range(1, 16))
"""ADWIN's own dial: its score is the strictest of these at which it still finds a change."""
TREES, HEIGHT, WINDOW_HOURS = 10, 8, 168
"""River's usual size of forest, and a week of hours for a tree's masses."""


def hourly(world: World, values: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Floats:
    """Sums per hour, hours x keys."""
    return np.add.reduceat(values, np.arange(0, len(values), _hour(world)), axis=0).astype(np.float64)


def adwin(world: World) -> Floats:
    """-log10 of the strictest delta at which ADWIN finds that the log hourly rate rose; it lasts for that hour."""
    tokens, valid = hourly(world, world.input_tokens + world.output_tokens), _seen(world)
    scores = np.zeros_like(tokens)
    for key in range(tokens.shape[1]):
        detectors = [(-math.log10(delta), drift.ADWIN(delta=delta)) for delta in DELTAS]
        for hour in np.flatnonzero(valid[:, key]).tolist():
            value = math.log1p(tokens[hour, key])
            for strictness, detector in detectors:
                before = detector.estimation
                detector.update(value)
                if detector.drift_detected and detector.estimation > before:
                    scores[hour, key] = strictness
    return _at_the_end(world, scores)


def half_space_trees(world: World) -> Floats:
    """The forest's score of each hour's log tokens, log calls, log tokens per call and output share."""
    calls, valid = hourly(world, world.calls), _seen(world)
    output = hourly(world, world.output_tokens)
    tokens = output + hourly(world, world.input_tokens)
    scores = np.zeros_like(tokens)
    for key in range(tokens.shape[1]):
        forest = anomaly.HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW_HOURS, seed=1)
        model = compose.Pipeline(preprocessing.MinMaxScaler(), forest)
        for hour in np.flatnonzero(valid[:, key]).tolist():
            features = _features(*(float(values[hour, key]) for values in (tokens, calls, output)))
            scores[hour, key] = model.score_one(features)
            model.learn_one(features)
    return _at_the_end(world, scores)


def _features(tokens: float, calls: float, output: float) -> dict[str, float]:
    return {
        "tokens": math.log1p(tokens),
        "calls": math.log1p(calls),
        "tokens_per_call": math.log1p(tokens / calls) if calls else 0.0,
        "output_share": output / tokens if tokens else 0.0,
    }


def _hour(world: World) -> int:
    return HOUR_SECONDS // world.bucket_seconds


def _seen(world: World) -> Flags:
    """Hours from a key's first call on that were not lost, not even in part."""
    lost = np.logical_or.reduceat(world.lost, np.arange(0, len(world.lost), _hour(world)), axis=0)
    active: Flags = np.logical_or.accumulate(hourly(world, world.calls) > 0, axis=0)
    return active & ~lost


def _at_the_end(world: World, scores: Floats) -> Floats:
    """An hour's score at its last bucket: before, the hour is not known."""
    rows = len(world.calls)
    result = np.zeros((rows, scores.shape[1]))
    ends: Iterable[int] = (min((hour + 1) * _hour(world), rows) - 1 for hour in range(len(scores)))
    result[list(ends)] = scores
    return result
