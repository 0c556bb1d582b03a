"""One shard: whom it takes, when it speaks, what it says, and that extremes are counted and not a crash."""

from __future__ import annotations

import json
import math
from functools import cache

import pytest
from core_streams import calls, log_of, whole
from shard_traffic import DAY, HOUR, MINUTE, SETTINGS, START, call, feed, incidents, merged, shard, steady, times

from stream.alerts import Alert, alert_id_of, fingerprint_of
from stream.core.shard import Shard
from stream.events import MAX_CALLS, MAX_TOKENS

HISTORY_DAYS = 24
NOW = START + HISTORY_DAYS * DAY
"""Where the trained shard's history ends; attacks begin after it."""


@cache
def trained_records():
    taught = shard()
    step = feed(taught, merged(steady(days=HISTORY_DAYS, every=60.0), steady("quiet", START + 7, HISTORY_DAYS, 60.0)))
    assert step.alerts == []
    return tuple(taught.changes())


def trained(**changes):
    """A shard that has known two steady keys for 24 days, as if just loaded."""
    loaded = shard(**changes)
    loaded.load(trained_records())
    return loaded


def attack(factor, begin, hours, total=12.0, key_id="k"):
    """The steady key's next hours, `factor` times as much from `begin` on."""
    stream = steady(key_id, NOW, total / 24, 60.0)
    return times(factor, stream, begin, begin + hours * HOUR)


# ---------------------------------------------------------------- whom it takes


def test_a_key_of_another_partition_is_misrouted():
    here = Shard(0, SETTINGS.model_copy(update={"partitions": 4}), partition_of=lambda key_id: int(key_id[-1]))
    step = feed(here, [call(START, "key-0"), call(START, "key-3"), call(START, "key-0", "other")])
    assert (step.accepted, len(step.rejects), len(here)) == (2, 1, 1)
    reject = step.rejects[0]
    assert (reject.reason, reject.position) == ("misrouted", 1)
    assert "partition 3" in reject.message
    assert "repartition" in reject.message


def test_a_key_beyond_the_limit_is_refused_and_known_ones_go_on():
    full = shard(max_keys=2)
    step = feed(full, [call(START + i, f"key-{i % 3}", f"e-{i}") for i in range(9)])
    assert (step.accepted, len(full)) == (6, 2)
    assert {reject.reason for reject in step.rejects} == {"too_many_keys"}
    assert len(step.rejects) == 3
    assert "max_keys" in step.rejects[0].message


def test_a_late_record_of_an_unknown_key_makes_no_key():
    here = shard()
    step = feed(here, [call(START + HOUR, "a"), call(START, "b", input_tokens=7, output_tokens=8)])
    assert (step.accepted, step.late, step.late_tokens, len(here)) == (1, 1, 15, 1)
    assert here.key("b") is None


def test_positions_read_again_bring_back_ids_and_nothing_else():
    here = shard()
    stream = [call(START + i, event_id=f"e-{i}") for i in range(10)]
    feed(here, stream)
    again = shard()
    again.load(here.changes())
    first = again.read_from
    assert first == 0
    reread = [(i, time, c) for i, (time, c) in enumerate(stream)]
    assert again.observe(reread, 9).accepted == 0
    assert again.key("k").calls == 10
    repeated = (10, *stream[3])
    assert again.observe([repeated], 10).duplicates == 1


def test_freezing_a_shard_that_has_seen_nothing_is_harmless():
    here = shard()
    here.freeze()
    step = feed(here, [call(START), call(START + HOUR)])
    assert step.accepted == 2


def test_what_is_announced_survives_a_crash_and_what_is_not_does_nothing():
    here = shard()
    feed(here, [call(START)])
    assert here.advance().buckets_closed == 0
    here.announce(START + HOUR)
    again = shard()
    assert again.load(here.changes()).buckets_closed == 1
    assert again.watermark == START + HOUR


# ---------------------------------------------------------------- when it speaks


