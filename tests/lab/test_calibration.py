"""Calibration: the tail of a history's peaks, what of a history counts, and what the file then says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.bucket import OpenBucket, Verdict
from stream.core.calibration import TailLaw
from stream.core.key import KeyState
from stream.core.priors import Priors, shipped_priors, shipped_text
from stream.core.rules import Rules
from stream.gateways.errors import InputError
from stream.lab.calibration.incidents import Incidents, read_incidents
from stream.lab.calibration.peaks import KeyDays, Peaks
from stream.lab.calibration.run import DialError, calibrate
from stream.lab.calibration.tail import (
    MOST_SHARE,
    TooFewError,
    _weights,
    least_dial,
    realised,
    refit,
)
from stream.lab.evaluation.detector import alerts_of, traffic_of
from stream.lab.worlds.synthetic import synthetic_world
from stream.settings import Settings, SettingsError

SHIPPED = ((1.0, 0.1), (6.0, 1e-6))
"""A decade a unit, as the shipped table should be."""
NONE = Incidents({}, 0)
DAY = 86_400


def key_days(peaks, keys=None):
    count = len(peaks)
    keys = np.arange(count) % 300 if keys is None else np.asarray(keys)
    return KeyDays(keys.astype(np.int32), np.zeros(count, np.int32), np.asarray(peaks, np.float32))


def drawn(count, rate, mean, seed):
    """Peaks of which a share `rate` exceeds 1, by an exponential of `mean`; the others are 0."""
    rng = np.random.default_rng(seed)
    above = rng.random(count) < rate
    return np.where(above, 1 + rng.exponential(mean, count), 0.0)


# ---------------------------------------------------------------- the tail


@pytest.mark.parametrize(
    ("rate", "mean", "why"),
    [
        (0.1, 1 / math.log(10), "as it was shipped"),
        (0.3, 0.8, "restless keys: twenty-five times as many false alerts at the shipped threshold"),
        (0.03, 0.3, "steady keys: a twenty-fifth of them"),
    ],
)
@pytest.mark.parametrize("dial", [1, 5])
def test_on_later_days_the_dial_is_realised_within_a_factor_of_two(rate, mean, why, dial):
    count = 20_000
    for seed in range(5):
        law = TailLaw(refit(key_days(drawn(count, rate, mean, seed)), SHIPPED))
        in_truth = 1000 * rate * math.exp(-(law.threshold(dial / 1000) - 1) / mean)
        assert 0.5 <= in_truth / dial <= 2, (why, seed)


def test_what_was_shipped_would_have_missed_the_dial():
    restless = key_days(drawn(20_000, 0.3, 0.8, 1))
    assert realised(restless, TailLaw(SHIPPED).threshold(0.001)).per_1000 > 10


def test_few_exceedances_move_the_table_less_than_many():
    moved = []
    for count in (150, 400, 4_000):
        # the quantiles of a law by which half of the days exceed 1, and one in twenty 2
        halves = 1 - np.log10(2 * np.arange(0.5, count / 2) / count)
        peaks = np.concatenate([halves, np.zeros(count - len(halves))])
        moved.append(TailLaw(refit(key_days(peaks), SHIPPED)).share(2.5) / TailLaw(SHIPPED).share(2.5))
    assert 2 < moved[0] < moved[1] < moved[2] + 0.1 < 5.5


def test_one_wild_key_does_not_set_the_threshold_of_all():
    calm = drawn(10_000, 0.05, 0.4, 5)
    keys = np.arange(10_000) % 300
    alone = TailLaw(refit(key_days(calm, keys), SHIPPED)).threshold(0.001)
    wild = np.concatenate([calm, np.full(60, 7.0) + np.arange(60) / 100])
    among = TailLaw(refit(key_days(wild, np.concatenate([keys, np.full(60, 300)])), SHIPPED)).threshold(0.001)
    spread = TailLaw(refit(key_days(wild, np.concatenate([keys, 300 + np.arange(60)])), SHIPPED)).threshold(0.001)
    assert alone <= among < spread
    assert among < 7 < spread


@given(st.lists(st.integers(0, 8), min_size=1, max_size=200))
def test_no_key_has_more_than_its_part_of_the_exceedances(keys):
    weights = _weights(np.array(keys, np.int32))
    sums = [weights[np.array(keys) == key].sum() for key in set(keys)]
    assert (weights > 0).all()
    assert (weights <= 1).all()
    assert max(sums) <= max(MOST_SHARE, 1 / len(sums)) * weights.sum() + 1e-6
    if max(keys.count(key) for key in keys) <= MOST_SHARE * len(keys):
        assert weights.sum() == len(keys), "nobody had too much"


@settings(max_examples=30)
@given(st.lists(st.floats(0, 12, width=16), min_size=150, max_size=300), st.integers(1, 60))
def test_any_tail_can_be_stored_and_falls(peaks, keys):
    days = key_days(peaks, np.arange(len(peaks)) % keys)
    try:
        rows = refit(days, SHIPPED)
    except TooFewError:
        return
    document = json.loads(shipped_text())
    stored = Priors.from_json(json.dumps({**document, "tail": rows}))
    law = TailLaw(stored.tail)
    shares = [law.share(score) for score in np.linspace(0, 15, 50)]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("peaks", "why"),
    [
        ([0.0] * 500, "nothing ever happened"),
        ([0.0] * 500 + [1.0, 2.0, 3.0], "three days are no tail"),
        ([2.0] * 500, "all days alike"),
        ([], "nothing at all"),
    ],
)
def test_too_little_is_refused(peaks, why):
    with pytest.raises(TooFewError, match="no tail"):
        refit(key_days(peaks), SHIPPED)


def test_a_rate_is_counted_with_its_interval():
    rate = realised(key_days([0.5, 1.0, 1.5, 2.0] * 50), 1.0)
    assert (rate.count, rate.key_days, rate.per_1000) == (100, 200, 500.0)
    low, high = rate.interval
    assert low == pytest.approx(406.8, abs=0.5)
    assert high == pytest.approx(608.1, abs=0.5)


# ---------------------------------------------------------------- what counts


def heard(days, scores=lambda day: 1.0, key_id="k", peaks=None, start=20_000):
    """A key with one call an hour, whose verdicts are made up."""
    rules = Rules(Settings(bucket_seconds=3600))
    peaks = Peaks() if peaks is None else peaks
    key = KeyState(key_id, rules)
    for hour in range(24 * days):
        bucket = 24 * start + hour
        verdict = Verdict(bucket, OpenBucket(bucket, [math.inf] * 5), 0.0, 0.0)
        verdict.score = scores(hour // 24) * (hour % 24 == 13)
        key.baseline.age = hour
        peaks.see(key, verdict)
    return peaks


def test_a_key_day_is_a_day_after_the_first_week_and_holds_its_highest_score():
    days = heard(10, lambda day: float(day)).rows(young=False)
    assert days.day.tolist() == [20_007, 20_008, 20_009]
    assert days.peak.tolist() == [7.0, 8.0, 9.0]
    assert len(heard(10).rows(young=True)) == 7


def test_days_of_an_incident_and_two_after_it_are_not_clean():
    peaks = heard(30)
    heard(30, key_id="other", peaks=peaks)
    start = (20_010 * DAY) + 5.0
    spans = {"k": [(start, start + DAY)], "never seen": [(start, math.inf)]}
    kept = peaks.rows(young=False, without=spans)
    assert sorted(set(range(20_007, 20_030)) - set(kept.day[kept.key == 0].tolist())) == [
        20_010, 20_011, 20_012, 20_013,
    ]  # fmt: skip
    assert len(kept.day[kept.key == 1]) == 23
    lasting = peaks.rows(young=False, without={"k": [(start, math.inf)]})
    assert lasting.day[lasting.key == 0].tolist() == [20_007, 20_008, 20_009]


def test_a_key_begun_anew_is_new_again():
    peaks = heard(9)
    heard(9, peaks=peaks, start=20_100)
    assert peaks.keys == 1
    assert peaks.rows(young=False).day.tolist() == [20_007, 20_008, 20_107, 20_108]


def test_active_keys_are_those_of_a_whole_day():
    peaks = heard(30)
    heard(3, key_id="gone", peaks=peaks)
    assert peaks.active_keys() == 1.0
    assert Peaks().active_keys() == 0.0


def test_days_that_were_heard_apart_are_those_that_were_heard_together():
    apart, others = heard(10, lambda day: float(day)), heard(9, key_id="other")
    apart.add(others)
    together = heard(9, key_id="other", peaks=heard(10, lambda day: float(day)))
    for young in (False, True):
        one, two = apart.rows(young=young), together.rows(young=young)
        assert one.key.tolist() == two.key.tolist()
        assert one.day.tolist() == two.day.tolist()
        assert one.peak.tolist() == two.peak.tolist()
    assert apart.keys == 2
    heard(1, key_id="other", peaks=apart, start=20_009)
    assert apart.rows(young=True, first=20_009).key.tolist() == [1], "its number stays"
    with pytest.raises(ValueError, match="same key"):
        apart.add(others)


@pytest.mark.slow
def test_on_the_second_half_of_a_world_the_dial_of_the_first_half_holds():
    """The keys go through the detector, with attacks or without: nothing opens while it is only listened to."""
    world = synthetic_world(3, keys=17, days=43, attacks=False)
    rules = Rules(Settings())
    peaks = Peaks()
    rules.listen(peaks.see)
    end = world.first_bucket + len(world.calls)
    for column in range(len(world.key_ids)):
        assert alerts_of(traffic_of(world, column), rules, world.first_bucket, end, 17) == []
    first = int(world.start // DAY)
    days = peaks.rows(young=False, first=first + 21)
    early, late = (days.where((days.day < first + 32) == half) for half in (True, False))
    dial = 100.0
    assert dial * len(late) / 1000 > 16
    threshold = TailLaw(refit(early, shipped_priors().tail)).threshold(dial / 1000)
    assert 0.5 <= realised(late, threshold).per_1000 / dial <= 2


# ---------------------------------------------------------------- incidents


ALERT = {"alert_id": "a", "entity": {"type": "key", "id": "k"}, "started_at": "1970-01-01T00:10:00Z"}


def test_of_an_incident_s_alerts_the_last_one_tells_the_end():
    lines = [
        json.dumps({**ALERT, "status": "opened", "resolved_at": None}),
        "",
        json.dumps({**ALERT, "status": "resolved", "resolved_at": "1970-01-01T00:20:00Z"}),
        json.dumps({**ALERT, "alert_id": "b", "resolved_at": None}),
        json.dumps({**ALERT, "alert_id": "c", "entity": {"type": "partition", "id": "3"}}),
        json.dumps({"key_id": "m", "start": "1970-01-01T01:00:00+01:00", "end": None, "family": "drift"}),
    ]
    incidents = read_incidents(lines)
    assert incidents.spans == {"k": [(600.0, 1200.0), (600.0, math.inf)], "m": [(0.0, math.inf)]}
    assert (incidents.count, incidents.others) == (3, 1)


def test_an_alert_about_a_group_is_about_the_members_that_it_names():
    group = {**ALERT, "alert_id": "g", "entity": {"type": "network", "id": "n"}}
    lines = [
        json.dumps({**group, "members": {"count": 2, "top": [{"key_id": "k"}, {"key_id": "m"}]}}),
        json.dumps({**group, "members": {"count": 1, "top": [{"key_id": "o"}]}, "resolved_at": "1970-01-01T00:20:00Z"}),
        json.dumps({**group, "alert_id": "h", "members": {"count": 3, "top": []}}),
        json.dumps({**group, "alert_id": "i", "members": None}),
    ]
    incidents = read_incidents(lines)
    assert incidents.spans == {key: [(600.0, 1200.0)] for key in "kmo"}
    assert (incidents.count, incidents.others) == (3, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: "),
        ("[]", "line 2: not a JSON object"),
        ('{"key_id": "k"}', "line 2: a label has key_id, start and end"),
        ('{"key_id": "k", "start": "soon", "end": 1}', "line 2: 'soon' is no time: write it as"),
        ('{"key_id": "k", "start": "2026-01-01T00:00:00", "end": null}', "is no time"),
        ('{"key_id": "k", "start": 9, "end": 1}', "ends at 1 before it starts at 9"),
        ('{"key_id": "k", "end": 1}', "line 2: a label has key_id, start and end: there is no start"),
        ('{"entity": "k", "started_at": 1}', r"an alert has an entity \(type, id\) and started_at: there is no type"),
        ('{"entity": {"type": "key", "id": "k"}}', "there is no started_at"),
        ('{"entity": {"type": "network", "id": "n"}, "members": {"top": ["k"]}}', "each of the members has a key_id"),
    ],
)
def test_a_bad_line_is_named(line, said):
    with pytest.raises(InputError, match=said):
        read_incidents(["", line])


# ---------------------------------------------------------------- the file


@pytest.fixture(scope="module")
def history():
    """A hundred made-up keys through fifty days."""
    peaks = Peaks()
    for number in range(100):
        draws = drawn(50, 0.3, 0.5, 1000 + number)
        heard(50, lambda day, draws=draws: float(draws[day]), key_id=f"key-{number}", peaks=peaks)
    return peaks


def settings_with(tmp_path: Path, text: str, **others: object) -> Settings:
    path = tmp_path / "priors.json"
    path.write_text(text, "utf-8")
    return Settings(priors_file=str(path), **others)


def test_the_new_file_is_whole_changes_only_the_tails_and_says_from_what(history, tmp_path):
    ours = Settings(false_alerts_per_1000_key_days=10)
    result = calibrate(ours, history, NONE, 21)
    made, shipped = json.loads(result.text), json.loads(shipped_text())
    assert {name for name in made if made[name] != shipped.get(name)} == {"source", "tail", "calibration"}
    assert made["calibration"]["base"] == shipped_priors().digest
    assert made["calibration"]["key_days"] == 2_900
    assert "key-7" not in result.text
    again = settings_with(tmp_path, result.text, false_alerts_per_1000_key_days=10)
    assert Rules(again).priors.digest == result.digest != shipped_priors().digest
    assert Rules(again).open_score == pytest.approx(result.alerts.threshold(result.alerts.new))
    after = result.as_json()["alerts"]["after"]
    assert 0.6 < after["per_1000"] / 10 < 1.6
    assert after["interval"][0] < 10 < after["interval"][1]


def test_to_calibrate_twice_changes_nothing_more(history, tmp_path):
    first = calibrate(Settings(false_alerts_per_1000_key_days=10), history, NONE, 21)
    ours = settings_with(tmp_path, first.text, false_alerts_per_1000_key_days=10)
    second = calibrate(ours, history, NONE, 21)
    assert second.text == first.text
    assert second.as_json()["alerts"]["before"] == second.as_json()["alerts"]["after"]


def test_a_part_that_was_changed_by_hand_is_refused(history, tmp_path):
    document = {**json.loads(shipped_text()), "calibration": {"tail": [[1, 0.5]]}}
    with pytest.raises(SettingsError, match="damaged"):
        calibrate(settings_with(tmp_path, json.dumps(document), false_alerts_per_1000_key_days=10), history, NONE, 21)


def test_a_dial_that_the_history_cannot_tell_is_refused_with_one_that_it_can(history):
    with pytest.raises(DialError, match=r"2,900 clean key-days.* hold 2\.9.*at least 5,000 key-days.*of 1\.8 or more"):
        calibrate(Settings(), history, NONE, 21)
    assert calibrate(Settings(false_alerts_per_1000_key_days=1.8), history, NONE, 21).alerts.dial == 1.8
    assert least_dial(2_900) == pytest.approx(1.724, abs=0.001)


def test_a_history_no_longer_than_its_warm_up_is_refused(history):
    with pytest.raises(DialError, match="take a longer history"):
        calibrate(Settings(), heard(20), NONE, 21)
    with pytest.raises(TooFewError, match="no call"):
        calibrate(Settings(), Peaks(), NONE, 21)


def test_excluded_days_are_not_counted(history):
    ours = Settings(false_alerts_per_1000_key_days=10)
    spans = {"key-3": [(20_030.0 * DAY, 20_031.0 * DAY)]}
    result = calibrate(ours, history, Incidents(spans, 0), 21)
    assert (result.excluded, len(result.alerts.days)) == (3, 2_897)


def test_what_is_said_per_week_is_the_dial_times_the_active_keys(history):
    report = calibrate(Settings(false_alerts_per_1000_key_days=10), history, NONE, 21).as_json()
    assert report["active_keys_per_day"] == 100
    assert report["false_alerts_per_day"]["after"] == 1.0
    assert report["false_alerts_per_week"]["after"] == 7.0
    assert report["false_alerts_per_day"]["before"] > 1.5
