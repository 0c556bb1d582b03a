"""Attacks on keys of a world: seven families, each at several intensities, each with the key's own shape or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from stream.lab.worlds.draws import MODELS, Floats, LognormalLengths, RequestShape, generator
from stream.lab.worlds.tally import PER_DAY, Background
from stream.lab.worlds.world import Episode, Sums

WEEK = 7 * PER_DAY
GAP = 3 * PER_DAY
"""Between two attacks on one key, so that each finds a baseline that had time to settle."""
TRIES = 30
NEWCOMER_TOKENS_PER_CALL = 3000.0
LEAST_REPLACED_FROM = 50
"""Calls in the three days of a shape attack below which a part of them is a handful."""
QUIET_HOURS = 9
QUIET_SHARE = 0.25
"""A key has quiet hours if the nine quietest of its day hold less than this part of it; round the clock is .375."""


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
    least_calls_per_hour: float
    within_days: int
    surge_references: tuple[str, ...] = ("mean",)
    ramp_days: tuple[int, ...] = (1, 3, 7, 14)
    longest_ramp_days: int = 14

    def scaled(self, factor: float) -> Plan:
        """As many attacks for each key in a world of another size, one of a kind at least."""
        counts = ("surge", "drift", "ramp", "newcomer", "quiet_hours", "shape")
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


def attack(background: Background, plan: Plan, seed: int, first_day: int) -> tuple[Episode, ...]:
    """Add the attacks of a plan to a background's sums, in place, from the day after `first_day` on."""
    attacker = _Attacker(background, plan, seed, first_day)
    for name, family in FAMILIES.items():
        attacker.begin(name)
        family(attacker, plan)
    return tuple(attacker.episodes)


class _Attacker:
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
        mean = max(output * tokens_per_call, 2.0)
        return RequestShape(
            LognormalLengths(
                math.log(max((1 - output) * tokens_per_call, 1.0)) - FOREIGN_INPUT_SD**2 / 2,
                FOREIGN_INPUT_SD,
                math.log(mean) - FOREIGN_OUTPUT_SD**2 / 2,
                FOREIGN_OUTPUT_SD,
                np.zeros(1),
                PER_DAY,
            ),
            limit=max(2.0, round(mean * math.exp(FOREIGN_OUTPUT_SD * SATURATION_Z[saturated]))),
            reasoning=reasoning,
            mix=np.eye(MODELS)[target : target + 1],
            per_day=PER_DAY,
        )

    def overlay(
        self, key: int, first: int, expected: Floats, shape: RequestShape, family: str, intensity: str, mimic: bool
    ) -> None:
        """Add `expected` calls per bucket from `first` on; nothing happens if none is drawn."""
        calls = self.rng.poisson(np.maximum(expected, 0.0)).astype(np.int64)
        if not calls.any():
            return
        usage = shape.draw(self.rng, calls, first)
        self.tally.add(key, first, shape.split(self.rng, calls, first), calls, usage)
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


FOREIGN_INPUT_SD = 0.2
FOREIGN_OUTPUT_SD = 0.25
"""Sd of the log lengths of an extractor's calls: one template, answers of one kind."""
SATURATION_Z = {0.3: 0.524, 0.5: 0.0}
"""Part of the answers at the limit, and the normal quantile above which they are."""


