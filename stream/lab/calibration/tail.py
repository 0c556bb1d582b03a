"""From the peaks of clean key-days to the tail of a priors file: which share of them exceeds which score.

Above the 40th largest peak the excesses are taken as exponential (peaks over a threshold, J. Pickands, Statistical
inference using extreme order statistics, Ann. Stat. 3, 1975, with shape 0); below it the peaks themselves are counted.
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
    """`count` of `key_days` exceeded something."""

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
    """How many key-days have a peak above `score`: each is an alert, or a day of one."""
    return Rate(int(np.count_nonzero(days.peak > score)), len(days))


def least_dial(key_days: int) -> float:
    """The lowest dial, in false alerts per 1,000 key-days, that so many key-days can set."""
    return 1000 * LEAST_EXPECTED / max(1, key_days)


def refit(days: KeyDays, shipped: Sequence[tuple[float, float]]) -> Rows:
    """The tail of these key-days, falling; raises TooFewError."""
    order = np.argsort(-days.peak, kind="stable")
    peaks, keys = days.peak[order].astype(np.float64), days.key[order]
    law = TailLaw(shipped)
    count = _tail_count(peaks, keys)
    start = float(peaks[count])
    weights = _weights(keys[:count])
    excess = float((weights * (peaks[:count] - start)).sum())
    usual = PRIOR_EXCEEDANCES * _mean_excess(law, start)
    mean = (excess + usual) / (weights.sum() + PRIOR_EXCEEDANCES)
    rows = []
    rank = float(count)
    while rank < COUNTED_SHARE * len(peaks) and peaks[int(rank)] > 0:
        above = int(np.searchsorted(-peaks, -peaks[int(rank)], side="left"))
        score = float(peaks[int(rank)])
        rows.append((score, _share(_usual(law, score), float(_weights(keys[:above]).sum()), len(peaks))))
        rank *= RANK_STEP
    if not rows:
        rows.append((start, _share(_usual(law, start), float(weights.sum()), len(peaks))))
    rows.reverse()
    first = rows[-1][1]
    rows.append((start + mean * math.log(first / LEAST_TAIL), LEAST_TAIL))
    return _strictly(rows)


def _tail_count(peaks: NDArray[np.float64], keys: NDArray[np.int32]) -> int:
    """How many of the falling peaks make the tail: those that come to EXCEEDANCES once no key has more than its part.

    There may be fewer; raises TooFewError if they are too few, or if nothing lies below them.
    """
    positive = int(np.count_nonzero(peaks > 0))
    most = min(positive - 1, int(TAIL_SHARE * len(peaks)))
    low, high = 0, max(most, 0)
    while low < high:
        middle = (low + high) // 2
        if _weights(keys[:middle]).sum() >= EXCEEDANCES:
            high = middle
        else:
            low = middle + 1
    # peaks that are equal stand above the threshold together, or below it
    while 0 < low < most and peaks[low] == peaks[low - 1]:
        low += 1
    while low > 0 and peaks[low] == peaks[low - 1]:
        low -= 1
    if low < 1 or _weights(keys[:low]).sum() < LEAST_EXCEEDANCES - 1e-9:
        raise TooFewError(
            f"of {len(peaks):,} key-days only {positive:,} show any score, which makes no tail of at least "
            f"{LEAST_EXCEEDANCES} days of several keys"
        )
    return low


def _weights(keys: NDArray[np.int32]) -> NDArray[np.float64]:
    """One for each exceedance, but less for those of a key that has more than MOST_SHARE of what all come to.

    Of fewer than five keys each may have an equal part.
    """
    if not len(keys):
        return np.zeros(0)
    _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    most = max(MOST_SHARE, 1 / len(counts))
    falling = np.sort(counts)[::-1]
    total = float(falling.sum())
    for capped in range(len(falling)):
        if most * capped >= 1:
            break
        total = float(falling[capped:].sum()) / (1 - most * capped)
        if falling[capped] <= most * total + 1e-9:
            break
    weights: NDArray[np.float64] = np.minimum(1.0, most * total / counts)[place]
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
