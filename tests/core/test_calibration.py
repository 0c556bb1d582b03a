"""From scores to rates: the tail law, and the daily maxima."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.calibration import MOST_DAYS, MOST_PEAK, PRIOR_DAYS, SCALE_FLOOR, DailyMaximum, TailLaw

POINTS = ((0.5, 0.2), (2.0, 0.01), (6.0, 1e-6))
LAW = TailLaw(POINTS)


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
    assert LAW.share(score) == share


def test_the_measured_points_are_met():
    for score, share in POINTS:
        assert LAW.share(score) == pytest.approx(share)


# ---------------------------------------------------------------- daily maxima


@given(location=st.floats(-3, 5), scale=st.floats(0.05, 4), z=st.floats(-20, 50))
def test_standardising_and_its_inverse_are_one(location, scale, z):
    law = DailyMaximum(location, scale)
    assert law.raw(law.standardise(z)) == pytest.approx(z, abs=1e-9)
    # a law is held in 16 bits
    assert law.raw(0.0) == pytest.approx(location, rel=0.002, abs=0.002 + 0.002 * scale)
    assert law.raw(1.0) - law.raw(0.0) == pytest.approx(scale, rel=0.002)


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
    assert law.raw(1.0) - law.raw(0.0) == pytest.approx(SCALE_FLOOR * 0.5, rel=0.001)


@given(peaks=st.lists(st.floats(allow_nan=False), max_size=40))
def test_no_peak_makes_a_law_that_is_none(peaks):
    law = DailyMaximum(1.0, 0.5)
    for peak in peaks:
        law.see(peak)
        assert -math.inf <= law.peak <= MOST_PEAK
        law.learn_day()
        assert math.isfinite(law.mean)
        assert law.floor <= law.variance < math.inf
    assert law.days <= MOST_DAYS


@given(zs=st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_the_days_peak_is_its_highest_in_16_bits_whatever_the_order(zs):
    peaks = []
    for order in (zs, zs[::-1], sorted(zs)):
        law = DailyMaximum(1.0, 0.5)
        for z in order:
            law.see(z)
        peaks.append(law.peak)
    assert len(set(peaks)) == 1
    assert peaks[0] == pytest.approx(max(zs), rel=0.001, abs=1e-6)


def test_a_law_goes_on_from_what_it_held():
    law, twin = DailyMaximum(1.0, 0.5), DailyMaximum(1.0, 0.5)
    for peak in (1.0, 2.5, 0.3):
        law.see(peak)
        law.learn_day()
    law.see(4.0)
    twin.restore(law.mean, law.variance, law.peak, law.days)
    for each in (law, twin):
        each.learn_day()
    assert (twin.mean, twin.variance, twin.days, twin.raw(3.0)) == (law.mean, law.variance, law.days, law.raw(3.0))


def test_a_law_of_an_earlier_version_keeps_todays_floor():
    law = DailyMaximum(1.0, 0.5)
    law.begin(1.2345678, 1e-9, 1000)
    assert law.mean == pytest.approx(1.2345678, rel=0.001)
    assert (law.variance, law.days) == (law.floor, MOST_DAYS)
