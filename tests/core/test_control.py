"""What operators say: announced until a bucket boundary, followed there, the same whoever owns the shard."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import shard_traffic
from core_streams import HOUR, PRIORS, SETTINGS, START, Run, calls, log_of, new_shard, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_traffic import DAY, MINUTE, Timed, feed, incidents, shard, times
from shard_traffic import SETTINGS as FINE
from shard_traffic import START as BEGIN

from stream.alerts import Alert
from stream.control import MESSAGE, ControlError, Message
from stream.core import control
from stream.core.control import CONTROL_KEY, MAX_BYTES, MOST_RAISE, RAISE, Control, Heard
from stream.core.shard import Shard
from stream.core.state import StateError

seeds = st.integers(0, 10_000)
SENSITIVE = FINE.model_copy(update={"min_excess_tokens": 50_000.0, "false_alerts_per_1000_key_days": 100.0})
NOW = BEGIN + 8 * DAY + 3 * HOUR


def made() -> Shard:
    """A shard that alerts on little: so that a week of traffic is enough."""
    return Shard(0, SENSITIVE, partition_of=lambda key_id: 0, priors=PRIORS)


def steady(key_id: str = "k", start: float = BEGIN, days: float = 9) -> list[Timed]:
    """A call a minute, some 120,000 tokens an hour."""
    return shard_traffic.steady(key_id, start, days, every=60.0)


def said(kind: str, number: int = 0, at: float = NOW, **content: Any) -> Message:
    words = {"kind": kind, "id": f"r{number}", "at": at, "by": "ann", "why": "because", **content}
    return MESSAGE.validate_python(words)


def hear(to: Shard, *messages: Message | ControlError, first: int = 0, log: str = "t") -> list[Any]:
    return to.instruct([Heard(first + i, message) for i, message in enumerate(messages)], log)


def key_rule(kind: str, **content: Any) -> Message:
    return said(kind, scope={"type": "key", "id": "k"}, **content)


def feedback(alert: Alert, verdict: str, number: int = 0) -> Message:
    return said("feedback", number, alert_id=alert.alert_id, key_id=alert.entity.id, verdict=verdict)


def again(of: Shard) -> Shard:
    """Another owner of the shard."""
    heir = Shard(0, of.settings, partition_of=lambda key_id: 0, priors=of.rules.priors)
    heir.load(of.changes())
    return heir


# ---------------------------------------------------------------------- the same result


def messages_for(alerts: list[Alert], rng: random.Random) -> list[Message]:
    """Some of everything, about incidents and keys that there are."""
    some: list[Message] = []
    for number, alert in enumerate(rng.sample(alerts, min(len(alerts), 5))):
        some.append(feedback(alert, rng.choice(("expected", "wrong", "right")), number))
    end = START + rng.randrange(60, 140) * HOUR
    some.append(said("maintenance", 10, scope={"type": "key", "id": "key-1"}, begin=end - 30 * HOUR, until=end))
    some.append(
        said("allow", 11, scope={"type": "pattern", "id": "key-[02]"}, tokens_per_hour=rng.randrange(1, 20_000))
    )
    some.append(said("block", 12, key_id="key-0"))
    some.append(said("remove", 13, rule="r11"))
    rng.shuffle(some)
    return some


@pytest.mark.slow
@given(
    seed=seeds, place=st.integers(0, 10_000), cuts=st.lists(st.tuples(st.integers(1, 150), st.booleans()), max_size=30)
)
@settings(max_examples=15, deadline=None)
def test_a_crash_around_a_boundary_and_any_chunking_change_nothing(seed, place, cuts):
    """What is announced with a flush takes effect where it was announced for, whatever happens then."""
    log = log_of(calls(seed))
    rng = random.Random(seed)
    opened = [alert for alert in whole(log).alerts if alert.status == "opened"]
    topic = messages_for(opened, rng)
    position = place % (len(log) - 1)
    one, other = Run(), Run()
    for run in (one, other):
        run.observe(log, position)
        hear(run.shard, *topic)
        run.flush()
    one.observe(log, len(log) - 1)
    one.flush()
    for advance, crash in cuts:
        other.observe(log, min(other.shard.applied + advance, len(log) - 1))
        if crash:
            other.crash()
        else:
            other.flush()
        hear(other.shard, *topic)  # as a worker does after each takeover
    other.observe(log, len(log) - 1)
    other.flush()
    assert other.alerts == one.alerts
    assert other.state == one.state


def test_the_streams_have_incidents_that_words_change():
    """Else the property above would say nothing."""
    changed = ended = 0
    for seed in range(12):
        log = log_of(calls(seed))
        plain = whole(log).alerts
        run = Run()
        run.observe(log, len(log) // 2)
        hear(run.shard, *messages_for([alert for alert in plain if alert.status == "opened"], random.Random(seed)))
        run.observe(log, len(log) - 1)
        run.flush()
        changed += run.alerts != plain
        ended += sum("says ann" in alert.status_reason for alert in run.alerts)
    assert changed > 4
    assert ended > 0


def test_what_was_not_written_is_announced_anew():
    run = Run()
    log = log_of(calls(5))
    run.observe(log, 100)
    run.flush()
    hear(run.shard, said("block", key_id="key-0"))
    run.crash()
    assert run.shard.control.position == -1
    hear(run.shard, said("block", key_id="key-0"))
    assert [message.kind for _, message in run.shard.control.announced] == ["block"]


# ---------------------------------------------------------------------- the boundary


def test_a_word_counts_from_the_next_bucket_on_and_not_before():
    s = shard()
    feed(s, steady(days=1))
    bucket = int(s.watermark // 300)
    hear(s, said("block", key_id="k"))
    assert [place for place, _ in s.control.announced] == [bucket + 1]
    assert not s.key("k").blocked
    assert CONTROL_KEY in dict(s.changes())
    heir = again(s)
    heir.load([])
    feed(s, steady(start=s.newest + 1, days=10 / 1440))
    assert s.key("k").blocked
    assert s.control.announced == []


def test_an_owner_who_takes_over_between_the_word_and_its_boundary_follows_it():
    s = shard()
    feed(s, steady(days=1))
    hear(s, said("block", key_id="k"))
    heir = again(s)
    assert not heir.key("k").blocked
    feed(heir, steady(start=heir.newest + 1, days=10 / 1440))
    assert heir.key("k").blocked
    assert again(heir).key("k").blocked


def test_an_idle_shard_follows_as_its_watermark_moves():
    s = shard()
    feed(s, steady(days=1))
    hear(s, said("block", key_id="k"))
    s.announce(s.watermark + 300)
    s.changes()
    s.advance()
    assert s.key("k").blocked


def test_what_was_heard_before_is_passed_over_and_another_topic_begins_anew():
    s = shard()
    feed(s, steady(days=1))
    hear(s, said("block", key_id="k"))
    hear(s, said("unblock", key_id="k"))  # the same offset
    assert [message.kind for _, message in s.control.announced] == ["block"]
    hear(s, said("unblock", key_id="k"), log="another")
    assert [message.kind for _, message in s.control.announced] == ["block", "unblock"]


# ---------------------------------------------------------------------- feedback


@pytest.fixture(scope="module")
def attacked():
    """Eight days, then ten times the use for hours; the shard an hour into it, and its alert."""
    s = made()
    stream = times(10, steady(days=10.1), BEGIN + 8 * DAY, BEGIN + 11 * DAY)
    alerts = feed(s, [item for item in stream if item[0] < BEGIN + 8 * DAY + HOUR]).alerts
    assert alerts[0].status == "opened"
    return list(s.changes()), s, alerts[0], [item for item in stream if item[0] >= BEGIN + 8 * DAY + HOUR]


def heir_of(attacked) -> Shard:
    records = attacked[0]
    heir = made()
    heir.load(records)
    return heir


def test_expected_use_is_learned_and_opens_nothing_again(attacked):
    _, _, alert, rest = attacked
    s, untold = heir_of(attacked), heir_of(attacked)
    hear(s, feedback(alert, "expected"))
    alerts = feed(s, rest[:2880]).alerts
    feed(untold, rest[:2880])
    assert [found[0] for found in incidents(alerts)] == ["resolved"]
    assert alerts[0].status_reason == "expected, says ann: because"
    assert alerts[0].alert_id == alert.alert_id
    assert s.key("k").expected_tokens_per_second > 3 * untold.key("k").expected_tokens_per_second
    (rule,) = s.control.rules
    assert rule.last - rule.first == s.rules.accept_buckets


def test_what_goes_far_beyond_the_expected_still_alerts(attacked):
    _, _, alert, rest = attacked
    s = heir_of(attacked)
    hear(s, feedback(alert, "expected"))
    begin = rest[0][0] + 6 * HOUR
    alerts = feed(s, times(20, [item for item in rest if item[0] < begin + 2 * HOUR], begin, begin + DAY)).alerts
    assert [found[0] for found in incidents(alerts)][:2] == ["resolved", "opened"]
    assert alerts[1].started_at >= begin


def test_feedback_on_another_incident_ends_nothing(attacked):
    _, _, alert, rest = attacked
    s = heir_of(attacked)
    hear(s, feedback(alert.model_copy(update={"alert_id": "0" * 32}), "expected"))
    alerts = feed(s, rest[:120]).alerts
    assert "resolved" not in [found[0] for found in incidents(alerts)]
    assert s.control.rules == []


def test_wrong_raises_the_bar_by_bounded_steps_that_fade_and_right_takes_it_back():
    words = Control(300)
    bucket, day = 1000, 288
    for number in range(6):
        words.was_wrong(said("feedback", alert_id=f"{number:032x}", key_id="k", verdict="wrong"), bucket)
        assert words.raise_of("k", bucket) == pytest.approx(min(MOST_RAISE, RAISE * (number + 1)))
    words.was_wrong(said("feedback", alert_id=f"{5:032x}", key_id="k", verdict="wrong"), bucket + 30 * day)
    assert words.raise_of("k", bucket + 30 * day) == pytest.approx(MOST_RAISE / 2), "the same incident counts once"
    assert words.raise_of("k", bucket - 1) == 0
    assert words.raise_of("other", bucket) == 0
    words.forget(bucket + 300 * day)
    assert words.raised == {}
    words.was_wrong(said("feedback", alert_id=f"{9:032x}", key_id="k", verdict="wrong"), bucket)
    words.was_right("k")
    assert words.raise_of("k", bucket) == 0
    assert not words.active


def test_wrong_ends_an_incident_that_would_not_have_opened():
    for seed in range(40):
        log = log_of(calls(seed))
        opened = [a for a in whole(log).alerts if a.status == "opened"]
        for alert in opened:
            at = next((i for i, time, _ in log if time > alert.detected_at + HOUR), len(log) - 1)
            run = Run()
            run.observe(log, at)
            key = run.shard._keys.held.get(alert.entity.id)
            if key is None or key.incident is None:
                continue
            weak = key.incident.score < run.shard.rules.open_score + RAISE
            hear(run.shard, feedback(alert, "wrong"))
            run.observe(log, len(log) - 1)
            ends = [a for a in run.pending if a.alert_id == alert.alert_id and a.status == "resolved"]
            if weak:
                assert ends[0].status_reason == "wrong, says ann: because"
                return
    pytest.fail("no weak incident among the streams")


# ---------------------------------------------------------------------- planned events


def test_in_a_planned_event_alerts_are_info_end_with_it_and_teach_nothing():
    s, plain = made(), made()
    begin, end = BEGIN + 8 * DAY, BEGIN + 8 * DAY + 6 * HOUR
    stream = times(30, steady(days=9), begin, end)
    calm = steady(days=9)
    before = [item for item in stream if item[0] < begin - HOUR]
    after = [item for item in stream if item[0] >= begin - HOUR]
    for one in (s, plain):
        feed(one, before)
    hear(s, key_rule("maintenance", begin=begin, until=end))
    alerts = feed(s, after).alerts
    feed(plain, [item for item in calm if item[0] >= begin - HOUR])
    assert {alert.severity for alert in alerts} == {"info"}
    assert [found[0] for found in incidents(alerts)] == ["opened", "resolved"]
    assert alerts[0].severity_reason == "planned: because (said by ann)"
    assert alerts[1].status_reason == "the planned event is over"
    assert alerts[1].resolved_at == end
    told, untold = s._keys.held["k"].baseline, plain._keys.held["k"].baseline
    assert told.level.value == pytest.approx(untold.level.value, rel=0.05), "nothing of it was learned"
    assert told.age == untold.age - 72


def test_an_attack_after_a_planned_event_is_told_as_ever():
    s = made()
    begin, end = BEGIN + 8 * DAY, BEGIN + 8 * DAY + HOUR
    stream = times(30, steady(days=9), begin, end + 3 * HOUR)
    feed(s, [item for item in stream if item[0] < begin - HOUR])
    hear(s, key_rule("maintenance", begin=begin, until=end))
    alerts = feed(s, [item for item in stream if item[0] >= begin - HOUR]).alerts
    later = [alert for alert in alerts if alert.started_at >= end]
    assert later
    assert later[0].status == "opened"
    assert later[0].severity != "info"


@pytest.mark.parametrize(
    ("scope", "planned"),
    [
        ({"type": "org", "id": "acme"}, True),
        ({"type": "org", "id": "other"}, False),
        ({"type": "pattern", "id": "k*"}, True),
        ({"type": "all"}, True),
        ({"type": "key", "id": "other"}, False),
    ],
)
def test_an_event_is_about_whom_it_names(scope, planned):
    s = made()
    begin = BEGIN + 4 * DAY
    stream = times(30, steady(days=5), begin, begin + HOUR)
    of_acme = [
        (time, call.__class__(**{**{f: getattr(call, f) for f in call.__struct_fields__}, "org_id": "acme"}))
        for time, call in stream
    ]
    feed(s, [item for item in of_acme if item[0] < begin - HOUR])
    hear(s, said("maintenance", scope=scope, begin=begin, until=begin + 6 * HOUR))
    s = again(s)
    alerts = feed(s, [item for item in of_acme if begin - HOUR <= item[0] < begin + 2 * HOUR]).alerts
    assert alerts[0].org_id == "acme"
    assert (alerts[0].severity == "info") == planned


def test_the_buckets_of_a_silent_key_in_an_event_are_not_learned_as_silence():
    s, plain = made(), made()
    begin, end = BEGIN + 8 * DAY, BEGIN + 8 * DAY + 6 * HOUR
    stream = [item for item in steady() if not begin <= item[0] < end]
    both = sorted([*stream, *steady("other")], key=lambda item: item[0])
    for one in (s, plain):
        feed(one, [item for item in both if item[0] < begin - HOUR])
        if one is s:
            hear(one, key_rule("maintenance", begin=begin, until=end))
        feed(one, [item for item in both if item[0] >= begin - HOUR])
    assert s._keys.held["k"].baseline.age == plain._keys.held["k"].baseline.age - 72
    assert s._keys.held["other"].baseline.age == plain._keys.held["other"].baseline.age


# ---------------------------------------------------------------------- allow rules


@pytest.mark.parametrize(("most", "opens"), [(1_500_000, False), (500_000, True)])
def test_up_to_its_limit_in_an_hour_a_key_opens_nothing(most, opens):
    """The attack takes some million tokens an hour."""
    s = made()
    begin = BEGIN + 8 * DAY
    stream = times(8, steady(days=9), begin, begin + 5 * HOUR)
    feed(s, [item for item in stream if item[0] < begin - HOUR])
    hear(s, key_rule("allow", tokens_per_hour=most))
    alerts = feed(s, [item for item in stream if item[0] >= begin - HOUR]).alerts
    assert bool(alerts) == opens
    if opens:
        assert alerts[0].detected_at > begin + 15 * MINUTE, "only what is beyond the limit"


def test_an_allow_rule_that_was_taken_back_or_has_ended_allows_nothing():
    for end in (said("remove", 1, rule="r0"), None):
        s = made()
        begin = BEGIN + 8 * DAY
        stream = times(30, steady(days=8.2), begin, begin + 5 * HOUR)
        feed(s, [item for item in stream if item[0] < begin - 2 * HOUR])
        until = {} if end is not None else {"until": begin - HOUR, "at": begin - 2 * HOUR}
        hear(s, key_rule("allow", tokens_per_hour=10**9, **until))
        if end is not None:
            hear(s, end, first=1)
        alerts = feed(s, [item for item in stream if item[0] >= begin - 2 * HOUR]).alerts
        assert alerts
        assert s.control.rules == []


# ---------------------------------------------------------------------- what cannot be followed, and bounds


def test_what_cannot_be_followed_is_told_once_and_by_one_shard():
    s = shard()
    feed(s, steady(days=1))
    broken = ControlError("control_kind", "no kind")
    unknown = said("feedback", alert_id="0" * 32, key_id="nobody", verdict="wrong")
    found = hear(s, broken, unknown, said("mute", entity={"type": "key", "id": "k"}, until=NOW + 60))
    assert [(reject.position, reject.reason) for reject in found] == [(0, "control_kind"), (1, "control_unknown")]
    assert hear(again(s), broken, unknown) == [], "the next owner knows that it was told"
    second = Shard(1, s.settings, partition_of=lambda key_id: 0)
    assert hear(second, broken, unknown) == []


def test_all_but_feedback_may_be_about_a_key_that_was_never_seen():
    s = shard()
    feed(s, steady(days=1))
    scope = {"type": "key", "id": "nobody"}
    words = [
        said("block", 1, key_id="nobody"),
        said("allow", 2, scope=scope, tokens_per_hour=5000),
        said("maintenance", 3, scope=scope, begin=NOW, until=NOW + HOUR),
        said("unblock", 4, key_id="other"),
    ]
    assert hear(s, *words) == []
    assert [message for _, message in s.control.announced] == words
    feed(s, steady(start=BEGIN + DAY, days=0.1))
    assert s.control.blocked == {"nobody": (s.control.blocked["nobody"][0], None)}
    assert s.control.is_blocked("nobody", int(s.newest // s.settings.bucket_seconds)), "from its first call on"


def test_a_shard_holds_so_much_and_says_so():
    s = shard()
    rules = [said("allow", n, scope={"type": "key", "id": f"{n}-" + "x" * 200}, tokens_per_hour=1) for n in range(900)]
    found = hear(s, *rules)
    assert {reject.reason for reject in found} == {"control_full"}
    feed(s, steady(days=0.1))
    assert len(s.control.pack()) <= MAX_BYTES * 1.1
    assert hear(s, said("remove", 1000, rule="r0"), first=2000) == [], "what makes room is always taken"


def test_a_key_that_is_somebody_elses_concerns_nobody_here():
    s = Shard(1, SETTINGS, partition_of=lambda key_id: 0 if key_id == "there" else 1, priors=PRIORS)
    hear(s, said("block", key_id="there"), said("block", 1, key_id="here"))
    assert [message.key_id for _, message in s.control.announced] == ["here"]


def test_without_a_word_nothing_is_written_of_it():
    s = new_shard()
    s.observe(log_of(calls(3)), 10_000)
    assert CONTROL_KEY not in dict(s.changes())
    assert not s.control.active


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x80", b"\x81\xa7version\x01"])
def test_a_damaged_record_is_no_word(damage):
    s = shard()
    feed(s, steady(days=0.1))
    hear(s, said("block", key_id="k"))
    records = dict(s.changes())
    heir = shard()
    with pytest.raises(StateError, match="damaged"):
        heir.load({**records, CONTROL_KEY: damage}.items())


def test_a_newer_versions_word_is_refused(monkeypatch):
    s = shard()
    feed(s, steady(days=0.1))
    hear(s, said("block", key_id="k"))
    monkeypatch.setattr(control, "VERSION", 2)
    records = s.changes()
    monkeypatch.setattr(control, "VERSION", 1)
    with pytest.raises(StateError, match="newer Overdraw"):
        shard().load(records)


# ---------------------------------------------------------------------- the life of an incident


def test_an_update_says_what_is_material_and_an_end_why():
    s = made()
    begin = BEGIN + 8 * DAY
    alerts = feed(s, times(10, steady(days=9.5), begin, begin + 20 * HOUR)).alerts
    assert all(alert.status_reason for alert in alerts)
    updates = [alert for alert in alerts if alert.status == "updated"]
    assert updates
    for before, after in pairwise(alerts):
        if after.status == "updated":
            worse = after.severity != before.severity
            wider = {c.name for c in after.channels} > {c.name for c in before.channels}
            doubled = after.excess_tokens >= 2 * before.excess_tokens
            assert worse or wider or doubled, after.status_reason
    assert sum("doubled" in alert.status_reason for alert in updates) <= 9, "it grows 400-fold: so often it doubles"
    assert alerts[-1].status == "resolved"
    assert alerts[-1].status_reason.startswith("no anomalous bucket for ")


def test_an_incident_that_keeps_coming_back_has_to_be_calm_for_longer():
    s = made()
    stream = steady(days=10)
    for burst in range(6):
        begin = BEGIN + 8 * DAY + burst * 5 * HOUR
        stream = times(40, stream, begin, begin + 20 * MINUTE)
    alerts = feed(s, stream).alerts
    opened = [alert for alert in alerts if alert.status == "opened"]
    assert 1 <= len(opened) < 4, "six bursts, five hours apart"
    assert "keeps coming back" in [alert for alert in alerts if alert.status == "resolved"][-1].status_reason


def test_what_is_known_of_flapping_and_of_the_hour_is_packed():
    s = made()
    begin = BEGIN + 8 * DAY
    feed(s, [item for item in times(40, steady(days=9), begin, begin + 20 * MINUTE) if item[0] < begin + 4.6 * HOUR])
    key = s._keys.held["k"]
    assert key.ended >= 0
    assert key.hour_tokens > 0
    heir = again(s)
    woken = heir._keys.wake("k") or heir._keys.held["k"]
    assert (woken.ended, woken.flaps) == (key.ended, key.flaps)
    bucket = key.next_bucket
    assert woken.tokens_in_hour(bucket) == key.tokens_in_hour(bucket)
