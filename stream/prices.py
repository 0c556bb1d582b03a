"""What tokens cost: a price file, by model and from which day on."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stream.alerts import Moment, model_id_of, printable

ANY = "*"
"""Names the price of every model that has none of its own, and of calls that name no model."""
MAX_PRICES = 10_000
MILLION = 1e6

Dollars = Annotated[float, Field(ge=0, le=1e6)]
Part = Literal["input", "cached_input", "output", "reasoning"]


class PriceFileError(ValueError):
    """A price file that cannot be used; the message says what to do."""


class Price(BaseModel):
    """Prices per million tokens of some models, from a moment on.

    `cached_input` and `reasoning` are those of the parts of input and of output; left out: the same as the whole's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    models: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=1, max_length=1000)]
    since: Annotated[Moment, Field(alias="from")] = float("-inf")
    input: Dollars
    cached_input: Dollars | None = None
    output: Dollars
    reasoning: Dollars | None = None

    @field_validator("since", mode="before")
    @classmethod
    def _day(cls, value: object) -> object:
        """A day begins at 00:00 UTC; a time of day needs a zone."""
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError("has no zone: append Z, or give the day alone")
            return value.timestamp()
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
        raise ValueError("is a date, such as 2026-03-01")

    def of(self, part: Part) -> float:
        """Price of a million tokens of one part; those of `input` are not cached, those of `output` no reasoning."""
        if part == "cached_input" and self.cached_input is not None:
            return self.cached_input
        if part == "reasoning" and self.reasoning is not None:
            return self.reasoning
        return self.input if part in ("input", "cached_input") else self.output


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    prices: Annotated[list[Price], Field(min_length=1, max_length=MAX_PRICES)]


class Prices:
    """A price file, read.

    >>> prices = Prices('''
    ... [[prices]]
    ... models = ["m-large"]
    ... input = 3
    ... output = 15
    ... ''')
    >>> prices.cost(model_id_of("m-large"), {"output": 2e6}, 0.0, 0.0), prices.currency
    (30.0, 'USD')
    """

    def __init__(self, text: str) -> None:
        """Read a price file in TOML; raises PriceFileError."""
        try:
            file = _File.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise PriceFileError(f"is not TOML: {printable(str(error), 200)}") from error
        except ValidationError as error:
            raise PriceFileError(_first(error)) from error
        self.currency = file.currency
        self._names: dict[str, str] = {}
        self._prices: dict[str, list[Price]] = {}
        for price in file.prices:
            for name in price.models:
                self._add(name, price)
        for known in self._prices.values():
            known.sort(key=lambda price: price.since)

    def _add(self, name: str, price: Price) -> None:
        known = ANY if name == ANY else model_id_of(name)
        other = self._names.setdefault(known, name)
        if other != name:
            raise PriceFileError(
                f"{printable(name)} and {printable(other)} have the same id in alerts, {known}: leave out the one that "
                "you do not use"
            )
        prices = self._prices.setdefault(known, [])
        if any(price.since == earlier.since for earlier in prices):
            raise PriceFileError(f"{printable(name)} has two prices from the same moment on: leave out one of them")
        prices.append(price)

    def name(self, model_id: str) -> str:
        """The model's name if the file has it, else its id."""
        return self._names.get(model_id, model_id)

    def cost(self, model_id: str, tokens: dict[Part, float], since: float, until: float) -> float | None:
        """What tokens of a model cost that were used evenly between two moments; None: there is no price for all of it.

        `tokens` are per part, none of them in another.
        """
        prices = self._prices.get(model_id, self._prices.get(ANY, []))
        if not prices or prices[0].since > since:
            return None
        total = 0.0
        for price, share in _shares(prices, since, until):
            total += share * sum(count * price.of(part) for part, count in tokens.items())
        return total / MILLION


def _shares(prices: Sequence[Price], since: float, until: float) -> list[tuple[Price, float]]:
    """The prices in force between two moments, each with its share of the time; the first is in force at `since`."""
    if until <= since:
        return [([price for price in prices if price.since <= since][-1], 1.0)]
    shares = []
    for i, price in enumerate(prices):
        end = prices[i + 1].since if i + 1 < len(prices) else float("inf")
        length = min(end, until) - max(price.since, since)
        if length > 0:
            shares.append((price, length / (until - since)))
    return shares


def _first(error: ValidationError) -> str:
    """What is wrong first, and where."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}"