def test_a_surge_opens_inside_the_bucket_and_resolves():
    here = trained()
    begin = NOW + 4 * HOUR + 40
    step = feed(here, attack(50, begin, 1))
    told = list(incidents(step.alerts))
    assert told[0] == ("opened", "surge", "k")
    assert told[-1] == ("resolved", "surge", "k")
    assert {key for _, _, key in told} == {"k"}
    opened, resolved = step.alerts[0], step.alerts[-1]
    assert opened.window.horizon_seconds == 300
    assert opened.started_at <= opened.detected_at < opened.window.end, "before the bucket's end"
    assert opened.started_at == math.floor(opened.started_at / 300) * 300
    assert opened.detected_at - begin < 10 * MINUTE
    assert opened.observed >= opened.upper > opened.expected > 0
    # an hour of calm, once the four-hour window has forgotten the attack
    assert HOUR <= resolved.resolved_at - (begin + HOUR) <= 6 * HOUR
    assert here.key("k").open_incidents == []
    extra = sum(50 * 2000 for _ in range(60)) * 0.98
    assert 0.8 * extra < resolved.excess_tokens < 1.2 * extra


def test_an_alert_at_a_close_is_found_at_the_buckets_end_and_the_lateness():
    here = trained()
    step = feed(here, attack(12, NOW + 2 * HOUR, 6))
    opened = step.alerts[0]
    assert opened.status == "opened"
    assert (opened.detected_at - SETTINGS.allowed_lateness_seconds) % 300 == 0
    assert opened.window.end == opened.detected_at - SETTINGS.allowed_lateness_seconds
    assert opened.started_at == opened.window.end - 300


def test_a_rise_that_lasts_is_one_incident_and_a_drift_by_its_longer_windows():
    here = trained()
    step = feed(here, attack(5, NOW, 5 * 24, 5 * 24))
    opened = [alert for alert in step.alerts if alert.status == "opened"]
    assert [alert.entity.id for alert in opened] == ["k"]
    assert opened[0].detected_at - NOW < 12 * HOUR
    assert "drift" in {channel.name for channel in opened[0].channels}
    assert {key for _, _, key in incidents(step.alerts)} == {"k"}


def test_an_alert_after_idle_steps_is_not_found_before_what_went_before_it():
    """With a long lateness an idle step closes and opens at once; the later of the two must not look the earlier."""
    here = trained(allowed_lateness_seconds=3600.0)
    stream = attack(60, NOW + 5 * HOUR - 500, 1, 5.0)
    alerts = list(feed(here, stream).alerts)
    for minutes in range(5, 90, 7):
        here.announce(NOW + 4 * HOUR + minutes * MINUTE)
        here.changes()
        alerts += here.advance().alerts
    assert alerts
    moments = [alert.updated_at for alert in alerts]
    assert moments == sorted(moments)
    assert alerts[0].detected_at >= NOW + 5 * HOUR + 45 * MINUTE, "when its bucket became the oldest open one"


def test_every_alert_is_complete_and_of_the_published_shape():
    from stream.cli.schema import SCHEMAS

    schema = SCHEMAS["alert"]()
    here = trained(dashboard_url="https://grafana.test/d/x?orgId=1", runbook_url="https://runbooks.test/")
    alerts = feed(here, attack(50, NOW + 2 * HOUR, 7, 20.0)).alerts
    assert {alert.status for alert in alerts} == {"opened", "updated", "resolved"}
    for number, alert in enumerate(alerts):
        document = json.loads(alert.model_dump_json())
        assert set(document) == set(schema["properties"])
        assert set(schema["required"]) <= set(document)
        assert Alert.model_validate({**alert.model_dump()}) == alert
        assert_finite(document)
        assert alert.sequence == number
        assert alert.fingerprint == fingerprint_of(alert.entity)
        assert alert.alert_id == alert_id_of(alert.entity, alert.started_at)
        assert 0 <= alert.score <= 1
        assert alert.score + alert.false_alarm_probability == pytest.approx(1)
        assert alert.historical is False
        assert alert.channels
        assert (alert.resolved_at is not None) == (alert.status == "resolved")
        assert document["links"]["dashboard"] == "https://grafana.test/d/x?orgId=1&var-key=k"
        assert document["links"]["runbook"] == f"https://runbooks.test/{alert.kind}"
    severities = ["info", "warning", "high", "critical"]
    ranks = [severities.index(alert.severity) for alert in alerts]
    assert ranks == sorted(ranks), "severity never falls"


