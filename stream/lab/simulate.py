"""Simulated gateway traffic with labelled attacks: seeded, in time order, in memory bounded by keys and an hour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from stream.alerts import rfc3339
from stream.events import Call
from stream.gateways.errors import InputError
from stream.lab.calls import Background, concatenated
from stream.lab.parameters import REAL, WINDOW_SECONDS, Ints, Profile
from stream.lab.population import Population, populate
from stream.lab.scenarios import Scenario, Strike, scenario, strikes
from stream.lab.strikes import FIRST_FAILURE, Attacker
from stream.lab.traffic import counts, levels

DEFAULT_START = 1_767_571_200.0
"""2026-01-05T00:00:00Z, a Monday: the same bytes for the same seed, whenever it runs."""
DEFAULT_KEYS = 100
DEFAULT_DAYS = 14.0
DEFAULT_RATE = 1.0
BUCKET_SECONDS = 300


class Label(msgspec.Struct, frozen=True):
    """An attack on one key: what `labels.jsonl` says of it. Times are RFC 3339, the end exclusive.

    Of a pivot, tokens and calls are those that went to another model. `benign`: it only looks like an attack.
    """

    key_id: str
    family: str
    start: str
    end: str
    attack_tokens: int
    attack_calls: int
    intensity: float
    mimic: bool
    curve: str
    campaign: int | None = None
    via: str | None = None
    benign: bool = False


class Simulation:
    """A run of simulated traffic: iterate it for its calls, hour by hour, then ask for the labels.

    Each item is a list of calls in time order, and the lists follow each other in time. Iterating again starts again,
    with the same calls. The calls of the calm run are the same, whatever the scenario adds to them.

    >>> run = simulate("surge", seed=1, keys=10, days=1, rate=0.05)
    >>> calls = sum(len(hour) for hour in run)
    >>> calls > 3000, [label.family for label in run.labels]
    (True, ['surge', 'surge'])
    """

    def __init__(
        self,
        chosen: Scenario,
        *,
        seed: int,
        keys: int,
        days: float,
        rate: float,
        start: float,
        profile: Profile,
    ) -> None:
        self.seed, self.days, self.start = seed, days, start
        self.population: Population = populate(profile, seed, keys, start, days, rate)
        self._strike(strikes(chosen, self.population, seed, start, days))

    def _strike(self, struck: Iterable[Strike]) -> None:
        self.strikes = tuple(struck)
        self._attacker = Attacker(self.population, self.strikes, self.seed)

    def with_strikes(self, struck: Iterable[Strike]) -> Simulation:
        """The same traffic with these attacks instead of the scenario's."""
        other = copy(self)
        other._strike(struck)
        return other

    @property
    def end(self) -> float:
        """End of the run in epoch seconds."""
        return self.start + self.days * 86_400

    @property
    def labels(self) -> list[Label]:
        """Labels of the attacks, in order of their start; their sums are complete once the calls have been read."""
        p, attacker = self.population, self._attacker
        order = sorted(range(len(self.strikes)), key=lambda i: (self.strikes[i].start, self.strikes[i].key))
        return [
            Label(
                s.account or p.key_ids[s.key],
                s.family,
                rfc3339(s.start),
                rfc3339(s.end),
                int(attacker.tokens[i]),
                int(attacker.calls[i]),
                s.intensity,
                s.mimic,
                s.curve,
                None if s.group < 0 else s.group,
                s.via or None,
                s.benign,
            )
            for i, s in ((i, self.strikes[i]) for i in order)
            if s.status < FIRST_FAILURE
        ]

    def __iter__(self) -> Iterator[list[Call]]:
        background = Background(self.population, self.seed)
        self._attacker.begin()
        for time, expected in levels(self.population, self.seed, self.start, self.days):
            parts = [self._attacker.change(background.draw(time, expected))]
            parts += self._attacker.draw(time, time + len(expected) * WINDOW_SECONDS)
            yield concatenated(parts).calls(self._attacker.tables, self.end)


