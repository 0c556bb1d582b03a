"""The decision rule: log odds to decades and back, what counts for whom, and what one number needs to be."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from made_priors import FLAT, SHAPES, TAIL, head, made_priors

from stream.core.channels import STATISTICS
from stream.core.presence import Presence
from stream.core.rule import CONTEXT, TAIL_FEATURES, UNPREDICTABILITY, Tail, context_of, steadiness

RULE = made_priors().rule
VOLUME = [name for name in STATISTICS if name not in SHAPES and name != "newcomer"]
values = st.lists(st.floats(0, 5), min_size=len(STATISTICS), max_size=len(STATISTICS))


contexts = st.tuples(*[st.floats(-3, 3)] * len(CONTEXT)).map(list)
coefficients = st.tuples(*[st.floats(-1, 1)] * len(TAIL_FEATURES))
tails = st.builds(Tail, st.floats(-5, 5), coefficients, coefficients)


@given(tail=tails, context=contexts, odds=st.lists(st.floats(-50, 50), min_size=2, max_size=10))
def test_higher_odds_are_never_fewer_decades(tail, context, odds):
    decades = [tail.decades(each, context) for each in sorted(odds)]
    assert decades == sorted(decades)
    assert decades[0] >= 0


@given(tail=tails, context=contexts, decades=st.floats(0.001, 40))
def test_decades_and_their_odds_are_inverse(tail, context, decades):
    assert tail.decades(tail.odds(decades, context), context) == pytest.approx(decades, rel=1e-6, abs=1e-6)


def test_a_decade_is_a_tenth_of_the_days():
    assert TAIL.decades(0.0, FLAT) == pytest.approx(2.0)
    assert TAIL.decades(1.0, FLAT) == pytest.approx(3.0)
    assert TAIL.decades(-2.0, FLAT) == pytest.approx(1.0)
    assert TAIL.decades(-4.0, FLAT) == TAIL.decades(-100.0, FLAT) == 0.0


def test_what_a_key_like_clockwork_shows_is_worth_more():
    clockwork, weather = [0.0] * len(CONTEXT), [0.0] * len(CONTEXT)
    clockwork[UNPREDICTABILITY], weather[UNPREDICTABILITY] = -3.0, 3.0
    assert steadiness(clockwork) > 0.9
    assert steadiness(weather) < 0.1
    one = replace(RULE.volume, weights=((0, 1.0, 2.0),))
    found = [1.0] + [0.0] * (len(STATISTICS) - 1)
    for context in (clockwork, weather):
        assert one.odds(found, context) == pytest.approx(one.bias + 1.0 + 2.0 * steadiness(context))


def test_a_head_adds_its_evidence_and_its_context_to_its_bias():
    context = tuple(float(i) for i in range(len(CONTEXT)))
    one = head("volume", {"level_4h": 2.0, "cusum": 3.0}, context)
    found = [0.0] * len(STATISTICS)
    found[STATISTICS.index("level_4h")], found[STATISTICS.index("cusum")] = 0.5, 1.0
    found[STATISTICS.index("level_10m")] = 100.0  # it has no weight
    given = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0]
    assert one.given(given) == 1.0 + 3.0
    assert one.odds(found, given) == pytest.approx(one.bias + 4.0 + 2 * 0.5 + 3 * 1.0)


@given(found=values, place=st.integers(0, len(STATISTICS) - 1), more=st.floats(0, 3))
def test_more_evidence_is_never_a_lower_score(found, place, more):
    raised = list(found)
    raised[place] += more
    assert RULE.quick_score(raised, FLAT) >= RULE.quick_score(found, FLAT)
    for large, shaped in itertools.product((True, False), repeat=2):
        assert RULE.slow_score(raised, FLAT, large, shaped) >= RULE.slow_score(found, FLAT, large, shaped)


@given(found=values)
def test_what_is_small_can_only_be_told_by_its_shape(found):
    assert RULE.slow_score(found, FLAT, False, False) == 0.0
    joint, volume = RULE.joint.score(found, FLAT), RULE.volume.score(found, FLAT)
    assert RULE.slow_score(found, FLAT, False, True) == joint
    assert RULE.slow_score(found, FLAT, True, False) == max(joint, volume)


@given(name=st.sampled_from(["level_10m", *VOLUME]), score=st.floats(0.01, 12))
def test_what_a_number_needs_alone_brings_the_score(name, score):
    place = STATISTICS.index(name)
    needed = RULE.needed(place, FLAT, score)
    assume(needed > 0.01)
    for share, reached in ((1.0001, True), (0.999, False)):
        found = [0.0] * len(STATISTICS)
        found[place] = needed * share
        best = max(RULE.quick_score(found, FLAT), RULE.slow_score(found, FLAT, True, True))
        assert (best >= score) == reached


def test_a_number_without_weight_never_suffices():
    assert RULE.needed(STATISTICS.index("newcomer"), FLAT, 1.0) == math.inf


@given(found=values, quick=st.booleans())
def test_shares_are_the_strongest_first_and_of_the_head_that_decides(found, quick):
    shares = RULE.shares(found, FLAT, quick)
    assert [share for share, _ in shares] == sorted((share for share, _ in shares), reverse=True)
    score = RULE.quick_score(found, FLAT) if quick else RULE.slow_score(found, FLAT, True, True)
    told = {i for _, i in shares}
    assert any(
        told == {i for i, *_ in head.weights if found[i] > 0} and head.score(found, FLAT) == score
        for head in ((RULE.quick,) if quick else (RULE.volume, RULE.joint))
    )


@given(
    excess=st.floats(-1e6, 1e18), usual=st.floats(0, 1e18), days=st.integers(0, 5000), variance=st.floats(1e-6, 1e3),
    idle=st.integers(0, 2000), error=st.floats(0, 1e9),
)  # fmt: skip
def test_the_context_is_of_the_order_of_one_whatever_the_key(excess, usual, days, variance, idle, error):
    presence = Presence(96)
    for _ in range(idle):
        presence.step(0.0)
    presence.step(1.0)
    context = context_of(excess, usual, days, variance, presence, error)
    assert len(context) == len(CONTEXT)
    assert all(-3 <= value <= 3.1 for value in context)
