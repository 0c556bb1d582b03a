"""The accounts of a campaign world: the background's keys with their levels and habits, and those that come later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.lab.worlds.campaigns.sharing import Names, Sharing, share
from stream.lab.worlds.draws import MODELS, Floats, LognormalLengths, generator
from stream.lab.worlds.kinds import KINDS, Habit, clock_of
from stream.lab.worlds.noise import level_noise
from stream.lab.worlds.profiles import Profile
from stream.lab.worlds.synthetic import shape_of
from stream.lab.worlds.tally import PER_DAY
from stream.lab.worlds.world import Sums

RATE_SHIFT = -3.1
"""The profiles' keys are busy products; here they are accounts, of which most make some dozens of calls a day."""
RATE_BOUNDS = (0.003, 2.0)
"""Mean calls per bucket."""
HEAVY_SHARE, HEAVY_TIMES = 0.02, 25.0
"""Keys that outweigh all others of their group together."""
FIRST_BIRTH = 3
"""Days before the first account that was not there from the start."""
SEEN_CALLS_PER_DAY = 12.0
"""An account below has no level worth speaking of, and nothing that an attacker would take over."""
FITFUL = ("batch", "monthly", "annotation", "sparse", "student")
"""Kinds that do nothing for days."""


@dataclass(slots=True)
class Book:
    """Accounts as columns: element k is key k's. See `records.Accounts`.

    mix: cumulated shares of all models but the last, keys x days x MODELS; an account that came later has one for all
    days alike in `late_mix`
    wander: what a day adds to the mean log output, keys x days, of those that were there first
    """

    key_ids: list[str]
    org_ids: list[str]
    input_mu: Floats
    input_sd: Floats
    output_mu: Floats
    output_sd: Floats
    limit: Floats
    reasoning: Floats
    networks: Sums
    clients: Sums
    templates: Sums
    mix: Floats
    late_mix: Floats
    wander: Floats

    def __len__(self) -> int:
        return len(self.key_ids)

    def copy(self) -> Book:
        """Another one to add to: what is shared is never changed in place."""
        return Book(
            list(self.key_ids), list(self.org_ids), self.input_mu, self.input_sd, self.output_mu, self.output_sd,
            self.limit, self.reasoning, self.networks, self.clients, self.templates, self.mix, self.late_mix,
            self.wander,
        )  # fmt: skip

    def mix_of(self, keys: Sums, day: int) -> Floats:
        """Cumulated shares of all models but the last, keys x MODELS."""
        own = len(self.mix)
        late = keys >= own
        mix: Floats = self.mix[np.where(late, 0, keys), day]
        if late.any():
            mix[late] = self.late_mix[keys[late] - own]
        return mix

    def wander_of(self, keys: Sums, day: int) -> Floats:
        """What a day adds to the mean log output of keys."""
        own = len(self.wander)
        return np.where(keys < own, self.wander[np.where(keys < own, keys, 0), day], 0.0)

    def add(
        self, rng: np.random.Generator, key_ids: list[str], org_ids: list[str], *, networks: Sums, clients: Sums,
        templates: Sums, output_mu: float, models: Sums, input_mu: float = 6.5,
    ) -> Sums:  # fmt: skip
        """Accounts that are new, of one model each; `networks` and so on are keys x at most so many. Returns them."""
        count, first = len(key_ids), len(self)
        self.key_ids += key_ids
        self.org_ids += org_ids

        def more(old: Floats, values: Floats) -> Floats:
            return np.concatenate([old, values])

        self.input_mu = more(self.input_mu, rng.normal(input_mu, 0.3, count))
        self.input_sd = more(self.input_sd, rng.uniform(0.3, 0.9, count))
        self.output_mu = more(self.output_mu, rng.normal(output_mu, 0.2, count))
        self.output_sd = more(self.output_sd, rng.uniform(0.3, 0.8, count))
        self.limit = more(self.limit, np.where(rng.random(count) < 0.5, 4096.0, 0.0))
        self.reasoning = more(self.reasoning, np.zeros(count))
        self.networks = np.concatenate([self.networks, _wide(networks, self.networks.shape[1])])
        self.clients = np.concatenate([self.clients, _wide(clients, self.clients.shape[1])])
        self.templates = np.concatenate([self.templates, _wide(templates, self.templates.shape[1])])
        mix = (np.arange(MODELS) >= models[:, None]).astype(np.float64)
        self.late_mix = np.concatenate([self.late_mix, mix])
        return np.arange(first, first + count)


def _wide(traits: Sums, width: int) -> Sums:
    """Traits of keys, the first repeated up to a width, so that the others keep their chances."""
    lacking = width - traits.shape[1]
    return np.concatenate([traits[:, :1].repeat(lacking, axis=1), traits], axis=1) if lacking else traits