def simulate(
    chosen: Scenario | str = "mixed",
    *,
    seed: int = 0,
    keys: int = DEFAULT_KEYS,
    days: float = DEFAULT_DAYS,
    rate: float = DEFAULT_RATE,
    start: float = DEFAULT_START,
    profile: Profile = REAL,
) -> Simulation:
    """Simulated traffic of an installation.

    chosen: a scenario or its name (see `scenarios.toml`)
    keys: API keys, of which a third are first seen during the run
    days: length of the run from `start` (epoch seconds) on
    rate: mean calls per second of all keys together, before attacks; a run costs about rate x days x 86,400 calls

    Raises InputError on an unknown scenario. For sums per bucket without the calls, see `bucket_counts`.
    """
    found = scenario(chosen) if isinstance(chosen, str) else chosen
    return Simulation(found, seed=seed, keys=keys, days=days, rate=rate, start=start, profile=profile)


@dataclass(frozen=True, slots=True)
class BucketCounts:
    """Sums per bucket and key: arrays of buckets x keys, with those of the attacks in them, and apart in `attack`."""

    start: float
    bucket_seconds: int
    key_ids: tuple[str, ...]
    calls: Ints
    input_tokens: Ints
    output_tokens: Ints
    attack: Ints
    labels: list[Label]


def bucket_counts(
    chosen: Scenario | str = "calm",
    *,
    seed: int = 0,
    keys: int = 500,
    days: float = 28.0,
    rate: float | None = None,
    start: float = DEFAULT_START,
    profile: Profile = REAL,
) -> BucketCounts:
    """Sums per key and 5 minutes of the same traffic without its calls: for thresholds over thousands of key-days.

    The levels, counts and lengths follow the same laws as `simulate`'s (a token sum is a lognormal of the right mean
    and variance), though the draws are others. As calls cost nothing here, `rate` is 0.135 calls/s per key by default:
    what ServeGen's median client makes. Memory: 32 bytes per bucket and key.
    """
    rate = 0.135 * keys if rate is None else rate
    run = simulate(chosen, seed=seed, keys=keys, days=days, rate=rate, start=start, profile=profile)
    if any(strike.account or strike.silences for strike in run.strikes):
        raise InputError("sums per bucket hold no column for new accounts: use the calls of `simulate`")
    p = run.population
    rng = np.random.default_rng([seed, 5])
    (input_mean, input_var), (output_mean, output_var) = p.token_moments()
    halves = WINDOW_SECONDS // BUCKET_SECONDS
    counted = 1 - p.error_share  # a failed call has no tokens
    blocks: list[tuple[Ints, Ints, Ints]] = []
    for _, expected in levels(p, seed, start, days):
        calls = counts(rng, np.repeat(expected / halves, halves, axis=0), p.cv)
        paid = rng.binomial(calls, counted)
        blocks.append((calls, _sum(rng, paid, input_mean, input_var), _sum(rng, paid, output_mean, output_var)))
    calls, inputs, outputs = (np.concatenate(columns) for columns in zip(*blocks, strict=True))
    attack = np.zeros_like(calls)
    run._attacker.begin()
    for first in range(0, len(calls), 12):
        stop = min(first + 12, len(calls))
        for columns in run._attacker.draw(start + first * BUCKET_SECONDS, start + stop * BUCKET_SECONDS):
            bucket = ((columns.time - start) // BUCKET_SECONDS).astype(np.int64)
            for total, part in (
                (calls, np.ones_like(bucket)),
                (inputs, columns.input_tokens),
                (outputs, columns.output_tokens),
                (attack, columns.input_tokens + columns.output_tokens),
            ):
                np.add.at(total, (bucket, columns.key), part)
    return BucketCounts(start, BUCKET_SECONDS, p.key_ids, calls, inputs, outputs, attack, run.labels)


def _sum(rng: np.random.Generator, calls: Ints, mean: Any, var: Any) -> Ints:
    """Sums of so many lengths: lognormal, with the mean and variance that the sum has."""
    busy = calls > 0
    n = calls[busy]
    m, v = (np.broadcast_to(x, calls.shape)[busy] for x in (mean, var))
    spread = np.log1p(v / (n * m * m))
    total = np.zeros(calls.shape, np.int64)
    total[busy] = np.rint(n * m * np.exp(rng.standard_normal(len(n)) * np.sqrt(spread) - spread / 2)).astype(np.int64)
    return total
