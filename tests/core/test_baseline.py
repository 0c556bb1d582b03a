"""What is expected of a key: the season, the caps, and what an incident or an outage may teach."""

from __future__ import annotations

import copy
import math
import pickle

import pytest

from stream.core.adaptivemean import AdaptiveMean
from stream.core.baseline import (
    CAP_CALLS_FIXED,
    CAP_CALLS_PER_CALL,
    COUNT,
    FAST_PER_DAY,
    INCIDENT_RATE,
    LESSON,
    RATE,
    WEEK_FLOOR,
    Baseline,
    cap_of,
)
from stream.core.calendar import Calendar

MONDAY = 1_772_409_600 // 3600  # 2026-03-02T00:00:00Z in hours
WEEK = 168


def season(hour):
    """Office hours on working days, little else."""
    day, in_day = (hour // 24) % 7, hour % 24
    return 10_000.0 if day < 5 and 9 <= in_day < 17 else 1_000.0


def taught(weeks=6, of=season, calls=10, bucket_seconds=3600):
    baseline = Baseline(Calendar(bucket_seconds))
    per_hour = 3600 // bucket_seconds
    for index in range(weeks * WEEK * per_hour):
        bucket = MONDAY * per_hour + index
        tokens = of(index // per_hour) / per_hour
        baseline.learn(bucket, tokens, calls, 0.8, 1.0, baseline.predict(bucket)[0])
    return baseline, (MONDAY + weeks * WEEK) * per_hour


@pytest.mark.parametrize("bucket_seconds", [300, 3600])
@pytest.mark.parametrize(
    ("hour", "why"),
    [(12, "Monday noon"), (3, "Monday night"), (24 + 14, "Tuesday"), (5 * 24 + 12, "Saturday noon is quiet")],
)
def test_the_season_is_learned(hour, why, bucket_seconds):
    baseline, now = taught(bucket_seconds=bucket_seconds)
    per_hour = 3600 // bucket_seconds
    bucket = now + hour * per_hour + per_hour // 2
    fast, slow = baseline.predict(bucket)
    wanted = season(hour) / per_hour
    assert fast == pytest.approx(wanted, rel=0.25), why
    assert slow == pytest.approx(wanted, rel=0.25), why


def test_a_key_that_was_never_seen_is_expected_to_use_nothing():
    assert Baseline(Calendar(300)).predict(MONDAY * 12) == (0.0, 0.0)


def test_an_hour_never_seen_is_expected_at_the_level():
    baseline = Baseline(Calendar(3600))
    for hour in range(20):
        baseline.learn(MONDAY + hour, 600.0, 3, 0.5, 1.0, 0.0)
    fast, slow = baseline.predict(MONDAY + 22)
    assert fast == pytest.approx(baseline.level.get())
    assert slow == pytest.approx(600.0, rel=0.05)


def test_a_weekly_job_is_expected_at_its_hour_of_the_week():
    """48 slots cannot tell Tuesday from Thursday; the floor of last week's same hour can."""
    baseline, now = taught(of=lambda hour: 50_000.0 if hour % WEEK == 24 + 2 else 500.0)
    tuesday, thursday = now + 24 + 2, now + 3 * 24 + 2
    assert baseline.predict(tuesday)[0] == pytest.approx(WEEK_FLOOR * 50_000, rel=0.1)
    assert baseline.predict(thursday)[0] < 0.5 * baseline.predict(tuesday)[0]


@pytest.mark.parametrize("flood", [1e6, 1e9, 1e15])
def test_one_flood_does_not_become_the_norm(flood):
    baseline, now = taught(of=lambda hour: 1_000.0)
    before = baseline.predict(now)[0]
    baseline.learn(now, flood, 10, 0.5, 1.0, before)
    after = baseline.predict(now + 24)[0]
    assert after <= before * (1 + 0.13 * 34), "12 % of what may be taught: 20 levels, 8 expectations, 5 calls"
    assert math.isfinite(after)


def fast_of(baseline, slot=0):
    """Tokens that a slot of the fast season holds."""
    return math.expm1(baseline.fast[slot] / 2000)


def test_an_incident_teaches_at_fifteen_percent():
    moved = []
    for rate in (1.0, INCIDENT_RATE):
        baseline, now = taught(of=lambda hour: 1_000.0)
        before = fast_of(baseline)
        baseline.learn(now, 3_000.0, 30, 0.5, rate, before)
        moved.append(fast_of(baseline) - before)
    assert moved[0] == pytest.approx(FAST_PER_DAY * 2_000, rel=0.01)
    assert moved[1] / moved[0] == pytest.approx(INCIDENT_RATE, rel=0.02), "slots are held to 0.05 %"


def test_the_season_learns_once_an_hour_from_the_mean_of_its_buckets():
    baseline, now = taught(of=lambda hour: 1_200.0, bucket_seconds=300)
    before = list(baseline.fast)
    for i in range(12):
        assert list(baseline.fast) == before, "nothing until the hour is over"
        baseline.learn(now + i, 100.0 * i, i, 0.5, 1.0, 100.0)
    assert fast_of(baseline) == pytest.approx(100 + FAST_PER_DAY * (550 - 100), rel=0.01)


def test_an_hour_of_which_half_was_an_incident_is_learned_at_the_mean_of_both_rates():
    baseline, now = taught(of=lambda hour: 1_200.0, bucket_seconds=300)
    for i in range(12):
        baseline.learn(now + i, 100.0 if i < 6 else 500.0, 1, 0.5, 1.0 if i < 6 else INCIDENT_RATE, 100.0)
    mean = (6 * 100 + 6 * INCIDENT_RATE * 500) / (6 + 6 * INCIDENT_RATE)
    rate = (1 + INCIDENT_RATE) / 2
    assert fast_of(baseline) == pytest.approx(100 + FAST_PER_DAY * rate * (mean - 100), rel=0.01)


@pytest.mark.parametrize(
    ("of", "least", "most", "why"),
    [
        (season, 0.8, 1.0, "office hours tell what the level cannot"),
        (lambda hour: 1_000.0, 0.3, 0.9, "where both are right neither wins"),
        (lambda hour: 50_000.0 if hour * 2_654_435_761 % 97 < 8 else 0.0, 0.0, 0.75, "no hour is like the day before"),
    ],
)
def test_how_much_season_a_key_has_is_learned(of, least, most, why):
    baseline, _ = taught(of=of)
    assert least <= baseline.strength <= most, why


def test_the_same_hour_is_expected_alike_whatever_was_asked_before():
    """Plans are made up to a day ahead; what is worked out of them must not be taken for today."""
    baseline, now = taught(of=lambda hour: 50_000.0 if hour % WEEK == 24 + 2 else 500.0)
    asked = {bucket: baseline.predict(bucket) for bucket in range(now, now + WEEK)}
    for bucket in reversed(asked):
        baseline.forget_cache()
        assert baseline.predict(bucket) == asked[bucket]
    assert baseline.predict(now + 26) != baseline.predict(now + 50), "Tuesday's job, and none on Wednesday"


def test_a_lasting_change_is_learned_in_the_end():
    baseline, now = taught(of=lambda hour: 1_000.0)
    for hour in range(8 * WEEK):
        baseline.learn(now + hour, 4_000.0, 40, 0.5, 1.0, baseline.predict(now + hour)[0])
    fast, slow = baseline.predict(now + 8 * WEEK)
    assert fast == pytest.approx(4_000, rel=0.05)
    assert slow == pytest.approx(4_000, rel=0.2)


def test_the_slow_season_lags_behind_the_fast_one():
    baseline, now = taught(of=lambda hour: 1_000.0)
    for hour in range(WEEK):
        baseline.learn(now + hour, 4_000.0, 40, 0.5, 1.0, baseline.predict(now + hour)[0])
    fast, slow = baseline.predict(now + WEEK)
    assert 1_000 < slow < fast < 4_000


@pytest.mark.parametrize(
    ("tokens", "calls", "counted", "why"),
    [
        (1e12, 1, cap_of(100.0, 1), "one giant prompt"),
        (500.0, 1, 500.0, "an ordinary one"),
        (1e12, 10**9, 1e12 if cap_of(100.0, 10**9) > 1e12 else cap_of(100.0, 10**9), "a flood of calls is one"),
        (0.0, 0, 0.0, "none"),
    ],
)
def test_a_call_counts_for_a_few_usual_calls_at_most(tokens, calls, counted, why):
    baseline, _ = taught(of=lambda hour: 1_000.0, calls=10)
    assert baseline.call_tokens.get() == pytest.approx(100.0)
    assert baseline.capped(tokens, calls) == pytest.approx(counted), why
    assert cap_of(100.0, 1) == pytest.approx(100 * (CAP_CALLS_PER_CALL + CAP_CALLS_FIXED))


def test_a_key_younger_than_a_day_has_no_usual_call_yet():
    baseline = Baseline(Calendar(3600))
    baseline.learn(MONDAY, 100.0, 1, 0.5, 1.0, 0.0)
    assert baseline.capped(1e9, 1) == 1e9


def test_an_hour_cut_short_by_an_outage_is_not_a_quiet_hour():
    """Lost telemetry at the end of an hour: it is learned from what was seen."""
    baseline, now = taught(of=lambda hour: 1_200.0, bucket_seconds=300)
    hour = baseline.calendar.week_hour(now)
    before, fast = baseline.week[hour], list(baseline.fast)
    baseline.learn(now, 100.0, 1, 0.8, 1.0, baseline.predict(now)[0])
    for bucket in range(now + 1, now + 12):
        baseline.turn(bucket)
    assert baseline.week[hour] == before
    assert list(baseline.fast) == pytest.approx(fast, rel=0.001)
    assert [baseline.hour[i] for i in (RATE, LESSON, COUNT)] == [0, 0, 0], "the next hour begins afresh"


def test_an_hour_that_never_was_teaches_nothing():
    baseline, now = taught(of=lambda hour: 1_200.0, bucket_seconds=300)
    before = [array.tobytes() for array in (baseline.fast, baseline.slow, baseline.week, baseline.visits)]
    for bucket in range(now, now + 12):
        baseline.turn(bucket)
    assert [array.tobytes() for array in (baseline.fast, baseline.slow, baseline.week, baseline.visits)] == before


def test_a_silent_hour_is_learned_as_silence():
    baseline, now = taught(of=lambda hour: 1_200.0, bucket_seconds=300)
    before = baseline.predict(now)[0]
    for bucket in range(now, now + 12):
        baseline.learn(bucket, 0.0, 0, 0.0, 1.0, baseline.predict(bucket)[0])
    assert baseline.predict(now + 24 * 12)[0] < before


def test_tokens_per_call_are_learned_only_from_calls():
    baseline, now = taught()
    usual = baseline.call_tokens.get()
    for bucket in range(now, now + 50):
        baseline.learn(bucket, 0.0, 0, 0.0, 1.0, 0.0)
    assert baseline.call_tokens.get() == usual
    assert baseline.call_input.get() == pytest.approx(0.8 * usual)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.01, 1e-6])
