"""The decision rule: how the channels' numbers become one score. Frozen, in the priors.

Three heads, each a logistic regression with weights >= 0 on the evidence and free ones on the context: `quick` over the
two windows of minutes, `volume` over all that tells of volume and hours, `joint` over everything, shape too. An
attacker who copies the key's own requests is left to `volume`; one who does not is found sooner by `joint`.

Restless keys show high evidence more often than steady ones. So a head's log odds are judged by the tail law of keys
like this one: peaks over a threshold, their frequency and their mean excess by regression on the context (after A. C.
Davison and R. L. Smith, Models for exceedances over high thresholds, J. R. Stat. Soc. B 52, 1990). The score is in
decades: d means that a clean key-day's highest value reaches it with probability 10^-d, whatever the key. A moment's
score is its highest head's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stream.core.presence import Presence

CONTEXT = (
    "size", "relative_size", "log_active_days", "volatility", "active_share", "seldom", "woken", "unpredictability",
)  # fmt: skip
"""What the rule knows of the key besides the evidence; see `context_of`."""
SIZE: Final = 0
RELATIVE: Final = 1
AGE: Final = 2
VOLATILITY: Final = 3
SHARE: Final = 4
SELDOM: Final = 5
WOKEN: Final = 6
UNPREDICTABILITY: Final = 7
USUAL_ERROR: Final = 0.3
"""Mean squared log error of an hour's expectation that is neither good nor bad."""
SELDOM_SHARE: Final = 0.1
DAY_PRIOR_SCALE: Final = 0.30


def steadiness(context: Sequence[float]) -> float:
    """From 0 for a key whose hours nobody can tell to 1 for one like clockwork: its evidence is worth more.

    >>> round(steadiness([0, 0, 0, 0, 0, 0, 0, 0.0]), 3)
    0.5
    """
    return 1 / (1 + math.exp(context[UNPREDICTABILITY]))


def weighted(weights: Sequence[float], values: Sequence[float]) -> float:
    """The sum of values, each times its weight, added up one by one: `sum` does it otherwise from Python 3.12 on.

    >>> weighted((2.0, 0.5), (1.0, 4.0))
    4.0
    """
    total = 0.0
    for weight, value in zip(weights, values, strict=True):
        total += weight * value
    return total


TAIL_FEATURES = (
    "one", "log_active_days", "volatility", "active_share", "seldom", "woken", "restless", "unpredictability",
    "unpredictable",
)  # fmt: skip
"""What the tail of a key's evidence depends on; see `tail_features`."""


def tail_features(context: Sequence[float]) -> tuple[float, ...]:
    """Of a context, in the order of TAIL_FEATURES; restless, unpredictable: as far as they are above the usual."""
    volatility, unpredictability = context[VOLATILITY], context[UNPREDICTABILITY]
    return (
        1.0, context[AGE], volatility, context[SHARE], context[SELDOM], context[WOKEN], max(volatility, 0.0),
        unpredictability, max(unpredictability, 0.0),
    )  # fmt: skip


BELOW: Final = 4.0
"""Below its threshold a head's decades fall to 0 within so many log odds."""


@dataclass(frozen=True, slots=True)
class Tail:
    """How the daily peaks of a head's log odds are distributed above `threshold` on clean days, by the key's context.

    exceedance: coefficients of the log odds that a day's peak exceeds the threshold; excess: of the ln of its mean
    excess
    """

    threshold: float
    exceedance: tuple[float, ...]
    excess: tuple[float, ...]

    def _law(self, context: Sequence[float]) -> tuple[float, float]:
        """Decades of the threshold, and decades for each further unit of log odds."""
        features = tail_features(context)
        odds = weighted(self.exceedance, features)
        mean = math.exp(weighted(self.excess, features))
        return math.log10(1 + math.exp(-odds)), 1 / (mean * math.log(10))

    def decades(self, odds: float, context: Sequence[float]) -> float:
        """-log10 of the probability that a clean day's peak reaches `odds`; a straight line below the threshold."""
        above = odds - self.threshold
        if above <= -BELOW:
            return 0.0
        least, slope = self._law(context)
        return least * (1 + above / BELOW) if above < 0 else least + slope * above

    def odds(self, decades: float, context: Sequence[float]) -> float:
        """The log odds that make so many decades (> 0)."""
        least, slope = self._law(context)
        if decades < least:
            return self.threshold + BELOW * (decades / least - 1)
        return self.threshold + (decades - least) / slope