def assert_finite(value):
    if isinstance(value, dict):
        for each in value.values():
            assert_finite(each)
    elif isinstance(value, list):
        for each in value:
            assert_finite(each)
    elif isinstance(value, float):
        assert math.isfinite(value)


def test_the_scores_that_are_shown_lie_between_zero_and_one():
    here = trained()
    stream = attack(80, NOW + 2 * HOUR, 3)
    for first in range(0, len(stream), 30):
        feed(here, stream[first : first + 30])
        for view in here.top(5):
            assert 0 <= view.score <= 1
            assert view.tokens_per_second >= 0
            assert view.expected_tokens_per_second >= 0
            assert view.upper_tokens_per_second is None or view.upper_tokens_per_second > 0
    assert len(here.top(1)) == 1


def test_open_alerts_are_the_incidents_as_they_stand():
    here = trained()
    step = feed(here, attack(50, NOW + 4 * HOUR, 8, 10.0))
    (standing,) = here.open_alerts()
    assert standing.alert_id == step.alerts[-1].alert_id
    assert standing.sequence == step.alerts[-1].sequence
    assert here.key("k").open_incidents == [standing.kind]


# ---------------------------------------------------------------- extremes

WEEK = 7 * DAY


def hourly(days, **fields):
    return [call(START + h * HOUR, **fields) for h in range(int(days * 24))]


EXTREMES = [
    ("constant", [call(START + i * 300.0, input_tokens=1000) for i in range(4000)], 0, "no noise"),
    ("zeros", hourly(20, input_tokens=0, output_tokens=0), 0, "nothing is used"),
    ("no usage", hourly(20), 0, "the gateway never says"),
    ("once a month", [call(START + i * 30 * DAY, input_tokens=5000) for i in range(60)], 0, "no habits at all"),
    ("one record of a million calls", [*steady(days=6), call(START + 6 * DAY, calls=10**6)], 1, "estimated, so large"),
    (
        "one giant prompt",
        [*steady(days=20, every=300.0), call(START + 20 * DAY, input_tokens=MAX_TOKENS)],
        0,
        "one call is no rate",
    ),
    ("a hot start", steady(days=12), 1, "a newcomer for its first week, and then a key like any other"),
    (
        "everything at its limit",
        [
            call(START + i * HOUR, event_id=f"x{i}", calls=MAX_CALLS, input_tokens=MAX_TOKENS, output_tokens=MAX_TOKENS,
                 cost_usd=1e9, max_output_tokens=MAX_TOKENS, period_seconds=7 * DAY)
            for i in range(24 * 6)
        ],
        1,
        "the sums keep their digits",
    ),
    ("periods of a nanosecond", hourly(6, input_tokens=9, period_seconds=1e-9), 0, "a moment"),
    (
        "hidden usage after giants",
        [
            *[call(START + i * HOUR, input_tokens=MAX_TOKENS, output_tokens=0) for i in range(24 * 5)],
            call(START + 5 * DAY, calls=MAX_CALLS),
        ],
        1,
        "an estimate that no integer holds",
    ),
    ("the year 2000", [call(946_684_800.0 + i * HOUR, input_tokens=9) for i in range(200)], 0, "the first day"),
    ("the year 2099", [call(4_102_444_799.0 - i * HOUR, input_tokens=9) for i in range(200, 0, -1)], 0, "the last"),
    ("one moment", [call(START, event_id=f"m{i}", input_tokens=9) for i in range(5000)], 0, "time stands still"),
    (
        "steps back in time",
        [call(START + (i // 2) * 60.0 - (i % 2) * 50.0, event_id=f"b{i}", input_tokens=9) for i in range(5000)],
        0,
        "within the lateness",
    ),
]  # fmt: skip


@pytest.mark.parametrize("bucket_seconds", [300, 3600])
@pytest.mark.parametrize(("name", "stream", "most", "why"), EXTREMES, ids=[row[0] for row in EXTREMES])
def test_extremes_are_counted_and_bring_neither_a_crash_nor_a_storm(name, stream, most, why, bucket_seconds):
    here = shard(bucket_seconds=bucket_seconds)
    step = feed(here, stream)
    assert (step.accepted, step.late, step.duplicates, step.rejects) == (len(stream), 0, 0, [])
    here.announce(here.newest + DAY)
    again = shard(bucket_seconds=bucket_seconds)
    alerts = step.alerts + again.load(here.changes()).alerts
    view = again.key("k")
    assert view.calls == sum(c.calls for _, c in stream)
    assert view.input_tokens == sum(c.input_tokens or 0 for _, c in stream)
    assert sum(alert.status == "opened" for alert in alerts) <= most, why
    for alert in alerts:
        assert_finite(json.loads(alert.model_dump_json()))
    assert again.changes()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"allowed_lateness_seconds": 0.0}, "nothing may be late"),
        ({"allowed_lateness_seconds": 86_400.0}, "everything may"),
        ({"bucket_seconds": 10}, "the shortest bucket"),
        ({"bucket_seconds": 3600, "allowed_lateness_seconds": 0.5}, "the longest"),
        ({"max_ids": 0}, "no ids"),
        ({"min_excess_tokens": 0.0, "min_calls": 1, "false_alerts_per_1000_key_days": 1000.0}, "all gates open"),
        ({"min_excess_tokens": 1e300, "false_alerts_per_1000_key_days": 0.01}, "all gates shut"),
    ],
)
def test_every_setting_at_its_limit_runs_and_packs(changes, why):
    here = shard(**changes)
    stream = [*steady(days=4, every=120.0), *times(50, steady("k", START + 4 * DAY, 0.2, 60.0), START, NOW)]
    step = feed(here, stream)
    assert step.accepted == len(stream), why
    again = shard(**changes)
    again.load(here.changes())
    assert again.key("k") == here.key("k")
    for alert in step.alerts:
        assert_finite(json.loads(alert.model_dump_json()))


