"""The rule as a whole over recorded rows: joint evidence, its tail, and the newcomers' own tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.core.channels import STATISTICS
from stream.core.residuals import QUICK
from stream.core.rule import Decades, Head, Rule
from stream.lab.training.heads import Pair, Task, fit, fit_tail, odds_of
from stream.lab.training.record import LARGE, SHAPED
from stream.lab.training.samples import Numbers, Sample

VOLUME_FAMILIES = frozenset({"surge", "drift", "ramp", "quiet_hours", "hidden_usage"})
TASKS = {
    "quick": Task("quick", lambda episode: episode.family == "surge", STATISTICS[:QUICK], 0),
    "volume": Task("volume", lambda episode: episode.family in VOLUME_FAMILIES, STATISTICS[:-1], LARGE),
    # a mimic has no shape of its own: it teaches nothing here
    "shape": Task(
        "shape",
        lambda episode: not episode.mimic and episode.family in VOLUME_FAMILIES | {"shape"},
        STATISTICS[:-1],
        LARGE | SHAPED,
    ),
}
"""What each head is fitted to; newcomers are judged by their own number alone, which is the last of STATISTICS."""
THRESHOLD = 2.0
"""The tail law begins where one key-day in about a hundred goes."""
NEWCOMER_SHARES = (0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.007, 0.005, 0.003, 0.002)
LEAST_PEAKS = 5
LEAST_STEP = 0.01
MOST_DAYS = 100_000


def fit_rule(pairs: Sequence[Pair]) -> Rule:
    """Fit the heads one by one, then the tail of what they say together; every world counts the same."""
    heads = [fit(task, pairs) for task in TASKS.values()]
    parts = []
    for pair in pairs:
        steps, minutes = evidence_of(heads, pair.clean)
        evidence, context, clean, days = _together(pair.clean, steps, minutes)
        places = _peaks(evidence, clean, days)
        parts.append((evidence[places], context[places], pair.clean.key_days))
    quick, volume, shape = heads
    return Rule(quick, volume, shape, fit_tail(parts, THRESHOLD))


def evidence_of(heads: Sequence[Head], sample: Sample) -> tuple[Numbers, Numbers]:
    """Evidence at each step, and at each bucket that the windows of minutes spoke of."""
    quick, volume, shape = heads
    flags = sample.steps.flags
    steps = np.where(flags > 0, _decades(shape.decades, odds_of(shape, sample.steps)), 0.0)
    steps += np.where(flags & LARGE, _decades(volume.decades, odds_of(volume, sample.steps)), 0.0)
    return steps.astype(np.float32), _decades(quick.decades, odds_of(quick, sample.quick))


def _decades(table: Decades, odds: Numbers) -> Numbers:
    """`Decades.of`, for many at once."""
    x, y = np.array(table.odds), np.array(table.decades)
    i = np.clip(np.searchsorted(x, odds, side="right"), 1, len(x) - 1)
    found = y[i - 1] + (y[i] - y[i - 1]) / (x[i] - x[i - 1]) * (odds - x[i - 1])
    above: Numbers = np.maximum(found, 0.0).astype(np.float32)
    return above


def _together(
    sample: Sample, steps: Numbers, quick: Numbers
) -> tuple[Numbers, Numbers, NDArray[np.bool_], NDArray[np.int64]]:
    """Evidence, context, whether it is clean, and key-day, of all rows."""
    both = (sample.steps, sample.quick)
    days = [rows.keys.astype(np.int64) * MOST_DAYS + rows.rows // rows.per_day for rows in both]
    return (
        np.concatenate([steps, quick]),
        np.concatenate([rows.context for rows in both]),
        np.concatenate([rows.clean for rows in both]),
        np.concatenate(days),
    )


def _peaks(evidence: Numbers, clean: NDArray[np.bool_], days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of each clean key-day's highest evidence."""
    places = np.flatnonzero(clean)
    places = places[np.lexsort((evidence[places], days[places]))]
    last = np.append(days[places][1:] != days[places][:-1], True) if len(places) else np.zeros(0, np.bool_)
    peaks: NDArray[np.int64] = places[last]
    return peaks


def newcomer_tail(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """(number, share of young key-days whose highest number exceeds it), as far as enough days reach."""
    peaks = np.sort(np.concatenate([sample.newcomers for sample in samples]))[::-1]
    days = sum(sample.young_days for sample in samples)
    tail: list[tuple[float, float]] = []
    for share in NEWCOMER_SHARES:
        place = int(share * days)
        if LEAST_PEAKS <= place < len(peaks) and (not tail or peaks[place] > tail[-1][0] + LEAST_STEP):
            tail.append((round(float(peaks[place]), 3), share))
    return tail
