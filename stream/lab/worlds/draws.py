"""How the calls of a key look: lengths, limits, models; and sums of many such calls per bucket.

Few calls in a bucket are drawn one by one; of many, only their sums are drawn, from laws with the same moments.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.lab.worlds.world import Sums

Floats = NDArray[np.float64]

MODELS = 4
"""A key uses one to four models."""
EXACT_CALLS = 32
"""Up to so many calls in a bucket are drawn one by one: beyond, a sum of even heavy-tailed lengths is near its law."""
MAX_INPUT_TOKENS = 200_000.0
"""Context window: no prompt is longer."""
_NODES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])


def generator(seed: int, purpose: str, *more: int) -> np.random.Generator:
    """The random numbers of one purpose: independent of how many any other purpose takes.

    >>> generator(1, "calls").random() == generator(1, "calls").random()
    True
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *more])


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums per bucket of calls whose usage is known; logarithms are natural and not yet scaled."""

    input_tokens: Sums
    output_tokens: Sums
    reasoning_tokens: Sums
    saturated: Sums
    log_output: Floats
    log_output_squares: Floats

    @property
    def tokens(self) -> Sums:
        """Input and output tokens per bucket."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance of one call per slot: tokens of input and output, ln(1 + output), part at the limit."""

    input_mean: Floats
    input_variance: Floats
    output_mean: Floats
    output_variance: Floats
    log_mean: Floats
    log_variance: Floats
    saturated: Floats


class Lengths(Protocol):
    """Laws of a call's input and output tokens, which may differ from slot to slot of the run."""

    def slots(self, buckets: Sums) -> Sums:
        """Slot of each bucket."""
        ...

    def sample(self, rng: np.random.Generator, slots: Sums) -> tuple[Floats, Floats]:
        """Input and output tokens of one call in each of the slots, no limit applied."""
        ...

    def moments(self, limit: float) -> Moments:
        """Moments of a call per slot, the output cut at `limit`."""
        ...


