"""From what groups showed to their priors: laws of daily maxima, tails of statistics, and of what opens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from stream.core.calibration import EULER, SD_OF_GUMBEL
from stream.core.group import MEASURED, STATISTICS
from stream.lab.grouptraining.document import GUESS, GUESSED_TAIL, Document, document_of, guessed_priors
from stream.lab.grouptraining.readings import Readings, Values

SHARES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0004)
OPENING_SHARES = tuple(share for share in SHARES if share <= 0.1)
"""Beyond lower scores there are fewer openings, not more: groups stay there for days."""
LEAST_COUNT = 8
"""Fewer group-days tell no share."""
LEAST_STEP = 0.02
LEAST_SPEAKING = 200


def laws_of(found: Readings) -> Document:
    """A Gumbel law for each statistic, by the moments of its maxima above zero, the spread by their quantiles."""
    laws: Document = {}
    for name, values in zip(MEASURED, found.values.T, strict=True):
        column = found.peaks(values)
        speaking = column[column > 0]
        if len(speaking) < LEAST_SPEAKING or name == "respawn":
            laws[name] = list(GUESS)
            continue
        low, high = np.quantile(speaking, (0.16, 0.84))
        spread = min(float(speaking.std()), 1.3 * float(high - low) / 2)
        scale = spread / SD_OF_GUMBEL
        laws[name] = [round(float(speaking.mean()) - EULER * scale, 3), round(scale, 3)]
    return laws


def tail_of(column: Values) -> list[list[float]]:
    """Values, rising, and the share of group-days that exceed each."""
    ordered = np.sort(column)[::-1]
    places = {share: int(share * len(ordered)) for share in SHARES}
    return rising((float(ordered[place]), share) for share, place in places.items() if place >= LEAST_COUNT)


def rising(points: Iterable[tuple[float, float]]) -> list[list[float]]:
    """The rows of a tail: points whose values rise by a step that counts."""
    rows: list[list[float]] = []
    for number, share in points:
        value = round(number, 3)
        if not rows or value > rows[-1][0] + LEAST_STEP:
            rows.append([value, share])
    return rows


def opening_tail(found: Readings, column: Values) -> list[list[float]]:
    """Values, rising, and how many openings beyond each there are for a group-day: at most so many.

    Taken to fall with the value, as they do where they are seldom.
    """
    peaks = found.peaks(column)
    values = np.unique(peaks[peaks >= np.quantile(peaks, 1 - SHARES[0])])

    def beyond(most: float) -> float:
        return float(values[bisect_left(values, True, key=lambda value: found.openings(column, value) <= most)])

    shares = [share for share in OPENING_SHARES if share * len(peaks) >= LEAST_COUNT]
    return rising((beyond(share * len(peaks)), share) for share in shares)


def scores_of(found: Readings, tails: Document) -> Values:
    """The score of each hour, as `Groups` work it out."""
    rules = guessed_priors(tails=tails)
    return np.array([rules.score(rules.weighed(rules.decades(row))) for row in found.values.tolist()])


def train(parts: Sequence[Readings]) -> Document:
    """The priors of groups from what those of some worlds showed."""
    first = np.cumsum([0, *(int(part.group.max()) + 1 for part in parts)])
    found = Readings(
        np.concatenate([part.group + before for part, before in zip(parts, first, strict=False)]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("hour", "learns", "counts", "values")),
    )
    laws = laws_of(found)
    standardised = found.standardised(laws)
    tails: Document = {}
    for name, column in zip(STATISTICS, standardised.values.T, strict=True):
        rows = tail_of(standardised.peaks(column))
        tails[name] = rows if len(rows) >= 3 else [list(row) for row in GUESSED_TAIL]
    return document_of(laws, tails, opening_tail(standardised, scores_of(standardised, tails)))
