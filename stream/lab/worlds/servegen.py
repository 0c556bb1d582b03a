"""Worlds on real backgrounds: keys cut from the clients of a production cluster, with attacks injected.

A client of ServeGen sums up many users. Thinned to a key's rate its bursts stay, scaled with it or as they were, by
turns of a coin. Fourteen days are recorded; a key runs them forwards and then backwards, or the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.lab.worlds.attacker import Plan
from stream.lab.worlds.attacks import attack
from stream.lab.worlds.clients import DAYS as RECORDED_DAYS
from stream.lab.worlds.clients import SLOTS, WINDOWS, Clients, NoTracesError, load_clients
from stream.lab.worlds.draws import MODELS, Floats, RequestShape, TableLengths, generator
from stream.lab.worlds.tally import PER_DAY, Background, Tally
from stream.lab.worlds.world import Sums, World

__all__ = ["Clients", "NoTracesError", "load_clients", "real_world"]

DAYS = 2 * RECORDED_DAYS
FIRST_DAY = 7
"""A key's first week is not counted."""
HALVES_SEED = 20261121
"""The split of the clients into those to tune on and those to report on: never change it, or the report is spoilt."""
ONE_DAY_SEED = 7
RATE_MU, RATE_SD = 2.3, 1.4
"""Ln of a key's calls per bucket while in use; bounded by `RATES`."""
RATES = (0.3, 120.0)
DISPERSION = (1.02, 60.0)
"""Variance over mean of a bucket's calls."""
MOST_CALLS = 4000
"""Per bucket: one wild draw of a heavy tail must not be the whole world."""
REASONING_SHARE = 0.15
"""Part of the keys that use a reasoning model; the traces do not say."""
MODEL_COUNTS = (0.5, 0.25, 0.15, 0.1)
"""Part of the keys that use one, two, three and four models."""
PLAN_KEYS = 446
PLAN = Plan(
    surge=16,
    drift=16,
    ramp=12,
    newcomer=1000,  # every new key
    quiet_hours=16,
    shape=12,
    hidden_usage=8,
    # 200 calls in the first eight days: half of the real keys sleep for days
    least_calls_per_hour=200 / (8 * 24),
    within_days=8,
    surge_references=("mean", "p99"),
)
"""Attacks in a world of `PLAN_KEYS` keys: one half of the clients, three repeats."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A key to be cut from a client: `mirrored` runs the days backwards first; `born`: its first bucket."""

    client: int
    mirrored: bool
    born: int


def halves(clients: Clients) -> tuple[list[int], list[int]]:
    """Rows of the clients with 14 days on record, to tune on and to report on."""
    whole = np.flatnonzero((clients.windows == WINDOWS) & (clients.rates > 0).any(axis=1))
    order = np.random.default_rng(HALVES_SEED).permutation(whole.tolist())
    return sorted(order[::2].tolist()), sorted(order[1::2].tolist())


def _one_day_halves(clients: Clients) -> tuple[list[int], list[int]]:
    """Rows of the clients with one day on record: only new keys are cut from them."""
    order = np.random.default_rng(ONE_DAY_SEED).permutation(np.flatnonzero(clients.windows == 144).tolist())
    return sorted(order[::2].tolist()), sorted(order[1::2].tolist())


def real_world(
    clients: Clients, half: int, seed: int, *, attacks: bool, repeats: int = 3, new_share: float = 0.2
) -> World:
    """Keys cut from one half of the clients (0: to tune on, 1: to report on), each client `2 repeats` times.

    `new_share` of as many keys begin in the run. The same arguments give the same arrays; with `attacks` False they
    are the same but for the attacks.
    """
    rows = halves(clients)[half]
    cuts = _cuts(clients, rows, _one_day_halves(clients)[half], generator(seed, "cuts", half), repeats, new_share)
    donors = [row for row in rows if clients.has_lengths[row]]
    tally = Tally(len(cuts), DAYS * PER_DAY)
    level = np.zeros((len(cuts), tally.buckets), np.float32)
    shapes: list[RequestShape] = []
    born = np.zeros(len(cuts), np.int64)
    for key, cut in enumerate(cuts):
        rng = generator(seed, "key", half, key)
        day = _days(clients, cut)
        shape = _shape(clients, cut, day, donors, rng)
        level[key], calls = _calls(clients, cut, day, rng)
        tally.add(key, 0, shape.split(rng, calls, 0), calls, shape.draw(rng, calls, 0))
        shapes.append(shape)
        began = int(np.argmax(calls > 0)) if calls.any() else tally.buckets - 1
        # a key that is seen within a day was there before the run
        born[key] = began if cut.born or began > PER_DAY else 0
    newcomers = np.flatnonzero([cut.born > 0 for cut in cuts])
    background = Background(tally, level, tuple(shapes), born, newcomers)
    return tally.world(
        name=f"servegen-{half}-{seed}",
        key_ids=tuple(f"{clients.names[cut.client]}#{key:03d}" for key, cut in enumerate(cuts)),
        lost=np.zeros((tally.keys, tally.buckets), np.bool_),
        attacks=attack(background, PLAN.scaled(len(cuts) / PLAN_KEYS), seed, FIRST_DAY) if attacks else (),
        lookalikes=(),
        first_day=FIRST_DAY,
    )


