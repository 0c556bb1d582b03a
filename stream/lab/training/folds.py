"""What heads say of clean days of keys that they were not fitted to: what tails and the dial's table are made of.

A rule is kinder to the traffic it was fitted to than to any other. So both come from cross-fitting (after M. Stone,
Cross-validatory choice and assessment of statistical predictions, J. R. Stat. Soc. B 36, 1974): keys are dealt into
folds, all keys of one real client into the same, and those of a fold are judged by heads fitted to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stream.core.rule import Head, Rule
from stream.lab.training.heads import Pair, odds_of, rows_of, usable
from stream.lab.training.samples import Numbers, Sample
from stream.lab.training.tails import Peaks, fit_tail, scores
from stream.lab.training.tasks import TASKS, fit_heads
from stream.lab.worlds.world import World

FOLDS = 4


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A clean world, and the heads that did not see its keys.

    fold_of: the fold of each key; heads: those that judge a fold's keys, in the order of TASKS
    peaks: what each head says at its loudest on each key-day, in the order of TASKS
    """

    clean: Sample
    fold_of: NDArray[np.int64]
    heads: tuple[tuple[Head, ...], ...]
    peaks: tuple[Peaks, ...]


def held_out(pairs: Sequence[Pair], weights: Sequence[float], folds: int = FOLDS) -> list[HeldOut]:
    """Of each pair's clean world, which weighs so much, what heads say that did not see the key."""
    dealt = [folds_of(pair.clean.world, folds) for pair in pairs]
    heads: list[tuple[Head, ...]] = []
    for fold in range(folds):
        others = [
            Pair(pair.clean.part(fold_of != fold), pair.attacked.part(fold_of != fold))
            for pair, fold_of in zip(pairs, dealt, strict=True)
        ]
        heads.append(fit_heads(others))
    return [
        HeldOut(pair.clean, fold_of, tuple(heads), _peaks(pair.clean, fold_of, heads, weight))
        for pair, fold_of, weight in zip(pairs, dealt, weights, strict=True)
    ]


def _peaks(
    clean: Sample, fold_of: NDArray[np.int64], heads: Sequence[tuple[Head, ...]], weight: float
) -> tuple[Peaks, ...]:
    """Of each key-day the highest log odds of each head, and the context there: what a tail law is a law of."""
    found: list[Peaks] = []
    for place, task in enumerate(TASKS):
        parts: list[tuple[Numbers, Numbers, NDArray[np.int64]]] = []
        for fold, its_heads in enumerate(heads):
            sample = clean.part(fold_of == fold)
            rows = rows_of(task, sample)
            odds = odds_of(its_heads[place], rows)
            places = rows.peaks(odds, usable(task, sample))
            parts.append((odds[places], rows.context[places], rows.days(places)))
        odds, context, days = (np.concatenate(part) for part in zip(*parts, strict=True))
        found.append(Peaks(odds, context, days, clean.key_days, weight))
    return tuple(found)


def rule_of(heads: Sequence[Head], worlds: Sequence[HeldOut]) -> Rule:
    """The heads with the tails that held-out days show."""
    quick, volume, joint = (
        replace(head, tail=fit_tail([world.peaks[place] for world in worlds])) for place, head in enumerate(heads)
    )
    return Rule(quick, volume, joint)


def daily_peaks(rule: Rule, world: HeldOut) -> Numbers:
    """The highest score of each clean key-day on which anything was said, by heads that did not see the key.

    It need not be where the log odds are highest: the context, and with it the tail, changes within a day.
    """
    best: dict[int, float] = {}
    for fold, heads in enumerate(world.heads):
        sample = world.clean.part(world.fold_of == fold)
        for task, head, judge in zip(TASKS, heads, (rule.quick, rule.volume, rule.joint), strict=True):
            rows = rows_of(task, sample)
            found = scores(judge.tail, odds_of(head, rows), rows.context)
            places = rows.peaks(found, usable(task, sample))
            for day, score in zip(rows.days(places).tolist(), found[places].tolist(), strict=True):
                best[day] = max(best.get(day, 0.0), score)
    return np.array(list(best.values()), np.float32)


def folds_of(world: World, folds: int) -> NDArray[np.int64]:
    """The fold of each key; the keys that were cut from one client (their id says it before a #) share one."""
    return np.array([crc32(key_id.partition("#")[0].encode()) % folds for key_id in world.key_ids], np.int64)
