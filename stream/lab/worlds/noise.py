"""Noise that a key's level has, from day to day and within a day."""

from __future__ import annotations

import math

import numpy as np

from stream.lab.worlds.draws import Floats
from stream.lab.worlds.profiles import Profile
from stream.lab.worlds.tally import PER_DAY

HALF_HOUR = 6
"""Buckets between the points of the noise within a day."""
DAILY_LAG1 = 0.7
FAST_LAG1 = 0.8
"""Autocorrelation of the log level from day to day, and from half hour to half hour."""


def level_noise(law: Profile, rng: np.random.Generator, keys: int, days: int) -> Floats:
    """Factors on the level of every key (keys x buckets), their mean about one."""
    daily = tailed(wander(rng, keys, days, DAILY_LAG1), law.day_tail) * rng.uniform(*law.daily_sd, (keys, 1))
    spread = rng.uniform(*law.fast_sd, (keys, 1))
    fast = wander(rng, keys, days * PER_DAY // HALF_HOUR + 1, FAST_LAG1) * spread - spread**2 / 2
    buckets = np.arange(days * PER_DAY)
    noon = np.arange(days) * PER_DAY + PER_DAY / 2
    points = np.arange(fast.shape[1]) * HALF_HOUR
    return np.array(
        [np.exp(np.interp(buckets, noon, d) + np.interp(buckets, points, f)) for d, f in zip(daily, fast, strict=True)]
    )


def wander(rng: np.random.Generator, keys: int, steps: int, lag1: float) -> Floats:
    """Autoregressive noise of unit variance, keys x steps."""
    noise = rng.standard_normal((steps, keys))
    fresh = math.sqrt(1 - lag1**2)
    for step in range(1, steps):
        noise[step] = lag1 * noise[step - 1] + fresh * noise[step]
    return np.ascontiguousarray(noise.T)


def tailed(noise: Floats, h: float) -> Floats:
    """Normal noise with heavier tails and still of unit variance (Tukey's h distribution)."""
    return np.asarray(noise * np.exp(h * noise**2 / 2) * (1 - 2 * h) ** 0.75)
