"""Synthetic worlds: keys of several kinds of traffic, look-alikes among them, and attacks on some."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stream.lab.worlds.attacker import Plan
from stream.lab.worlds.attacks import attack
from stream.lab.worlds.draws import MODELS, Floats, LognormalLengths, RequestShape, generator
from stream.lab.worlds.failures import failed, retried
from stream.lab.worlds.kinds import KINDS, Habit, Job, clock_of
from stream.lab.worlds.lookalikes import RESHAPINGS, Scene, happen, storm
from stream.lab.worlds.noise import DAILY_LAG1, level_noise, wander
from stream.lab.worlds.profiles import PROFILES, Profile
from stream.lab.worlds.reshaping import reshaping
from stream.lab.worlds.tally import PER_DAY, Background, Tally
from stream.lab.worlds.world import Episode, Sums, World

FIRST_DAY = 21
"""Days before this one are warm-up."""
LEAST_DAYS = FIRST_DAY + 8
PLAN_KEYS = 600
PLAN = Plan(
    surge=8,
    drift=8,
    ramp=8,
    newcomer=5,
    quiet_hours=8,
    shape=7,
    hidden_usage=8,
    least_calls_per_hour=4.0,
    within_days=FIRST_DAY,
)
"""Attacks in a world of `PLAN_KEYS` keys."""
MIX_CONCENTRATION = 20.0
"""How closely a key's mix of models of one day keeps to its usual mix."""
LOSSES = 2
LOST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class _Traits:
    """What is drawn of all keys at once: element k is key k's."""

    kinds: NDArray[np.str_]
    rates: Floats
    born: Sums
    noise: Floats


def synthetic_world(seed: int, *, keys: int = 600, days: int = 42, profile: str = "A", attacks: bool = True) -> World:
    """A world of a profile ("A", "B", "C", "D"), the first three weeks of which are warm-up.

    The same arguments give the same arrays; with `attacks` False they are the same but for the attacks. Raises
    ValueError for an unknown profile and for fewer than `LEAST_DAYS` days.
    """
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}: there are {', '.join(PROFILES)}")
    if days < LEAST_DAYS:
        raise ValueError(f"{days} days: a world needs {LEAST_DAYS}, three weeks of them warm-up")
    law = PROFILES[profile]
    seed = seed * 256 + ord(profile)
    traits = _traits(law, seed, keys, days)
    level, jobs = _levels(law, traits, seed, days)
    old = np.flatnonzero(traits.born == 0)
    lookalikes = happen(Scene(level, traits.rates, old, jobs, FIRST_DAY), seed, law.reshapings)
    tally, shapes = _draw(law, traits.kinds, level, lookalikes, seed)
    storm(tally, traits.rates, shapes, lookalikes, seed)
    busy = frozenset(episode.key for episode in lookalikes)
    background = Background(tally, level, tuple(shapes), traits.born, np.flatnonzero(traits.born), busy)
    return tally.world(
        name=f"synthetic-{profile}-{seed // 256}",
        key_ids=tuple(f"{kind}-{key:04d}" for key, kind in enumerate(traits.kinds)),
        lost=_lost(tally, seed),
        attacks=attack(background, PLAN.scaled(keys / PLAN_KEYS), seed, FIRST_DAY) if attacks else (),
        lookalikes=lookalikes,
        first_day=FIRST_DAY,
        start=law.start,
    )


def _traits(law: Profile, seed: int, keys: int, days: int) -> _Traits:
    rng = generator(seed, "traits")
    names = [name for name, _ in law.kinds]
    kinds = rng.choice(names, keys, p=[share for _, share in law.kinds])
    rates = np.clip(np.exp(rng.normal(*law.rate, keys)), *law.rate_bounds)
    rates = np.where(kinds == "sparse", np.exp(rng.normal(*law.sparse_rate, keys)), rates)
    for kind, own in law.customs.items():
        rates = np.where(kinds == kind, np.clip(np.exp(rng.normal(*own.rate, keys)), *law.rate_bounds), rates)
    born = np.zeros(keys, np.int64)
    cold = rng.choice(keys, round(law.cold_share * keys), replace=False)
    born[cold] = rng.integers(FIRST_DAY * PER_DAY, (days - 4) * PER_DAY, len(cold))
    noise = level_noise(law, rng, keys, days)
    return _Traits(kinds, rates, born, noise)


