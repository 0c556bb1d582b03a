"""The decision rule: how the channels' numbers become one score, and what of it is due to whom. Frozen, in the priors.

Three heads, each a logistic regression with weights >= 0 on the evidence and free ones on the context: `quick` over the
two windows of minutes, `volume` and `shape` over everything. Each head's log odds are turned into decades by its own
exceedance table: d means that a clean key-day's highest value exceeds it with probability 10^-d. The evidence of a
moment is the larger of the quick head's decades and the sum of the other two's.

Restless keys show high evidence more often than steady ones. So the score is the evidence judged by the tail law of
keys like this one: peaks over a threshold, their frequency and their mean excess by regression on the context (after
A. C. Davison and R. L. Smith, Models for exceedances over high thresholds, J. R. Stat. Soc. B 52, 1990). A score of d
again means decades: clean key-days reach it with probability 10^-d, whatever the key.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from stream.core.presence import Presence

CONTEXT = (
    "size", "relative_size", "log_active_days", "volatility", "active_share", "seldom", "woken", "unpredictability",
)  # fmt: skip
"""What the rule knows of the key besides the evidence; see `context_of`."""
SIZE, RELATIVE, AGE, VOLATILITY, SHARE, SELDOM, WOKEN, UNPREDICTABILITY = range(8)
USUAL_ERROR = 0.3
"""Mean squared log error of an hour's expectation that is neither good nor bad."""
SELDOM_SHARE = 0.1
DAY_PRIOR_SCALE = 0.30


@dataclass(frozen=True, slots=True)
class Decades:
    """Piecewise linear and rising: log odds to decades; beyond the last knot with the last slope, 0 at the least."""

    odds: tuple[float, ...]
    decades: tuple[float, ...]

    def of(self, odds: float) -> float:
        """Decades of some log odds."""
        i = min(max(bisect_right(self.odds, odds), 1), len(self.odds) - 1)
        return max(0.0, self.decades[i - 1] + self._slope(i) * (odds - self.odds[i - 1]))

    def odds_of(self, decades: float) -> float:
        """The least log odds that reach `decades` (> 0)."""
        i = min(max(bisect_right(self.decades, decades), 1), len(self.decades) - 1)
        return self.odds[i - 1] + (decades - self.decades[i - 1]) / self._slope(i)

    def _slope(self, i: int) -> float:
        return (self.decades[i] - self.decades[i - 1]) / (self.odds[i] - self.odds[i - 1])


def steadiness(context: Sequence[float]) -> float:
    """From 0 for a key whose hours nobody can tell to 1 for one like clockwork: its evidence is worth more.

    >>> round(steadiness([0, 0, 0, 0, 0, 0, 0, 0.0]), 3)
    0.5
    """
    return 1 / (1 + math.exp(context[UNPREDICTABILITY]))


@dataclass(frozen=True, slots=True)
class Head:
    """One logistic regression; weights stand by position in STATISTICS, only those above 0.

    weights: (statistic, weight, further weight in proportion to the key's steadiness)
    """

    name: str
    bias: float
    weights: tuple[tuple[int, float, float], ...]
    context: tuple[float, ...]
    decades: Decades

    def odds(self, values: Sequence[float], context: Sequence[float]) -> float:
        """Log odds of an attack."""
        total = self.bias + self.given(context)
        steady = steadiness(context)
        for i, weight, further in self.weights:
            total += (weight + steady * further) * values[i]
        return total

    def given(self, context: Sequence[float]) -> float:
        """What the context alone contributes."""
        return sum(weight * value for weight, value in zip(self.context, context, strict=True))


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


@dataclass(frozen=True, slots=True)
class Tail:
    """How the daily peaks of a clean key's evidence are distributed above `threshold`, by the key's context.

    exceedance: coefficients of the log odds that a day's peak exceeds the threshold; excess: of the ln of its mean
    excess
    """

    threshold: float
    exceedance: tuple[float, ...]
    excess: tuple[float, ...]

    def _law(self, context: Sequence[float]) -> tuple[float, float]:
        """Decades of the threshold, and decades for each further unit of evidence."""
        features = tail_features(context)
        odds = sum(a * b for a, b in zip(self.exceedance, features, strict=True))
        mean = math.exp(sum(a * b for a, b in zip(self.excess, features, strict=True)))
        return math.log10(1 + math.exp(-odds)), 1 / (mean * math.log(10))

    def decades(self, evidence: float, context: Sequence[float]) -> float:
        """Decades of some evidence: a clean key-day's peak reaches it with probability 10^-decades.

        Below the threshold they are in proportion to the evidence.
        """
        if evidence <= 0:
            return 0.0
        least, slope = self._law(context)
        if evidence < self.threshold:
            return least * evidence / self.threshold
        return least + slope * (evidence - self.threshold)

    def evidence(self, decades: float, context: Sequence[float]) -> float:
        """The evidence that makes so many decades."""
        least, slope = self._law(context)
        if decades < least:
            return self.threshold * decades / least
        return self.threshold + (decades - least) / slope


@dataclass(frozen=True, slots=True)
class Rule:
    """The three heads, and the tail law of their joint evidence."""

    quick: Head
    volume: Head
    shape: Head
    tail: Tail

    def quick_score(self, values: Sequence[float], context: Sequence[float]) -> float:
        """Decades by the windows of minutes."""
        return self.tail.decades(self.quick.decades.of(self.quick.odds(values, context)), context)

    def slow_score(self, values: Sequence[float], context: Sequence[float], large: bool, shaped: bool) -> float:
        """Decades by everything; `large`: some window holds enough excess, `shaped`: the shape was judged."""
        if not (large or shaped):
            return 0.0
        evidence = self.shape.decades.of(self.shape.odds(values, context))
        if large:
            evidence += self.volume.decades.of(self.volume.odds(values, context))
        return self.tail.decades(evidence, context)

    def shares(self, values: Sequence[float], context: Sequence[float], quick: bool) -> list[tuple[float, int]]:
        """What each number contributes to the log odds, the most first."""
        heads = (self.quick,) if quick else (self.volume, self.shape)
        steady = steadiness(context)
        found: dict[int, float] = {}
        for head in heads:
            for i, weight, further in head.weights:
                if values[i] > 0:
                    found[i] = max(found.get(i, 0.0), (weight + steady * further) * values[i])
        return sorted(((share, i) for i, share in found.items()), reverse=True)

    def needed(self, statistic: int, context: Sequence[float], score: float) -> float:
        """The value of one number that alone brings `score`; infinite if it never can."""
        best = math.inf
        evidence = self.tail.evidence(score, context)
        steady = steadiness(context)
        for head in (self.quick, self.volume, self.shape):
            weight = sum(one + steady * more for i, one, more in head.weights if i == statistic)
            if weight > 0:
                best = min(best, (head.decades.odds_of(evidence) - head.bias - head.given(context)) / weight)
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
