"""What is usual in the population: the law of each standardised number's daily maximum, and how keys differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stream.core.channels import STANDARDISED
from stream.core.priors import POPULATION
from stream.lab.evaluation.keydays import YOUNG_DAYS
from stream.lab.training.record import LEVEL_OFFSET, Floats, KeyRecord

Laws = dict[str, tuple[float, float]]
LEAST_DAYS = 6
"""Fewer days of a key say little of their spread."""
SD_OF_GUMBEL = math.pi / math.sqrt(6)
LEAST_LAW = {"unknown_usage": (0.5, 0.5)}
"""In worlds whose gateways always say the usage this number is always 0; real ones now and then do not."""
LEAST_SCALE = 0.05


def laws_of(worlds: Sequence[tuple[int, Sequence[KeyRecord]]]) -> Laws:
    """Location and scale of each law: of every world (its first day that counts, its records) the mean over keys of the
    median day and the root mean square of the spread within a key; then the mean over worlds.
    """  # noqa: D205
    laws: Laws = {}
    for i, name in enumerate(STANDARDISED):
        locations, scales = [], []
        for first_day, records in worlds:
            rows = [_days(record, first_day, i) for record in records]
            rows = [days for days in rows if len(days) >= LEAST_DAYS]
            if rows:
                locations.append(float(np.mean([np.median(days) for days in rows])))
                scales.append(math.sqrt(float(np.mean([np.var(days) for days in rows]))) / SD_OF_GUMBEL)
        location, scale = float(np.mean(locations)), max(float(np.mean(scales)), LEAST_SCALE)
        least = LEAST_LAW.get(name, (-math.inf, 0.0))
        laws[name] = (round(max(location, least[0]), 3), round(max(scale, least[1]), 3))
    return laws


def _days(record: KeyRecord, first_day: int, law: int) -> Floats:
    if not len(record.peak_days):
        return np.zeros(0, np.float32)
    counts = (record.peak_days >= first_day) & (record.peak_days >= record.peak_days[0] + YOUNG_DAYS)
    days = record.peaks[counts, law]
    finite: Floats = days[np.isfinite(days)]
    return finite


def population_of(worlds: Sequence[Sequence[KeyRecord]]) -> dict[str, tuple[float, ...]]:
    """Mean and standard deviation over the keys of all worlds: of their level after some days, and of their shape."""
    traits = np.concatenate([[record.traits for record in records] for records in worlds])
    means, spreads = np.nanmean(traits, axis=0), np.nanstd(traits, axis=0)
    return {
        name: (round(float(mean), 3), round(float(sd), 3), *((LEVEL_OFFSET,) if name == "level" else ()))
        for name, mean, sd in zip(POPULATION, means, spreads, strict=True)
    }
