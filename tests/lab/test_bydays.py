"""What days show of a slow attack: more than clean keys do by themselves, or nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from steady_world import DAY, steady

from stream.lab.evaluation.bydays import LAG, OFFSET, PRIOR_DAYS, PRIOR_VARIANCE, _limit, _rises, seen_by_days
from stream.lab.worlds.world import Episode, World

KEYS, DAYS, FIRST = 60, 42, 30 * DAY


def attacked(times: float, family: str = "drift", length: int = 5) -> tuple[World, World]:
    """A world of keys with uneven days, of which the first gives so many times its use on top, and its twin."""
    attack = Episode(0, FIRST, FIRST + length * DAY, family, "", True, 0)
    noise = np.repeat(np.random.default_rng(8).lognormal(0.0, 0.25, (DAYS, KEYS)), DAY, axis=0)
    worlds = []
    for attacks in ((attack,), ()):
        world = steady(KEYS, DAYS, attacks=attacks, times=times, first_day=21)
        for sums in (world.input_tokens, world.output_tokens):
            sums[:] = np.rint(sums * noise)
        worlds.append(world)
    return worlds[0], worlds[1]


@pytest.mark.parametrize(("times", "seen"), [(0.05, False), (3.0, True)])
@pytest.mark.parametrize("family", ["drift", "ramp"])
def test_a_rise_is_seen_if_it_is_larger_than_what_keys_do_by_themselves(times: float, seen: bool, family: str) -> None:
    assert seen_by_days(*attacked(times, family), 1.0) == [seen]


def test_of_other_kinds_of_attacks_days_say_nothing() -> None:
    assert seen_by_days(*attacked(3.0, "surge"), 1.0) == [None]


def test_what_clean_keys_do_as_well_is_not_seen() -> None:
    world, twin = attacked(3.0)
    for one in (world, twin):
        for key in range(20, 30):  # their owners have launched something, each on another day
            one.input_tokens[(22 + key % 10) * DAY :, key] *= 12
    assert seen_by_days(world, twin, 1.0) == [False]
    assert seen_by_days(world, twin, 20.0) == [True], "with more false alerts than there are such keys"


def test_an_attack_of_the_warm_up_does_not_count() -> None:
    world, twin = attacked(3.0)
    assert seen_by_days(replace(world, first_day=35), replace(twin, first_day=35), 1.0) == []


def test_a_rise_is_told_in_deviations_of_the_weeks_before() -> None:
    tokens = np.full((40, 1), 50_000.0)
    tokens[35] = 100_000.0
    own, common = (rise[35, 0] for rise, _ in zip(_rises(tokens), range(2), strict=False))
    above = math.log1p(100_000 / OFFSET) - math.log1p(50_000 / OFFSET)
    scale = math.sqrt(1 + (1 + LAG) / (1 - LAG) / 27)
    variance = PRIOR_DAYS * PRIOR_VARIANCE / (27 - 2 + PRIOR_DAYS)
    assert own == pytest.approx(above / scale / math.sqrt(variance))
    assert common == pytest.approx(above / scale / math.sqrt(PRIOR_VARIANCE))


def test_weekends_are_compared_with_weekends_and_days_without_use_with_nothing() -> None:
    tokens = np.full((42, 2), 50_000.0)
    tokens[np.arange(42) % 7 >= 5] = 2_000.0
    tokens[21:35, 1] = 0.0
    for rise in _rises(tokens):
        assert np.abs(rise).max() < 0.1
        assert not rise[21:35, 1].any()


def test_what_comes_later_changes_nothing_of_what_was_told() -> None:
    tokens = np.random.default_rng(3).lognormal(11.0, 0.5, (42, 5)) * (np.random.default_rng(4).random((42, 5)) > 0.1)
    for whole, part in zip(_rises(tokens), _rises(tokens[:33]), strict=True):
        assert (whole[:33] == part).all()


def test_days_in_a_row_are_one_time_and_the_limit_lets_just_so_many_through() -> None:
    numbers = np.zeros((30, 3))
    numbers[3:9, 0], numbers[12, 1], numbers[20, 1], numbers[5, 2] = 5.0, 4.0, 3.0, 2.0
    for allowed, limit in enumerate((5.0, 4.0, 3.0, 2.0)):
        assert _limit(numbers, allowed) == limit
        assert _limit(numbers[:, ::-1], allowed) == limit


@pytest.mark.parametrize(("last", "seen"), [(34 * DAY, False), (34 * DAY + 1, True), (35 * DAY, True)])
def test_an_attack_is_looked_for_up_to_its_last_day(last: int, seen: bool) -> None:
    """On the day that begins with row 34 x DAY it is large, and on no other."""
    world, twin = attacked(0.0)
    world.input_tokens[34 * DAY : 35 * DAY, 0] *= 100
    attack = replace(world.attacks[0], last=last)
    assert seen_by_days(replace(world, attacks=(attack,)), twin, 1.0) == [seen]