def _surge(attacker: _Attacker, plan: Plan) -> None:
    """Many times the usual for half an hour to six hours."""
    for times in (3, 5, 10, 50):
        for reference in plan.surge_references:
            number = -(-plan.surge // len(plan.surge_references))
            for key, first, last, turn in attacker.victims(number, lambda: int(attacker.rng.integers(6, 72))):
                usual = attacker.usual(key, first)
                base = max(usual.calls, 0.3) if reference == "mean" else max(usual.p99, 0.5)
                intensity = f"x{times}" if reference == "mean" else f"x{times} {reference}"
                expected = np.full(last - first, (times - 1) * base)
                attacker.overlay(key, first, expected, attacker.shape(key, turn, usual), "surge", intensity, turn.mimic)


def _drift(attacker: _Attacker, plan: Plan) -> None:
    """A part of the usual on top, for five days."""
    for percent in (25, 50, 100, 300):
        for key, first, last, turn in attacker.victims(plan.drift, lambda: 5 * PER_DAY):
            usual = attacker.usual(key, first)
            expected = attacker.extra(key, first, last, turn, usual, percent / 100)
            shape = attacker.shape(key, turn, usual)
            attacker.overlay(key, first, expected, shape, "drift", f"+{percent}%", turn.mimic)


def _ramp(attacker: _Attacker, plan: Plan) -> None:
    """Growth that doubles in so many days, up to eightfold."""
    for days in plan.ramp_days:
        length = min(max(3 * days, 5), plan.longest_ramp_days) * PER_DAY
        for key, first, last, turn in attacker.victims(plan.ramp, partial(int, length)):
            usual = attacker.usual(key, first)
            growth = np.minimum(2.0 ** (np.arange(last - first) / PER_DAY / days), 8.0) - 1
            expected = attacker.extra(key, first, last, turn, usual, growth)
            attacker.overlay(key, first, expected, attacker.shape(key, turn, usual), "ramp", f"x2/{days}d", turn.mimic)


def _newcomer(attacker: _Attacker, plan: Plan) -> None:
    """A new key that takes many times what the median key takes, from its first bucket on for three days."""
    means = attacker.tokens[:, : attacker.start].mean(axis=1)
    median = float(np.median(means[means > 0]))
    new = np.flatnonzero((attacker.background.born >= attacker.start - PER_DAY) & (attacker.calls.sum(axis=1) > 0))
    for turn, key in enumerate(attacker.rng.permutation(new)[: 3 * plan.newcomer].tolist()):
        times = (5, 20, 100)[turn % 3]
        first = int(attacker.background.born[key])
        last = min(first + 3 * PER_DAY, attacker.tally.buckets)
        if last - first < PER_DAY:
            continue
        # nobody's own shape explains a hundred times the median
        mimic = times != 100 and turn // 3 % 3 == 0
        own = attacker.background.shapes[key]
        shape = own if mimic else attacker.foreign(key, NEWCOMER_TOKENS_PER_CALL, 0.6, 0.3, own.reasoning)
        expected = np.full(last - first, times * median / shape.tokens_per_call)
        attacker.overlay(key, first, expected, shape, "newcomer", f"x{times} median", mimic)


def _quiet_hours(attacker: _Attacker, plan: Plan) -> None:
    """A part of the key's day, taken evenly in its nine quietest hours, on four days."""
    for percent in (50, 100):
        left = plan.quiet_hours
        for key, first, last, turn in attacker.victims(plan.quiet_hours * 8, lambda: 4 * PER_DAY):
            usual = attacker.usual(key, first)
            hours = _hour(np.arange(max(0, first - WEEK), first))
            by_hour = np.bincount(hours, attacker.tokens[key, max(0, first - WEEK) : first], 24)
            quietest = np.argsort(by_hour, kind="stable")[:QUIET_HOURS]
            if by_hour[quietest].sum() > QUIET_SHARE * by_hour.sum():
                attacker.release(key, first, last)
                continue
            quiet = np.isin(_hour(np.arange(first, last)), quietest)
            expected = quiet / max(quiet.mean(), 0.05) * max(usual.calls, 0.2) * percent / 100
            shape = attacker.shape(key, turn, usual)
            attacker.overlay(key, first, expected, shape, "quiet_hours", f"{percent}% of a day", turn.mimic)
            left -= 1
            if not left:
                break


def _hour(buckets: Sums) -> Sums:
    return buckets % PER_DAY // (PER_DAY // 24)


def _shape(attacker: _Attacker, plan: Plan) -> None:
    """A part of the calls becomes an extractor's: as many tokens in all, more of them output, for three days."""
    for percent in (30, 60, 90):
        for key, first, last, _ in attacker.victims(plan.shape, lambda: 3 * PER_DAY):
            by_model = attacker.tally.models[key, :, first:last].astype(np.int64)
            calls = by_model.sum(axis=0)
            if calls.sum() < LEAST_REPLACED_FROM:
                attacker.release(key, first, last)
                continue
            own = attacker.background.shapes[key]
            kept = attacker.rng.binomial(by_model, 1 - percent / 100)
            taken = calls - kept.sum(axis=0)
            tokens_per_call = float(attacker.tokens[key, first:last].sum() / calls.sum())
            reasoning = min(own.reasoning + 0.3, 0.9) if own.reasoning else 0.0
            foreign = attacker.foreign(key, tokens_per_call, 0.75, 0.5, reasoning)
            attacker.tally.clear(key, first, last)
            own_calls = kept.sum(axis=0)
            attacker.tally.add(key, first, kept, own_calls, own.draw(attacker.rng, own_calls, first))
            usage = foreign.draw(attacker.rng, taken, first)
            attacker.tally.add(key, first, foreign.split(attacker.rng, taken, first), taken, usage)
            attacker.record(key, first, usage.tokens, "shape", f"{percent}% of calls", mimic=False)


FAMILIES: dict[str, Callable[[_Attacker, Plan], None]] = {
    "surge": _surge,
    "drift": _drift,
    "ramp": _ramp,
    "newcomer": _newcomer,
    "quiet_hours": _quiet_hours,
    "shape": _shape,
}
