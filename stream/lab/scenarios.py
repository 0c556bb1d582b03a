"""Scenarios: which attacks a simulation holds, read from `scenarios.toml`, and how they fall on the keys of a run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from stream.gateways.errors import InputError, guess
from stream.lab.parameters import Floats, Ints
from stream.lab.population import MODELS, Population

LEAD_IN = 0.6
"""Part of a run before the first attack may begin: a baseline has to be there to be exceeded."""
MAX_EXTRA_CALLS_PER_SECOND = 5.0
"""One attacked key makes at most this many calls on top: more would be another experiment, on gateways."""
REFUSED_SECONDS = 3600.0
"""So long a blocked key goes on trying."""
STRANGER_TOKENS = (900.0, 1_600.0)
"""Mean input and output tokens of a call that does not mimic: a prompt, and as long an answer as can be had."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind of attack, as `scenarios.toml` describes the fields."""

    family: Literal["surge", "drift", "campaign", "new_accounts", "pivot", "respawn", "launch", "class"]
    hours: float
    victims: int = 0
    times: float = 1.0
    floor_tokens: float = 0.0
    curve: Literal["flat", "own", "day"] = "flat"
    mimic: float = 0.0
    share: float = 0.0
    via: Literal["", "org", "network", "client", "accounts"] = ""
    accounts: int = 0
    calls_per_day: float = 0.0
    benign: bool = False


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

    account, org: the id of a new account, whose calls these are, and its organisation's; it has the models, users and,
        if it mimics, the requests of `key`
    status: HTTP status of the calls; silences: the key's own calls end at `start`
    model: half of the key's own calls go to this one within a day, -1: none
    benign: it only looks like an attack
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
    account: str = ""
    org: str = ""
    status: int = 200
    silences: bool = False
    model: int = -1
    benign: bool = False


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
        raise InputError(f"unknown scenario {name!r}: {guess(name, known)}Known are {', '.join(known)}")
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
        if attack.accounts:
            found += account_strikes(attack, number, rng, population, together, length, start + days * 86_400)
            continue
        if attack.via == "org":
            pool = _largest_organisation(population, free, unfit)
        else:
            # rather keys whose own use makes the attack matter than small ones that the floor lifts beyond measure
            enough = [k for k in free if unfit[k] == 0 and (attack.times - 1) * usual[k] >= floor]
            pool = enough if len(enough) >= wanted else free[:wanted]
        members = [int(k) for k in rng.choice(pool, min(wanted, len(pool)), replace=False)]
        if attack.family in ("pivot", "respawn"):
            free = [key for key in free if key not in members]
            change = _pivot if attack.family == "pivot" else _respawn
            found += change(attack, number, rng, population, members, together, start + days * 86_400)
            continue
        for key in members:
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
                    benign=attack.benign,
                )
            )
    return tuple(found)


def account_strikes(
    attack: Attack, number: int, rng: np.random.Generator, p: Population, begin: float, length: float, end: float
) -> list[Strike]:
    """Accounts that are new, all alike: they arrive within six hours, or a quarter of the time if that is less."""
    (input_mean, _), (output_mean, _) = p.token_moments()
    found = []
    for account in range(attack.accounts):
        like = int(rng.integers(p.size))
        calls = attack.calls_per_day / 86_400 * float(rng.gamma(16, 1 / 16))
        mimic = bool(rng.random() < attack.mimic)
        tokens = float(input_mean[like] + output_mean[like]) if mimic else sum(STRANGER_TOKENS)
        usual = float(p.rate[like] * (input_mean[like] + output_mean[like]))
        name = f"{number:02d}-{account:05d}"
        found.append(
            Strike(
                key=like,
                family=attack.family,
                start=begin + (float(np.floor(rng.uniform(0, min(21_600, length / 4)))) if account else 0.0),
                end=min(begin + length, end),
                calls=calls,
                intensity=round(calls * tokens / usual, 2),
                mimic=mimic,
                curve=attack.curve,
                group=number,
                via="accounts",
                account=f"key-new-{name}",
                # a class is one organisation; who registers accounts to drain them makes each look like a stranger
                org=f"org-new-{number:02d}" if attack.benign else f"org-new-{name}",
                benign=attack.benign,
            )
        )
    return found


def _pivot(
    attack: Attack, number: int, rng: np.random.Generator, p: Population, members: list[int], begin: float, end: float
) -> list[Strike]:
    """Members send half of their calls to the model that they use least."""
    used = np.bincount(p.model[members], minlength=len(MODELS))
    target = int(np.argmin(used))
    return [
        Strike(
            key=key, family=attack.family, start=begin, end=end, calls=0.0, intensity=1.0, mimic=True, curve="own",
            group=number, via=attack.via, model=target,
        )
        for key in members
        if p.model[key] != target
    ]  # fmt: skip


def _respawn(
    attack: Attack, number: int, rng: np.random.Generator, p: Population, members: list[int], begin: float, end: float
) -> list[Strike]:
    """Members are blocked: refused for an hour, then silent. Within hours new accounts go on where they were."""
    status = int(rng.choice((401, 403)))
    found = []
    for place, key in enumerate(members):
        rate, name = float(p.rate[key]), f"{number:02d}-{place:05d}"
        refused = Strike(
            key=key, family=attack.family, start=begin, end=min(begin + REFUSED_SECONDS, end), calls=3 * rate,
            intensity=0.0, mimic=True, curve="flat", group=number, via=attack.via, status=status, silences=True,
        )  # fmt: skip
        found.append(refused)
        later = refused.end + float(np.floor(rng.uniform(0, 6 * 3600)))
        if later < end:
            heir = replace(refused, start=later, end=end, calls=rate, intensity=1.0, curve="own", status=200)
            found.append(replace(heir, silences=False, account=f"key-new-{name}", org=f"org-new-{name}"))
    return found


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
