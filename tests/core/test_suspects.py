"""Whom a campaign names: by hours at first, by days once enough of them are known."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.evidence import IS_YOUNG, REFUSED, Member
from stream.core.suspects import LEAST_PRECISION, Suspect, named, suspect

numbers = st.floats(-3, 3)


def of_hours(hours: int, *, rise: float = 1.5, members: int = 20, innocents: int = 60) -> dict[str, Suspect]:
    """What a group's keys told hour by hour, some of which take more."""
    rng = random.Random(5)
    suspects: dict[str, Suspect] = {}
    for hour in range(hours):
        its = [Member(f"m-{n}", rng.gauss(rise, 1), 0.0, 0.0, 0.0, 0) for n in range(members)]
        its += [Member(f"i-{n}", rng.gauss(0, 1), 0.0, 0.0, 0.0, 0) for n in range(innocents)]
        suspect(suspects, its, hour)
    return suspects


def told(departures: Sequence[float], precision: float = 2.0, hours: int = 24) -> Suspect:
    """A key that told so much of each of its days, once in each of so many hours."""
    suspects: dict[str, Suspect] = {}
    for day, departure in enumerate(departures):
        for hour in range(hours):
            suspect(suspects, [Member("k", 0.0, 1.0, 0.0, 0.0, 0, departure, precision)], 24 * day + hour)
    return suspects["k"]


def test_of_a_mixture_those_are_named_that_rose():
    chosen = set(named(of_hours(48), "more"))
    assert len(chosen & {f"m-{n}" for n in range(20)}) >= 18
    assert len(chosen - {f"m-{n}" for n in range(20)}) <= 2


def test_a_member_that_only_tells_of_its_block_says_nothing_of_what_it_took():
    suspects: dict[str, Suspect] = {}
    suspect(suspects, [Member("k", 1.2, 500.0, 3.0, 6.0, 0)], 1)
    suspect(suspects, [Member("k", 0.0, 0.0, 3.0, 6.0, REFUSED), Member("l", 0.0, 0.0, 3.0, 6.0, REFUSED)], 2)
    assert (suspects["k"].mean, suspects["k"].times, [*suspects]) == (1.2, 1, ["k"])


@pytest.mark.parametrize("hours", [1, 5, 24])
def test_a_day_counts_once_however_often_it_is_told(hours):
    one = told([0.5, -0.25, 1.0], hours=hours)
    assert (one.precision, one.weighted, one.first, one.day) == (6.0, 2.5, 0, 2)


def test_a_day_shows_less_once_what_it_is_compared_with_has_risen_as_well():
    """A rise of 0.6 is one of 0.4 after a week, of 0.2 after two, and none after three: the mean says 0.6 all the same.

    Each counts for the square of that: days that show nothing weigh nothing.
    """
    one = told([0.6] * 7 + [0.4] * 7 + [0.2] * 7 + [0.0] * 7)
    assert one.weighted / one.precision == pytest.approx(0.6)
    assert one.precision == pytest.approx(2.0 * 7 * (1 + 4 / 9 + 1 / 9))


def test_a_day_of_which_nothing_is_known_counts_for_nothing():
    suspects: dict[str, Suspect] = {}
    suspect(suspects, [Member("k", 1.0, 0.0, 0.0, 0.0, 0)], 0)
    suspect(suspects, [Member("k", 1.0, 0.0, 0.0, 0.0, 0, 0.5, 2.0)], 5)
    assert (suspects["k"].precision, suspects["k"].day) == (2.0, 0), "known later on the same day"


def by_days(
    days: int, rise: float, spread: Sequence[float] = (0.7,), members: int = 20, innocents: int = 20
) -> dict[str, Suspect]:
    """Keys that tell their days, of such standard deviations by turns; hours say nothing."""
    rng = random.Random(11)
    suspects: dict[str, Suspect] = {}
    for day in range(days):
        its = []
        for name, above, count in (("m", rise, members), ("i", 0.0, innocents)):
            for n in range(count):
                sd = spread[n % len(spread)]
                its.append(Member(f"{name}-{n}", 0.0, 0.0, 0.0, 0.0, 0, rng.gauss(above, sd), sd**-2))
        suspect(suspects, its, 24 * day + 9)
    return suspects


def test_days_say_who_takes_half_as_much_again_where_hours_no_longer_do():
    chosen = set(named(by_days(21, 0.4, spread=(0.4,)), "more"))
    assert len(chosen & {f"m-{n}" for n in range(20)}) >= 18
    assert len(chosen - {f"m-{n}" for n in range(20)}) <= 2


