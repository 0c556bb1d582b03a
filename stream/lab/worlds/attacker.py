"""An attacker: who falls victim when, what an attack is measured against, and how its calls enter the sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from stream.lab.worlds.draws import MODELS, Floats, LognormalLengths, RequestShape, capped_moments, generator
from stream.lab.worlds.tally import PER_DAY, Background
from stream.lab.worlds.world import Episode, Sums

WEEK = 7 * PER_DAY
GAP = 3 * PER_DAY
"""Between two attacks on one key, so that each finds a baseline that had time to settle."""
TRIES = 30
FOREIGN_INPUT_SD = 0.2
FOREIGN_OUTPUT_SD = 0.25
"""Sd of the log lengths of an extractor's calls: one template, answers of one kind."""
SATURATION_Z = {0.3: 0.524, 0.5: 0.0}
"""Part of the answers at the limit, and the normal quantile above which they are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many attacks of each family, per intensity, and who is fit to be a victim.

    surge_references: "mean" and "p99" by turns: what a surge is a multiple of, the key's mean calls or its bursts
    least_calls_per_hour, within_days: a victim makes so many in its first days
    """

    surge: int
    drift: int
    ramp: int
    newcomer: int
    quiet_hours: int
    shape: int
    hidden_usage: int
    least_calls_per_hour: float
    within_days: int
    surge_references: tuple[str, ...] = ("mean",)
    ramp_days: tuple[int, ...] = (1, 3, 7, 14)
    longest_ramp_days: int = 14

    def scaled(self, factor: float) -> Plan:
        """As many attacks for each key in a world of another size, one of a kind at least."""
        counts = ("surge", "drift", "ramp", "newcomer", "quiet_hours", "shape", "hidden_usage")
        return replace(self, **{name: max(1, round(getattr(self, name) * factor)) for name in counts})


@dataclass(frozen=True, slots=True)
class Usual:
    """A key in the week before an attack: mean and 99th percentile of calls per bucket, tokens per call."""

    calls: float
    p99: float
    tokens_per_call: float


@dataclass(frozen=True, slots=True)
class Turn:
    """What alternates from attack to attack."""

    mimic: bool
    follows: bool
    """True: the attacker keeps the key's own daily curve; False: the clock round."""


