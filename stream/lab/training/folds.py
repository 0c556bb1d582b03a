"""What heads say of clean days of keys that they were not fitted to: what tails and the dial's table are made of.

A rule is kinder to the traffic it was fitted to than to any other. So both come from cross-fitting (after M. Stone,
Cross-validatory choice and assessment of statistical predictions, J. R. Stat. Soc. B 36, 1974): keys are dealt into
folds, all keys of one real client into the same, and those of a fold are judged by heads fitted to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stream.core.rule import Head, Rule
from stream.lab.training.heads import Pair, Task, odds_of, rows_of, usable
from stream.lab.training.samples import Numbers, Sample
from stream.lab.training.tails import Peaks, fit_tail, scores
from stream.lab.training.tasks import TASKS, fit_heads
from stream.lab.worlds.world import World

FOLDS = 4
MOST_DAYS = 100_000

HeldOut = tuple[Peaks, ...]
"""What each of the heads says of a world, in the order of TASKS."""


def held_out(pairs: Sequence[Pair], weights: Sequence[float], folds: int = FOLDS) -> list[HeldOut]:
    """Of each pair's clean world, which weighs so much, what heads say that did not see the key."""
    found: list[list[list[Peaks]]] = [[[] for _ in TASKS] for _ in pairs]
    for fold in range(folds):
        mine = [folds_of(pair.clean.world, folds) == fold for pair in pairs]
        others = [Pair(p.clean.part(~keys), p.attacked.part(~keys)) for p, keys in zip(pairs, mine, strict=True)]
        heads = fit_heads(others)
        for parts, pair, keys in zip(found, pairs, mine, strict=True):
            sample = pair.clean.part(keys)
            for part, task, head in zip(parts, TASKS, heads, strict=True):
                part.append(_peaks(task, head, sample))
    return [
        tuple(replace(_joined(part), key_days=pair.clean.key_days, weight=weight) for part in parts)
        for parts, pair, weight in zip(found, pairs, weights, strict=True)
    ]


def _peaks(task: Task, head: Head, sample: Sample) -> Peaks:
    rows = rows_of(task, sample)
    odds = odds_of(head, rows)
    places = rows.peaks(odds, usable(task, sample))
    days = rows.keys[places].astype(np.int64) * MOST_DAYS + rows.rows[places] // rows.per_day
    return Peaks(odds[places], rows.context[places], days, sample.key_days)


def _joined(parts: Sequence[Peaks]) -> Peaks:
    return Peaks(
        np.concatenate([part.odds for part in parts]),
        np.concatenate([part.context for part in parts]),
        np.concatenate([part.days for part in parts]),
        sum(part.key_days for part in parts),
    )


def rule_of(heads: Sequence[Head], worlds: Sequence[HeldOut]) -> Rule:
    """The heads with the tails that held-out days show."""
    quick, volume, joint = (
        replace(head, tail=fit_tail([world[place] for world in worlds])) for place, head in enumerate(heads)
    )
    return Rule(quick, volume, joint)


def daily_peaks(rule: Rule, world: HeldOut) -> Numbers:
    """The highest score of each clean key-day on which anything was said, by heads that did not see the key."""
    best: dict[int, float] = {}
    for head, peaks in zip((rule.quick, rule.volume, rule.joint), world, strict=True):
        found = scores(head.tail, peaks.odds, peaks.context)
        for day, score in zip(peaks.days.tolist(), found.tolist(), strict=True):
            best[day] = max(best.get(day, 0.0), score)
    return np.array(list(best.values()), np.float32)


def folds_of(world: World, folds: int) -> NDArray[np.int64]:
    """The fold of each key; the keys that were cut from one client (their id says it before a #) share one."""
    return np.array([crc32(key_id.partition("#")[0].encode()) % folds for key_id in world.key_ids], np.int64)
