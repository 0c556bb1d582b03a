"""A key's days: what lasts shows while it is newer than what it is compared with, and packing changes nothing."""

from __future__ import annotations

import math
import random

import pytest
from core_streams import HOUR, Run, log_of
from hypothesis import given
from hypothesis import strategies as st

from stream.core.days import CLIP_SD, COUNT, OFFSET, PER_UNIT, SILENT, WEEK, WEEKS, WINDOWS, Days
from stream.events import Call

FIRST = 20_417
"""In days since 1970."""
USE = st.lists(
    st.tuples(
        st.integers(0, 40),  # days that pass
        st.floats(0, 1e12),  # tokens
        st.sampled_from((0.15, 1.0)),
    ),
    max_size=60,
)


def go_on(days: Days, use: list[tuple[int, float, float]], day: int = FIRST) -> list[object]:
    told: list[object] = []
    for passed, tokens, rate in use:
        day += passed
        days.take(day, tokens, rate)
        told += days.departures()
    return told


def live(days: Days, count: int, *, tokens: float = 5e4, sd: float = 0.1, weekend: float = 0.3, first: int = 0) -> None:
    """So many days of a key that uses some tokens a day, on two days of seven fewer."""
    rng = random.Random(first)
    for day in range(first, first + count):
        level = tokens * (weekend if day % 7 >= 5 else 1.0) * math.exp(rng.gauss(0.0, sd))
        for _ in range(2):
            days.take(FIRST + day, level / 2, 1.0)


@given(USE, USE, st.integers(0, 90))
def test_days_that_were_packed_go_on_as_if_they_had_not_been(before, after, passed):
    days, other = Days(), Days()
    go_on(days, before)
    now = FIRST + sum(passed for passed, *_ in before) + passed
    packed = days.pack(now)
    if packed:
        other.unpack(packed, now)
    assert go_on(other, after, now) == go_on(days, after, now)


@given(USE)
def test_whatever_comes_a_departure_is_a_number_within_its_bounds(use):
    for departure, variance in go_on(Days(), use):
        assert variance > 0
        assert abs(departure) <= CLIP_SD * math.sqrt(variance) * (1 + 1e-12)


def test_days_take_36_bytes():
    days = Days()
    live(days, 40)
    assert len(days.pack(FIRST + 40)) == 36
    assert Days().pack(FIRST) == b""


def test_nothing_is_said_before_there_is_a_day_to_compare_with():
    days = Days()
    live(days, 9)  # eight are over, of which the first is not whole
    assert days.departures() == []
    live(days, 1, first=9)
    assert [math.isinf(variance) for _, variance in days.departures()] == [False, True, True]


def test_the_last_week_is_compared_once_half_of_its_days_can_be():
    days = Days()
    live(days, 12)
    assert math.isinf(days.departures()[2][1])
    live(days, 1, first=12)
    assert not any(math.isinf(variance) for _, variance in days.departures())


def test_weekends_are_compared_with_weekends():
    for day in range(22, 43):
        days = Days()
        live(days, day, sd=0.02)
        assert all(abs(departure) < 0.15 for departure, _ in days.departures())


