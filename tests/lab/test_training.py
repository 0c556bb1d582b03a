"""The making of the priors: heads, tails and laws fitted to rows whose truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from stream.core.channels import STANDARDISED, STATISTICS
from stream.core.priors import POPULATION, Priors
from stream.core.rule import CONTEXT, TAIL_FEATURES, VOLATILITY, Head, Rule, Tail, tail_features
from stream.lab.training.__main__ import document, head_document, priors_with
from stream.lab.training.folds import HeldOut, daily_peaks, folds_of, held_out, rule_of
from stream.lab.training.heads import Pair, Task, fit, odds_of, scores_of, usable
from stream.lab.training.laws import laws_of, population_of
from stream.lab.training.record import LEVEL_OFFSET, record
from stream.lab.training.samples import Rows, Sample, sample_of
from stream.lab.training.tails import Peaks, features_of, fit_tail
from stream.lab.training.tasks import TASKS, fit_heads, joint_tail, newcomer_tail
from stream.lab.worlds.synthetic import synthetic_world
from stream.lab.worlds.world import Episode

pytestmark = pytest.mark.slow

PER_DAY = 288
BLANK = priors_with(dict.fromkeys(STANDARDISED, (0.0, 1.0)), dict.fromkeys(POPULATION, (0.0, 1.0, LEVEL_OFFSET)))


def rows_of(values, context=None, *, days=None, clean=True):
    """One key, one row a day unless told otherwise."""
    values = np.asarray(values, np.float32)
    count = len(values)
    context = np.zeros((count, len(CONTEXT)), np.float32) if context is None else np.asarray(context, np.float32)
    place = np.arange(count) if days is None else np.asarray(days)
    return Rows(
        np.zeros(count, np.int32), (place * PER_DAY).astype(np.int32), values, context,
        np.full(count, 1, np.uint8), np.full(count, clean), PER_DAY,
    )  # fmt: skip


@pytest.fixture(scope="module")
def recorded():
    """A small world without and with its attacks, and what was recorded of each."""
    worlds = [synthetic_world(5, keys=16, days=30, profile="A", attacks=attacks) for attacks in (False, True)]
    return [(world, record(world, BLANK, jobs=2)) for world in worlds]


@pytest.fixture(scope="module")
def pair(recorded):
    return Pair(*(sample_of(world, records) for world, records in recorded))


def head(tail, weights=((0, 1.0, 0.5), (2, 0.3, 0.0)), bias=-2.0):
    return Head("h", bias, weights, tuple(0.1 * i for i in range(len(CONTEXT))), tail)


def test_many_scores_at_once_are_those_of_the_head_itself():
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 4, (50, len(STATISTICS)))
    context = rng.normal(0, 1, (50, len(CONTEXT)))
    tail = Tail(1.0, tuple(rng.normal(0, 0.5, len(TAIL_FEATURES))), tuple(rng.normal(0, 0.3, len(TAIL_FEATURES))))
    rows, one = rows_of(values, context), head(tail)
    wanted = [one.score(v, c) for v, c in zip(values.tolist(), context.tolist(), strict=True)]
    assert scores_of(one, rows) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert odds_of(one, rows) == pytest.approx(
        [one.odds(v, c) for v, c in zip(values.tolist(), context.tolist(), strict=True)], rel=1e-4, abs=1e-4
    )


def test_the_features_of_many_contexts_are_those_of_each():
    context = np.random.default_rng(2).normal(0, 1, (20, len(CONTEXT))).astype(np.float32)
    assert features_of(context) == pytest.approx(np.array([tail_features(row) for row in context.tolist()]), rel=1e-5)


def test_the_tail_law_is_found_again_in_what_it_made():
    """Steady keys exceed seldom and by little, restless ones often and by much."""
    rng = np.random.default_rng(3)
    count = 40_000
    context = np.zeros((count, len(CONTEXT)), np.float32)
    context[:, CONTEXT.index("unpredictability")] = rng.choice([-1.0, 1.0], count)
    restless = context[:, CONTEXT.index("unpredictability")] > 0
    over = rng.random(count) < np.where(restless, 0.08, 0.02)
    peaks = np.where(over, 5 + rng.exponential(np.where(restless, 2.0, 0.5)), rng.uniform(0, 5, count))
    tail = fit_tail([Peaks(peaks.astype(np.float32), context, np.arange(count), count)])
    for sign, scale in ((1.0, 2.0), (-1.0, 0.5)):
        one = [0.0] * len(CONTEXT)
        one[CONTEXT.index("unpredictability")] = sign
        own = peaks[restless == (sign > 0)]
        for decades in (2.5, 3.0):
            odds = tail.odds(decades, one)
            assert np.mean(own > odds) == pytest.approx(10**-decades, rel=0.5)
        slope = tail.decades(tail.threshold + 1, one) - tail.decades(tail.threshold, one)
        assert slope == pytest.approx(1 / (scale * math.log(10)), rel=0.25)


def test_a_head_weighs_what_tells_attacks_from_clean_days(pair):
    task = TASKS[1]
    found = rule_of(fit_heads([pair]), held_out([pair], [1.0], folds=2)).volume
    assert found.weights
    assert {STATISTICS[i] for i, _, _ in found.weights}.isdisjoint({"shape_6h", "shape_1d", "newcomer"})
    rows = pair.attacked.steps
    scores = scores_of(found, rows)
    attacks = [episode for episode in pair.attacked.world.attacks if task.wants(episode)]
    loud = [scores[rows.within(a.key, a.first, a.last)].max(initial=0) for a in attacks]
    calm_scores = scores_of(found, pair.clean.steps)
    calm = calm_scores[pair.clean.steps.peaks(calm_scores, pair.clean.steps.clean)]
    assert np.mean(loud) > 2 * np.mean(calm)


def test_weights_of_evidence_are_never_negative():
    """A number that is high on clean days only gets none."""
    rng = np.random.default_rng(4)
    calm = rng.normal(0, 1, (400, 2)).clip(0) + np.array([0, 2])
    loud = rng.normal(0, 1, (20, 2)).clip(0) + np.array([3, 0])
    clean_world = synthetic_world(6, keys=1, days=29, attacks=False)
    attacks = tuple(Episode(0, i * PER_DAY, i * PER_DAY + 12, "drift", "x", False, 1) for i in range(20))
    none = rows_of(np.zeros((0, 2)))
    clean = Sample(clean_world, rows_of(calm), none, np.array([400]), 1, np.zeros(0, np.float32))
    attacked = Sample(
        replace(clean_world, attacks=attacks), rows_of(loud), none, np.array([400]), 1, np.zeros(0, np.float32)
    )
    found = fit(Task("t", lambda episode: True, (0, 1), 1), [Pair(clean, attacked)])
    assert all(weight >= 0 and further >= 0 for _, weight, further in found.weights)
    assert {i for i, _, _ in found.weights} == {0}


def test_of_each_clean_day_the_highest_row_counts():
    rows = rows_of([[1.0], [3.0], [2.0], [9.0]], days=[0, 0, 1, 1])
    rows = replace(rows, clean=np.array([True, True, True, False]))
    assert rows.peaks(rows.values[:, 0], rows.clean).tolist() == [1, 2]


def test_the_joint_tail_is_what_the_worst_kind_of_traffic_needs():
    calm, loud = np.linspace(0, 3, 1000, dtype=np.float32), np.linspace(0, 5, 1000, dtype=np.float32)
    alone = joint_tail([(loud, 1000)])
    assert joint_tail([(calm, 1000), (loud, 1000)]) == alone != joint_tail([(calm, 1000)])
    shares = [share for _, share in alone]
    assert shares == sorted(shares, reverse=True)
    score, share = alone[0]
    assert np.count_nonzero(loud > score) == pytest.approx(share * 1000, abs=1)


def test_what_is_held_out_is_judged_by_heads_that_never_saw_the_key(pair):
    """Each key-day once, and not by the heads that were fitted to all of them."""
    clean = pair.clean
    (world,) = held_out([pair], [2.0], folds=2)
    for task, own, peaks in zip(TASKS, fit_heads([pair]), world.peaks, strict=True):
        assert (peaks.key_days, peaks.weight) == (clean.key_days, 2.0)
        assert len(set(peaks.days.tolist())) == len(peaks.days)
        rows = clean.quick if task.flags == 0 else clean.steps
        by_own = odds_of(own, rows)
        assert sorted(peaks.odds) != pytest.approx(sorted(by_own[rows.peaks(by_own, usable(task, clean))]), abs=1e-3)
    mine = folds_of(clean.world, 2) == 0
    assert 0 < mine.sum() < len(mine)
    rest = pair.attacked.part(~mine)
    assert not set(np.unique(rest.steps.keys)) & set(np.flatnonzero(mine))
    assert rest.world.attacks == tuple(a for a in pair.attacked.world.attacks if not mine[a.key])
    assert clean.part(mine).key_days + clean.part(~mine).key_days == clean.key_days


def test_a_days_highest_score_is_looked_for_where_it_is(pair):
    """Not where the log odds are highest: what is usual for the key changes within a day."""
    restless, steady = np.zeros((2, len(CONTEXT)))
    restless[VOLATILITY] = 2.0
    values = np.zeros((2, len(STATISTICS)))
    values[:, 0] = 3.0, 2.9
    rows = rows_of(values, [restless, steady], days=[0, 0])
    tail = Tail(0.0, (-2.0, 0.0, 2.0) + (0.0,) * (len(TAIL_FEATURES) - 3), (0.0,) * len(TAIL_FEATURES))
    judge = Head("h", 0.0, ((0, 1.0, 0.0),), (0.0,) * len(CONTEXT), tail)
    odds = odds_of(judge, rows)
    scores = scores_of(judge, rows)
    assert (odds[0] > odds[1], scores[0] < scores[1]) == (True, True)
    world = HeldOut(replace(pair.clean, steps=rows, quick=rows), np.zeros(16, np.int64), ((judge,) * 3,), ())
    assert daily_peaks(Rule(judge, judge, judge), world).tolist() == [scores[1]]


def test_all_keys_of_one_client_share_a_fold(pair):
    world = replace(pair.clean.world, key_ids=tuple(f"client-{i // 4}#{i}" for i in range(16)))
    folds = folds_of(world, 4).reshape(4, 4)
    assert (folds == folds[:, :1]).all()


def test_laws_come_from_the_days_that_count(recorded):
    world, records = recorded[0]
    laws = laws_of([(world.first_day, records)])
    assert set(laws) == set(STANDARDISED)
    assert all(scale > 0 and math.isfinite(location) for location, scale in laws.values())
    population = population_of([records])
    assert set(population) == set(POPULATION)


def test_what_is_made_is_a_priors_file(pair):
    world = held_out([pair], [1.0], folds=2)
    rule = rule_of(fit_heads([pair]), world)
    laws = dict.fromkeys(STANDARDISED, (0.5, 0.7))
    kinds = [(daily_peaks(rule, world[0]), pair.clean.key_days)]
    made = document(laws, dict.fromkeys(POPULATION, (0.0, 1.0, 0.003)), rule, [pair.clean], kinds)
    made["tail"], made["newcomer_tail"] = [(1.0, 0.1), (3.0, 0.001)], [(1.0, 0.1), (3.0, 0.001)]
    priors = Priors.from_json(json.dumps(made))
    assert priors.rule.volume.weights == rule.volume.weights
    assert priors.rule.joint.tail == rule.joint.tail
    assert set(head_document(rule.quick)) == {"bias", "weights", "steady", "context", "tail"}


def test_the_tail_of_newcomers_falls(pair):
    made = newcomer_tail([replace(pair.clean, newcomers=np.linspace(0, 5, 500, dtype=np.float32), young_days=1000)])
    scores, shares = zip(*made, strict=True)
    assert list(scores) == sorted(scores)
    assert list(shares) == sorted(shares, reverse=True)
