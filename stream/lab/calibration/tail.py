"""From the peaks of clean key-days to the tail of a priors file: how many alerts beyond which score for a key-day.

Days of a key that exceed a score one after the other are one alert, so what counts is the first of them: the days that
exceed it less those of which the day before did, too (an upcrossing). Above about the 40th largest peak that is taken
to fall exponentially (peaks over a threshold, J. Pickands, Statistical inference using extreme order statistics, Ann.
Stat. 3, 1975, with shape 0), and its mean excess is what lies between start and peak, or the day before and peak, for
each alert at the start; below, upcrossings are counted.
Both are shrunk towards the table that was shipped, by as much as PRIOR_EXCEEDANCES weigh against what was seen: the
logarithm of a rate as a mean of the two logarithms (their errors go by the number of exceedances), the mean excess as a
mean of the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.core.calibration import TailLaw
from stream.lab.calibration.peaks import KeyDays
from stream.lab.evaluation.intervals import poisson

EXCEEDANCES = 40
"""So many tell the tail's slope to a sixth of itself; more of them would lie outside of the tail."""
LEAST_EXCEEDANCES = 10
"""Fewer tell nothing that the shipped table does not tell better."""
PRIOR_EXCEEDANCES = 5.0
"""What the shipped table counts for: so many are in 5,000 key-days at the default dial."""
MOST_SHARE = 0.2
"""One key's part of the exceedances: a single wild key must not set everybody's threshold."""
TAIL_SHARE = 0.1
"""The tail begins among the highest tenth of the key-days."""
COUNTED_SHARE = 0.3
"""Scores that more than so many key-days exceed are not worth a row: nobody sets a dial there."""
RANK_STEP = 1.5
LEAST_TAIL = 1e-9
"""The share of the last row: beyond it the law goes on with the same slope."""
LEAST_EXPECTED = 5.0
"""False alerts that a history must hold at a dial, that the dial can be set by it: fewer, and chance decides."""

Rows = tuple[tuple[float, float], ...]