@dataclass(frozen=True, slots=True)
class Background:
    """A population before anything happens to it.

    level: expected calls, keys x buckets; burst: shape of the gamma law of each bucket's own level
    born: first bucket; usual: mean calls per bucket in the first `history` days
    fit: there from the start, and used enough to be worth an attacker's while
    """

    book: Book
    names: Names
    level: NDArray[np.float32]
    burst: float
    born: Sums
    usual: Floats
    fit: NDArray[np.bool_]
    errors: Floats


def background(law: Profile, sharing: Sharing, seed: int, keys: int, days: int, history: int) -> Background:
    """Draw a population: `days` of levels, of which the first `history` have nothing but it."""
    rng = generator(seed, "campaign accounts")
    names, shared = share(sharing, keys, generator(seed, "campaign sharing"))
    kinds = rng.choice([name for name, _ in law.kinds], keys, p=[part for _, part in law.kinds])
    rates = np.exp(rng.normal(law.rate[0] + RATE_SHIFT, min(law.rate[1], 1.3), keys))
    for kind, own in law.customs.items():
        rates = np.where(kinds == kind, np.exp(rng.normal(own.rate[0] + RATE_SHIFT, own.rate[1], keys)), rates)
    rates = np.clip(rates, *RATE_BOUNDS)
    heavy = (rng.random(keys) < HEAVY_SHARE) & ~np.isin(kinds, FITFUL)
    rates = np.where(heavy, HEAVY_TIMES * rates, rates)
    born = np.zeros(keys, np.int64)
    cold = rng.choice(keys, round(law.cold_share * keys), replace=False)
    born[cold] = rng.integers(FIRST_BIRTH * PER_DAY, (days - 1) * PER_DAY, len(cold))
    noise = level_noise(law, rng, keys, days)
    clocks = [clock_of(law.start, days, zone) for zone in law.zones]
    zones = rng.choice(len(clocks), keys, p=[zone.share for zone in law.zones])
    level = np.zeros((keys, days * PER_DAY), np.float32)
    blank = np.zeros((6, keys))
    book = Book(
        [f"key-{key:04d}" for key in range(keys)], list(shared.orgs), blank[0], blank[1], blank[2], blank[3], blank[4],
        blank[5], shared.networks, shared.clients, shared.templates, mix=np.zeros((keys, days, MODELS)),
        late_mix=np.zeros((0, MODELS)), wander=np.zeros((keys, days)),
    )  # fmt: skip
    for key, kind in enumerate(kinds.tolist()):
        own_rng = generator(seed, "campaign level", key)
        habit = Habit(
            rate=float(rates[key]),
            peak=float(own_rng.normal(*law.peak) % 24),
            swing=float(own_rng.uniform(0.3, 1.3)),
            weekend=float(own_rng.uniform(0.15, 1.0)),
            noise=noise[key],
            first_day=history,
        )
        expected, _ = KINDS[kind](habit, clocks[zones[key]], own_rng)
        since = np.arange(len(expected)) - born[key]
        level[key] = np.where(since >= 0, expected, 0.0)
        shape = shape_of(law.of(kind), days, own_rng)
        lengths = shape.lengths
        assert isinstance(lengths, LognormalLengths)
        book.input_mu[key], book.input_sd[key] = lengths.input_mu, lengths.input_sd
        book.output_mu[key], book.output_sd[key] = lengths.output_mu, lengths.output_sd
        book.limit[key] = shape.limit if own_rng.random() < 0.6 else 0.0
        book.reasoning[key] = shape.reasoning
        book.wander[key] = lengths.shift
        book.mix[key] = np.cumsum(shape.mix, axis=1) if len(shape.mix) == days else np.cumsum(shape.mix[0])
    book.mix[:, :, -1] = 1.0  # whatever the sum was rounded to
    usual = np.asarray(level[:, : history * PER_DAY].mean(axis=1), np.float64)
    fit = (born == 0) & (usual * PER_DAY >= SEEN_CALLS_PER_DAY) & ~np.isin(kinds, FITFUL)
    return Background(book, names, level, law.level_shape, born, usual, fit, rng.beta(1, 80, keys))


def tokens_per_call(book: Book, keys: Sums) -> tuple[Floats, Floats]:
    """Mean input and output tokens of a call of each key, limits left out."""
    return (
        np.exp(book.input_mu[keys] + book.input_sd[keys] ** 2 / 2),
        np.exp(book.output_mu[keys] + book.output_sd[keys] ** 2 / 2),
    )
