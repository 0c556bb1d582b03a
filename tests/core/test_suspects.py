"""Whom a campaign names: by hours at first, by days once enough of them are known."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.evidence import IS_YOUNG, REFUSED, Member
from stream.core.suspects import FADING, LEAD_DAYS, LEAST_PRECISION, MOST_SUSPECTS, Suspect, named, suspect

BEGUN = 24 * LEAD_DAYS
"""When a campaign opens that has begun on the day 0."""


def of_hours(hours: int, *, rise: float = 1.5, members: int = 20, innocents: int = 60) -> dict[str, Suspect]:
    """What a group's keys told hour by hour, some of which take more."""
    rng = random.Random(5)
    suspects: dict[str, Suspect] = {}
    for hour in range(hours):
        its = [Member(f"m-{n}", rng.gauss(rise, 1), 0.0, 0.0, 0.0, 0) for n in range(members)]
        its += [Member(f"i-{n}", rng.gauss(0, 1), 0.0, 0.0, 0.0, 0) for n in range(innocents)]
        suspect(suspects, its, hour)
    return suspects


def told(departures: Sequence[float], precision: float = 2.0, hours: int = 24, **said: float) -> Suspect:
    """A key that told so much of each of its days, once in each of so many hours; its group has a campaign."""
    suspects: dict[str, Suspect] = {}
    for day, departure in enumerate(departures):
        for hour in range(hours):
            member = Member("k", 0.0, 1.0, 0.0, 0.0, 0, departure, precision)
            suspect(suspects, [member], 24 * day + hour, since=BEGUN, **said)
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
    assert (one.precision, one.weighted, one.day) == (6.0, 2.5, 2)


def test_a_day_shows_less_once_what_it_is_compared_with_has_risen_as_well():
    """A rise of 0.6 is one of 0.4 after a week, of 0.2 after two, and none after three: the mean says 0.6 all the same.

    Each counts for the square of that; then all begins anew.
    """
    rise = [0.6] * 7 + [0.4] * 7 + [0.2] * 7
    one = told(rise)
    assert one.weighted / one.precision == pytest.approx(0.6)
    assert one.precision == pytest.approx(2.0 * 7 * (1 + 4 / 9 + 1 / 9))
    anew = told([*rise, 0.3])
    assert (anew.weighted, anew.precision) == (0.6, 2.0)
    late = told([*rise, *[0.0] * 7, 0.2])
    assert (late.weighted, late.precision) == pytest.approx((2 / 3 * 2.0 * 0.2, 2.0 * (7 + 4 / 9)))


def test_what_days_told_before_there_was_a_campaign_fades():
    suspects: dict[str, Suspect] = {}
    for day in range(40):
        suspect(suspects, [Member("k", 0.0, 0.0, 0.0, 0.0, 0, 0.5, 2.0)], 24 * day + 5)
    one = suspects["k"]
    assert one.precision == pytest.approx(2.0 / (1 - FADING), rel=1e-3)
    assert one.weighted / one.precision == pytest.approx(0.5)
    suspect(suspects, [Member("k", 0.0, 0.0, 0.0, 0.0, 0, 0.5, 2.0)], 24 * 40, since=24 * 39)
    assert one.precision == pytest.approx(2.0 / (1 - FADING) + 2.0, rel=1e-3)


def test_what_all_other_keys_do_at_the_same_time_is_nobodys_own():
    one = told([0.5] * 3, others=0.3)
    assert one.weighted / one.precision == pytest.approx(0.2)


def test_a_day_that_was_cut_short_by_a_block_says_nothing():
    suspects: dict[str, Suspect] = {}
    suspect(suspects, [Member("k", 1.0, 5.0, 0.0, 0.0, REFUSED, -2.0, 2.0)], 5)
    assert (suspects["k"].times, suspects["k"].precision, suspects["k"].day) == (1, 0.0, -1)


def test_what_a_member_has_taken_does_not_come_back_with_less_use():
    suspects: dict[str, Suspect] = {}
    for hour, excess in enumerate((-3.0, 10.0, 5.0, -9.0, 6.0, 1.0)):
        suspect(suspects, [Member("k", 1.0, excess, 0.0, 0.0, 0)], hour)
    assert (suspects["k"].excess, suspects["k"].net) == (12.0, 10.0)


