"""Keys that are like no others: none crashes the shard, none brings a storm, and what comes of each is what is said."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable

import pytest
from core_streams import equality
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shard_traffic import DAY, HOUR, MINUTE, START, Timed, call, feed, shard, steady, times

from stream.alerts import Alert
from stream.events import MAX_TOKENS

# hours for buckets make a month quick; what needs minutes says so
HOURLY = {"bucket_seconds": 3600}
few = settings(max_examples=12)


def alerts_of(stream: Iterable[Timed], **changes: object) -> list[Alert]:
    """What a shard says of a stream and of the two days of silence after it; every number of it is finite.

    A shard that is packed and loaded half-way must say the same.
    """
    stream = list(stream)
    here, loaded = shard(**changes), shard(**changes)
    half = len(stream) // 2
    alerts = list(feed(here, stream[:half]).alerts)
    again = list(alerts)
    loaded.load(here.changes())
    alerts += feed(here, stream[half:]).alerts
    again += feed(loaded, stream[half:]).alerts
    for one, said in ((here, alerts), (loaded, again)):
        one.announce(one.newest + 2 * DAY)
        one.changes()
        said += one.advance().alerts
    assert equality(alerts) == equality(again)
    for alert in alerts:
        json.loads(alert.model_dump_json(), parse_constant=pytest.fail)
        assert all(map(math.isfinite, (alert.observed, alert.expected, alert.upper, alert.excess_tokens)))
    return alerts


def incidents(alerts: Iterable[Alert]) -> list[str]:
    """The kinds of the incidents that were opened, in their order."""
    return [alert.kind for alert in alerts if alert.status == "opened"]


# ---------------------------------------------------------------- nothing to be seen


@few
@given(st.integers(0, 4000), st.integers(0, 2000), st.sampled_from([300.0, 1800.0, 7200.0]))
@example(0, 0, 300.0)
@example(1, 0, 300.0)
@example(1000, 1000, 60.0)
@example(1, 9, 60.0)
def test_a_constant_key_is_at_most_a_newcomer(input_tokens, output_tokens, every):
    """A key without any noise has a scale of zero: it must not divide by it. All zeros are a constant, too."""
    count = int(12 * DAY / every)
    stream = [call(START + i * every, input_tokens=input_tokens, output_tokens=output_tokens) for i in range(count)]
    assert incidents(alerts_of(stream, **HOURLY)) in ([], ["newcomer"])


def test_a_key_of_zeros_raises_nothing():
    stream = [call(START + i * 300.0, input_tokens=0, output_tokens=0) for i in range(12 * 24 * 12)]
    assert alerts_of(stream) == []


@few
@given(st.integers(0, 2**32), st.sampled_from([120.0, 600.0]))
def test_a_key_whose_usage_is_never_reported_raises_nothing_while_its_calls_stay(seed, every):
    """Its tokens are estimated from the priors alone, and its quality says so."""
    rng = random.Random(seed)
    stream, time = [], START
    while time < START + 10 * DAY:
        stream.append(call(time, event_id=f"{len(stream)}"))
        time += every * rng.uniform(0.5, 1.5)
    here = shard(**HOURLY)
    assert incidents(feed(here, stream).alerts) == []
    assert here.key("k").input_tokens == here.key("k").output_tokens == 0, "estimates are no usage"


def test_a_flood_of_calls_without_usage_is_one_incident():
    """Calls that say nothing of their tokens count as usual ones: silence about usage is no way to hide."""
    stream = [(time, call(time, event_id=c.event_id)[1]) for time, c in steady(days=20, every=60.0)]
    begin = START + 18 * DAY
    flood = [call(time, event_id=c.event_id, calls=40) if begin <= time < begin + 3 * HOUR else (time, c)
             for time, c in stream]  # fmt: skip
    alerts = alerts_of(flood)
    assert len(incidents(alerts)) == 1
    assert begin <= alerts[0].detected_at <= begin + 3 * HOUR + 10 * MINUTE


@pytest.mark.slow
@few
@given(st.integers(0, 2**32), st.sampled_from([100, 20_000, 10**6]))
def test_a_key_of_three_calls_a_month_raises_nothing(seed, most):
    """It never grows old enough to have habits; three calls are below the least that is judged."""
    rng = random.Random(seed)
    moments = sorted(rng.random() * 150 * DAY for _ in range(15))
    stream = [call(START + at, input_tokens=rng.randrange(most), output_tokens=rng.randrange(most)) for at in moments]
    assert incidents(alerts_of(stream, **HOURLY)) == []


# ---------------------------------------------------------------- very much


def million_a_minute(days: float, seed: int = 3) -> list[Timed]:
    """A record a minute, each of about a million calls of about 900 tokens, with a day's season."""
    rng = random.Random(seed)
    stream = []
    for i in range(int(days * 24 * 60)):
        season = 1 + 0.5 * math.sin(2 * math.pi * i / 1440)
        calls = int(1e6 * season * rng.uniform(0.9, 1.1))
        fields = {"calls": calls, "input_tokens": 600 * calls, "output_tokens": 300 * calls, "period_seconds": 60.0}
        stream.append(call(START + (i + 1) * MINUTE, event_id=f"m{i}", **fields))
    return stream


