"""Any single series: nothing of the future, nothing that crashes, no storms, and what is plainly odd is found."""

from __future__ import annotations

import math
import pickle
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.core.series import HOLD_VALUES, SEASONED_VALUES, YOUNG_VALUES, Judgement, Series, Tail

START = 1_772_409_600.0
STEP = 300.0
VALUES = st.lists(
    st.none() | st.floats() | st.floats(-1e3, 1e3) | st.sampled_from([0.0, 1.0, 1e308, -1e308, 5e-324]),
    min_size=1,
    max_size=400,
)


def judge(values, step=STEP, start=START) -> list[Judgement | None]:
    series = Series()
    return [series.judge(start + step * i, value) for i, value in enumerate(values)]


def alerts(values, step=STEP) -> list[int]:
    return [i for i, said in enumerate(judge(values, step)) if said is not None and said.alert]


def noise(count, seed=0, spread=1.0, level=0.0) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(level, spread) for _ in range(count)]


def daily(count, seed=0) -> list[float]:
    return [
        100 + 40 * math.sin(2 * math.pi * i * STEP / 86_400) + extra for i, extra in enumerate(noise(count, seed, 3))
    ]


@given(VALUES)
@example([1.0] * 200 + [1e308, -1e308] * 20)
@example([0.0] * 200 + [5e-324] + [1e308])
def test_whatever_the_values_the_numbers_are_finite_and_the_score_between_0_and_1(values) -> None:
    for said in judge(values):
        if said is not None:
            assert all(map(math.isfinite, (said.expected, said.lower, said.upper)))
            assert said.lower <= said.expected <= said.upper
            assert 0 <= said.score <= 1
            assert said.alert == (said.score >= 0.5)


@given(VALUES, st.integers(0, 400), st.floats(-1e6, 1e6))
def test_what_is_said_of_a_value_does_not_depend_on_what_comes_after_it(values, cut, other) -> None:
    values, rest = values[:cut], values[cut:]
    said = judge(values)
    assert judge(values + rest)[: len(values)] == said
    assert judge([*values, other, *rest])[: len(values)] == said


@given(st.lists(st.floats(-1e6, 1e6), min_size=300, max_size=300), st.sampled_from([-1.0, 4.0, 1 / 1024]))
def test_unit_and_sign_do_not_matter(values, factor) -> None:
    """Powers of two, so that not even the rounding differs."""
    plain, scaled = judge(values), judge([factor * value for value in values])
    assert [one.score for one in plain] == [one.score for one in scaled]


@given(VALUES, st.sets(st.integers(0, 399)))
def test_a_missing_value_scores_nothing_and_teaches_nothing_but_its_time(values, places) -> None:
    holed = [None if i in places else value for i, value in enumerate(values)]
    nan = [math.nan if i in places else value for i, value in enumerate(values)]
    said = judge(holed)
    assert judge(nan) == said
    assert all(one is None or not one.score for one, value in zip(said, holed, strict=True) if value is None)
    kept = Series()
    there = [(i, v) for i, v in enumerate(holed) if v is not None and math.isfinite(v)]
    for i, value in there:
        assert kept.judge(START + STEP * i, value) == said[i]


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5, 0.1, 1e200, 1 / 3])
def test_a_constant_series_never_alerts_and_its_first_change_does(value) -> None:
    said = judge([value] * 2_000)
    assert not any(one.score for one in said)
    assert (said[-1].lower, said[-1].expected, said[-1].upper) == pytest.approx((value,) * 3)
    assert alerts([value] * 2_000 + [value / 2 + 1] + [value] * 1_000)[0] == 2_000


def test_a_series_of_zeros_and_rare_ones_is_no_storm() -> None:
    draw = random.Random(3)
    found = alerts([float(draw.random() < 0.002) for _ in range(20_000)])
    assert 1 <= len(found) < 60


@pytest.mark.parametrize(
    "law",
    [
        lambda d: d.gauss(0, 1),
        lambda d: d.random(),
        lambda d: d.expovariate(1),
        lambda d: float(int(d.expovariate(0.3))),
        lambda d: d.lognormvariate(0, 1),
        lambda d: d.paretovariate(1.5),
        lambda d: -d.lognormvariate(0, 1.5),
    ],
    ids=["normal", "even", "exponential", "counts", "lognormal", "pareto", "negative"],
)
def test_noise_of_any_law_alerts_at_most_about_once_in_400_values(law) -> None:
    draw = random.Random(11)
    assert len(alerts([law(draw) for _ in range(20_000)])) <= 50