class TooFewError(ValueError):
    """A history in which too little happened to tell a tail; the message says how much there was."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` alerts on `key_days`."""

    count: int
    key_days: int

    @property
    def per_1000(self) -> float:
        """False alerts per 1,000 key-days."""
        return 1000 * self.count / self.key_days

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % Poisson interval."""
        low, high = poisson(self.count)
        return 1000 * low / self.key_days, 1000 * high / self.key_days


def realised(days: KeyDays, score: float) -> Rate:
    """How often the key-days begin to exceed `score`: each time is an alert."""
    return Rate(int(np.count_nonzero((days.peak > score) & (days.before <= score))), len(days))


def least_dial(key_days: int) -> float:
    """The lowest dial, in false alerts per 1,000 key-days, that so many key-days can set."""
    return 1000 * LEAST_EXPECTED / max(1, key_days)


def refit(days: KeyDays, shipped: Sequence[tuple[float, float]]) -> Rows:
    """The tail of these key-days, falling; raises TooFewError."""
    order = np.argsort(-days.peak, kind="stable")
    peaks, before, keys = days.peak[order].astype(np.float64), days.before[order].astype(np.float64), days.key[order]
    law = TailLaw(shipped)
    count = _tail_count(peaks, before, keys)
    start = float(peaks[count])
    weights = _weights(keys[:count], before[:count] <= start)
    excess = float((weights * np.maximum(peaks[:count] - np.maximum(before[:count], start), 0.0)).sum())
    usual = PRIOR_EXCEEDANCES * _mean_excess(law, start)
    alerts = _alerts(before, keys, count, start)
    mean = (excess + usual) / (alerts + PRIOR_EXCEEDANCES)
    rows = []
    rank, most = float(count), alerts
    while rank < COUNTED_SHARE * len(peaks) and peaks[int(rank)] > 0:
        above = int(np.searchsorted(-peaks, -peaks[int(rank)], side="left"))
        score = float(peaks[int(rank)])
        # lower, alerts grow into one another: that makes them longer, not fewer
        most = max(most, _alerts(before, keys, above, score))
        rows.append((score, _share(_usual(law, score), most, len(peaks))))
        rank *= RANK_STEP
    if not rows:
        rows.append((start, _share(_usual(law, start), alerts, len(peaks))))
    rows.reverse()
    first = rows[-1][1]
    rows.append((start + mean * math.log(first / LEAST_TAIL), LEAST_TAIL))
    return _strictly(rows)


def _tail_count(peaks: NDArray[np.float64], before: NDArray[np.float64], keys: NDArray[np.int32]) -> int:
    """How many of the falling peaks make the tail: those whose alerts, by their weights, come to EXCEEDANCES.

    There may be fewer; raises TooFewError if they are too few, or if nothing lies below them.
    """
    positive = int(np.count_nonzero(peaks > 0))
    most = min(positive - 1, int(TAIL_SHARE * len(peaks)))
    low, high = 0, max(most, 0)
    while low < high:
        middle = (low + high) // 2
        if _alerts(before, keys, middle, float(peaks[middle])) >= EXCEEDANCES:
            high = middle
        else:
            low = middle + 1
    # peaks that are equal stand above the threshold together, or below it
    while 0 < low < most and peaks[low] == peaks[low - 1]:
        low += 1
    while low > 0 and peaks[low] == peaks[low - 1]:
        low -= 1
    if low < 1 or _alerts(before, keys, low, float(peaks[low])) < LEAST_EXCEEDANCES - 1e-9:
        raise TooFewError(
            f"of {len(peaks):,} key-days only {positive:,} show any score, which makes no tail of at least "
            f"{LEAST_EXCEEDANCES} alerts of several keys"
        )
    return low


def _alerts(before: NDArray[np.float64], keys: NDArray[np.int32], count: int, score: float) -> float:
    """What the alerts beyond a score come to, which `count` of the falling peaks exceed."""
    first = before[:count] <= score
    return float(_weights(keys[:count], first)[first].sum())


def _weights(keys: NDArray[np.int32], first: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One for each day that exceeds a score, but less for those of a key that has more than MOST_SHARE of the alerts.

    first: which days are the first of an alert. Of fewer than five keys each may have an equal part.
    """
    if not first.any():
        return np.ones(len(keys))
    known, counts = np.unique(keys[first], return_counts=True)
    most = max(MOST_SHARE, 1 / len(counts))
    falling = np.sort(counts)[::-1]
    total = float(falling.sum())
    for capped in range(len(falling)):
        if most * capped >= 1:
            break
        total = float(falling[capped:].sum()) / (1 - most * capped)
        if falling[capped] <= most * total + 1e-9:
            break
    own = np.minimum(1.0, most * total / counts)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    # a key all of whose days follow on one that does not count has no alert here
    weights: NDArray[np.float64] = np.where(known[place] == keys, own[place], 1.0)
    return weights


def _share(shipped: float, exceedances: float, key_days: int) -> float:
    """The share of key-days, given how many were seen and which share was expected."""
    own = exceedances / (exceedances + PRIOR_EXCEEDANCES)
    return math.exp(own * math.log(exceedances / key_days) + (1 - own) * math.log(shipped))


def _usual(law: TailLaw, score: float) -> float:
    """The share by the shipped table, which below its first row goes on with the slope of the first two."""
    if score >= law.scores[0]:
        return law.share(score)
    slope = (law.logs[1] - law.logs[0]) / (law.scores[1] - law.scores[0])
    return math.exp(min(0.0, law.logs[0] + slope * (score - law.scores[0])))


def _mean_excess(law: TailLaw, start: float) -> float:
    """Mean excess over `start` by the shipped table, over the decade that follows."""
    return (law.threshold(_usual(law, start) / 10) - start) / math.log(10)


def _strictly(rows: Sequence[tuple[float, float]]) -> Rows:
    """Rows as the file holds them: rounded, and strictly rising in score and falling in share."""
    kept: list[tuple[float, float]] = []
    for score, share in rows:
        row = (round(score, 4), float(f"{min(share, 1.0):.4g}"))
        while kept and row[0] <= kept[-1][0]:
            kept.pop()
        if not kept or row[1] < kept[-1][1]:
            kept.append(row)
    return tuple(kept)
