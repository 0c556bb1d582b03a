"""What the dial is marked by: how many campaigns groups open where nothing happens, in worlds they did not learn from.

What opens a campaign also changes what is learned and what opens next, so groups read the evidence again at some dials.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from stream.core.calibration import TailLaw
from stream.core.campaign import HOUR
from stream.core.grouppriors import GroupPriors
from stream.core.groups import Groups
from stream.core.priors import tail_of
from stream.lab.evaluation.campaigns import MERGE_SECONDS
from stream.lab.evaluation.scoring import merged
from stream.lab.grouptraining.document import Document
from stream.lab.grouptraining.fit import rising, train
from stream.lab.grouptraining.readings import Readings
from stream.lab.grouptraining.records import Record
from stream.settings import Settings

DIALS = (0.5, 1.0, 3.0)
"""Openings in 1,000 group-days that are asked for by what the score alone says, to see how many there are."""
FOLDS = 2
LEAST_FALL = 0.8
"""Beyond the last point a tail goes on as between the last two: a chance count must not make it flat."""


def opened(told: Record, document: Document, dial: float) -> int:
    """Campaigns that groups open where nothing happens, those of one group within a day once, as a report counts."""
    settings = Settings(partitions=1, false_alerts_per_1000_group_days=dial)
    groups = Groups(settings, GroupPriors.from_json(json.dumps(document)))
    hours: dict[tuple[str, str], list[int]] = {}
    for step in told.put_before(groups):
        for alert in step.alerts:
            hour = int(alert.detected_at // HOUR)
            if alert.status == "opened" and hour >= told.first_hour:
                hours.setdefault((alert.entity.type, alert.entity.id), []).append(hour)
    return sum(merged(found, int(MERGE_SECONDS // HOUR)) for found in hours.values())


def realised_tail(tail: TailLaw, opened_at: Mapping[float, float]) -> list[list[float]]:
    """Scores, rising, and how many campaigns open beyond each, for a group-day, at most.

    tail: by which the dials were; opened_at: of each dial, what opened for a group-day. Where that is less than was
    asked for, what was asked for stands: fewer may be chance, and a dial promises no more. What is seen more often than
    at the highest dial is taken to open as much more often as there.
    """
    highest = max(opened_at)
    ratio = max(opened_at[highest] / (highest / 1000), 1.0)
    often = [(score, math.exp(log)) for score, log in zip(tail.scores, tail.logs, strict=True)]
    points = [(score, round(share * ratio, 6)) for score, share in often if share > highest / 1000 * (1 + 1e-9)]
    for dial in sorted(opened_at, reverse=True):
        share = max(opened_at[dial], dial / 1000)
        if not points or share <= LEAST_FALL * points[-1][1]:
            points.append((tail.threshold(dial / 1000), round(share, 6)))
    return rising(points)


def mark(document: Document, parts: Sequence[Readings], records: Sequence[Record], pool: Executor) -> Document:
    """The same priors, with a dial that says what groups open in worlds that they did not learn from."""
    tail = TailLaw(tail_of(document["tail"]))
    group_days = sum(len(part.peaks(part.values[:, 0])) for part in parts)
    # worlds of two profiles take turns: each fold has both
    folds = [number // 2 % FOLDS for number in range(len(parts))]
    taught = [train([part for part, its in zip(parts, folds, strict=True) if its != fold]) for fold in range(FOLDS)]
    tasks = [(told, taught[fold], dial) for dial in DIALS for told, fold in zip(records, folds, strict=True)]
    counts = pool.map(opened, *zip(*tasks, strict=True))
    found = dict.fromkeys(DIALS, 0)
    for (_, _, dial), count in zip(tasks, counts, strict=True):
        found[dial] += count
    for dial, count in found.items():
        sys.stderr.write(f"at {dial:g} in 1,000 group-days {count} of {dial * group_days / 1000:.1f} open\n")
    return {**document, "tail": realised_tail(tail, {dial: count / group_days for dial, count in found.items()})}