@dataclass(frozen=True, slots=True)
class LognormalLengths:
    """Lognormal lengths. `shift` is added to the mean log output, per day (one element: all days alike)."""

    input_mu: float
    input_sd: float
    output_mu: float
    output_sd: float
    shift: Floats
    per_day: int

    def slots(self, buckets: Sums) -> Sums:
        """Day of each bucket, 0 throughout if days are alike."""
        return np.minimum(buckets // self.per_day, len(self.shift) - 1)

    def sample(self, rng: np.random.Generator, slots: Sums) -> tuple[Floats, Floats]:
        """Tokens of one call per slot."""
        size = len(slots)
        inputs = np.exp(self.input_mu + self.input_sd * rng.standard_normal(size))
        outputs = np.exp(self.output_mu + self.shift[slots] + self.output_sd * rng.standard_normal(size))
        return np.clip(inputs, 1.0, MAX_INPUT_TOKENS), outputs

    def moments(self, limit: float) -> Moments:
        """Closed forms for the tokens, a quadrature for the logarithms."""
        days = np.ones_like(self.shift)
        input_mean, input_variance = capped_moments(np.array([self.input_mu]), self.input_sd, MAX_INPUT_TOKENS)
        mu = self.output_mu + self.shift
        output_mean, output_variance = capped_moments(mu, self.output_sd, limit)
        logs = np.log1p(np.minimum(np.exp(mu[:, None] + self.output_sd * _NODES), limit))
        over = np.array([_normal_cdf((m - math.log(limit)) / self.output_sd) for m in mu])
        return Moments(
            input_mean * days,
            input_variance * days,
            output_mean,
            output_variance,
            logs.mean(axis=1),
            logs.var(axis=1),
            over,
        )


@dataclass(frozen=True, slots=True)
class TableLengths:
    """Lengths by tables of quantiles: slots x equally likely points; `slot_of_bucket` gives every bucket's slot."""

    inputs: Floats
    outputs: Floats
    slot_of_bucket: Sums

    def slots(self, buckets: Sums) -> Sums:
        """Row of the tables for each bucket."""
        return self.slot_of_bucket[buckets]

    def sample(self, rng: np.random.Generator, slots: Sums) -> tuple[Floats, Floats]:
        """Tokens of one call per slot: input and output independent, as the traces give only their margins."""
        return np.maximum(_at(self.inputs, rng, slots), 1.0), np.maximum(_at(self.outputs, rng, slots), 0.0)

    def moments(self, limit: float) -> Moments:
        """Moments of the law that `sample` draws from: linear between the points of the tables."""
        inputs, answers = np.maximum(_between(self.inputs), 1.0), np.maximum(_between(self.outputs), 0.0)
        outputs = np.minimum(answers, limit)
        logs = np.log1p(outputs)
        return Moments(
            inputs.mean(axis=1),
            inputs.var(axis=1),
            outputs.mean(axis=1),
            outputs.var(axis=1),
            logs.mean(axis=1),
            logs.var(axis=1),
            (answers >= limit).mean(axis=1),
        )


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What the calls of a key (or of an attacker) are like.

    limit: `max_output_tokens` that the caller sets; output ends there
    reasoning: mean part of the output that is reasoning, 0 to 1
    mix: share of each model, days x MODELS (one row: all days alike)
    """

    lengths: Lengths
    limit: float
    reasoning: float
    mix: Floats
    per_day: int

    @property
    def tokens_per_call(self) -> float:
        """Mean input and output tokens of a call."""
        moments = self.lengths.moments(self.limit)
        return float(moments.input_mean.mean() + moments.output_mean.mean())

    def split(self, rng: np.random.Generator, counts: Sums, first: int) -> Sums:
        """Calls by model (MODELS x buckets) of `counts` calls in the buckets from `first` on."""
        if (self.mix > 0).sum(axis=1).max() == 1 and len(self.mix) == 1:
            return np.outer(self.mix[0] > 0, counts).astype(np.int64)
        split = np.zeros((MODELS, len(counts)), np.int64)
        used = np.flatnonzero(counts)
        day = np.minimum((first + used) // self.per_day, len(self.mix) - 1)
        split[:, used] = rng.multinomial(counts[used], self.mix[day]).T
        return split

    def draw(self, rng: np.random.Generator, counts: Sums, first: int) -> Usage:
        """Sums of `counts` calls per bucket, in the buckets from `first` on."""
        sums = np.zeros((6, len(counts)))
        few = np.flatnonzero((counts > 0) & (counts <= EXACT_CALLS))
        many = np.flatnonzero(counts > EXACT_CALLS)
        if len(few):
            self._draw_calls(rng, counts, first, few, sums)
        if len(many):
            self._draw_sums(rng, counts[many], first, many, sums)
        whole = [np.rint(row).astype(np.int64) for row in sums[:4]]
        return Usage(whole[0], whole[1], np.minimum(whole[2], whole[1]), whole[3], sums[4], sums[5])

    def _draw_calls(self, rng: np.random.Generator, counts: Sums, first: int, few: Sums, sums: Floats) -> None:
        place = np.repeat(few, counts[few])
        inputs, outputs = self.lengths.sample(rng, self.lengths.slots(first + place))
        saturated = (outputs >= self.limit) & (outputs > 1)
        outputs = np.rint(np.minimum(outputs, self.limit))
        logs = np.log1p(outputs)
        columns: list[Floats] = [np.rint(inputs), outputs, np.zeros(0), saturated.astype(np.float64), logs, logs * logs]
        if self.reasoning:
            columns[2] = np.floor(outputs * np.minimum(self.reasoning * rng.uniform(0.5, 1.5, len(place)), 1.0))
        for row, column in zip(sums, columns, strict=True):
            if len(column):
                row += np.bincount(place, column, len(counts))

    def _draw_sums(self, rng: np.random.Generator, n: Sums, first: int, many: Sums, sums: Floats) -> None:
        slots = self.lengths.slots(first + many)
        law = self.lengths.moments(self.limit)
        sums[0, many] = _sum_of(rng, n, law.input_mean[slots], law.input_variance[slots])
        outputs = np.minimum(_sum_of(rng, n, law.output_mean[slots], law.output_variance[slots]), n * self.limit)
        sums[1, many] = outputs
        if self.reasoning:
            # sd of a uniform factor between .5 and 1.5, over the root of the number of calls
            factor = 1 + 0.29 * rng.standard_normal(len(n)) / np.sqrt(n)
            sums[2, many] = outputs * np.clip(self.reasoning * factor, 0.0, 1.0)
        sums[3, many] = rng.binomial(n, law.saturated[slots])
        spread = law.log_variance[slots]
        mean = np.maximum(law.log_mean[slots] + np.sqrt(spread / n) * rng.standard_normal(len(n)), 0.0)
        sums[4, many] = n * mean
        sums[5, many] = n * mean * mean + spread * rng.chisquare(n - 1)


def capped_moments(mu: Floats, sd: float, limit: float) -> tuple[Floats, Floats]:
    """Mean and variance of min(X, limit), ln X normal with mean `mu` and sd `sd`.

    >>> mean, variance = capped_moments(np.array([0.0]), 1.0, 1e9)
    >>> mean.round(3).tolist(), variance.round(3).tolist()
    ([1.649], [4.671])
    """
    edge = (math.log(limit) - mu) / sd

    def below(power: int) -> Floats:
        part = np.array([_normal_cdf(e - power * sd) for e in edge])
        return np.asarray(np.exp(power * mu + (power * sd) ** 2 / 2) * part)

    over = np.array([_normal_cdf(-e) for e in edge])
    mean = below(1) + limit * over
    return mean, np.maximum(below(2) + limit * limit * over - mean * mean, 0.0)


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _at(table: Floats, rng: np.random.Generator, slots: Sums) -> Floats:
    """One draw a slot, linear between the table's points."""
    points = table.shape[1]
    place = rng.random(len(slots)) * (points - 1)
    left = place.astype(np.int64)
    part = place - left
    flat = table.ravel()
    base = slots * points + left  # `left` is below points - 1, so base + 1 is in the same row
    return np.asarray(flat[base] * (1 - part) + flat[base + 1] * part)


def _between(table: Floats) -> Floats:
    """Two values of each stretch between the table's points, at a quarter and at three quarters of it."""
    left, right = table[:, :-1], table[:, 1:]
    return np.concatenate([0.75 * left + 0.25 * right, 0.25 * left + 0.75 * right], axis=1)


def _sum_of(rng: np.random.Generator, n: Sums, mean: Floats, variance: Floats) -> Floats:
    """A lognormal number with the mean and the variance of a sum of n (Fenton and Wilkinson)."""
    spread = np.log1p(variance / (n * np.maximum(mean, 1e-9) ** 2))
    return np.asarray(n * mean * np.exp(np.sqrt(spread) * rng.standard_normal(len(n)) - spread / 2))
