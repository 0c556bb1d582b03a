"""Trailing windows over buckets x keys, by cumulative sums: what Prometheus' `*_over_time` functions give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEAST_SPREAD = 1e-6
"""A standard deviation below this share of the mean is rounding, not spread."""


def trailing_sum(values: Floats, window: int) -> Floats:
    """The sum of the last `window` rows, each row's own among them; fewer at the start.

    >>> trailing_sum(np.array([[1.0], [2.0], [3.0]]), 2).ravel().tolist()
    [1.0, 3.0, 5.0]
    """
    total = np.cumsum(values, axis=0)
    result = total.copy()
    result[window:] -= total[:-window]
    return result


def shifted(values: Floats, rows: int, fill: float) -> Floats:
    """The values so many rows ago; `fill` before there were any.

    >>> shifted(np.array([[1.0], [2.0], [3.0]]), 1, 0.0).ravel().tolist()
    [0.0, 1.0, 2.0]
    """
    result = np.full_like(values, fill)
    result[rows:] = values[:-rows]
    return result


def trailing_mean(values: Floats, valid: Flags, window: int) -> tuple[Floats, Floats]:
    """Mean of the valid rows among the last `window`, and how many there were; NaN where none was."""
    count = trailing_sum(valid.astype(np.float64), window)
    total = trailing_sum(np.where(valid, values, 0.0), window)
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan), count


def trailing_spread(values: Floats, valid: Flags, window: int) -> tuple[Floats, Floats, Floats]:
    """Mean, standard deviation and number of the valid rows among the last `window`."""
    # sums of squares lose small spreads behind large values: each key in units of its own root mean square
    unit = np.sqrt(np.mean(np.where(valid, values, 0.0) ** 2, axis=0)) + 1e-300
    mean, count = trailing_mean(values / unit, valid, window)
    square, _ = trailing_mean((values / unit) ** 2, valid, window)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0.0))
    deviation[deviation < LEAST_SPREAD * np.abs(mean)] = 0.0
    return mean * unit, deviation * unit, count


def lasting(scores: Floats, rows: int) -> Floats:
    """The least of the last `rows` rows: what an alert rule's `for` waits for.

    >>> lasting(np.array([[0.0], [5.0], [4.0]]), 2).ravel().tolist()
    [0.0, 0.0, 4.0]
    """
    result = scores.copy()
    for back in range(1, rows):
        result = np.minimum(result, shifted(scores, back, 0.0))
    return result
