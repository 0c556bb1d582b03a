"""The priors of groups: made of what groups showed, each day of each group counting once."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from stream.core.calibration import TailLaw
from stream.core.evidence import Evidence
from stream.core.evidencerecord import pack_evidence
from stream.core.group import MEASURED
from stream.core.grouppriors import GroupPriors
from stream.lab.grouptraining.dial import DIALS, mark, opened, realised_tail
from stream.lab.grouptraining.document import GUESS, GUESSED_TAILS, document_of
from stream.lab.grouptraining.fit import train
from stream.lab.grouptraining.readings import Readings
from stream.lab.grouptraining.records import Record
from tests.core.group_evidence import FIRST_HOUR, cell, traits_of

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
    share = fresh.openings(scores, thresholds[0]) / len(fresh.peaks(scores))
    assert 0.015 < share < 0.06


PER_HOUR = 12
ATTACK, LASTING = 200, 20


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """What sixteen keys told in ten days, in the ninth of which every other one took more for hours."""
    rng = random.Random(3)
    parts: list[bytes] = []
    for hour in range(FIRST_HOUR, FIRST_HOUR + 240):
        raised = ATTACK <= hour - FIRST_HOUR < ATTACK + LASTING
        cells = []
        for number in range(16):
            more = raised and number % 2 == 0
            z = rng.gauss(0.0, 0.6) + (2.2 if more else 0.0)
            tokens = 4000.0 * (2.0 if more else 1.0) + rng.randrange(500)
            cells.append(cell(f"key-{number}", traits_of(number), max(-3.0, min(3.0, z)), tokens, number=number))
        end = (hour + 1) * PER_HOUR - 1
        parts += map(pack_evidence, (Evidence(0, hour * PER_HOUR, cells), Evidence(0, end, [], complete=True)))
    path = tmp_path_factory.mktemp("told") / "world"
    path.write_bytes(msgspec.msgpack.encode(parts))
    return Record(path, FIRST_HOUR + 100)


def test_what_opens_in_the_counted_hours_is_counted_at_the_dial(told: Record) -> None:
    laws = {name: list(GUESS) for name in MEASURED}
    document = document_of(laws, GUESSED_TAILS, [[1.0, 0.1], [20.0, 1e-5]])
    assert opened(told, document, 100.0) >= 1
    assert opened(told, document, 0.01) == 0
    later = replace(told, first_hour=FIRST_HOUR + ATTACK + LASTING + 12)
    assert opened(later, document, 100.0) == 0


def test_the_dial_is_marked_by_what_groups_open_where_that_is_more_than_was_asked_for() -> None:
    tail = TailLaw([(1.0, 0.1), (2.0, 0.01), (3.0, 0.001)])
    rows = realised_tail(tail, {1.0: 0.002, 10.0: 0.02, 3.0: 0.03})
    assert rows == [[1.0, 0.2], [2.0, 0.02], [3.0, 0.002]], "more that open at a higher score are chance"
    assert TailLaw([(score, share) for score, share in rows]).threshold(0.001) == pytest.approx(3.301, abs=1e-3)
    nearly = realised_tail(tail, {1.0: 0.00195, 0.5: 0.0019})
    assert len(nearly) == 3, "what is as often by chance at a higher score must not flatten all beyond"
    assert realised_tail(tail, {1.0: 0.0, 10.0: 0.002}) == [[1.0, 0.1], [2.0, 0.01], [3.0, 0.001]]


def test_a_trained_document_is_marked_by_what_opens(told: Record, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [shown(seed) for seed in range(1, 5)]
    document = train(parts)
    with ThreadPoolExecutor(1) as pool:
        marked = mark(document, parts, [told] * len(parts), pool)
    assert marked | {"tail": document["tail"]} == document
    before, after = (GroupPriors.from_json(json.dumps(one)).tail for one in (document, marked))
    rises = [after.threshold(dial / 1000) - before.threshold(dial / 1000) for dial in DIALS]
    assert rises[0] > 0.1, "four opened, one in a world, where 1.2 were asked for"
    assert min(rises) >= -0.001, "as rows are rounded; fewer that open lower nothing"
    assert capsys.readouterr().err.count(" open\n") == len(DIALS)
