"""What looks like an attack and is none: launches, bulk runs, long jobs, retry storms, vendors, a holiday, changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.lab.worlds.draws import Floats, RequestShape, generator
from stream.lab.worlds.failures import failed
from stream.lab.worlds.kinds import Job
from stream.lab.worlds.tally import PER_DAY, Tally
from stream.lab.worlds.world import Episode, Sums

SHARE = 0.03
"""Part of the keys that each look-alike happens to."""
HOUR = PER_DAY // 24
SETTLING = 5 * PER_DAY
"""A change for good is a look-alike for as long as a drift lasts; then it is what the key is like."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Expected calls (keys x buckets), which look-alikes change in place before any call is drawn.

    rates: mean calls per bucket; eligible: keys that were there from the start, each for one look-alike only
    jobs: runs of the batch keys
    """

    level: NDArray[np.float32]
    rates: Floats
    eligible: Sums
    jobs: dict[int, tuple[Job, ...]]
    first_day: int

    @property
    def buckets(self) -> int:
        """Number of buckets."""
        return int(self.level.shape[1])

    @property
    def start(self) -> int:
        """First bucket that counts."""
        return self.first_day * PER_DAY


def happen(scene: Scene, seed: int, reshapings: tuple[str, ...] = ()) -> tuple[Episode, ...]:
    """Let every kind of look-alike happen to some keys; a holiday, which only lowers use, is not among the episodes.

    Of `reshapings`, names of RESHAPINGS, this says when; `reshaping.reshaped` then changes what the calls are like.
    """
    rng = generator(seed, "lookalikes")
    keys = rng.permutation(scene.eligible).tolist()
    number = max(1, round(SHARE * len(scene.rates)))
    episodes: list[Episode] = []
    for name, change in {**CHANGES, **{name: RESHAPINGS[name] for name in reshapings}}.items():
        rng = generator(seed, f"lookalikes {name}")
        for _ in range(min(number, len(keys))):
            key = keys.pop()
            episodes += [_episode(key, first, last, name) for first, last in change(scene, key, rng)]
    rng = generator(seed, "lookalikes long_batch")
    batch = [key for key in keys if key in scene.jobs]
    for key in batch[: max(1, len(batch) // 3)]:
        episodes += [_episode(key, first, last, "long_batch") for first, last in _long_batch(scene, key, rng)]
    rng = generator(seed, "lookalikes retry_storm")
    rest = [key for key in keys if key not in scene.jobs]
    episodes += _outage(scene, rest[:number], rng) + _outage(scene, rest[number : 2 * number], rng)
    _holiday(scene, generator(seed, "lookalikes holiday"))
    return tuple(episodes)


def _episode(key: int, first: int, last: int, family: str) -> Episode:
    return Episode(key, first, last, family, "", mimic=False, tokens=0)


Spans = list[tuple[int, int]]


def _launch(scene: Scene, key: int, rng: np.random.Generator) -> Spans:
    """Two to four times the use, within an hour or two, that wears off over days."""
    first = int(rng.integers(scene.start, scene.buckets - 5 * PER_DAY))
    times, fade = rng.uniform(2, 4), rng.uniform(1, 4) * PER_DAY
    since = np.arange(scene.buckets - first)
    scene.level[key, first:] *= 1 + (times - 1) * (1 - np.exp(-(since + 1) / HOUR)) * np.exp(-since / fade)
    return [(first, min(first + int(3 * fade), scene.buckets))]


def _bulk(scene: Scene, key: int, rng: np.random.Generator) -> Spans:
    """One evaluation of a whole data set: some hours at four to twelve times the rate."""
    first = int(rng.integers(scene.start, scene.buckets - PER_DAY))
    last = first + int(rng.integers(6, 30))
    scene.level[key, first:last] += scene.rates[key] * rng.uniform(4, 12)
    return [(first, last)]


def _labelling(scene: Scene, key: int, rng: np.random.Generator) -> Spans:
    """A vendor labels once a week, from some day on: four to eight hours at three to eight times the rate."""
    first = int(rng.integers(scene.start, max(scene.start + 1, scene.buckets - 8 * PER_DAY)))
    length, times = int(rng.integers(4 * HOUR, 8 * HOUR)), rng.uniform(3, 8)
    spans = [(week, min(week + length, scene.buckets)) for week in range(first, scene.buckets, 7 * PER_DAY)]
    for begin, end in spans:
        scene.level[key, begin:end] += scene.rates[key] * times
    return spans


def _long_batch(scene: Scene, key: int, rng: np.random.Generator) -> Spans:
    """A job that takes twice as long, once."""
    jobs = [job for job in scene.jobs[key] if job.first >= scene.start and 2 * job.last - job.first <= scene.buckets]
    if not jobs:
        return []
    job = jobs[int(rng.integers(len(jobs)))]
    again = slice(job.last, 2 * job.last - job.first)
    scene.level[key, again] = np.maximum(scene.level[key, again], scene.level[key, job.first : job.last])
    return [(job.first, again.stop)]


def _outage(scene: Scene, keys: list[int], rng: np.random.Generator) -> list[Episode]:
    """Half an hour to an hour and a half without service, and then half an hour in which clients retry."""
    first = int(rng.integers(scene.start, scene.buckets - PER_DAY))
    last = first + int(rng.integers(HOUR // 2, 3 * HOUR // 2))
    for key in keys:
        scene.level[key, first:last] *= 0.02
    return [_episode(key, last, last + HOUR // 2, "retry_storm") for key in keys]


def storm(tally: Tally, rates: Floats, shapes: list[RequestShape], episodes: tuple[Episode, ...], seed: int) -> None:
    """Add the failed calls of the retry storms: five to twenty times the rate, with hardly any tokens."""
    rng = generator(seed, "storms")
    for episode in episodes:
        if episode.family != "retry_storm":
            continue
        shape = failed(shapes[episode.key])
        mean = max(rates[episode.key], 1.0) * rng.uniform(5, 20)
        calls = rng.poisson(mean, episode.last - episode.first).astype(np.int64)
        by_model = shape.split(rng, calls, episode.first)
        tally.add(episode.key, episode.first, by_model, calls, shape.draw(rng, calls, episode.first))


def _holiday(scene: Scene, rng: np.random.Generator) -> None:
    """One day on which everybody uses less; the day after looks like a rise."""
    day = int(rng.integers(scene.first_day, scene.buckets // PER_DAY - 1))
    scene.level[:, day * PER_DAY : (day + 1) * PER_DAY] *= rng.uniform(0.4, 0.7)


def _model_migration(scene: Scene, key: int, rng: np.random.Generator) -> Spans:
    """A key goes over to a new model within one to three days."""
    return [_for_good(scene, rng, int(rng.integers(PER_DAY, 3 * PER_DAY)))]


def _prompt_change(scene: Scene, key: int, rng: np.random.Generator) -> Spans:
    """A new prompt, which is everywhere within half an hour."""
    return [_for_good(scene, rng, HOUR // 2)]


def _for_good(scene: Scene, rng: np.random.Generator, moving: int) -> tuple[int, int]:
    first = int(rng.integers(scene.start, max(scene.start + 1, scene.buckets - moving - SETTLING)))
    return first, first + moving + SETTLING


RESHAPINGS: dict[str, Callable[[Scene, int, np.random.Generator], Spans]] = {
    "model_migration": _model_migration,
    "prompt_change": _prompt_change,
}
"""They change what calls are like, not how many there are: each ends SETTLING after the key has moved."""
CHANGES: dict[str, Callable[[Scene, int, np.random.Generator], Spans]] = {
    "launch": _launch,
    "bulk": _bulk,
    "labelling": _labelling,
}
