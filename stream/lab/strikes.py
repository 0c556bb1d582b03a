"""What a scenario's strikes do to the traffic: calls that they add, calls that they end or send elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from stream.lab.calls import Columns, Tables, own_calls
from stream.lab.population import ASNS, Population
from stream.lab.scenarios import STRANGER_TOKENS, Strike
from stream.lab.traffic import season

STRANGER_LIMIT = 4_096
STRANGER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) Chrome/138.0.0.0"
ATTACKS_FROM = 1 << 62
"""Ids of attack calls are counted from here, so that those of the others do not depend on them."""
PIVOT_SHARE = 0.5
PIVOT_SECONDS = 86_400.0
"""A pivot sends half of the calls to another model, within a day."""
FIRST_FAILURE = 400


@dataclass(slots=True)
class _Look:
    """Address, agent and template of a strike as indices into the tables; None: the key's own."""

    address: int | None = None
    agent: int | None = None
    template: int | None = None


class Attacker:
    """The calls that a scenario's strikes add, and their sums, strike by strike."""

    def __init__(self, population: Population, strikes: Sequence[Strike], seed: int) -> None:
        self._p, self._strikes, self._seed = population, strikes, seed
        self.tables = Tables(population, seed)
        self._looks: list[_Look] = []
        self._keys = [
            self.tables.add_account(strike.account, strike.org, strike.key) if strike.account else strike.key
            for strike in strikes
        ]
        for index, strike in enumerate(strikes):
            self._looks.append(self._look(strike, index))
        self.begin()

    def begin(self) -> None:
        """Start again from the first call."""
        self._rng = np.random.default_rng([self._seed, 4])
        self._pivots = np.random.default_rng([self._seed, 6])
        self._made = ATTACKS_FROM
        self.tokens = np.zeros(len(self._strikes), np.int64)
        self.calls = np.zeros(len(self._strikes), np.int64)

    def _look(self, strike: Strike, index: int) -> _Look:
        """What gives a strike away: what it shares with its campaign, or, if it copies nothing, all that is its own."""
        stranger = not strike.mimic
        look = _Look()
        if stranger or strike.via in ("network", "accounts"):
            network, asn = (0xA000, strike.group) if strike.via in ("network", "accounts") else (0xB000, index)
            text = f"2001:db8:{network + asn:x}::{index + 1:x}"
            look.address = self.tables.add_address(text, ASNS[7 * asn % len(ASNS)], "SE")
        if stranger or strike.via == "client":
            first = next((i for i, other in enumerate(self._strikes) if other.group == strike.group >= 0), index)
            if first < index:
                look.agent, look.template = self._looks[first].agent, self._looks[first].template
            else:
                look.agent = self.tables.add_agent(f"{STRANGER_AGENT} worker/{index}")
                look.template = self.tables.add_template()
        return look

    def change(self, columns: Columns) -> Columns:
        """The keys' own calls as the strikes leave them: those of a key that is blocked end, a pivot's change model."""
        for i, strike in enumerate(self._strikes):
            if not strike.silences and strike.model < 0:
                continue
            struck = (columns.key == strike.key) & (columns.time >= strike.start)
            if strike.silences:
                columns = Columns(*(getattr(columns, field.name)[~struck] for field in fields(columns)))
                continue
            share = PIVOT_SHARE * np.clip((columns.time - strike.start) / PIVOT_SECONDS, 0.0, 1.0)
            moved = struck & (self._pivots.random(len(columns.time)) < share)
            columns.model = np.where(moved, strike.model, columns.model)
            self.tokens[i] += int(np.maximum(columns.input_tokens[moved] + columns.output_tokens[moved], 0).sum())
            self.calls[i] += int(moved.sum())
        return columns

    def draw(self, begin: float, end: float) -> list[Columns]:
        """Calls of the strikes between two times."""
        parts = []
        for i, strike in enumerate(self._strikes):
            if strike.calls and strike.start < end and strike.end > begin:
                columns = self._calls(strike, self._looks[i], max(begin, strike.start), min(end, strike.end))
                columns.key[:] = self._keys[i]
                self.tokens[i] += int((columns.input_tokens + columns.output_tokens).sum())
                self.calls[i] += len(columns.key)
                parts.append(columns)
        return parts

    def _calls(self, strike: Strike, look: _Look, begin: float, end: float) -> Columns:
        p, rng = self._p, self._rng
        expected = strike.calls * (end - begin)
        if strike.curve == "own":
            expected *= season(p, (begin + end) / 2)[strike.key] * 7 / (5 + 2 * p.weekend[strike.key])
        elif strike.curve == "day":
            # from eight to eight, most at two
            expected *= max(0.0, np.sin(np.pi * ((begin + end) / 2 % 86_400 / 3600 - 8) / 12)) * np.pi
        n = int(rng.poisson(expected * rng.gamma(20, 1 / 20)))
        key = np.full(n, strike.key)
        columns = own_calls(p, rng, key, rng.uniform(begin, end, n), self._made)
        self._made += n
        if not strike.mimic:
            mean_in, mean_out = STRANGER_TOKENS
            columns.input_tokens = rng.gamma(16, mean_in / 16, n).astype(np.int64) + 1
            columns.output_tokens = np.minimum(rng.gamma(9, mean_out / 9, n), STRANGER_LIMIT).astype(np.int64) + 1
            columns.output_tokens = np.minimum(columns.output_tokens, STRANGER_LIMIT)
            columns.limit[:] = STRANGER_LIMIT
            columns.cached[:] = 0
            columns.duration_ms = 150.0 + 12.0 * columns.output_tokens.astype(np.float64)
        if strike.status >= FIRST_FAILURE:
            columns.status[:] = strike.status
            for tokens in (columns.input_tokens, columns.output_tokens, columns.cached):
                tokens[:] = 0
        for column, value in (
            (columns.address, look.address),
            (columns.agent, look.agent),
            (columns.template, look.template),
        ):
            if value is not None:
                column[:] = value
        return columns
