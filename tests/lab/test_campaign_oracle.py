"""Whom an oracle names: told from a simulation of what it does."""

from __future__ import annotations

import numpy as np
import pytest

from stream.lab.evaluation.campaign_oracle import LEARNED_DAYS, NAMED_SHARE, above_level, innocents_of


@pytest.mark.parametrize(
    ("members", "innocents"),
    [
        ([2.0] * 40, [2.0] * 40),
        ([0.5, 1.0, 2.0, 3.0] * 10, [0.2, 1.0, 2.0, 4.0] * 20),
        ([1.0] * 30, [0.5] * 10),
        ([5.0] * 30, [5.0] * 90),
    ],
)
def test_innocents_come_to_what_a_simulation_shows(members: list[float], innocents: list[float]) -> None:
    """Of each key a normal number, with what it would show as a member on top if it is one."""
    rng = np.random.default_rng(1)
    mine, theirs = np.array(members), np.array(innocents)
    shown = mine * (rng.standard_normal((4000, len(mine))) + mine) - mine**2 / 2
    others = theirs * rng.standard_normal((4000, len(theirs))) - theirs**2 / 2
    limit = np.quantile(shown, 1 - NAMED_SHARE)
    right, wrong = (float((values > limit).mean(axis=0).sum()) for values in (shown, others))
    assert innocents_of(members, innocents) == pytest.approx(wrong / (wrong + right), abs=0.015)


def test_where_there_are_none_none_are_named_and_where_nothing_is_seen_all_alike() -> None:
    assert innocents_of([1.0] * 20, []) == 0.0
    assert innocents_of([1e-3] * 20, [1e-3] * 20) == pytest.approx(0.5, abs=0.01)
    assert innocents_of([60.0] * 20, [60.0] * 20) == pytest.approx(0.0, abs=1e-6)


def test_the_more_each_member_shows_the_fewer_innocents_are_named() -> None:
    shares = [innocents_of([shown] * 20, [shown] * 40) for shown in (0.1, 0.5, 1.0, 2.0, 4.0)]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("rise", [[0.5], [0.4] * 17, [0.1, 0.5, 1.5, 0.5], [1.0, 0.0, 0.0, 1.0], [0.3, -0.2, 0.4]])
def test_a_rise_shows_what_a_fit_of_it_and_of_the_level_leaves_of_it(rise: list[float]) -> None:
    """By the variance of least squares: with days enough before it all of it, with none only how uneven it is."""
    shape = np.array([0.0] * LEARNED_DAYS + rise)
    columns = np.stack([np.ones(len(shape)), shape], axis=1)
    deviation = np.sqrt(np.linalg.inv(columns.T @ columns)[1, 1])
    assert above_level(np.array([0.0, *rise, 0.0])) == pytest.approx(1 / deviation)


def test_nothing_shows_nothing() -> None:
    assert above_level(np.zeros(9)) == 0.0