def test_a_restless_key_needs_more_than_a_steady_one():
    """Of the same departure, where most keys are innocent."""
    suspects = by_days(14, 0.4, spread=(0.4,), members=6, innocents=40)
    suspects["steady"] = Suspect(0.0, 1, 0.0, 0, 0, weighted=0.5 * 40, precision=40.0, day=13)
    suspects["restless"] = Suspect(0.0, 1, 0.0, 0, 0, weighted=0.5 * 6, precision=6.0, day=13)
    assert {"steady", "restless"}.intersection(named(suspects, "more")) == {"steady"}


def test_hours_decide_about_those_whose_days_are_not_known():
    """Accounts that slept for weeks have no days to compare with, and may well be what wakes them."""
    suspects = of_hours(48) | by_days(14, 0.6)
    days = {f"m-{n}" for n in range(20)}
    awake = {f"awake-{n}": Suspect(30.0, 20, 9e9, 0, 47) for n in range(5)}
    few = {"few": Suspect(30.0, 20, 8e9, 0, 47, weighted=-0.9 * LEAST_PRECISION, precision=0.9 * LEAST_PRECISION)}
    calm = {"calm": Suspect(30.0, 20, 0.0, 0, 47, weighted=-0.1 * LEAST_PRECISION, precision=LEAST_PRECISION)}
    chosen = named({**suspects, **awake, **few, **calm}, "more")
    assert chosen[:6] == [*awake, "few"], "the strongest first"
    assert "calm" not in chosen
    assert len(days.intersection(chosen)) >= 18


def test_who_moved_to_another_model_is_left_to_the_hours():
    suspects = of_hours(48, innocents=20)
    for key_id, one in suspects.items():
        one.weighted, one.precision = (0.0, 30.0) if key_id.startswith("m") else (30.0, 30.0)
    assert {key_id[0] for key_id in named(suspects, "moved")} == {"m"}
    assert {key_id[0] for key_id in named(suspects, "more")} == {"i"}


def test_where_days_name_nobody_hours_do():
    """A campaign that names nobody helps nobody."""
    suspects = of_hours(48, innocents=20)
    for one in suspects.values():
        one.weighted, one.precision = -3.0, 30.0
    assert len(named(suspects, "more")) >= 18


def test_of_new_accounts_all_are_named_whatever_their_days_say():
    suspects = by_days(14, 0.0, members=3, innocents=0)
    suspects["m-1"].notes = IS_YOUNG
    assert named(suspects, "new") == ["m-1"]
    assert named({}, "more") == named({}, "new") == []


@given(
    st.lists(st.tuples(numbers, st.integers(1, 99), numbers, st.floats(0, 1e6)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_whoever_shows_more_is_named_before_whoever_shows_less(keys, rng):
    """With the same precision; and in whatever order they came."""
    suspects = {
        f"{n:02}": Suspect(z * times, times, 0.0, 0, 0, weighted=m * precision, precision=precision)
        for n, (z, times, m, precision) in enumerate(keys)
    }
    chosen = named(suspects, "more")
    mixed = [*suspects.items()]
    rng.shuffle(mixed)
    assert sorted(named(dict(mixed), "more")) == sorted(chosen)
    days = [one for one in suspects.values() if one.precision >= LEAST_PRECISION]
    for one in days:
        for other in days:
            if other.precision == one.precision and other.weighted > one.weighted and key_of(one, suspects) in chosen:
                assert key_of(other, suspects) in chosen


def key_of(one: Suspect, suspects: dict[str, Suspect]) -> str:
    """Whose it is."""
    return next(key_id for key_id, its in suspects.items() if its is one)


def test_what_a_former_version_wrote_of_a_member_tells_nothing_of_its_days():
    read = msgspec.msgpack.decode(msgspec.msgpack.encode([1.5, 3, 9.0, 0, 77]), type=Suspect)
    assert read == Suspect(1.5, 3, 9.0, 0, 77)
    assert (read.precision, read.first, read.day) == (0.0, -1, -1)
    written = msgspec.msgpack.encode(Suspect(1.5, 3, 9.0, 0, 77, 0.5, 2.5, 2, 3))
    assert msgspec.msgpack.decode(written, type=Suspect) == Suspect(1.5, 3, 9.0, 0, 77, 0.5, 2.5, 2, 3)
