"""How sure a count is: 95 % intervals of a rate and of a share."""

from __future__ import annotations

import math
from collections.abc import Callable

TAIL = 0.025
"""What lies beyond each end of a 95 % interval."""
Z = 1.959964
"""The standard normal's quantile there."""
STEPS = 60
"""Bisections: enough for every bit of a float."""

Interval = tuple[float, float]


def poisson(count: int) -> Interval:
    """The exact interval (Garwood 1936) of the mean of a Poisson count.

    >>> [round(end, 3) for end in poisson(0)], [round(end, 3) for end in poisson(10)]
    ([0.0, 3.689], [4.795, 18.39])
    """
    most = count + 10 * math.sqrt(count + 1) + 10
    low = 0.0 if count == 0 else _root(lambda mean: 1 - _at_most(count - 1, mean) - TAIL, most)
    return low, _root(lambda mean: TAIL - _at_most(count, mean), most)


def _at_most(count: int, mean: float) -> float:
    """The chance of at most `count` where `mean` are expected."""
    if mean <= 0:
        return 1.0
    log_mean = math.log(mean)
    return math.fsum(math.exp(n * log_mean - mean - math.lgamma(n + 1)) for n in range(count + 1))


def _root(rising: Callable[[float], float], most: float) -> float:
    """Where a rising function of [0, most] passes through zero."""
    low, high = 0.0, most
    for _ in range(STEPS):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def wilson(found: int, of: int) -> Interval:
    """Wilson's interval of a share; of nothing, nothing is known.

    >>> [round(end, 3) for end in wilson(8, 10)], wilson(0, 0)
    ([0.49, 0.943], (0.0, 1.0))
    """
    if of == 0:
        return 0.0, 1.0
    share, spread = found / of, Z * Z / of
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
