"""The priors of groups: made of what groups showed, each day of each group counting once."""

from __future__ import annotations

import json

import numpy as np

from stream.core.group import MEASURED
from stream.core.grouppriors import GroupPriors
from stream.lab.grouptraining import Readings, train

GROUPS, DAYS = 30, 30


def shown(seed: int) -> Readings:
    """Hours of groups of which each has a spread of its own."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(GROUPS), 24 * DAYS)
    hour = np.tile(np.arange(24 * DAYS), GROUPS) + 490_000 // 24 * 24
    spread = rng.uniform(0.5, 2.0, GROUPS)[group]
    values = rng.normal(size=(len(group), len(MEASURED))) * spread[:, None]
    return Readings(group, hour, np.ones(len(group), np.bool_), hour >= hour.min() + 240, values)


def test_a_peak_is_of_a_group_and_a_day_that_counts() -> None:
    readings = Readings(
        group=np.array([0, 0, 0, 1, 1]),
        hour=np.array([24, 25, 48, 24, 49]),
        learns=np.ones(5, np.bool_),
        counts=np.array([True, True, True, True, False]),
        values=np.zeros((5, len(MEASURED))),
    )
    assert readings.peaks(np.array([1.0, 3.0, 2.0, 5.0, 9.0])).tolist() == [3.0, 2.0, 5.0]


def test_what_goes_on_is_one_opening_and_what_comes_again_after_calm_days_another() -> None:
    hour = np.array([100, 101, 102, 102 + 72, 102 + 72 + 73, 50, 51])
    group = np.array([0, 0, 0, 0, 0, 1, 1])
    counts = np.array([True, True, True, True, True, True, False])
    readings = Readings(group, hour, counts, counts, np.zeros((7, len(MEASURED))))
    column = np.array([5.0, 1.0, 5.0, 5.0, 5.0, 5.0, 9.0])
    assert readings.openings(column, 4.0) == 3, "two of the first group, one of the second"
    assert readings.openings(column, 5.0) == 0, "it has to be exceeded"


def test_of_what_groups_showed_the_asked_share_lies_beyond_the_threshold() -> None:
    priors = GroupPriors.from_json(json.dumps(train([shown(1), shown(2)])))
    thresholds = [priors.tail.threshold(share) for share in (0.03, 0.01)]
    assert thresholds == sorted(thresholds)
    fresh = shown(3)
    laws = {name: [law[0], law[1]] for name, law in json.loads(json.dumps(train([fresh])["laws"])).items()}
    rows = fresh.standardised(laws).values.tolist()
    scores = np.array([priors.score(priors.weighed(priors.decades(row))) for row in rows])
    opened = fresh.openings(scores, thresholds[0]) / len(fresh.peaks(scores))
    assert 0.015 < opened < 0.06
