"""The recall that nobody exceeds: an oracle that knows an attack's size and its key's noise, not when it begins.

The logarithm of a key's throughput is taken as a season plus AR(1) noise, both measured on the same world without the
attacks; an attack adds ln(1 + its tokens / what is expected). Made white, the noise is N(0, 1) and the attack a known
shape w, so that the best test (Page's CUSUM, 1954, over all starts) is max over starts of the sum of w x - w²/2. Its
threshold gives the same false alerts per day as the detector had; the chance of a find comes from simulated noise. The
season is known to the oracle and real noise is rougher than the normal law, so both flatter the oracle.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream.lab.evaluation.scoring import counted
from stream.lab.worlds.world import Episode, World

Floats = NDArray[np.float64]

HOUR, DAY = 3600, 86_400
STEP_SECONDS = {"drift": DAY, "ramp": DAY, "surge": HOUR}
"""The families that are a change of volume and nothing else, and the time over which one reading of it is taken."""
OFFSET_SHARE = 0.02
"""Part of the mean that is added to every reading: silence has no logarithm."""
LEAST_DEVIATION = 0.02
MOST_LAG1 = 0.95
NOISE_STEPS = 200_000
"""Readings without an attack that set a threshold: 200 false alerts at one per 1,000."""
CHANCE_PER_BLOCK = 0.1
"""A block of readings is so long that a false alert in it is rare, and two are next to none."""
LEAST_BLOCKS = 40
TRIALS = 1_000
"""Simulated attacks: a chance is known to within 0.03."""
MOST_STEPS = 60
"""An attack's shape is cut to so many readings: by then it is found or never is."""


def attainable(world: World, twin: World, false_per_1000_key_days: float, seed: int = 1) -> list[float | None]:
    """For each attack that counts, the chance that the oracle finds it; None for families that it knows nothing of.

    `twin` is the same world without its attacks.
    """
    rng = np.random.default_rng(seed)
    per_day = max(false_per_1000_key_days, 0.01) / 1000
    chances: list[float | None] = []
    for episode in counted(world):
        seconds = STEP_SECONDS.get(episode.family)
        if seconds is None:
            chances.append(None)
            continue
        shape = shape_of(world, twin, episode, seconds)
        chances.append(chance_of(shape, per_day * seconds / DAY, rng))
    return chances


def shape_of(world: World, twin: World, episode: Episode, step_seconds: int) -> Floats:
    """What the attack adds to each whitened reading that it touches, in units of the noise."""
    step = step_seconds // world.bucket_seconds
    tokens = twin.input_tokens[:, episode.key] + twin.output_tokens[:, episode.key]
    starts = np.arange(0, len(tokens), step)
    readings = np.add.reduceat(tokens, starts).astype(np.float64)
    level, deviation, lag1 = noise_of(readings, season(len(readings), step_seconds))
    attack = np.add.reduceat(world.attack_tokens[:, episode.key], starts)
    first, last = episode.first // step, min(-(-episode.last // step), episode.first // step + MOST_STEPS)
    added = np.log1p(attack[first:last] / level[first:last])
    white = added - lag1 * np.concatenate(([0.0], added[:-1]))
    return np.asarray(white / (deviation * math.sqrt(1 - lag1 * lag1)), np.float64)


def season(readings: int, step_seconds: int) -> NDArray[np.int64]:
    """The season's slot of each reading: weekday or weekend, and the hour if readings are shorter than a day."""
    steps_a_day = DAY // step_seconds
    index = np.arange(readings)
    weekend = (index // steps_a_day) % 7 >= 5
    return np.asarray(index % steps_a_day + steps_a_day * weekend, np.int64)


def noise_of(readings: Floats, slots: NDArray[np.int64]) -> tuple[Floats, float, float]:
    """The expected level of each reading, and the noise around it: sd and lag-1 autocorrelation of the logarithm."""
    offset = OFFSET_SHARE * readings.mean() + 1.0
    logs = np.log(readings + offset)
    begun = np.cumsum(readings) > 0  # a key that came later was not silent before
    level = np.full(len(logs), logs[begun].mean() if begun.any() else math.log(offset))
    for slot in np.unique(slots[begun]):
        those = slots == slot
        level[those] = logs[those & begun].mean()
    noise = (logs - level)[begun]
    if len(noise) < 3:
        return np.exp(level), 1.0, 0.0
    deviation = max(float(noise.std()), LEAST_DEVIATION)
    lag1 = float(np.mean(noise[1:] * noise[:-1])) / deviation**2
    return np.exp(level), deviation, min(max(lag1, 0.0), MOST_LAG1)


def chance_of(shape: Floats, false_per_step: float, rng: np.random.Generator) -> float:
    """How often the oracle finds a shape before it ends, at so many false alerts per reading."""
    return float(np.mean(found_at(shape, false_per_step, rng) < len(shape))) if len(shape) else 0.0


def found_at(shape: Floats, false_per_step: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Of TRIALS simulated attacks of a shape, the reading of it at which the oracle finds each; its length: at none."""
    threshold = threshold_for(statistic(rng.standard_normal(NOISE_STEPS), shape), false_per_step)
    noise = rng.standard_normal((TRIALS, 2 * len(shape)))
    noise[:, len(shape) :] += shape
    over = statistic(noise, shape)[:, len(shape) :] >= threshold
    return np.where(over.any(axis=1), over.argmax(axis=1), len(shape))


def statistic(white: Floats, shape: Floats) -> Floats:
    """At each reading (last axis), the greatest evidence of an attack of this shape that began at it or before it."""
    greatest = np.full_like(white, -np.inf)
    evidence = np.zeros_like(white)
    # after the k-th round `evidence` is that of an attack whose k-th reading is this one
    for size in shape.tolist():
        evidence[..., 1:] = evidence[..., :-1].copy()
        evidence[..., 0] = 0.0
        evidence += size * white - size * size / 2
        greatest = np.maximum(greatest, evidence)
    return greatest


def threshold_for(evidence: Floats, false_per_step: float) -> float:
    """The threshold that evidence without an attack passes at the given rate, by the maxima of blocks of readings."""
    block = min(max(1, round(CHANCE_PER_BLOCK / false_per_step)), len(evidence) // LEAST_BLOCKS)
    peaks = evidence[: len(evidence) // block * block].reshape(-1, block).max(axis=1)
    return float(np.quantile(peaks, 1 - min(block * false_per_step, 0.5)))