@dataclass(frozen=True, slots=True)
class Head:
    """One logistic regression; weights stand by position in STATISTICS, only those above 0.

    weights: (statistic, weight, further weight in proportion to the key's steadiness)
    """

    name: str
    bias: float
    weights: tuple[tuple[int, float, float], ...]
    context: tuple[float, ...]
    tail: Tail

    def odds(self, values: Sequence[float], context: Sequence[float]) -> float:
        """Log odds of an attack."""
        total = self.bias + self.given(context)
        steady = steadiness(context)
        for i, weight, further in self.weights:
            total += (weight + steady * further) * values[i]
        return total

    def weight_of(self, statistic: int, context: Sequence[float]) -> float:
        """What one unit of a number adds to the log odds; 0 if it has no weight."""
        for i, weight, further in self.weights:
            if i == statistic:
                return weight + steadiness(context) * further
        return 0.0

    def given(self, context: Sequence[float]) -> float:
        """What the context alone contributes."""
        return weighted(self.context, context)

    def score(self, values: Sequence[float], context: Sequence[float]) -> float:
        """Decades of the log odds."""
        return self.tail.decades(self.odds(values, context), context)


@dataclass(frozen=True, slots=True)
class Rule:
    """The three heads."""

    quick: Head
    volume: Head
    joint: Head

    def quick_score(self, values: Sequence[float], context: Sequence[float]) -> float:
        """Decades by the windows of minutes."""
        return self.quick.score(values, context)

    def slow_score(self, values: Sequence[float], context: Sequence[float], large: bool, shaped: bool) -> float:
        """Decades by everything; `large`: some window holds enough excess, `shaped`: the shape was judged."""
        score = self.joint.score(values, context) if large or shaped else 0.0
        return max(score, self.volume.score(values, context)) if large else score

    def shares(self, values: Sequence[float], context: Sequence[float], quick: bool) -> list[tuple[float, int]]:
        """What each number contributes to the log odds of the head that decides, the most first."""
        head = self.quick
        if not quick:
            head = max((self.volume, self.joint), key=lambda head: head.score(values, context))
        steady = steadiness(context)
        found = [((weight + steady * further) * values[i], i) for i, weight, further in head.weights if values[i] > 0]
        return sorted(found, reverse=True)

    def needed(self, statistic: int, context: Sequence[float], score: float) -> float:
        """The value of one number that alone brings `score`; infinite if it never can.

        Of a number of minutes, by the head that is made for those.
        """
        best = math.inf
        heads = (self.quick,) if self.quick.weight_of(statistic, context) > 0 else (self.volume, self.joint)
        for head in heads:
            weight = head.weight_of(statistic, context)
            if weight > 0:
                best = min(best, (head.tail.odds(score, context) - head.bias - head.given(context)) / weight)
        return best


def context_of(
    excess: float, usual_day: float, active_days: int, day_variance: float, presence: Presence, hour_error: float
) -> list[float]:
    """The context of a moment, each number of the order of 1.

    size: decades of `excess` above 10^5 tokens; relative_size: ln of `excess` over `usual_day` tokens; volatility: ln
    of the scale of the key's daily level over the population's; active_share: over ten days; woken: ln of the hours
    slept; unpredictability: ln of `hour_error`, the mean squared log error of the season's hours, over the usual.
    """
    share = presence.long_share
    return [
        min(max(math.log10(max(excess, 1e4)) - 5.0, 0.0), 3.0),
        min(max(math.log(max(excess, 1e3) / (usual_day + 3e4)), -2.0), 4.0) / 2,
        math.log(max(active_days, 1)) / 2.6 - 1,
        min(max(math.log(math.sqrt(day_variance) / DAY_PRIOR_SCALE), -2.0), 2.0),
        share,
        1.0 if share < SELDOM_SHARE else 0.0,
        min(math.log1p(24 * presence.wake_days), 6.0) / 3,
        min(max(math.log(max(hour_error, 1e-6) / USUAL_ERROR), -3.0), 3.0),
    ]
