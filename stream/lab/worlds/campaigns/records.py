"""Sums of calls as columns, and how they become the calls that a shard is given.

Up to three calls of a key in a bucket are calls of their own. More come as three sums of theirs (about a sixth, two
thirds, a sixth), whose mean outputs stand at the nodes of a Gauss-Hermite quadrature: so mean and variance of the log
output are those of single calls, and all three are scaled together so that the bucket's sum varies as it would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.events import Call
from stream.lab.worlds.campaigns.sharing import NONE, Names
from stream.lab.worlds.draws import MAX_INPUT_TOKENS, Floats
from stream.lab.worlds.tally import BUCKET_SECONDS
from stream.lab.worlds.world import Sums

FEW = 3
"""So many calls in a bucket are drawn one by one."""
NODES = np.array([-math.sqrt(3), 0.0, math.sqrt(3)])
NETWORK_SHARES = np.array([0.85, 0.97])
CLIENT_SHARES = np.array([0.95])
TEMPLATE_SHARES = np.array([0.6, 0.85, 0.95])
"""Part of a key's records that have its usual trait, or that or the next one, and so on; the last one has the rest."""

_MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 by the golden ratio, odd: it spreads neighbouring numbers over all bits."""


class Accounts(Protocol):
    """Who calls, as columns: element k is key k's."""

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

    def mix_of(self, keys: Sums, day: int) -> Floats:
        """Cumulated shares of all models but the last, keys x models."""
        ...

    def wander_of(self, keys: Sums, day: int) -> Floats:
        """What a day adds to the mean log output of keys."""
        ...


@dataclass(slots=True)
class Records:
    """Sums of calls, columns of equal length; index NONE: not said; limit 0: the caller set none."""

    bucket: Sums
    time: Floats
    key: Sums
    calls: Sums
    input_tokens: Sums
    output_tokens: Sums
    reasoning_tokens: Sums
    limit: Sums
    model: Sums
    network: Sums
    client: Sums
    template: Sums
    status: Sums

    def __len__(self) -> int:
        return len(self.key)

    @property
    def tokens(self) -> Sums:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def where(self, chosen: NDArray[np.bool_] | Sums) -> Records:
        """Some of them, in the order asked for."""
        return Records(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def digests(self, keys: int) -> NDArray[np.uint64]:
        """A number for each of so many keys that tells its records from others, whatever their order."""
        mixed = np.zeros(len(self), np.uint64)
        for field in fields(self):
            column = getattr(self, field.name)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * _MIXER + column.astype(np.float64).view(np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * _MIXER
        sums = np.zeros(keys, np.uint64)
        np.add.at(sums, self.key, mixed)
        return sums

    def calls_of(self, accounts: Accounts, names: Names, tag: str) -> list[Call]:
        """The calls in order of time; `tag` keeps their ids apart from those of other records."""
        ordered = self.where(np.argsort(self.time, kind="stable"))
        columns = (getattr(ordered, field.name).tolist() for field in fields(ordered) if field.name != "bucket")
        key_ids, org_ids = accounts.key_ids, accounts.org_ids
        models, networks, asns = names.models, names.networks, names.network_asns
        clients, templates = names.clients, names.templates
        return [
            Call(
                event_id=f"{tag}{number}",
                time=time,
                key_id=key_ids[key],
                org_id=org_ids[key],
                model=models[model],
                calls=calls,
                input_tokens=inputs,
                output_tokens=outputs,
                reasoning_tokens=reasoning or None,
                max_output_tokens=limit or None,
                status=status,
                client_ip=None if network == NONE else networks[network],
                asn=None if network == NONE else asns[network],
                user_agent=None if client == NONE else clients[client],
                prompt_fingerprint=None if template == NONE else templates[template],
            )
            for number, (
                time, key, calls, inputs, outputs, reasoning, limit, model, network, client, template, status,
            ) in enumerate(zip(*columns, strict=True))
        ]  # fmt: skip


def joined(parts: Sequence[Records]) -> Records:
    """Records one behind the other."""
    return Records(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Records)))


@dataclass(frozen=True, slots=True)
class Guise:
    """What an attacker's calls have in place of the key's own; None: the key's own."""

    input_mu: float | None = None
    input_sd: float | None = None
    output_mu: float | None = None
    output_sd: float | None = None
    limit: float | None = None
    model: int | None = None
    network: int | None = None
    client: int | None = None
    template: int | None = None
    status: int = 200


OWN = Guise()


