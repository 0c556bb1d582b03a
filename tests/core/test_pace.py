"""A key's pace: what is usual for it is learned, a restless key says little, and packing changes nothing."""

from __future__ import annotations

import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.pace import CLIP_SD, Pace

FIRST = 490_000
"""An hour of event time, in hours since 1970."""
HOURS = st.lists(
    st.tuples(
        st.integers(0, 900),  # hours that pass
        st.floats(0, 1e6),  # calls that were due
        st.floats(0, 1e6),
        st.sampled_from((0.15, 1.0)),
    ),
    max_size=40,
)


def go_on(pace: Pace, hours: list[tuple[int, float, float, float]], hour: int = FIRST) -> list[tuple[float, float]]:
    told = []
    for passed, due, calls, rate in hours:
        hour += passed
        pace.take(hour, due, calls)
        told.append(pace.departure())
        pace.learn(rate)
    return told


def days(pace: Pace, count: int, factor: float, sd: float, seed: int = 1, first: int = FIRST) -> list[float]:
    """Days of a key that is due ten calls an hour, each day at a level of its own; its departures."""
    rng = random.Random(seed)
    told = []
    for day in range(count):
        level = factor * math.exp(rng.gauss(0.0, sd))
        for hour in range(24):
            pace.take(first + 24 * day + hour, 10.0, 10.0 * level)
            told.append(pace.departure()[0])
            pace.learn(1.0)
    return told


@given(HOURS, HOURS, st.integers(0, 2000))
def test_a_pace_that_was_packed_goes_on_as_if_it_had_not_been(before, after, passed):
    pace, other = Pace(), Pace()
    go_on(pace, before)
    now = FIRST + sum(hour[0] for hour in before) + passed
    packed = pace.pack(now)
    if packed:
        other.unpack(packed, now)
    assert go_on(other, after, now) == go_on(pace, after, now)


@given(HOURS)
def test_whatever_comes_a_departure_is_a_number_within_its_bounds(hours):
    for departure, variance in go_on(Pace(), hours):
        assert 0 < variance < math.inf
        assert abs(departure) <= CLIP_SD * math.sqrt(variance) * (1 + 1e-12)


def test_a_pace_takes_10_bytes():
    pace = Pace()
    days(pace, 28, 1.0, 0.3)
    assert len(pace.pack(FIRST + 28 * 24)) == 10
    assert Pace().pack(FIRST) == b""


def test_a_restless_key_has_a_larger_variance_than_a_steady_one():
    steady, restless = Pace(), Pace()
    days(steady, 42, 1.0, 0.1)
    days(restless, 42, 1.0, 0.8)
    assert restless.departure()[1] > 2 * steady.departure()[1]


def test_a_rise_shows():
    pace = Pace()
    days(pace, 42, 1.0, 0.1)
    days(pace, 3, 1.5, 0.1, first=FIRST + 42 * 24)
    assert pace.departure()[0] > 0.15


def test_a_key_of_few_calls_says_less_than_one_of_many():
    few, many = Pace(), Pace()
    few.take(FIRST, 0.5, 1.0)
    many.take(FIRST, 500.0, 1000.0)
    assert few.departure()[1] > 2 * many.departure()[1]


@pytest.mark.parametrize("data", [b"\x00", bytes(21), bytes(200)])
def test_a_damaged_pace_is_refused(data):
    with pytest.raises(ValueError, match="damaged"):
        Pace().unpack(data, FIRST)


def test_of_a_former_version_the_window_of_hours_is_taken_up():
    """It had a second one, of a day, and told tokens too."""
    pace = Pace()
    days(pace, 20, 1.0, 0.3)
    hour = FIRST + 20 * 24
    passed, since, samples, due, came, ratio = struct.unpack("<HBB3H", pace.pack(hour))
    former, again = struct.pack("<HBB9H", passed, since, samples, due, came, 1, 2, 3, 4, ratio, 5, 6), Pace()
    again.unpack(former, hour)
    assert again.pack(hour) == pace.pack(hour)
