"""What version 1 had learned of a key is carried over; what it did not know begins as in a new key."""

from __future__ import annotations

import math
import struct

import msgspec
import pytest
from key_streams import MONDAY, new_key, rules_of, walk

from stream.core.baseline import PRIOR_ERRORS, YOUNG_HOURS
from stream.core.channels import CHANNELS
from stream.core.incidents import Incident
from stream.core.key import KeyState
from stream.core.modelrecord import pack_model
from stream.core.state import StateError, has_incident, unpack_model

FIRST = MONDAY // 300 + 100
INCIDENT = Incident("drift", FIRST - 20, 1.5, FIRST - 1, severity_reason="why", channels={"drift": 4.0})
SEASON = [100.0 * hour for hour in range(48)]
LAWS = [(1.0 + i / 8, 0.5, 30 + i, 2.0) for i in range(4)] + [(2.0, 0.5, 400, -math.inf)]


def written(incident=None, visits=(144,) * 48, law=LAWS[0]):
    """A model as version 1 wrote it, of a key with buckets of 300 s."""
    told = msgspec.msgpack.encode(incident)
    head = struct.pack(
        "<BiiIIIdddddddddH", 1, FIRST, FIRST // 288, 30, 8000, 2000, 5000.5, 1200.25, 800.125, 3.0, 4.0,
        2.5, 6000.0, 5500.0, math.inf, len(told),
    )  # fmt: skip
    week = [round(2000 * math.log1p(1000.0 * hour)) for hour in range(168)]
    laws = b"".join(struct.pack("<2dHd", *each) for each in (law, *LAWS[1:]))
    return b"".join((
        head, told, struct.pack("<48f", *SEASON), struct.pack("<48f", *SEASON[::-1]), bytes(visits),
        struct.pack("<168H", *week), struct.pack("<5f", 1, 2, 3, 4, 5), struct.pack("<5f", 2, 3, 4, 5, 6),
        struct.pack("<5f", 10, 20, 30, 40, 50), struct.pack("<5f", 0.125, 0.25, 0.5, 0.75, 1.0),
        struct.pack("<5f", 2, 1, 0.5, 0.25, 0.125), struct.pack("<48f", 0.0, 0.5, *[9.0] * 46), laws,
        struct.pack("<3i3d?", -1, FIRST // 12, 500, 3.0, -1.0, 0.1, False),
        struct.pack("<H", 2), struct.pack("<i5f", FIRST, 9e5, 100, 2, 1, 3),
        struct.pack("<i5f", FIRST + 1, 9e5, 200, 2, 1, 3),
    ))  # fmt: skip


@pytest.fixture
def key():
    key = KeyState("key", rules_of())
    unpack_model(written(), key)
    return key


def test_the_seasons_are_carried_over(key):
    baseline = key.baseline
    for season, values in ((baseline.fast, SEASON), (baseline.slow, SEASON[::-1])):
        assert [math.expm1(code / 2000) for code in season] == pytest.approx(values, rel=0.001)
    assert [math.expm1(code / 10) for code in baseline.week] == pytest.approx(
        [1000.0 * h for h in range(168)], rel=0.06
    )
    assert (baseline.level.value, baseline.call_tokens.value, baseline.call_input.value) == (5000.5, 1200.25, 800.125)
    assert (baseline.age, baseline.active) == (8000, 2000)
    assert baseline.predict(FIRST)[0] > 0


@pytest.mark.parametrize(
    ("buckets", "hours", "why"),
    [
        (0, 0, "never seen"),
        (1, 1, "once for five minutes"),
        (12, 1, "an hour"),
        (13, 2, "more than one"),
        (143, 12, "nearly all of what is counted"),
        (144, YOUNG_HOURS, "all of it"),
        (255, YOUNG_HOURS, "more than version 1 ever wrote"),
    ],
)
def test_visits_are_counted_in_hours_now(buckets, hours, why):
    key = KeyState("key", rules_of())
    unpack_model(written(visits=[buckets] * 48), key)
    assert list(key.baseline.visits) == [hours] * 48, why


def test_the_windows_their_scales_and_laws_are_carried_over(key):
    residuals, (surge, drift) = key.residuals, key.channels[:2]
    assert list(residuals.observed) == [1, 2, 3, 4, 5]
    assert list(residuals.expected) == [2, 3, 4, 5, 6]
    assert list(residuals.calls) == [10, 20, 30, 40, 50]
    assert list(surge.scales.mean) + list(drift.scales.mean) == [0.125, 0.25, 0.5, 0.75, 1.0]
    assert list(surge.scales.variance) + list(drift.scales.variance) == [2, 1, 0.5, 0.25, 0.125]
    assert surge.slots[0] == 0
    assert surge.width(1, FIRST) == pytest.approx(9.0, rel=0.03)
    laws = surge.laws.laws + drift.laws.laws
    assert [law.mean for law in laws] == [mean for mean, *_ in LAWS]
    assert [law.days for law in laws] == [30, 31, 32, 33, 255]
    assert [law.peak for law in laws] == [2.0] * 4 + [-math.inf]
    assert drift.flag._x_mean.n == 0, "it tested another residual"


def test_what_is_planned_and_what_is_shown_is_carried_over(key):
    assert {index: list(plan) for index, plan in key.plans.items()} == {
        FIRST: [9e5, 100, 2, 1, 3],
        FIRST + 1: [9e5, 200, 2, 1, 3],
    }
    assert (key.next_bucket, key.last_active_day, key.active_days) == (FIRST, FIRST // 288, 30)
    assert (key.score, key.last_tokens, key.last_expected, key.last_upper) == (2.5, 6000.0, 5500.0, math.inf)
    assert key.judged_step == FIRST // 3


def test_what_was_not_known_begins_anew(key):
    fresh = KeyState("key", key.rules)
    for mine, other in zip(key.channels[2:], fresh.channels[2:], strict=True):
        assert mine.pack() == other.pack()
    assert list(key.baseline.errors) == pytest.approx(PRIOR_ERRORS)
    assert key.presence.long_share == key.presence.day_share == 0.25, "the share of its life is the best guess"


@pytest.mark.parametrize("incident", [None, INCIDENT])
def test_an_open_incident_stays_open(incident):
    packed = written(incident)
    assert has_incident(packed) == (incident is not None)
    key = KeyState("key", rules_of())
    unpack_model(packed, key)
    assert key.incident == incident
    assert has_incident(pack_model(key)) == (incident is not None)


def test_it_goes_on_and_is_written_as_the_new_version(key):
    assert sum(1 for _ in walk(key, 600, seed=1)) > 100
    packed = pack_model(key)
    assert packed[0] > 1
    twin = new_key(key.rules)
    unpack_model(packed, twin)
    assert pack_model(twin) == packed
    assert len(twin.channels) == len(CHANNELS)


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (written()[:-1], "cut"),
        (written() + b"\0", "more than there is"),
        (written(law=(math.nan, 0.5, 1, 1.0)), "not a number"),
        (written(law=(1.0, 1e300, 1, 1.0)), "beyond what a law can hold"),
        (written()[:100], "half of it"),
    ],
)
def test_a_damaged_model_is_a_state_error(packed, why):
    with pytest.raises(StateError, match="damaged"):
        unpack_model(packed, KeyState("key", rules_of()))
