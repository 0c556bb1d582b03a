"""Calls that fail and are made again: everyday ones, and what a failed call looks like."""

from __future__ import annotations

import math

import numpy as np

from stream.lab.worlds.draws import LognormalLengths, RequestShape
from stream.lab.worlds.tally import PER_DAY
from stream.lab.worlds.world import Sums

_REFUSED = LognormalLengths(math.log(8.0), 0.5, math.log(0.05), 0.5, np.zeros(1), PER_DAY)
"""A refused call is charged for next to nothing."""
DAYS_BETWEEN = 8.0
"""Mean days from one bad stretch of a key to the next; it lasts up to an hour and a half."""
LONGEST = PER_DAY // 16


def failed(own: RequestShape) -> RequestShape:
    """A key's calls when they fail: to the same models, with hardly any tokens."""
    return RequestShape(_REFUSED, own.limit, 0.0, own.mix, own.per_day)


def retried(rng: np.random.Generator, calls: Sums) -> Sums:
    """Failed attempts per bucket before so many calls: one in a hundred or so, in a bad stretch up to every second."""
    share = np.full(len(calls), rng.beta(1, 80))
    for first in rng.integers(0, len(calls), rng.poisson(len(calls) / PER_DAY / DAYS_BETWEEN)):
        share[first : first + rng.integers(1, LONGEST + 1)] = rng.uniform(0.1, 0.5)
    return np.asarray(rng.poisson(calls * share / (1 - share)), np.int64)