def test_a_key_of_a_million_calls_a_minute_raises_nothing_by_its_size():
    stream = million_a_minute(16)
    here = shard()
    assert incidents(feed(here, stream).alerts) in ([], ["newcomer"]), "at most that it starts hot"
    view = here.key("k")
    assert view.calls == sum(c.calls for _, c in stream)
    assert view.output_tokens == sum(c.output_tokens for _, c in stream), "no sum loses a digit"


@pytest.mark.slow
def test_a_surge_of_a_key_of_a_million_calls_a_minute_is_one_incident():
    begin = START + 15 * DAY
    stream = []
    for time, c in million_a_minute(16):
        if begin < time <= begin + 2 * HOUR:
            fields = {"calls": 20 * c.calls, "input_tokens": 20 * c.input_tokens, "output_tokens": 20 * c.output_tokens}
            time, c = call(time, event_id=c.event_id, period_seconds=60.0, **fields)
        stream.append((time, c))
    opened = [a for a in alerts_of(stream) if a.status == "opened" and a.started_at >= begin - HOUR]
    assert len(opened) == 1
    assert opened[0].detected_at <= begin + HOUR


@pytest.mark.slow
@few
@given(
    st.integers(5, 11),
    st.integers(0, 86_399),
    st.sampled_from([10**7, 10**9, MAX_TOKENS]),
    st.sampled_from([0, None]),
    st.sampled_from([300, 3600]),
)
def test_a_bucket_with_one_giant_call_raises_nothing(day, second, tokens, output_tokens, bucket_seconds):
    """One call is not a rate, however large: it counts for a few usual ones. Half of its usage may be unknown."""
    giant = call(START + day * DAY + second + 0.5, event_id="giant", input_tokens=tokens, output_tokens=output_tokens)
    stream = sorted([*steady(days=12, every=300.0), giant], key=lambda timed: timed[0])
    assert incidents(alerts_of(stream, bucket_seconds=bucket_seconds)) == []


# ---------------------------------------------------------------- another nature


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "least"), [(3, 0), (10, 1), (100, 1)])
def test_a_key_that_changes_for_good_is_few_incidents_and_then_its_new_self(factor, least):
    """A rise that stays is told, and after `accept_days` learned: what it is then is no longer news."""
    begin = START + 20 * DAY
    stream = times(factor, steady(days=60, every=600.0), begin, math.inf)
    here = shard()
    alerts = feed(here, stream).alerts
    opened = [alert for alert in alerts if alert.status == "opened"]
    assert least <= len(opened) <= 3
    assert all(begin <= alert.detected_at <= begin + 14 * DAY for alert in opened)
    assert list(here.open_alerts()) == [], "forty days later it is as it is"
    view = here.key("k")
    assert 0.5 < view.expected_tokens_per_second / (factor * 2000 / 600) < 2, "and that is what is expected"


@pytest.mark.slow
@few
@given(st.integers(0, 2**32), st.sampled_from(["halves", "nights", "bursts", "shape"]))
def test_a_key_whose_nature_changes_by_chance_never_storms(seed, nature):
    """Noise, season, regularity, the form of its calls: whatever changes for good, it is a handful of incidents."""
    rng = random.Random(seed)
    stream = []
    bursts = 0
    for hour in range(24 * 50):
        changed = hour >= 24 * 20
        calls = rng.randrange(20, 60)
        given, taken = 1500, 500
        if changed and nature == "halves":
            calls //= 2
        if nature == "nights":
            awake = (hour + (12 if changed else 0)) % 24 < 12
            calls = calls if awake else 0
        if changed and nature == "bursts" and rng.random() < 0.03:
            calls *= 40
            bursts += 1
        if changed and nature == "shape":
            given, taken = 500, 1500
        if calls:
            at = START + hour * HOUR + rng.random() * HOUR
            fields = {"calls": calls, "input_tokens": calls * given, "output_tokens": calls * taken}
            stream.append(call(at, event_id=f"h{hour}", **fields))
    stream.sort(key=lambda timed: timed[0])
    alerts = alerts_of(stream, **HOURLY)
    # an hour at forty times its use is an incident each time: days with one teach nothing
    most = bursts if nature == "bursts" else 5
    assert len(incidents(alerts)) <= most
    assert len(alerts) <= 5 * 30 + 3 * most, "and what lasts is told every six hours"