def draw(
    rng: np.random.Generator, accounts: Accounts, cells: tuple[Sums, Sums, Sums], start: float, day: int, guise: Guise
) -> Records:
    """Records of a day's `cells`: keys, buckets (from `start` on) and numbers of calls, each at least 1."""
    keys, buckets, counts = cells
    few = counts <= FEW
    single = np.repeat(np.flatnonzero(few), counts[few])
    summed = np.repeat(np.flatnonzero(~few), len(NODES))
    cell = np.concatenate([single, summed])
    key, bucket = keys[cell], buckets[cell]
    side = np.maximum(np.rint(counts[~few] / 6).astype(np.int64), 1)
    calls = np.concatenate(
        [np.ones(len(single), np.int64), np.stack([side, counts[~few] - 2 * side, side], axis=1).ravel()]
    )
    inputs, outputs, limit = _lengths(rng, accounts, key, calls, len(single), day, guise)
    cumulated = accounts.mix_of(key, day)
    reasoning = accounts.reasoning[key]
    thought = np.minimum(outputs * reasoning * rng.uniform(0.5, 1.5, len(key)), outputs)
    model = (rng.random(len(key))[:, None] >= cumulated).sum(axis=1)
    if guise.status >= 400:
        inputs, outputs, thought = np.zeros_like(inputs), np.zeros_like(outputs), np.zeros_like(thought)

    def own(traits: Sums, shares: Floats, other: int | None) -> Sums:
        if other is not None:
            return np.full(len(key), other)
        return np.asarray(traits[key, np.searchsorted(shares, rng.random(len(key)), side="right")])

    return Records(
        bucket=bucket,
        time=np.floor((start + bucket * BUCKET_SECONDS + rng.random(len(key)) * BUCKET_SECONDS) * 1000) / 1000,
        key=key,
        calls=calls,
        input_tokens=inputs,
        output_tokens=outputs,
        reasoning_tokens=np.where(reasoning > 0, thought, 0).astype(np.int64),
        limit=limit.astype(np.int64),
        model=np.full(len(key), guise.model) if guise.model is not None else model,
        network=own(accounts.networks, NETWORK_SHARES, guise.network),
        client=own(accounts.clients, CLIENT_SHARES, guise.client),
        template=own(accounts.templates, TEMPLATE_SHARES, guise.template),
        status=np.full(len(key), guise.status),
    )


def _lengths(
    rng: np.random.Generator, accounts: Accounts, key: Sums, calls: Sums, singles: int, day: int, guise: Guise
) -> tuple[Sums, Sums, Floats]:
    """Input and output tokens, and limits, of records whose first `singles` are single calls, then three by three."""

    def of(own: Floats, other: float | None) -> Floats:
        return own[key] if other is None else np.full(len(key), other)

    input_mu, input_sd = of(accounts.input_mu, guise.input_mu), of(accounts.input_sd, guise.input_sd)
    output_mu, output_sd = of(accounts.output_mu, guise.output_mu), of(accounts.output_sd, guise.output_sd)
    if guise.output_mu is None:
        output_mu = output_mu + accounts.wander_of(key, day)
    limit = of(accounts.limit, guise.limit)
    cap = np.where(limit > 0, limit, np.inf)
    z = rng.standard_normal((2, len(key)))
    z[1, singles:] = np.tile(NODES, (len(key) - singles) // len(NODES))
    n = np.repeat(calls[singles:].reshape(-1, len(NODES)).sum(axis=1), len(NODES))
    common = np.repeat(rng.standard_normal((2, len(n) // len(NODES))), len(NODES), axis=1)

    def total(sd: Floats, noise: Floats) -> Floats:
        """Factor on a sum of n lognormal calls (Fenton and Wilkinson), its mean one."""
        spread = np.log1p(np.expm1(sd[singles:] ** 2) / n)
        return np.asarray(np.exp(np.sqrt(spread) * noise - spread / 2))

    inputs = np.exp(input_mu + input_sd * z[0])
    inputs[singles:] = np.exp((input_mu + input_sd**2 / 2)[singles:]) * total(input_sd, common[0])
    outputs = np.exp(output_mu + output_sd * z[1])
    outputs[singles:] *= total(output_sd, common[1])
    whole_inputs = np.rint(np.clip(inputs, 1, MAX_INPUT_TOKENS) * calls).astype(np.int64)
    whole_outputs = np.rint(np.clip(outputs, 1, cap) * calls).astype(np.int64)
    return whole_inputs, whole_outputs, limit