def _levels(
    law: Profile, traits: _Traits, seed: int, days: int
) -> tuple[NDArray[np.float32], dict[int, tuple[Job, ...]]]:
    """Expected calls, keys x buckets, and the runs of batch keys."""
    level = np.zeros(traits.noise.shape, np.float32)
    jobs: dict[int, tuple[Job, ...]] = {}
    clocks = [clock_of(law.start, days, zone) for zone in law.zones]
    shares = [zone.share for zone in law.zones]
    for key, kind in enumerate(traits.kinds):
        rng = generator(seed, "level", key)
        clock = clocks[rng.choice(len(clocks), p=shares)]
        habit = Habit(
            rate=float(traits.rates[key]),
            peak=float(rng.normal(*law.peak) % 24),
            swing=float(rng.uniform(0.3, 1.3)),
            weekend=float(rng.uniform(0.15, 1.0)),
            noise=traits.noise[key],
            first_day=FIRST_DAY,
        )
        expected, runs = KINDS[str(kind)](habit, clock, rng)
        if born := int(traits.born[key]):
            since = np.arange(len(expected)) - born
            pace = PER_DAY * rng.uniform(0.05, 2)
            expected = np.where(since >= 0, expected * -np.expm1(-np.maximum(since + 1, 0) / pace), 0.0)
        level[key] = expected
        if runs:
            jobs[key] = runs
    return level, jobs


def _draw(
    law: Profile, kinds: NDArray[np.str_], level: NDArray[np.float32], lookalikes: tuple[Episode, ...], seed: int
) -> tuple[Tally, list[RequestShape]]:
    """Calls and their usage, and what each key's calls are like (before a change for good, if there is one)."""
    tally = Tally(*level.shape)
    changes = {episode.key: episode for episode in lookalikes if episode.family in RESHAPINGS}
    shapes: list[RequestShape] = []
    days = level.shape[1] // PER_DAY
    for key in range(tally.keys):
        rng = generator(seed, "calls", key)
        shape = shape_of(law.of(str(kinds[key])), days, rng)
        burst = rng.gamma(law.level_shape, 1 / law.level_shape, level.shape[1])
        calls = rng.poisson(level[key] * burst).astype(np.int64)
        known = calls
        if rng.random() < law.missing_share:
            known = rng.binomial(calls, 1 - rng.beta(1, 9))
        if key in changes:
            change = reshaping(changes[key], shape, tally.buckets, rng)
            by_model, usage = change.draw(rng, shape, calls, known)
            tally.add(key, 0, by_model, known, usage)
        else:
            tally.add(key, 0, shape.split(rng, calls, 0), known, shape.draw(rng, known, 0))
        if law.failing_share and rng.random() < law.failing_share:
            again, refused = retried(rng, calls), failed(shape)
            tally.add(key, 0, refused.split(rng, again, 0), again, refused.draw(rng, again, 0))
        shapes.append(shape)
    return tally, shapes


def shape_of(law: Profile, days: int, rng: np.random.Generator) -> RequestShape:
    """What the calls of one key of a profile are like, over a run of so many days."""
    output_mu, output_sd = rng.normal(*law.output_mu), rng.uniform(*law.output_sd)
    wandering = rng.uniform(*law.wander_sd)
    shift = wander(rng, 1, days, DAILY_LAG1)[0] * wandering if wandering else np.zeros(1)
    lengths = LognormalLengths(
        float(rng.normal(*law.input_mu)), float(rng.uniform(*law.input_sd)), output_mu, output_sd, shift, PER_DAY
    )
    saturated = float(np.clip(rng.beta(1.2, 25), 1e-4, 0.5))
    limit = math.exp(output_mu + output_sd * NormalDist().inv_cdf(1 - saturated))
    reasoning = float(rng.uniform(0.2, 0.7)) if rng.random() < law.reasoning_share else 0.0
    used = rng.permutation(MODELS)[: rng.choice(len(law.model_counts), p=law.model_counts) + 1]
    mix = np.zeros((1 if len(used) == 1 else days, MODELS))
    usual = rng.dirichlet(np.full(len(used), 1.5)) + 0.02
    mix[:, used] = rng.dirichlet(MIX_CONCENTRATION * usual, len(mix))
    if len(used) > 1 and law.migrating_share and rng.random() < law.migrating_share:
        mix = _migrated(mix, int(rng.choice(used)), rng)
    return RequestShape(lengths, max(2.0, round(limit)), reasoning, mix, PER_DAY)


def _migrated(mix: Floats, model: int, rng: np.random.Generator) -> Floats:
    """A key that moves to one of its models, within a week at most: a release, say."""
    day = np.arange(len(mix))
    moved = np.clip((day - rng.integers(1, len(mix))) / rng.integers(1, 8), 0.0, 0.95)[:, None]
    return np.asarray((1 - moved) * mix + moved * np.eye(MODELS)[model])


def _lost(tally: Tally, seed: int) -> NDArray[np.bool_]:
    """Telemetry of a quarter of the keys that is lost for an hour to three, twice."""
    rng = generator(seed, "lost")
    lost = np.zeros((tally.keys, tally.buckets), np.bool_)
    for _ in range(LOSSES):
        first = int(rng.integers(FIRST_DAY * PER_DAY, tally.buckets - 48))
        lost[rng.random(tally.keys) < LOST_SHARE, first : first + int(rng.integers(12, 36))] = True
    return lost
