"""Attacks on keys of a world: families, each at several intensities, each with the key's own shape or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from stream.lab.worlds.attacker import WEEK, Attacker, Plan
from stream.lab.worlds.tally import PER_DAY, Background
from stream.lab.worlds.world import Episode, Sums

NEWCOMER_TOKENS_PER_CALL = 3000.0
LEAST_REPLACED_FROM = 50
"""Calls in the three days of a shape attack below which a part of them is a handful."""
QUIET_HOURS = 9
QUIET_SHARE = 0.25
"""A key has quiet hours if the nine quietest of its day hold less than this part of it; round the clock is .375."""
HIDDEN_SURGE = 10
HIDDEN_DRIFT_PERCENT = 100


def attack(background: Background, plan: Plan, seed: int, first_day: int) -> tuple[Episode, ...]:
    """Add the attacks of a plan to a background's sums, in place, from the day after `first_day` on."""
    attacker = Attacker(background, plan, seed, first_day)
    for name, family in FAMILIES.items():
        attacker.begin(name)
        family(attacker, plan)
    return tuple(attacker.episodes)


def _surge(attacker: Attacker, plan: Plan) -> None:
    """Many times the usual for half an hour to six hours."""
    for times in (3, 5, 10, 50):
        for reference in plan.surge_references:
            number = -(-plan.surge // len(plan.surge_references))
            for key, first, last, turn in attacker.victims(number, attacker.some_hours):
                usual = attacker.usual(key, first)
                base = max(usual.calls, 0.3) if reference == "mean" else max(usual.p99, 0.5)
                intensity = f"x{times}" if reference == "mean" else f"x{times} {reference}"
                expected = np.full(last - first, (times - 1) * base)
                attacker.overlay(key, first, expected, attacker.shape(key, turn, usual), "surge", intensity, turn.mimic)


def _drift(attacker: Attacker, plan: Plan) -> None:
    """A part of the usual on top, for five days."""
    for percent in (25, 50, 100, 300):
        for key, first, last, turn in attacker.victims(plan.drift, lambda: 5 * PER_DAY):
            usual = attacker.usual(key, first)
            expected = attacker.extra(key, first, last, turn, usual, percent / 100)
            shape = attacker.shape(key, turn, usual)
            attacker.overlay(key, first, expected, shape, "drift", f"+{percent}%", turn.mimic)


def _ramp(attacker: Attacker, plan: Plan) -> None:
    """Growth that doubles in so many days, up to eightfold."""
    for days in plan.ramp_days:
        length = min(max(3 * days, 5), plan.longest_ramp_days) * PER_DAY
        for key, first, last, turn in attacker.victims(plan.ramp, partial(int, length)):
            usual = attacker.usual(key, first)
            growth = np.minimum(2.0 ** (np.arange(last - first) / PER_DAY / days), 8.0) - 1
            expected = attacker.extra(key, first, last, turn, usual, growth)
            attacker.overlay(key, first, expected, attacker.shape(key, turn, usual), "ramp", f"x2/{days}d", turn.mimic)


def _newcomer(attacker: Attacker, plan: Plan) -> None:
    """A new key that takes many times what the median key takes, from its first bucket on for three days."""
    means = attacker.tokens[:, : attacker.start].mean(axis=1)
    median = float(np.median(means[means > 0]))
    newcomers = attacker.background.newcomers
    new = newcomers[attacker.calls[newcomers].sum(axis=1) > 0]
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


def _quiet_hours(attacker: Attacker, plan: Plan) -> None:
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


def _shape(attacker: Attacker, plan: Plan) -> None:
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


def _hidden_usage(attacker: Attacker, plan: Plan) -> None:
    """A surge and a drift whose calls come without usage data, so that sums of tokens show nothing."""
    for key, first, last, turn in attacker.victims(plan.hidden_usage, attacker.some_hours):
        usual = attacker.usual(key, first)
        expected = np.full(last - first, (HIDDEN_SURGE - 1) * max(usual.calls, 0.3))
        shape = attacker.shape(key, turn, usual)
        label = f"surge x{HIDDEN_SURGE}"
        attacker.overlay(key, first, expected, shape, "hidden_usage", label, turn.mimic, hidden=True)
    for key, first, last, turn in attacker.victims(plan.hidden_usage, lambda: 5 * PER_DAY):
        usual = attacker.usual(key, first)
        expected = attacker.extra(key, first, last, turn, usual, HIDDEN_DRIFT_PERCENT / 100)
        shape = attacker.shape(key, turn, usual)
        label = f"drift +{HIDDEN_DRIFT_PERCENT}%"
        attacker.overlay(key, first, expected, shape, "hidden_usage", label, turn.mimic, hidden=True)


FAMILIES: dict[str, Callable[[Attacker, Plan], None]] = {
    "surge": _surge,
    "drift": _drift,
    "ramp": _ramp,
    "newcomer": _newcomer,
    "quiet_hours": _quiet_hours,
    "shape": _shape,
    "hidden_usage": _hidden_usage,
}
"""In the order in which they choose their victims: a new one goes to the end, so that it moves no other."""
