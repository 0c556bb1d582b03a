"""The tails of the heads' log odds on clean days, by the key's context.

Peaks over a threshold: how often a day's peak exceeds it is a logistic regression on the context, by how much on
average a log-linear one (see `stream.core.rule`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

from stream.core.rule import AGE, BELOW, SELDOM, SHARE, TAIL_FEATURES, UNPREDICTABILITY, VOLATILITY, WOKEN, Tail
from stream.lab.training.samples import Numbers

Floats = NDArray[np.float64]
TAIL_SHARE = 0.025
"""The tail law begins where one clean key-day in 40 gets to."""
TAIL_PENALTY_FREQUENCY, TAIL_PENALTY_EXCESS = 1.0, 4.0
NEVER_FALLING = "unpredictability"
"""A key that is easily predicted has no longer a tail for that, whatever a few peaks say."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The highest log odds of a head on each clean key-day of a world on which it spoke, and the contexts there.

    days: which key-days they are; key_days: how many clean ones there were; weight: of the world
    """

    odds: Numbers
    context: Numbers
    days: NDArray[np.int64]
    key_days: int
    weight: float = 1.0


def fit_tail(worlds: Sequence[Peaks]) -> Tail:
    """The tail of daily peaks by context; a world counts by its weight, however many days it has."""
    features = features_of(np.concatenate([world.context for world in worlds]))
    peaks = np.concatenate([world.odds for world in worlds]).astype(np.float64)
    share = np.concatenate([np.full(len(world.odds), world.weight / world.key_days) for world in worlds])
    share /= sum(world.weight for world in worlds)
    threshold = _exceeded(peaks, share)
    weight = share / share.mean()
    over = peaks > threshold
    size = len(TAIL_FEATURES)

    def frequency(theta: Floats) -> tuple[float, Floats]:
        odds = features @ theta
        slope = features.T @ (weight * (sigmoid(odds) - over))
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

    bounds = [(0.0 if name == NEVER_FALLING else None, None) for name in TAIL_FEATURES]
    coefficients = [
        minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=bounds).x.round(4).tolist()
        for loss in (frequency, spread)
    ]
    return Tail(threshold, tuple(coefficients[0]), tuple(coefficients[1]))


def _exceeded(peaks: Floats, share: Floats) -> float:
    """The value that TAIL_SHARE of all key-days exceed; each peak stands for so large a `share` of them."""
    order = np.argsort(-peaks)
    place = min(int(np.searchsorted(np.cumsum(share[order]), TAIL_SHARE)), len(peaks) - 1)
    return round(float(peaks[order][place]), 3)


def scores(tail: Tail, odds: Numbers, context: Numbers) -> Numbers:
    """`Tail.decades` of many log odds, each with its context."""
    above = odds - tail.threshold
    features = features_of(context)
    least = np.log10(1 + np.exp(-(features @ np.array(tail.exceedance))))
    slope = 1 / (np.exp(features @ np.array(tail.excess)) * math.log(10))
    found: Numbers = np.where(above < 0, np.maximum(least * (1 + above / BELOW), 0.0), least + slope * above).astype(
        np.float32
    )
    return found


def features_of(context: Numbers) -> Floats:
    """`stream.core.rule.tailfeatures_of` of each row."""
    volatility, unpredictability = context[:, VOLATILITY], context[:, UNPREDICTABILITY]
    columns: list[Any] = [
        np.ones(len(context)), context[:, AGE], volatility, context[:, SHARE], context[:, SELDOM], context[:, WOKEN],
        np.maximum(volatility, 0.0), unpredictability, np.maximum(unpredictability, 0.0),
    ]  # fmt: skip
    return np.column_stack(columns).astype(np.float64)


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
