"""Single calls of a simulation: columns of numbers first, objects last. Used by `stream.lab.simulate` only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from stream.events import Call
from stream.lab.parameters import WINDOW_SECONDS, Floats, Ints
from stream.lab.population import MAX_INPUT_TOKENS, MODELS, USER_AGENTS, Population
from stream.lab.traffic import counts, moments_in_window, shapes

ERRORS = np.array([429, 500, 503, 400])
TEMPLATES_PER_KEY = 5


class SimulatedCall(Call, omit_defaults=True, gc=False):
    """A call of a simulation; as JSON it leaves out what is not said, as gateways do."""


@dataclass(slots=True)
class Columns:
    """Calls as columns of equal length. -1 tokens: the gateway did not say; limit 0: the caller set none.

    `address`, `agent` and `template` point into the Tables.
    """

    time: Floats
    number: Ints
    key: Ints
    input_tokens: Ints
    output_tokens: Ints
    limit: Ints
    status: Ints
    model: Ints
    address: Ints
    agent: Ints
    user: Ints
    template: Ints
    cached: Ints
    duration_ms: Floats

    def calls(self, tables: Tables, end: float) -> list[Call]:
        """Objects in time order, those before `end`."""
        order = np.argsort(self.time, kind="stable")
        order = order[: np.searchsorted(self.time[order], end)]
        key = self.key[order]
        told = self.input_tokens[order] >= 0
        inputs, outputs, cached = self.input_tokens[order], self.output_tokens[order], self.cached[order]
        model, address = self.model[order], self.address[order]
        limit = self.limit[order]
        cost = np.round((inputs * tables.input_price[model] + outputs * tables.output_price[model]) / 1e6, 6)
        reasoning = np.round(outputs * tables.reasoning[model]).astype(np.int64)
        keys, models = key.tolist(), model.tolist()
        users = map(tables.user_names.__getitem__, (tables.first_user[key] + self.user[order]).tolist())
        names = list(map(tables.models.__getitem__, models))
        places = address.tolist()
        made = map(
            SimulatedCall,
            _ids(self.number[order], tables.seed),
            (np.floor(self.time[order] * 1000) / 1000).tolist(),  # down: no call may fall out of its hour
            map(tables.key_ids.__getitem__, keys),
            map(tables.org_ids.__getitem__, keys),
            users,
            names,
            names,
            _constant("chat"),
            _constant(1),
            _constant(None),
            _or_none(inputs, told),
            _or_none(outputs, told),
            _or_none(reasoning, told & (reasoning > 0)),
            _or_none(cached, told & (cached > 0)),
            _or_none(limit, limit > 0),
            self.status[order].tolist(),
            np.round(self.duration_ms[order], 1).tolist(),
            map(tables.addresses.__getitem__, places),
            map(tables.asns.__getitem__, places),
            map(tables.countries.__getitem__, places),
            map(tables.agents.__getitem__, self.agent[order].tolist()),
            map(tables.templates.__getitem__, self.template[order].tolist()),
            _or_none(cost, told),
        )
        return list(made)


def concatenated(parts: Sequence[Columns]) -> Columns:
    """Columns one behind the other."""
    if len(parts) == 1:
        return parts[0]
    return Columns(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Columns)))


def _constant(value: object) -> Iterator[object]:
    return iter(lambda: value, _constant)


def _or_none(values: Ints | Floats, given: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[object]:
    if given.all():
        whole: list[object] = values.tolist()
        return whole
    boxed = values.astype(object)
    boxed[~given] = None
    return list(boxed)


def _ids(numbers: Ints, seed: int) -> Iterator[str]:
    """Request ids: the finaliser of splitmix64 is one to one, so that no two numbers of a run share one."""
    x = numbers.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return map("req_{:016x}".format, x.tolist())


class Tables:
    """Texts and prices that the columns point to."""

    def __init__(self, population: Population, seed: int) -> None:
        p = population
        self.seed = seed
        self.key_ids = list(p.key_ids)
        self.org_ids = [p.org_ids[o] for o in p.org]
        self.models = [name for name, *_ in MODELS]
        self.input_price = np.array([price for _, price, *_ in MODELS])
        self.output_price = np.array([price for _, _, price, *_ in MODELS])
        self.reasoning = np.array([share for *_, share in MODELS])
        self.first_user = np.cumsum(p.users) - p.users
        self.user_names = [f"user-{u:05x}" for u in range(int(p.users.sum()) + 1)]
        self.templates = [_template(t) for t in range(TEMPLATES_PER_KEY * p.size)]
        self.addresses = list(p.addresses)
        self.asns: list[int] = p.address_asn.tolist()
        self.countries = list(p.address_country)
        self.agents = list(USER_AGENTS)

    def add_account(self, key_id: str, org_id: str, like: int) -> int:
        """Index of one more key, which has the users of another one."""
        self.key_ids.append(key_id)
        self.org_ids.append(org_id)
        self.first_user = np.append(self.first_user, self.first_user[like])
        return len(self.key_ids) - 1

    def add_agent(self, agent: str) -> int:
        """Index of one more user agent."""
        self.agents.append(agent)
        return len(self.agents) - 1

    def add_template(self) -> int:
        """Index of one more template."""
        self.templates.append(_template(len(self.templates)))
        return len(self.templates) - 1

    def add_address(self, address: str, asn: int, country: str) -> int:
        """Index of one more address."""
        self.addresses.append(address)
        self.asns.append(asn)
        self.countries.append(country)
        return len(self.addresses) - 1


def _template(number: int) -> str:
    return f"tpl-{number * 2_654_435_761 % 2**32:08x}"


def _pick(rng: np.random.Generator, count: Ints) -> Ints:
    """An index below each count."""
    return (rng.random(len(count)) * count).astype(np.int64)


class Background:
    """The calls that keys make by themselves."""

    def __init__(self, population: Population, seed: int) -> None:
        self._p = population
        self._rng = np.random.default_rng([seed, 2])
        self._shapes = shapes(population)
        self._made = 0

    def draw(self, time: float, expected: Floats) -> Columns:
        """Calls of a block of windows (windows x keys expected calls) that begins at a time."""
        p, rng = self._p, self._rng
        drawn = counts(rng, expected, p.cv)
        window, key = np.nonzero(drawn)
        cells = drawn[window, key]
        inside = moments_in_window(rng, cells, p.cv[key], self._shapes[key]) if len(cells) else np.empty(0)
        begin, key = np.repeat(time + window * WINDOW_SECONDS, cells), np.repeat(key, cells)
        n = len(key)
        columns = own_calls(p, rng, key, begin + inside * WINDOW_SECONDS, self._made)
        self._made += n
        failed = rng.random(n) < p.error_share[key]
        untold = ~failed & (rng.random(n) < p.profile.missing_usage)
        columns.status[failed] = rng.choice(ERRORS, int(failed.sum()), p=[0.6, 0.2, 0.1, 0.1])
        for tokens in (columns.input_tokens, columns.output_tokens, columns.cached):
            tokens[failed] = 0
            tokens[untold] = -1
        return columns


def own_calls(p: Population, rng: np.random.Generator, key: Ints, time: Floats, number: int) -> Columns:
    """Calls of keys at times, as those keys make them."""
    n = len(key)
    inputs = np.exp(p.input_mu[key] + p.input_sd[key] * rng.standard_normal(n))
    outputs = np.exp(p.output_mu[key] + p.output_sd[key] * rng.standard_normal(n))
    limit = p.limit[key]
    input_tokens = np.clip(inputs, 1, MAX_INPUT_TOKENS).astype(np.int64)
    output_tokens = np.clip(outputs, 1, limit).astype(np.int64)
    return Columns(
        time=time,
        number=number + np.arange(n),
        key=key,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        limit=np.where(p.says_limit[key], limit, 0),
        status=np.full(n, 200),
        model=p.model[key],
        address=p.address_first[key] + _pick(rng, p.address_count[key]),
        agent=p.user_agent[key],
        user=_pick(rng, p.users[key]),
        template=TEMPLATES_PER_KEY * key + _pick(rng, p.templates[key]),
        cached=(input_tokens * p.cached_share[key] * rng.random(n)).astype(np.int64),
        duration_ms=(150.0 + 12.0 * output_tokens.astype(np.float64)) * np.exp(0.3 * rng.standard_normal(n)),
    )
