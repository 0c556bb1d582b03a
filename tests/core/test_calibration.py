"""From scores to rates: the tail law, the daily maxima, and the priors that are shipped."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.calibration import PRIOR_DAYS, DailyMaximum, Priors, TailLaw, shipped_priors
from stream.core.residuals import HORIZONS

SHIPPED = TailLaw(shipped_priors().tail)
GOOD = {
    "laws": [{"location": 0.5, "scale": 0.3}] * 5,
    "tail": [[1.0, 0.5], [2.0, 0.01]],
    "call_input_tokens": 500,
    "call_output_tokens": 250,
}


def tables():
    """Tails that rise in score and fall in share."""
    steps = st.lists(st.tuples(st.floats(0.05, 3), st.floats(0.1, 3)), min_size=2, max_size=12)

    def table(pairs):
        scores = itertools.accumulate(step for step, _ in pairs)
        logs = itertools.accumulate(-fall for _, fall in pairs)
        return [(score, math.exp(log)) for score, log in zip(scores, logs, strict=True)]

    return steps.map(table)


@given(tail=tables(), fraction=st.floats(1e-9, 1))
def test_the_score_of_a_share_has_that_share(tail, fraction):
    law = TailLaw(tail)
    share = tail[0][1] * fraction
    assert law.share(law.threshold(share)) == pytest.approx(share, rel=1e-6)


@given(tail=tables(), scores=st.lists(st.floats(-10, 60), min_size=2, max_size=20))
def test_a_higher_score_is_never_the_likelier(tail, scores):
    law = TailLaw(tail)
    shares = [law.share(score) for score in sorted(scores)]
    assert all(0 < share <= 1 for share in shares)
    assert shares == sorted(shares, reverse=True)


@given(tail=tables(), shares=st.lists(st.floats(1e-12, 1), min_size=2, max_size=20))
def test_a_rarer_share_never_has_the_lower_score(tail, shares):
    law = TailLaw(tail)
    scores = [law.threshold(share) for share in sorted(shares)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("score", "share"), [(-1e300, 1.0), (math.inf, math.exp(-700)), (1e300, math.exp(-700))])
def test_the_ends_of_the_tail_are_probabilities(score, share):
    assert SHIPPED.share(score) == share


def test_the_measured_points_are_met():
    for score, share in shipped_priors().tail:
        assert SHIPPED.share(score) == pytest.approx(share)


def test_the_shipped_priors_are_valid():
    priors = shipped_priors()
    assert len(priors.laws) == len(HORIZONS)
    assert all(scale > 0 and math.isfinite(location) for location, scale in priors.laws)
    assert all(0 < share < 1 for _, share in priors.tail)
    assert priors.call_input_tokens > 0
    assert priors.call_output_tokens > 0
    assert len(priors.digest) == 16


def test_the_digest_names_the_file():
    one = Priors.from_json(json.dumps(GOOD))
    assert one == Priors.from_json(json.dumps(GOOD))
    assert one.digest != Priors.from_json(json.dumps({**GOOD, "call_input_tokens": 501})).digest


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tail": [[1.0, 0.5]]}, "one point has no slope"),
        ({"tail": [[2.0, 0.5], [1.0, 0.01]]}, "falls in score"),
        ({"tail": [[1.0, 0.01], [2.0, 0.5]]}, "rises in share"),
        ({"tail": [[1.0, 0.5], [1.0, 0.01]]}, "the same score twice"),
        ({"tail": None}, "no table"),
        ({"tail": [[1.0, 0.5], [2.0, 0.0]]}, "a share of zero has no logarithm"),
        ({"tail": [[1.0, 2.0], [2.0, 0.5]]}, "more than all of them"),
        ({"tail": [[1.0, 0.5], [float("inf"), 0.1]]}, "an infinite score"),
        ({"laws": [{"location": 1.0}] * 5}, "a law without a scale"),
        ({"laws": [{"location": 1.0, "scale": 0.0}] * 5}, "a scale of zero divides by it"),
        ({"laws": [{"location": float("nan"), "scale": 1.0}] * 5}, "not a number"),
        ({"laws": [{"location": 1.0, "scale": 1.0}] * 4}, "a horizon without a law"),
        ({"call_input_tokens": "many"}, "a word for a number"),
        ({"call_input_tokens": -1}, "less than nothing"),
    ],
)
def test_a_bad_priors_file_is_refused(change, why):
    with pytest.raises(ValueError, match="priors file"):
        Priors.from_json(json.dumps({**GOOD, **change}))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"laws": 1}'])
def test_what_is_no_priors_file_is_refused(text):
    with pytest.raises(ValueError, match="not a priors file"):
        Priors.from_json(text)


# ---------------------------------------------------------------- daily maxima


@given(location=st.floats(-3, 5), scale=st.floats(0.05, 4), z=st.floats(-20, 50))
def test_standardising_and_its_inverse_are_one(location, scale, z):
    law = DailyMaximum(location, scale)
    assert law.raw(law.standardise(z)) == pytest.approx(z, abs=1e-9)
    assert law.standardise(location) == pytest.approx(0, abs=1e-9)
    assert law.standardise(location + scale) == pytest.approx(1)


@pytest.mark.parametrize(("location", "scale"), [(1.0, 0.434), (2.0, 0.8), (-0.2, 1.0)])
def test_a_key_of_gumbel_days_comes_to_know_its_own_law(location, scale):
    rng = np.random.default_rng(7)
    law = DailyMaximum(1.0, 0.6)
    ends = []
    for day, peak in enumerate(rng.gumbel(location, scale, 4000)):
        law.peak = float(peak)
        law.learn_day()
        if day >= 400:
            ends.append((law.raw(0.0), law.raw(1.0) - law.raw(0.0)))
    found_location, found_scale = np.mean(ends, axis=0)
    assert found_location == pytest.approx(location, abs=0.12)
    assert found_scale == pytest.approx(scale, rel=0.2)


def test_the_exceedance_of_a_standardised_value_falls_like_an_exponential():
    rng = np.random.default_rng(3)
    law = DailyMaximum(1.0, 0.5)
    values = np.array([law.standardise(float(peak)) for peak in rng.gumbel(1.0, 0.5, 200_000)])
    for value in (2.0, 4.0, 6.0):
        assert (values > value).mean() == pytest.approx(math.exp(-value), rel=0.25)


def test_a_day_without_a_peak_teaches_nothing():
    law = DailyMaximum(1.0, 0.5)
    before = (law.mean, law.variance, law.days)
    law.learn_day()
    assert (law.mean, law.variance, law.days) == before


def test_one_monstrous_day_is_clipped():
    law = DailyMaximum(1.0, 0.5)
    law.peak = 1e6
    law.learn_day()
    assert law.mean < 1.0 + 0.58 * 0.5 + 4 * 0.65 / PRIOR_DAYS
    assert law.peak == -math.inf


def test_days_that_are_all_alike_leave_a_scale():
    law = DailyMaximum(1.0, 0.5)
    for _ in range(1000):
        law.peak = 1.0
        law.learn_day()
    assert law.raw(1.0) - law.raw(0.0) == pytest.approx(0.6 * 0.5)