def _cuts(
    clients: Clients, rows: list[int], one_day: list[int], rng: np.random.Generator, repeats: int, new_share: float
) -> list[_Cut]:
    old = [_Cut(row, mirrored, 0) for row in rows for mirrored in (False, True) for _ in range(repeats)]
    new = int(new_share * len(old))
    chosen = rng.choice(rows + one_day, new)
    born = rng.integers(9 * PER_DAY, 24 * PER_DAY, new)
    mirrored = rng.random(new) < 0.5
    return old + [
        _Cut(int(row), bool(back), int(first)) for row, back, first in zip(chosen, mirrored, born, strict=True)
    ]


def _days(clients: Clients, cut: _Cut) -> Sums:
    """The recorded day that each bucket of the run shows."""
    if clients.windows[cut.client] < WINDOWS:
        order = np.zeros(DAYS, np.int64)
    else:
        forwards = np.arange(RECORDED_DAYS)
        there, back = (forwards[::-1], forwards) if cut.mirrored else (forwards, forwards[::-1])
        order = np.concatenate([there, back])
    return np.repeat(order, PER_DAY)


def _calls(clients: Clients, cut: _Cut, day: Sums, rng: np.random.Generator) -> tuple[Floats, Sums]:
    """Expected and drawn calls per bucket: the client's rate thinned to a key's, its dispersion kept or thinned too."""
    window = day * (WINDOWS // RECORDED_DAYS) + np.arange(len(day)) % PER_DAY // 2
    rate = clients.rates[cut.client][window] * 300.0
    cv = clients.cvs[cut.client][window]
    target = np.clip(np.exp(rng.normal(RATE_MU, RATE_SD)), *RATES)
    part = min(1.0, target / max(rate[rate > 0].mean() if (rate > 0).any() else 0.0, 1e-9))
    mean = (rate * part).astype(np.float64)
    mean[: cut.born] = 0
    squares = cv.astype(np.float64) ** 2
    thinned = rng.random() < 0.5
    dispersion = np.clip(1 + part * (squares - 1) if thinned else squares, *DISPERSION)
    # a gamma mixture of Poisson laws: mean as given, variance `dispersion` times it
    shape = np.maximum(mean / (dispersion - 1), 1e-3)
    calls = rng.poisson(np.where(mean > 0, rng.gamma(shape) * (dispersion - 1), 0.0))
    return mean, np.minimum(calls, MOST_CALLS).astype(np.int64)


def _shape(clients: Clients, cut: _Cut, day: Sums, donors: list[int], rng: np.random.Generator) -> RequestShape:
    """Lengths from the client's own tables, or from a donor's of the same half if it has none."""
    donor = int(rng.choice(donors))
    source = cut.client if clients.has_lengths[cut.client] else donor
    slot = day * (SLOTS // RECORDED_DAYS) + np.arange(len(day)) % PER_DAY // (PER_DAY * RECORDED_DAYS // SLOTS)
    outputs = clients.outputs[source].astype(np.float64)
    limit = float(clients.limits[source])
    # the traces do not say max_output_tokens: half of the keys get one inside their lengths
    if rng.random() < 0.5:
        limit = float(np.quantile(outputs, rng.uniform(0.95, 0.999)))
    reasons = rng.random() < REASONING_SHARE
    reasoning = float(rng.uniform(0.2, 0.7)) if reasons else 0.0
    used = rng.permutation(MODELS)[: rng.choice(MODELS, p=MODEL_COUNTS) + 1]
    mix = np.zeros((1, MODELS))
    mix[0, used] = rng.dirichlet(np.full(len(used), 1.5))
    lengths = TableLengths(clients.inputs[source].astype(np.float64), outputs, slot)
    return RequestShape(lengths, max(1.0, round(limit)), reasoning, mix, PER_DAY)