def test_a_key_silent_for_two_months_starts_anew_and_keeps_its_sums():
    here = trained()
    before = here.key("k")
    back = NOW + 61 * DAY
    feed(here, [call(back + i * 300.0, input_tokens=10) for i in range(5)])
    view = here.key("k")
    assert view.calls == before.calls + 5
    assert view.first_seen == before.first_seen
    assert view.expected_tokens_per_second < 1, "its habits are forgotten"


def test_a_key_silent_for_two_weeks_keeps_its_habits():
    here = trained()
    back = NOW + 14 * DAY
    feed(here, [call(back + i * 300.0, input_tokens=10) for i in range(5)])
    assert here.key("k").expected_tokens_per_second > 1


def test_a_file_whose_time_jumps_by_years_goes_on_at_once():
    """The key whose record waits for the confirmation holds a bucket open; that must not make it live every hour."""
    import time

    here = Shard(0, SETTINGS, partition_of=lambda key_id: 0, confirm_jumps=True)
    feed(here, [call(START - 20 * 365 * DAY + i * 60.0, event_id=f"old-{i}", input_tokens=9) for i in range(600)])
    begin = time.process_time()
    step = feed(here, [call(START + i * 60.0, input_tokens=9) for i in range(60)])
    assert step.accepted == 60
    assert time.process_time() - begin < 1.0
    assert here.newest == START + 59 * 60.0


def test_a_week_in_one_record_costs_no_more_than_what_is_open_of_it():
    import time

    here = shard(bucket_seconds=10)
    feed(here, [call(START)])
    begin = time.process_time()
    week = [call(START + i, event_id=f"w{i}", period_seconds=7 * DAY, input_tokens=604_800) for i in range(100)]
    step = feed(here, week)
    assert time.process_time() - begin < 1.0
    assert step.accepted == 100
    assert 0.99 < step.late_tokens / (100 * 604_800) < 1


def test_an_excess_that_a_slow_window_gathered_counts_over_that_window():
    """A drift that opens on five days' excess has not taken it within one bucket."""
    opened = [
        alert
        for seed in range(12)
        for alert in whole(log_of(calls(seed))).alerts
        if alert.status == "opened" and alert.kind == "drift"
    ]
    assert opened
    for alert in opened:
        hours = alert.window.horizon_seconds / 3600
        assert alert.excess_per_hour <= alert.excess_tokens / min(hours, 1.0) + 1e-6
        if alert.excess_tokens > alert.observed:  # more than its last bucket can hold
            assert alert.excess_per_hour == pytest.approx(alert.excess_tokens / hours)
        assert alert.excess_output_tokens <= alert.excess_tokens * 1.5
