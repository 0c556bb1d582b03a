"""When a key is used at all: shares of its time, sleep, and waking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.presence import WAKE_AFTER_DAYS, WAKE_FADING_PER_DAY, Presence

PER_DAY = 96


def lived(*stretches):
    """Presence after stretches of (days, share)."""
    presence = Presence(PER_DAY)
    for days, share in stretches:
        for _ in range(round(days * PER_DAY)):
            presence.step(share)
    return presence


def test_a_key_that_is_always_used_has_a_share_of_one():
    presence = lived((30, 1.0))
    assert presence.day_share == pytest.approx(1.0, abs=1e-3)
    assert presence.long_share == pytest.approx(1.0, abs=1e-3)
    assert presence.wake_days == 0


def test_the_long_share_of_a_young_key_is_the_mean_of_its_life():
    assert lived((1, 1.0), (1, 0.0)).long_share == pytest.approx(0.5, abs=0.01)


def test_a_day_forgets_sooner_than_ten():
    presence = lived((30, 1.0), (2, 0.0))
    assert presence.day_share == pytest.approx(0.135, abs=0.01), "e to the minus two"
    assert 0.75 < presence.long_share < 0.9


@pytest.mark.parametrize(
    ("days", "woken", "why"),
    [
        (3.0, 3.0, "three days of sleep"),
        (WAKE_AFTER_DAYS + 0.02, WAKE_AFTER_DAYS + 0.02, "a little more than a pause"),
        (WAKE_AFTER_DAYS - 0.02, 0.0, "a pause"),
    ],
)
def test_who_slept_long_enough_wakes(days, woken, why):
    presence = lived((5, 1.0), (days, 0.0))
    assert presence.wake_days == 0
    presence.step(0.3)
    assert presence.wake_days == pytest.approx(woken, abs=0.011), why


def test_a_wake_up_matters_less_from_hour_to_hour():
    presence = lived((5, 1.0), (3, 0.0), (1, 1.0))
    assert presence.wake_days == pytest.approx(3.0 * WAKE_FADING_PER_DAY, rel=0.05)


@given(shares=st.lists(st.sampled_from([0.0, 1 / 3, 1.0]), max_size=400))
def test_shares_are_shares_and_sleep_is_at_most_a_life(shares):
    presence = Presence(PER_DAY)
    for share in shares:
        presence.step(share)
    assert 0 <= presence.day_share <= 1
    assert 0 <= presence.long_share <= 1.000001
    assert 0 <= presence.wake_days <= len(shares) / PER_DAY + 1e-6
