"""The suites: which worlds each of them is made of. What a method was tuned on is never what it is reported on.

A report has other seeds than tuning had, and profiles of two sorts: those that tuning saw, too, and one that it never
saw. Each world says which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stream.lab.evaluation.run import Case, Seen
from stream.lab.worlds.servegen import load_clients, real_world
from stream.lab.worlds.synthetic import synthetic_world
from stream.lab.worlds.world import World

TUNED_PROFILES = ("A", "B", "C")
REPORTED_PROFILES = ("B", "C", "D")
"""B and C with other seeds than they were tuned on; D was never tuned on, whatever its seed, and must never be."""
TUNED_HALF, REPORTED_HALF = 0, 1
"""Of ServeGen's clients."""
TUNING_SEEDS = 1000
"""Seeds below this one belong to tuning: what is measured on them says nothing about other traffic."""
SEED = 2001
KEYS, DAYS = 200, 42
HISTORY_KEYS = 1200
"""Keys of the history that sets the dial, or more: in six weeks they have about 21 false alerts at the default dial."""
HISTORY_SEEDS = 700_001
"""So far from a report's own seed, for it is neither reported on nor tuned on."""
CI_PROFILES = ("B", "D")
CI_SEED, CI_KEYS, CI_DAYS = 3001, 100, 35
"""Small enough for a minute on two cores; its numbers are rough, its floors have room for that."""
CI_DIAL = 1.0
"""False alerts per 1,000 key-days."""


class SuiteError(ValueError):
    """A suite cannot be run like this; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for; None: what the suite has by itself. `tuning`: it is not for a report."""

    seed: int | None = None
    keys: int | None = None
    days: int | None = None
    data: Path | None = None
    tuning: bool = False


def synthetic(wish: Wish) -> list[Case]:
    """A world of each profile to report on; when tuning, of each to tune on."""
    seed = checked_seed(wish)
    keys, days = wish.keys or KEYS, wish.days or DAYS
    return _synthetic(seed, keys, days, TUNED_PROFILES if wish.tuning else REPORTED_PROFILES, twin=True)


def continuous(wish: Wish) -> list[Case]:
    """The same for continuous integration: always the same two worlds."""
    if wish != Wish():
        raise SuiteError("the suite ci is fixed, so that its floors mean something: it takes no seed, keys, days, data")
    return _synthetic(CI_SEED, CI_KEYS, CI_DAYS, CI_PROFILES, twin=False)


def servegen(wish: Wish) -> list[Case]:
    """Keys cut from the clients that nothing was tuned on; when tuning, from the others."""
    seed = checked_seed(wish)
    if wish.keys is not None or wish.days is not None:
        raise SuiteError("the recordings say how many keys and days there are: leave --keys and --days out")
    if wish.data is None:
        raise SuiteError(
            "the suite servegen needs real traffic: --data DIR, a folder with the archives of per-client traces of "
            "https://github.com/alibaba/ServeGen (data/language/m-large, m-small and data/multimodal/mm-image)"
        )
    clients = load_clients(wish.data)
    half = TUNED_HALF if wish.tuning else REPORTED_HALF

    def make(attacks: bool) -> World:
        return real_world(clients, half, seed, attacks=attacks)

    seen = Seen.TUNED if wish.tuning else Seen.NEW_CLIENTS
    return [Case(f"ServeGen, half {half}, seed {seed}", seen, make)]


SUITES: dict[str, Callable[[Wish], list[Case]]] = {"synthetic": synthetic, "servegen": servegen, "ci": continuous}
"""Name to the function that says what it is made of."""


def checked_seed(wish: Wish) -> int:
    """The seed to use; raises SuiteError if it belongs to the other purpose."""
    if wish.seed is None:
        return 1 if wish.tuning else SEED
    if wish.seed < TUNING_SEEDS and not wish.tuning:
        raise SuiteError(
            f"seeds below {TUNING_SEEDS:,} are for tuning, a report needs one that nothing was tuned on: "
            f"--seed {SEED}, or --tuning if this is no report"
        )
    if wish.seed >= TUNING_SEEDS and wish.tuning:
        raise SuiteError(f"seeds from {TUNING_SEEDS:,} on are for reports: tune on a lower one")
    return wish.seed


def _synthetic(seed: int, keys: int, days: int, profiles: tuple[str, ...], *, twin: bool) -> list[Case]:
    return [
        Case(
            f"synthetic {profile}, seed {seed}",
            seen(profile, seed),
            partial(_make, seed, keys, days, profile),
            twin,
            partial(_make, seed + HISTORY_SEEDS, max(keys, HISTORY_KEYS), max(days, DAYS), profile, attacks=False),
        )
        for profile in profiles
    ]


def seen(profile: str, seed: int) -> Seen:
    """What tuning knew of a synthetic world.

    >>> seen("B", 1), seen("B", 2001), seen("D", 2001)
    (<Seen.TUNED: 'tuned on'>, <Seen.NEW_SEED: 'seen profile, new seed'>, <Seen.NEVER: 'unseen profile'>)
    """
    if profile not in TUNED_PROFILES:
        return Seen.NEVER
    return Seen.TUNED if seed < TUNING_SEEDS else Seen.NEW_SEED


def _make(seed: int, keys: int, days: int, profile: str, attacks: bool) -> World:
    return synthetic_world(seed, keys=keys, days=days, profile=profile, attacks=attacks)
