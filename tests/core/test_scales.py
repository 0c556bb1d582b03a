"""What is usual for a residual: learned from what is above the mean, slow to believe what is unusual."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.scales import (
    FREEZE_RATE,
    FREEZE_Z,
    MIN_SHARE,
    PRIOR_DAYS,
    SCALE_DAYS,
    YOUNG_DAYS,
    Scales,
    rate_of,
)

PRIOR = 0.5


def taught(residuals, rate=0.01):
    scales = Scales((PRIOR,))
    for residual in residuals:
        scales.learn(0, residual, scales.standardise(0, residual), rate)
    return scales


def sd(scales):
    return math.sqrt(scales.variance[0])


@pytest.mark.parametrize("spread", [0.3, 0.5, 1.0])
def test_the_spread_of_a_normal_residual_is_found(spread):
    rng = random.Random(3)
    scales = taught((rng.gauss(0.2, spread) for _ in range(20_000)), rate=0.002)
    assert scales.mean[0] == pytest.approx(0.2, abs=0.1)
    assert sd(scales) == pytest.approx(spread, rel=0.15)


def test_the_quiet_side_teaches_the_mean_but_not_the_variance():
    scales = Scales((PRIOR,))
    scales.learn(0, -0.4, -0.8, 0.1)
    assert scales.mean[0] < 0
    assert sd(scales) == pytest.approx(PRIOR)


def test_what_is_far_above_the_scale_is_believed_slowly():
    moved = []
    for z in (FREEZE_Z, FREEZE_Z + 0.01):
        scales = Scales((PRIOR,))
        scales.learn(0, 0.4, z, 0.1)
        moved.append(scales.mean[0])
    assert moved[1] / moved[0] == pytest.approx(FREEZE_RATE, rel=1e-3)


def test_a_key_that_is_constant_keeps_a_share_of_its_scale():
    scales = taught([1e-9, 0.0] * 50_000, rate=0.05)
    assert sd(scales) == pytest.approx(MIN_SHARE * PRIOR)


@given(residuals=st.lists(st.floats(-700, 700), max_size=60), rate=st.floats(1e-6, 0.2))
def test_no_residual_makes_a_scale_that_is_none(residuals, rate):
    scales = taught(residuals, rate)
    assert math.isfinite(scales.mean[0])
    assert MIN_SHARE * PRIOR * 0.999 <= sd(scales) < math.inf


def test_the_older_a_key_the_slower_it_learns_and_never_slower_than_its_memory():
    rates = [rate_of(age, 96) for age in (0, 1, 5, 13.9, YOUNG_DAYS, 100, 10_000)]
    assert rates[0] == pytest.approx(1 / (PRIOR_DAYS * 96))
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1 / (SCALE_DAYS * 96))