def test_a_day_of_which_nothing_is_known_counts_for_nothing():
    suspects: dict[str, Suspect] = {}
    suspect(suspects, [Member("k", 1.0, 0.0, 0.0, 0.0, 0)], 0)
    suspect(suspects, [Member("k", 1.0, 0.0, 0.0, 0.0, 0, 0.5, 2.0)], 5)
    assert (suspects["k"].precision, suspects["k"].day) == (2.0, 0), "known later on the same day"


def test_of_too_many_those_stay_that_stand_out_by_hours_or_by_days():
    suspects: dict[str, Suspect] = {"by day": Suspect(-3.0, 3, 0.0, 0, 0, weighted=30.0, precision=40.0, day=0)}
    for n in range(MOST_SUSPECTS + 40):
        suspect(suspects, [Member(f"{n}", 3.0 if n == 7 else n / 1000, 0.0, 0.0, 0.0, 0)], 1)
    assert len(suspects) == MOST_SUSPECTS
    assert {"by day", "7", f"{MOST_SUSPECTS + 39}"} <= suspects.keys()
    assert "0" not in suspects


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
                shown = rng.gauss(above * (1 - day // 7 / 3), sd)
                its.append(Member(f"{name}-{n}", 0.0, 0.0, 0.0, 0.0, 0, shown, sd**-2))
        suspect(suspects, its, 24 * day + 9, since=BEGUN)
    return suspects


def test_days_say_who_takes_more_where_hours_no_longer_do():
    chosen = set(named(by_days(21, 0.5, spread=(0.4,)), "more"))
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
    suspects = of_hours(48, innocents=20) | by_days(14, 0.8)
    days = {f"m-{n}" for n in range(20)}
    awake = {f"awake-{n}": Suspect(30.0, 20, 9e9, 0, 47) for n in range(5)}
    few = {"few": Suspect(30.0, 20, 8e9, 0, 47, weighted=-0.9 * LEAST_PRECISION, precision=0.9 * LEAST_PRECISION)}
    calm = {"calm": Suspect(30.0, 20, 0.0, 0, 47, weighted=-0.1 * LEAST_PRECISION, precision=LEAST_PRECISION)}
    chosen = named({**suspects, **awake, **few, **calm}, "more")
    assert chosen[:6] == [*awake, "few"], "who took most comes first"
    assert "calm" not in chosen
    assert len(days.intersection(chosen)) >= 18


def test_who_moved_to_another_model_is_left_to_the_hours():
    suspects = of_hours(48, innocents=20)
    for key_id, one in suspects.items():
        one.weighted, one.precision = (0.0, 30.0) if key_id.startswith("m") else (30.0, 30.0)
    assert {key_id[0] for key_id in named(suspects, "moved")} == {"m"}
    assert {key_id[0] for key_id in named(suspects, "more")} == {"i"}


def test_while_days_are_known_of_few_hours_decide_about_all():
    """Of three keys there is no mixture."""
    suspects = of_hours(48, innocents=20)
    hours = named(suspects, "more")
    for key_id in ("i-1", "i-2", "i-3"):
        suspects[key_id].weighted, suspects[key_id].precision = 9.0, 30.0
    assert named(suspects, "more") == hours


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
    st.lists(st.tuples(st.floats(-3, 3), st.sampled_from([5.0, 20.0])), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_whoever_departs_further_is_named_before_whoever_is_known_as_well(keys, rng):
    """In whatever order they came; hours name nobody here."""
    suspects = {
        f"{n:02}": Suspect(0.0, 9, 0.0, 0, 0, weighted=departure * precision, precision=precision)
        for n, (departure, precision) in enumerate(keys)
    }
    chosen = named(suspects, "more")
    mixed = [*suspects.items()]
    rng.shuffle(mixed)
    assert named(dict(mixed), "more") == chosen
    for key_id in chosen:
        for other, its in suspects.items():
            if its.precision == suspects[key_id].precision and its.weighted > suspects[key_id].weighted:
                assert other in chosen


def test_what_a_former_version_wrote_of_a_member_tells_nothing_of_its_days():
    read = msgspec.msgpack.decode(msgspec.msgpack.encode([1.5, 3, 9.0, 0, 77]), type=Suspect)
    assert read == Suspect(1.5, 3, 9.0, 0, 77)
    assert (read.precision, read.day) == (0.0, -1)
    written = msgspec.msgpack.encode(Suspect(1.5, 3, 9.0, 0, 77, 0.5, 2.5, 3))
    assert msgspec.msgpack.decode(written, type=Suspect) == Suspect(1.5, 3, 9.0, 0, 77, 0.5, 2.5, 3)
