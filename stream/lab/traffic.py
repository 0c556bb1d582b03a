"""When keys call: the level of every key window by window, the counts it makes, and the times inside a window."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from stream.lab.parameters import LEVEL_LAG1, WINDOW_SECONDS, Floats, Ints
from stream.lab.population import Population, weibull_shapes

BLOCK_WINDOWS = 6
"""Windows that are drawn together: an hour, so that small installations do not pay numpy's overhead per window."""
SLOW_LAG1 = 0.7 ** (WINDOW_SECONDS / 86_400)
"""The day-to-day wander keeps 0.7 of itself over a day."""
MAX_LOG_LEVEL = 4.0
"""A level wanders up to 55 times its median: the tails of Student's t must not make a run's cost infinite."""
TAIL_DEGREES = 3
"""Student's t of the wander's steps: the log ratio of adjacent windows has far heavier tails than a Gaussian."""


def levels(population: Population, seed: int, start: float, days: float) -> Iterator[tuple[float, Floats]]:
    """Blocks of expected calls: (start of the block, array of windows x keys). Same seed, same levels."""
    rng = np.random.default_rng([seed, 1])
    p, keys = population, population.size
    windows = int(np.ceil(days * 86_400 / WINDOW_SECONDS - 1e-9))
    stop_chance = np.where(p.on_share < 1, np.minimum(WINDOW_SECONDS / p.on_seconds, 1.0), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        start_chance = np.minimum(np.nan_to_num(stop_chance * p.on_share / (1 - p.on_share), nan=1.0), 1.0)
    # where a stretch of use cannot begin often enough, it has to last longer
    share = np.where(p.on_share < 1, start_chance / (start_chance + np.maximum(stop_chance, 1e-12)), 1.0)
    on = rng.random(keys) < share
    fast, slow = rng.normal(0, p.fast_sd), rng.normal(0, p.slow_sd)
    step = p.fast_sd * np.sqrt((1 - LEVEL_LAG1**2) * (TAIL_DEGREES - 2) / TAIL_DEGREES)
    slow_step = p.slow_sd * np.sqrt(1 - SLOW_LAG1**2)
    scale = p.rate * WINDOW_SECONDS / share / _week_mean(p) / _mean_level(np.hypot(p.fast_sd, p.slow_sd))
    batch_scale = np.where(p.batch, 86_400 / p.batch_seconds * np.where(p.batch_weekday < 0, 1, 7), 1.0)
    day, skipped = -1, np.zeros(keys, bool)
    for first in range(0, windows, BLOCK_WINDOWS):
        block = np.empty((min(BLOCK_WINDOWS, windows - first), keys))
        for i in range(len(block)):
            time = start + (first + i) * WINDOW_SECONDS
            if int(time // 86_400) != day:
                day = int(time // 86_400)
                skipped = rng.random(keys) < 0.04
            chance = rng.random(keys)
            on = np.where(on, chance >= stop_chance, chance < start_chance)
            fast = LEVEL_LAG1 * fast + step * rng.standard_t(TAIL_DEGREES, keys)
            slow = SLOW_LAG1 * slow + slow_step * rng.standard_normal(keys)
            level = scale * np.exp(np.minimum(fast + slow, MAX_LOG_LEVEL)) * season(p, time + WINDOW_SECONDS / 2)
            second = time % 86_400
            running = (second >= p.batch_start) & (second < p.batch_start + p.batch_seconds) & ~skipped
            running &= (p.batch_weekday < 0) | (p.batch_weekday == _weekday(time))
            level *= np.where(p.batch, running * batch_scale, on)
            alive = np.clip((time + WINDOW_SECONDS - p.born) / WINDOW_SECONDS, 0, 1)
            block[i] = level * alive
        yield start + first * WINDOW_SECONDS, block


def season(population: Population, time: float) -> Floats:
    """Every key's daily and weekly factor at a time; `_week_mean` of it is its mean over a week."""
    hour = time % 86_400 / 3600
    daily: Floats = 1 + population.amplitude * np.cos(2 * np.pi * (hour - population.peak_hour) / 24)
    return daily * population.weekend if _weekday(time) >= 5 else daily


def _mean_level(sd: Floats) -> Floats:
    """Mean of exp(min(x, MAX_LOG_LEVEL)) for a normal x of that sd."""
    above = np.array([NormalDist().cdf(-MAX_LOG_LEVEL / s) for s in sd])
    below = np.array([NormalDist().cdf((MAX_LOG_LEVEL - s * s) / s) for s in sd])
    level: Floats = np.exp(sd**2 / 2) * below + np.exp(MAX_LOG_LEVEL) * above
    return level


def _weekday(time: float) -> int:
    """Monday is 0; the epoch began on a Thursday."""
    return int(time // 86_400 + 3) % 7


def _week_mean(population: Population) -> Floats:
    return (5 + 2 * population.weekend) / 7


def counts(rng: np.random.Generator, expected: Floats, cv: Floats) -> Ints:
    """Calls of cells whose expectations are given, as spread as a renewal process with that CV: variance = CV² x mean.

    Above CV 1 this is the negative binomial law (whose halves add up to the whole, whatever the length of the cell),
    below it the binomial.
    """
    cv = np.broadcast_to(cv, expected.shape)
    excess = cv**2 - 1
    wide = excess > 0.05
    mean = expected.copy()
    shape = expected[wide] / excess[wide]
    mean[wide] = rng.standard_gamma(shape) * excess[wide]
    drawn = rng.poisson(mean)
    narrow = (excess < -0.05) & (expected > 0)
    trials = np.maximum(np.ceil(expected[narrow] / -excess[narrow]), 1)
    drawn[narrow] = rng.binomial(trials.astype(np.int64), np.minimum(expected[narrow] / trials, 1.0))
    return drawn


def moments_in_window(rng: np.random.Generator, calls: Ints, cv: Floats, weibull: Floats) -> Floats:
    """Where in its window (0 to 1) each call falls: the gaps are Gamma or Weibull with the key's CV.

    `calls` are the counts of the cells (all at least 1), `cv` and `weibull` (shape, 0: Gamma) theirs; the result is
    flat, cell by cell, in time order.
    """
    gaps = calls + 1  # one before the first call, one behind the last
    ends = np.cumsum(gaps)
    cv_of, weibull_of = np.repeat(cv, gaps), np.repeat(weibull, gaps)
    gamma = weibull_of == 0
    drawn = np.empty(len(cv_of))
    drawn[gamma] = rng.standard_gamma(cv_of[gamma] ** -2.0)
    drawn[~gamma] = rng.weibull(weibull_of[~gamma])
    drawn += 1e-12  # gaps of a bursty key underflow; a cell of zeros would have no length
    # normalised before they are added up: the sizes of two keys' gaps differ by more digits than a float has
    drawn /= np.repeat(np.add.reduceat(drawn, ends - gaps), gaps)
    along = np.cumsum(drawn)
    begin = np.concatenate(([0.0], along[ends[:-1] - 1]))
    inside = np.ones(len(drawn), bool)
    inside[ends - 1] = False
    position: Floats = (along - np.repeat(begin, gaps))[inside]
    return np.clip(position, 0.0, 1 - 1e-9)


def shapes(population: Population) -> Floats:
    """Weibull shape of every key, 0 for those whose gaps are Gamma."""
    return np.where(population.weibull, weibull_shapes(population.cv), 0.0)