@pytest.mark.parametrize("age", [2, 7, 13, 20])
def test_what_lasts_shows_until_the_weeks_before_have_it_too(age):
    """A baseline has learned it by then."""
    days = Days()
    live(days, 30, sd=0.02)
    live(days, age + 1, tokens=7.5e4, sd=0.02, first=30)

    def new(window: int) -> float:
        """How much of it is not in the days that the last ones are compared with: a week makes a third of it usual."""
        shares = [1 - (age - back) // WEEK / WEEKS if back <= age else 0.0 for back in range(1, window + 1)]
        return sum(shares) / window

    for (departure, _), window in zip(days.departures(), WINDOWS, strict=True):
        assert departure == pytest.approx(new(window) * math.log(1.5), abs=0.09)


def weeks(*tokens: float) -> Days:
    """A key that used as much on each day of a week, week by week, and has one call on the day after them."""
    days = Days()
    for week, amount in enumerate(tokens):
        for day in range(WEEK):
            days.take(FIRST + WEEK * week + day, amount, 1.0)
    days.take(FIRST + WEEK * len(tokens), 1.0, 1.0)
    return days


def test_days_are_compared_with_the_mean_of_three_weeks():
    expected = math.log(51 / (41 * 45 * 91) ** (1 / 3))
    assert weeks(4e4, 4.4e4, 9e4, 5e4).departures()[0][0] == pytest.approx(expected, abs=1 / PER_UNIT)


def test_of_what_is_new_a_third_is_left_at_most_after_two_weeks():
    """Of a large rise it may be less: the one week without it looks like one off."""
    assert weeks(4e4, 4e4, 4e4, 1.6e5).departures()[0][0] > 0.7
    for times in (2, 4, 16):
        assert weeks(4e4, 4e4, *[times * 4e4] * 3).departures()[0][0] <= math.log(times) / 3 + 1 / PER_UNIT


def test_what_was_low_for_two_weeks_is_what_the_third_is_compared_with():
    expected = math.log(51) - (2 * math.log(11) + math.log(51)) / 3
    assert weeks(5e4, 1e4, 1e4, 5e4).departures()[0][0] == pytest.approx(expected, abs=1 / PER_UNIT)


def test_what_has_lasted_for_longer_is_usual():
    days = Days()
    live(days, 30, sd=0.02)
    live(days, 35, tokens=7.5e4, sd=0.02, first=30)
    assert all(abs(departure) < 0.1 for departure, _ in days.departures())


@pytest.mark.parametrize("later", [8, 15, 22])
@pytest.mark.parametrize("left", [0.0, 2e3])
@pytest.mark.parametrize("age", [8, 9, 10, 30])
def test_a_day_off_makes_no_rise_of_what_is_usual_weeks_later(age, later, left):
    """Be it that nobody worked, or that little of it was heard; of a key's second week, too."""
    days = Days()
    live(days, age, sd=0.02)
    days.take(FIRST + age, left, 1.0)
    live(days, later, sd=0.02, first=age + 1)
    assert max(departure for departure, _ in days.departures()) < 0.1


def test_a_day_as_low_as_many_of_a_restless_key_is_none_off():
    """Else what is usual for it would lie above most of its days."""
    steady, restless = Days(), Days()
    live(steady, 60, sd=0.1, weekend=1.0)
    live(restless, 60, sd=0.9, weekend=1.0)
    for days in (steady, restless):
        for day in range(4 * WEEK):
            days.take(FIRST + 60 + day, 1.5e4 if day == WEEK - 1 else 5e4, 1.0)
        days.take(FIRST + 60 + 4 * WEEK, 1.0, 1.0)
    for days, expected in ((steady, 0.0), (restless, math.log(51 / 16) / 3)):
        assert days.departures()[0][0] == pytest.approx(expected, abs=1 / PER_UNIT)


def test_a_key_that_is_used_now_and_then_stands_out_only_by_what_it_uses():
    days, rng = Days(), random.Random(5)
    told = []
    for day in range(120):
        if rng.random() < 0.6:
            days.take(FIRST + day, 5e4 * math.exp(rng.gauss(0.0, 0.1)), 1.0)
            told += [departure for departure, variance in days.departures() if not math.isinf(variance)]
    assert len(told) > 10
    assert max(abs(departure) for departure in told) < 0.5


def test_a_holiday_makes_nobody_restless():
    days = Days()
    live(days, 40, sd=0.1)
    before = days.ratio
    live(days, 5, sd=0.1, first=55)
    assert days.ratio == pytest.approx(before, rel=0.2)


def test_a_restless_key_has_a_larger_variance_than_a_steady_one():
    steady, restless = Days(), Days()
    live(steady, 60)
    live(restless, 60, sd=0.9)
    for (_, small), (_, large) in zip(steady.departures(), restless.departures(), strict=True):
        assert large > 2 * small


def test_a_key_of_few_tokens_says_less_than_one_of_many():
    few, many = Days(), Days()
    live(few, 30, tokens=1e3)
    live(many, 30, tokens=1e6)
    assert few.departures()[0][1] > 2 * many.departures()[0][1]


def test_while_an_incident_is_open_little_is_learned_of_how_far_days_lie_apart():
    open_one, calm = Days(), Days()
    for days, rate in ((open_one, 0.15), (calm, 1.0)):
        live(days, 30)
        for day in range(30, 38):
            days.take(FIRST + day, 1.5e6, rate)
    assert open_one.departures()[0][1] < calm.departures()[0][1]


def test_days_without_a_call_count_as_such_and_a_silent_yesterday_says_nothing():
    days = Days()
    live(days, 30)
    days.take(FIRST + 35, 5e4, 1.0)
    assert days.departures() == []
    days.take(FIRST + 36, 5e4, 1.0)
    assert days.departures()[0][0] == pytest.approx(0.0, abs=1.3)
    assert len(days.departures()) == COUNT
    assert days.past.endswith(bytes((1, 1, 1, 1, days.past[-1])))


def test_what_was_accepted_is_compared_with_what_comes_after_it():
    days = Days()
    live(days, 30, sd=0.02)
    live(days, 8, tokens=2e5, sd=0.02, first=30)
    days.accept()
    live(days, 8, tokens=2e5, sd=0.02, first=38)
    assert days.departures() == []
    live(days, 1, tokens=4e5, sd=0.02, first=46)
    assert abs(days.departures()[0][0]) < 0.2
    live(days, 1, tokens=4e5, sd=0.02, first=47)
    assert days.departures()[0][0] == pytest.approx(math.log(2), abs=0.2)


@pytest.mark.parametrize("crash", [False, True])
def test_a_call_counts_to_the_day_of_its_bucket_to_the_last_one_of_the_day(crash: bool):
    """Two calls a day, the later one in its last hour; with `crash` each is read by another owner."""
    tokens = {(day, hour): 1000 * (3 * day + hour + 1) for day in range(3) for hour in (9, 23)}
    stream = []
    for (day, hour), amount in {**tokens, (3, 0): 7, (3, 5): 0}.items():
        at = (FIRST + day) * 24 * HOUR + hour * HOUR + 60
        stream.append((at, Call(event_id=f"{day}-{hour}", time=at, key_id="k", input_tokens=amount, output_tokens=0)))
    log, run = log_of(stream), Run()
    for position in range(len(log)):
        run.observe(log, position)
        run.flush()
        if crash:
            run.crash()
    keys = run.shard._keys
    key = keys.held.get("k") or keys.wake("k")
    assert key is not None
    days = key.days
    assert (days.day, days.today[0]) == (FIRST + 3, 7.0)
    # the first day has begun somewhere: it counts as silent
    told = [sum(tokens[day, hour] for hour in (9, 23)) for day in (1, 2)]
    assert list(days.past[-3:]) == [SILENT, *(SILENT + round(math.log1p(t / OFFSET) * PER_UNIT) for t in told)]


@pytest.mark.parametrize("data", [b"\x00", bytes(35), bytes(200), b"\xff" * 36])
def test_damaged_days_are_refused(data):
    with pytest.raises(ValueError, match="damaged"):
        Days().unpack(data, FIRST)