def test_a_random_walk_is_no_storm() -> None:
    values, level = [], 0.0
    for change in noise(8_000, 5):
        level += change
        values.append(level)
    assert len(alerts(values)) <= 20


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", [0.0, 1_000.0, -1_000.0])
def test_a_single_spike_up_or_down_alerts_at_once_and_only_once(sign, level) -> None:
    values = noise(3_000, 2, level=level)
    values[2_500] += sign * 12
    found = alerts(values)
    assert 2_500 in found
    assert not any(2_500 < i <= 2_500 + HOLD_VALUES for i in found)


def test_a_spike_does_not_deafen() -> None:
    values = noise(6_000, 4)
    values[2_000] = 1e9
    values[2_600] = values[5_000] = 15.0
    assert {2_000, 2_600, 5_000} <= set(alerts(values))


def test_a_lasting_step_alerts_when_it_begins_and_is_learned() -> None:
    values = noise(2_000, 6) + noise(6_000, 7, level=30.0)
    found = alerts(values)
    assert 2_000 in found
    assert len([i for i in found if i > 2_000]) < 12
    assert judge(values)[-1].expected == pytest.approx(30, abs=1)


def test_a_drift_that_no_value_shows_by_itself_is_found() -> None:
    """A shift by two standard deviations stays within the band, yet fifty such values in a row do not happen."""
    values = noise(4_000, 8) + noise(100, 9, level=2.0)
    quiet = alerts(noise(4_100, 8))
    assert [i for i in alerts(values) if i >= 4_000]
    assert not [i for i in quiet if i >= 4_000]


def test_a_season_is_learned_and_a_usual_value_at_an_odd_time_is_found() -> None:
    values = daily(288 * 20)
    middle = 288 * 18 + 216  # at the lowest point of the day
    assert values[middle] < 70
    values[middle] = 130.0  # reached every day, at another time
    said = judge(values)
    assert said[middle].alert
    assert said[middle].expected == pytest.approx(60, abs=10)
    assert len(alerts(daily(288 * 20))) < 12


def test_a_daily_series_has_a_week() -> None:
    values = [20.0 if i % 7 in (2, 3) else 100.0 + extra for i, extra in enumerate(noise(400, 1, 2))]
    said = judge(values, step=86_400.0)
    assert [round(one.expected, -1) for one in said[-7:]] == [
        20.0 if i % 7 in (2, 3) else 100.0 for i in range(393, 400)
    ]
    values[-2 if (398 % 7) not in (2, 3) else -1] = 20.0
    assert alerts(values, step=86_400.0)[-1] >= 398


def test_a_gap_of_days_does_not_make_a_daily_series() -> None:
    series = Series()
    for i, value in enumerate(daily(288 * 10)):
        series.judge(START + STEP * i, value)
    later = START + STEP * 288 * 13 + 72 * STEP  # three days on, at the highest point of the day
    said = series.judge(later, 140.0)
    assert said.expected == pytest.approx(140, abs=6)
    assert not said.alert


def test_nothing_counts_while_a_series_is_young() -> None:
    values = noise(1_000, 12)
    for i in (5, YOUNG_VALUES - 2, YOUNG_VALUES + 10, SEASONED_VALUES - 2):
        values[i] = 100.0
    assert all(i >= SEASONED_VALUES - 1 for i in alerts(values))
    slow = noise(YOUNG_VALUES + 20, 13)
    slow[-1] = 50.0
    assert alerts(slow, step=3_600.0)[-1:] == [YOUNG_VALUES + 19]


@given(st.integers(0, 2**32), st.floats(0.1, 3))
def test_beyond_the_band_a_value_alerts_unless_it_is_held_or_young(seed, spread) -> None:
    draw = random.Random(seed)
    last = -HOLD_VALUES
    values = [draw.lognormvariate(0, spread) for _ in range(600)]
    for i, (value, one) in enumerate(zip(values, judge(values), strict=True)):
        if one.score:
            last = i
        beyond = not one.lower <= value <= one.upper
        assert one.alert or not beyond or i < SEASONED_VALUES or i - last <= HOLD_VALUES


def test_the_memory_does_not_grow() -> None:
    series = Series()
    sizes = []
    for i, value in enumerate(noise(20_000, 14)):
        series.judge(START + STEP * i, value)
        if i in (1_000, 19_999):
            sizes.append(len(pickle.dumps(series)))
    assert sizes[1] <= sizes[0] + 100  # whole numbers of more digits


def test_a_tail_law_gives_a_surprise_that_its_reach_undoes() -> None:
    law = Tail()
    draw = random.Random(15)
    for _ in range(5_000):
        law.learn(abs(draw.gauss(0, 1)))
    assert law.surprise(law.reach(9.0)) == pytest.approx(9.0)
    assert law.surprise(2.0) == 0.0
    assert law.surprise(3.3) == pytest.approx(-math.log(0.001), abs=1.0)