class Attacker:
    """Who was attacked when; victims come round only when all others had their turn."""

    def __init__(self, background: Background, plan: Plan, seed: int, first_day: int) -> None:
        self.background = background
        self.tally = background.tally
        self.rng = generator(seed, "attacks")
        self.seed = seed
        self.start = (first_day + 1) * PER_DAY
        # as they were before any attack
        self.calls = self.tally.models.sum(axis=1, dtype=np.int32)
        self.tokens = self.tally.usage.tokens
        self.episodes: list[Episode] = []
        self._taken: dict[int, list[tuple[int, int]]] = {}
        begun = plan.within_days * PER_DAY
        enough = self.calls[:, :begun].mean(axis=1) * PER_DAY / 24 >= plan.least_calls_per_hour
        fit = np.flatnonzero(enough & (background.born < begun * 5 // 8))
        fit = fit[~np.isin(fit, list(background.busy))]
        self._fit = self.rng.permutation(fit)
        self._next = 0

    def begin(self, family: str) -> None:
        """Let a family draw from its own numbers, so that another one's size does not move it."""
        self.rng = generator(self.seed, f"attacks {family}")

    def victims(self, number: int, buckets: Callable[[], int]) -> Iterator[tuple[int, int, int, Turn]]:
        """Key, first and last bucket and turn of `number` attacks that last `buckets()`."""
        for turn in range(number if len(self._fit) else 0):
            for _ in range(TRIES):
                key = int(self._fit[self._next % len(self._fit)])
                self._next += 1
                if (window := self._window(key, buckets())) is not None:
                    yield key, *window, Turn(bool(turn % 2), bool(turn // 2 % 2))
                    break

    def _window(self, key: int, buckets: int) -> tuple[int, int] | None:
        taken = self._taken.setdefault(key, [])
        latest = max(self.tally.buckets - buckets, self.start + 1)
        for _ in range(TRIES):
            first = int(self.rng.integers(self.start, latest))
            last = min(first + buckets, self.tally.buckets)
            if all(last + GAP <= a or first >= b + GAP for a, b in taken):
                taken.append((first, last))
                return first, last
        return None

    def release(self, key: int, first: int, last: int) -> None:
        """Give a window back: the key turned out not to be fit for the attack."""
        self._taken[key].remove((first, last))

    def some_hours(self) -> int:
        """Half an hour to six hours, in buckets."""
        return int(self.rng.integers(6, 72))

    def usual(self, key: int, first: int) -> Usual:
        """The key in the week before a bucket."""
        calls = self.calls[key, max(0, first - WEEK) : first]
        tokens = self.tokens[key, max(0, first - WEEK) : first]
        return Usual(float(calls.mean()), float(np.quantile(calls, 0.99)), float(tokens.sum() / max(calls.sum(), 1)))

    def foreign(
        self, key: int, tokens_per_call: float, output: float, saturated: float, reasoning: float
    ) -> RequestShape:
        """An extractor's calls: of `tokens_per_call`, the part `output` of them output, lengths alike, one model."""
        own = self.background.shapes[key].mix.mean(axis=0)
        target = int(self.rng.choice(np.flatnonzero(own > 0)))
        edge = math.exp(FOREIGN_OUTPUT_SD * SATURATION_Z[saturated])
        # what the limit cuts off is made up for, so that the mean stays
        cut = float(capped_moments(np.zeros(1), FOREIGN_OUTPUT_SD, edge)[0][0])
        median = max(output * tokens_per_call, 2.0) / cut
        return RequestShape(
            LognormalLengths(
                math.log(max((1 - output) * tokens_per_call, 1.0)) - FOREIGN_INPUT_SD**2 / 2,
                FOREIGN_INPUT_SD,
                math.log(median),
                FOREIGN_OUTPUT_SD,
                np.zeros(1),
                PER_DAY,
            ),
            limit=max(2.0, round(median * edge)),
            reasoning=reasoning,
            mix=np.eye(MODELS)[target : target + 1],
            per_day=PER_DAY,
        )

    def overlay(
        self,
        key: int,
        first: int,
        expected: Floats,
        shape: RequestShape,
        family: str,
        intensity: str,
        mimic: bool,
        hidden: bool = False,
    ) -> None:
        """Add `expected` calls per bucket from `first` on, `hidden` ones without usage; none drawn is no attack."""
        calls = self.rng.poisson(np.maximum(expected, 0.0)).astype(np.int64)
        if not calls.any():
            return
        usage = shape.draw(self.rng, calls, first)
        by_model = shape.split(self.rng, calls, first)
        if hidden:
            self.tally.add_unknown(key, first, by_model)
        else:
            self.tally.add(key, first, by_model, calls, usage)
        self.record(key, first, usage.tokens, family, intensity, mimic)

    def record(self, key: int, first: int, tokens: Sums, family: str, intensity: str, mimic: bool) -> None:
        """Note an attack that took `tokens` per bucket."""
        self.tally.attack_tokens[key, first : first + len(tokens)] += tokens
        self.episodes.append(Episode(key, first, first + len(tokens), family, intensity, mimic, int(tokens.sum())))

    def shape(self, key: int, turn: Turn, usual: Usual) -> RequestShape:
        """The key's own shape for a mimic, else an extractor's with as many tokens per call."""
        own = self.background.shapes[key]
        if turn.mimic:
            return own
        return self.foreign(key, usual.tokens_per_call, output=0.6, saturated=0.3, reasoning=own.reasoning)

    def extra(self, key: int, first: int, last: int, turn: Turn, usual: Usual, factor: Floats | float) -> Floats:
        """`factor` times the key's calls per bucket: along its own curve, or flat at its mean."""
        if turn.follows:
            return np.asarray(factor * self.background.level[key, first:last].astype(np.float64))
        return np.asarray(factor * np.full(last - first, usual.calls))
