"""Scenarios: which attacks a simulation holds, read from `scenarios.toml`, and how they fall on the keys of a run."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from stream.gateways.errors import InputError
from stream.lab.parameters import Floats, Ints
from stream.lab.population import Population

LEAD_IN = 0.6
"""Part of a run before the first attack may begin: a baseline has to be there to be exceeded."""
MAX_EXTRA_CALLS_PER_SECOND = 5.0
"""One attacked key makes at most this many calls on top: more would be another experiment, on gateways."""
STRANGER_TOKENS = (900.0, 1_600.0)
"""Mean input and output tokens of a call that does not mimic: a prompt, and as long an answer as can be had."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind of attack, as `scenarios.toml` describes the fields."""

    family: Literal["surge", "drift", "campaign"]
    victims: int
    times: float
    hours: float
    floor_tokens: float
    curve: Literal["flat", "own"]
    mimic: float
    share: float = 0.0
    via: Literal["", "org", "network", "client"] = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named set of attacks."""

    name: str
    summary: str
    attacks: tuple[Attack, ...] = ()


@dataclass(frozen=True, slots=True)
class Strike:
    """An attack on one key: from `start` to `end` (epoch seconds), `calls` more per second.

    `intensity` is the key's use while it lasts as a multiple of its mean, floor included. `group` tells the strikes of
    one campaign from those of another, -1: none; `via` says what its members have in common.
    """

    key: int
    family: str
    start: float
    end: float
    calls: float
    intensity: float
    mimic: bool
    curve: str
    group: int
    via: str


@cache
def scenarios() -> dict[str, Scenario]:
    """Every scenario by its name.

    >>> scenarios()["calm"].attacks
    ()
    """
    text = files("stream.lab").joinpath("scenarios.toml").read_text("utf-8")

    def read(name: str, table: dict[str, Any]) -> Scenario:
        return Scenario(name, table["summary"], tuple(Attack(**attack) for attack in table.get("attacks", ())))

    return {name: read(name, table) for name, table in tomllib.loads(text).items()}


def scenario(name: str) -> Scenario:
    """The scenario of that name; raises InputError that names the known ones."""
    known = scenarios()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown scenario {name!r}: {hint}Known are {', '.join(known)}")
    return known[name]


def strikes(chosen: Scenario, population: Population, seed: int, start: float, days: float) -> tuple[Strike, ...]:
    """The attacks of a scenario on the keys of a run; same seed, same strikes. A key is struck at most once."""
    rng = np.random.default_rng([seed, 3])
    (input_mean, _), (output_mean, _) = population.token_moments()
    per_call = input_mean + output_mean
    usual = population.rate * per_call
    unfit = _unfit(population, per_call, start)
    # the fittest first, among them the largest
    free = [int(k) for k in np.lexsort((-usual, unfit))]
    found: list[Strike] = []
    for number, attack in enumerate(chosen.attacks):
        wanted = max(attack.victims, round(attack.share * population.size))
        length = min(attack.hours * 3600, (1 - LEAD_IN) * days * 86_400)
        floor = attack.floor_tokens / min(86_400, attack.hours * 3600)
        together = _begin(rng, start, days, length)
        if attack.via == "org":
            pool = _largest_organisation(population, free, unfit)
        else:
            # rather keys whose own use makes the attack matter than small ones that the floor lifts beyond measure
            enough = [k for k in free if unfit[k] == 0 and (attack.times - 1) * usual[k] >= floor]
            pool = enough if len(enough) >= wanted else free[:wanted]
        for key in (int(k) for k in rng.choice(pool, min(wanted, len(pool)), replace=False)):
            free.remove(key)
            # the members of a campaign set out within three hours
            begin = (
                together + int(rng.uniform(0, min(10_800, length / 4)))
                if attack.via
                else _begin(rng, start, days, length)
            )
            mimic = bool(rng.random() < attack.mimic)
            tokens = float(per_call[key]) if mimic else sum(STRANGER_TOKENS)
            calls = min(max((attack.times - 1) * float(usual[key]), floor) / tokens, MAX_EXTRA_CALLS_PER_SECOND)
            found.append(
                Strike(
                    key=key,
                    family=attack.family,
                    start=begin,
                    end=min(begin + length, start + days * 86_400),
                    calls=calls,
                    intensity=round(1 + calls * tokens / float(usual[key]), 2),
                    mimic=mimic,
                    curve=attack.curve,
                    group=number if attack.via else -1,
                    via=attack.via,
                )
            )
    return tuple(found)


def _begin(rng: np.random.Generator, start: float, days: float, length: float) -> float:
    first, last = start + LEAD_IN * days * 86_400, start + days * 86_400 - length
    return float(np.floor(rng.uniform(first, max(first, last))))


def _unfit(population: Population, per_call: Floats, start: float) -> Ints:
    """0 for keys that make good victims; the more, the worse.

    They must be there from the beginning, in steady use, neither tiny nor most of the traffic: a key that sleeps for
    days has no level that could be exceeded, and one with three tokens a call would need a flood.
    """
    p = population
    unfit: Ints = (
        8 * (p.born > start)
        + 4 * p.batch
        + 2 * (p.on_share < 0.35)
        + 2 * (p.rate * 3600 < 2)
        + 1 * ((per_call < 200) | (per_call > 20_000))
    )
    return unfit


def _largest_organisation(population: Population, free: list[int], unfit: Ints) -> list[int]:
    """Keys of the organisation with the most fit keys, newcomers left out."""
    there = [k for k in free if unfit[k] < 8]
    if not there:
        return free[:1]
    largest = int(np.argmax(np.bincount(population.org[[k for k in there if unfit[k] == 0] or there])))
    return [k for k in there if population.org[k] == largest]