def test_a_mean_moves_by_the_rate_it_is_told(rate):
    mean = AdaptiveMean(100.0, 1 / 2880)
    mean.learn(300.0, rate)
    assert mean.value == mean.get()
    assert mean.get() == pytest.approx(100 + 200 * rate)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda mean: pickle.loads(pickle.dumps(mean))])
def test_a_copied_mean_is_one_of_its_own(copied):
    mean = AdaptiveMean(100.0, 1 / 2880)
    twin = copied(mean)
    twin.learn(300.0, 0.5)
    mean.learn(0.0, 0.5)
    assert (mean.value, twin.value) == (pytest.approx(50.0), pytest.approx(200.0))


def test_a_year_of_extremes_leaves_finite_expectations():
    baseline = Baseline(Calendar(3600))
    for hour in range(365 * 24):
        tokens = 1e15 if hour % 5 == 0 else 0.0
        fast, slow = baseline.predict(MONDAY + hour)
        assert 0 <= fast < math.inf
        assert 0 <= slow < math.inf
        baseline.learn(MONDAY + hour, tokens, 10**9 if tokens else 0, 1.0, 1.0, fast)


def test_an_attack_does_not_make_a_steady_key_look_restless():
    """A fivefold day: what is known of how well its hours can be told hardly changes, else it would hide itself."""
    baseline, now = taught(of=lambda hour: 120_000.0, bucket_seconds=300)
    before = baseline.errors[0]
    for bucket in range(now, now + 288):
        baseline.learn(bucket, 50_000.0, 10, 0.8, 1.0, baseline.predict(bucket)[0])
    assert before < baseline.errors[0] < before + 0.01


def test_silence_that_was_foretold_is_no_sign_of_a_steady_key():
    """A key that is used for one hour in three days and never the same one."""
    seldom = Baseline(Calendar(3600))
    for hour in range(60 * 24):
        tokens = 50_000.0 if hour % 71 == 0 else 0.0
        seldom.learn(MONDAY + hour, tokens, int(tokens > 0), 0.8, 1.0, seldom.predict(MONDAY + hour)[0])
    steady, _ = taught(of=lambda hour: 50_000.0)
    assert seldom.errors[0] > 3 * steady.errors[0]
