"""Kinds of traffic: the expected calls per bucket of one key, before noise that all kinds share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream.lab.worlds.draws import Floats
from stream.lab.worlds.profiles import Zone
from stream.lab.worlds.tally import BUCKET_SECONDS, PER_DAY
from stream.lab.worlds.world import Sums

OFFICE_HOURS = 9.0
FRIDAY = 4
"""Days since Monday, on which every run begins."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Local time of every bucket: hour of the day, days since the run began, day of the month (1 to 31), weekends."""

    hour: Floats
    day: Sums
    month_day: Sums
    weekend: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Habit:
    """What one key's kind needs to know of it. `rate`: mean calls per bucket; `noise`: factor per bucket, mean one.

    peak: local hour of the daily peak; swing: height of the daily curve (its log); weekend: level against a weekday's
    first_day: the first counted day, when a growing key is at its rate
    """

    rate: float
    peak: float
    swing: float
    weekend: float
    noise: Floats
    first_day: int


@dataclass(frozen=True, slots=True)
class Job:
    """A run of a batch key: buckets [first, last)."""

    first: int
    last: int


Level = tuple[Floats, tuple[Job, ...]]
"""Expected calls per bucket, and the runs of a batch key."""


def clock_of(start: float, days: int, zone: Zone) -> Clock:
    """Local time of a zone, over a run that begins on a Monday 00:00 UTC at `start`."""
    seconds = np.arange(days * PER_DAY) * float(BUCKET_SECONDS)
    local = seconds + zone.hours * 3600
    if zone.winter_from is not None:
        local = local - 3600 * (start + seconds >= zone.winter_from)
    day = np.floor_divide(local, 86_400).astype(np.int64)
    date = np.datetime64(int(start), "s").astype("datetime64[D]") + day.astype("timedelta64[D]")
    month_day = (date - date.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    return Clock(local % 86_400 / 3600, day, month_day, day % 7 >= 5)


def _steady(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """A product with users: a round daily curve, less at weekends."""
    return key.rate * _daily(key, clock) * np.where(clock.weekend, key.weekend, 1.0) * key.noise, ()


def _daily(key: Habit, clock: Clock) -> Floats:
    curve = np.exp(key.swing * np.cos(2 * np.pi * (clock.hour - key.peak) / 24))
    return np.asarray(curve / curve.mean())


def _office(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """People at work: nine hours on weekdays, next to nothing else."""
    since = (clock.hour - key.peak + 5) % 24
    at_work = np.sqrt(np.sin(np.pi * np.clip(since / OFFICE_HOURS, 0, 1))) + 0.2
    curve = np.where(since < OFFICE_HOURS, at_work, 0.01 + 0.03 * rng.random())
    week = np.where(clock.weekend, 0.05 + 0.2 * key.weekend, 1.0)
    return key.rate * curve / curve.mean() * week * key.noise, ()


def _bursty(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """Sessions: heavy-tailed stretches of use at a level of their own, longer pauses at night and at weekends."""
    daily = _daily(key, clock) * np.where(clock.weekend, key.weekend, 1.0)
    level = np.zeros(len(daily))
    at = 0
    while at < len(level):
        at += int(rng.pareto(1.3) * 18 / (daily[at] + 0.1)) + 3
        length = min(int(rng.pareto(1.5) * 8) + 2, PER_DAY)
        level[at : at + length] = rng.gamma(1.2, 1 / 1.2)
        at += length
    return key.rate * 4 * level * key.noise, ()


def _batch(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """A job every night or week that sometimes fails to run; little between."""
    level = 0.03 * _steady(key, clock, rng)[0]
    begins, usual, weekly = int(rng.integers(PER_DAY)), int(rng.integers(6, 30)), bool(rng.random() < 0.25)
    jobs: list[Job] = []
    for day in range(len(level) // PER_DAY):
        if (weekly and day % 7 != begins % 7) or rng.random() < 0.04:
            continue
        first = max(day * PER_DAY + begins + int(rng.normal(0, 2)), 0)
        last = min(first + max(int(usual * rng.lognormal(0, 0.15)), 1), len(level))
        level[first:last] += key.rate * 12 * rng.lognormal(0, 0.2)
        if first < last:
            jobs.append(Job(first, last))
    return level, tuple(jobs)


def _growth(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """A product that grows by half a percent to two and a half a day."""
    pace = rng.uniform(0.005, 0.025)
    return _steady(key, clock, rng)[0] * np.exp(pace * (clock.day - key.first_day)), ()


def _consumer(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """An app for the evening: more at weekends than on weekdays."""
    evening = replace(key, peak=(key.peak + 6) % 24)
    return key.rate * _daily(evening, clock) * np.where(clock.weekend, 1 + key.weekend, 1.0) * key.noise, ()


def _monthly(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """Invoices and wages: three to eight times the use around one date of each month."""
    payday, times = int(rng.choice((1, 15, 25))), rng.uniform(3, 8)
    near = (clock.month_day >= payday) & (clock.month_day < payday + int(rng.integers(1, 4)))
    return _office(key, clock, rng)[0] * np.where(near, times, 1.0), ()


def _agents(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """Tasks that agents work through, several at once at any hour: of heavy-tailed length and appetite."""
    tasks = int(rng.poisson(len(clock.hour) / PER_DAY * rng.uniform(1, 12)))
    edges = np.zeros(len(clock.hour) + 1)
    first = rng.integers(0, len(clock.hour), tasks)
    last = np.minimum(first + (rng.pareto(1.4, tasks) * 4).astype(np.int64) + 1, len(clock.hour))
    appetite = rng.lognormal(0, 1.0, tasks)
    np.add.at(edges, first, appetite)
    np.add.at(edges, last, -appetite)
    level = np.maximum(np.cumsum(edges)[:-1], 0.0)
    return key.rate * level / max(level.mean(), 1e-9) * key.noise, ()


def _near(clock: Clock, hour: float, width: float) -> Floats:
    """A round hill on the clock: one at `hour`, `width` its standard deviation in hours."""
    apart = (clock.hour - hour + 12) % 24 - 12
    return np.asarray(np.exp(-((apart / width) ** 2) / 2))


def _chat(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """A chat product for everybody: strong evenings, hardly a night, and weekends, which begin on Friday evening."""
    curve = 0.06 + 0.4 * _near(clock, key.peak - 1, 2.2) + key.swing * _near(clock, key.peak + 7, 2.4)
    begun = (clock.day % 7 == FRIDAY) & (clock.hour >= 17)
    free = np.where(clock.weekend | begun, 1.15 + 0.5 * key.weekend, 1.0)
    return key.rate * curve / curve.mean() * free * key.noise, ()


def _copilot(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """An assistant at work: all begin at once at eight, nine or ten, lunch is a dip, Friday ends early."""
    since = (clock.hour - rng.choice((8.0, 8.5, 9.0, 9.5, 10.0), p=(0.15, 0.15, 0.45, 0.15, 0.1))) % 24
    lunch = 1 - rng.uniform(0.3, 0.7) * np.exp(-(((since - 3.5) / 0.5) ** 2) / 2)
    hours = np.where(clock.day % 7 == FRIDAY, OFFICE_HOURS - 2, OFFICE_HOURS)
    curve = np.where(since < hours, lunch, rng.uniform(0.005, 0.04))
    curve = np.where(clock.weekend, rng.uniform(0.01, 0.12) * curve, curve)
    return key.rate * curve / curve.mean() * key.noise, ()


def _cron(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """A scheduler's agent: every 5, 15 or 60 minutes about as much as ever; a run in a hundred fails to start."""
    every = int(rng.choice((1, 3, 12)))
    run = np.arange(len(clock.hour)) % every == rng.integers(every)
    started = rng.random(len(run)) >= 0.01
    # a machine has but a little of the whims of people
    return key.rate * every * run * started * key.noise**0.3, ()


def _rag(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """The back-end of a search: a long flat day that rises and falls within two hours, and some use at night."""
    since = (clock.hour - key.peak + 6.5) % 24
    day = np.clip(np.minimum(since, 14 - since) / 2, 0, 1)
    curve = rng.uniform(0.05, 0.3) + day
    return key.rate * curve / curve.mean() * np.where(clock.weekend, key.weekend, 1.0) * key.noise, ()


def _coding(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """Coding agents: sessions of hours that people begin by day and late, in which sub-agents burst now and then."""
    begins = 0.05 + _near(clock, key.peak - 1, 3.0) + 0.5 * _near(clock, key.peak + 8, 2.0)
    begins = begins * np.where(clock.weekend, 0.4 * key.weekend, 1.0)
    sessions = int(rng.poisson(len(begins) / PER_DAY * rng.lognormal(1.2, 0.9)))
    first = rng.choice(len(begins), sessions, p=begins / begins.sum())
    length = np.minimum(rng.lognormal(np.log(PER_DAY / 16), 0.9, sessions), PER_DAY / 2).astype(np.int64) + 1
    appetite = rng.lognormal(0, 0.7, sessions)
    level = np.zeros(len(begins))
    for start, long, calls in zip(first, length, appetite, strict=True):
        burst = np.where(rng.random(min(long, len(level) - start)) < 0.08, rng.uniform(2, 6), 1.0)
        level[start : start + long] += calls * burst
    return key.rate * level / max(level.mean(), 1e-9) * key.noise, ()


def _annotation(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """Translation or labelling: when there is a pile of work, on no particular day, it is worked off in some hours."""
    level = 0.01 * key.rate * key.noise
    often = rng.uniform(0.15, 0.6)
    jobs: list[Job] = []
    for day in range(len(level) // PER_DAY):
        first = day * PER_DAY + int(rng.integers(PER_DAY))
        pile = max(int(rng.lognormal(np.log(PER_DAY / 6), 0.6)), 2)
        pace = rng.lognormal(0, 0.35)
        if rng.random() < often:
            last = min(first + pile, len(level))
            level[first:last] += key.rate * 4 * pace * key.noise[first:last]
            jobs.append(Job(first, last))
    return level, tuple(jobs)


def _student(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """A few calls on some days, after classes, and a week of cramming before something is due."""
    days = clock.day - clock.day[0]
    works = rng.random(days[-1] + 1) < rng.uniform(0.3, 0.8)
    due = int(rng.integers(7, days[-1] + 30))
    cramming = (days > due - 7) & (days <= due)
    curve = 0.05 + _near(clock, key.peak + 4, 3.5)
    busy = np.where(cramming, rng.uniform(2, 5), works[days])
    return key.rate * curve / curve.mean() * busy * key.noise, ()


def _rollout(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """A feature that is given to more people in steps: a tenth to two fifths more every ten days to four weeks."""
    level = _steady(key, clock, rng)[0]
    at = int(rng.integers(28 * PER_DAY))
    while at < len(level):
        level[at:] *= rng.uniform(1.1, 1.4)
        at += int(rng.integers(10 * PER_DAY, 28 * PER_DAY))
    return level, ()


def _flat24(key: Habit, clock: Clock, rng: np.random.Generator) -> Level:
    """A machine: the clock round, every day."""
    return key.rate * key.noise, ()


KINDS: dict[str, Callable[[Habit, Clock, np.random.Generator], Level]] = {
    "steady": _steady,
    "office": _office,
    "bursty": _bursty,
    "batch": _batch,
    "sparse": _steady,
    "growth": _growth,
    "consumer": _consumer,
    "monthly": _monthly,
    "agents": _agents,
    "flat24": _flat24,
    "chat": _chat,
    "copilot": _copilot,
    "cron": _cron,
    "rag": _rag,
    "coding": _coding,
    "annotation": _annotation,
    "student": _student,
    "rollout": _rollout,
}
"""A sparse key is a steady one with a rate of a few calls a day."""
