"""A newcomer is told of as it was judged: against what new keys usually use, not against itself."""

from __future__ import annotations

import math

import msgspec
import pytest
from core_streams import HOUR, SETTINGS, START
from made_priors import made_priors

from stream.alerts import Alert, rfc3339
from stream.core import peers
from stream.core.priors import shipped_priors
from stream.core.rules import Rules
from stream.core.shard import Shard
from stream.core.why import explain
from stream.events import Arrival, Call
from stream.settings import Settings

PRIORS = made_priors()
USUAL = peers.usual_rate(PRIORS)
"""Of these priors the middle is about one token a second."""


def new_shard(**changes: float) -> Shard:
    return Shard(0, SETTINGS.model_copy(update=changes), partition_of=lambda _: 0, priors=PRIORS)


def arrivals_of(hours: int, calls: int, tokens: int, output: int) -> list[Arrival]:
    times = [START + hour * HOUR + i * HOUR / calls for hour in range(hours) for i in range(calls)]
    return [
        (i, time, Call(event_id=f"{i}", time=time, key_id="new", input_tokens=tokens, output_tokens=output))
        for i, time in enumerate(times)
    ]


def shard_of(hours: int, calls: int, tokens: int, output: int = 10) -> tuple[Shard, list[Alert]]:
    """A new key that makes so many calls of so many tokens each hour."""
    shard, arrivals = new_shard(), arrivals_of(hours, calls, tokens, output)
    return shard, list(shard.observe(arrivals, len(arrivals)).alerts)


def test_what_is_told_of_a_key_that_starts_hot_is_against_new_keys() -> None:
    shard, alerts = shard_of(30, 60, 100_000, output=50_000)
    opened = alerts[0]
    assert (opened.status, opened.kind) == ("opened", "newcomer")
    for alert in alerts:
        assert alert.ratio == pytest.approx(alert.observed / alert.expected)
        assert alert.ratio > 100
        assert "what new keys usually use" in alert.summary
        assert "baseline" not in alert.summary
        assert 0 <= alert.excess_low <= alert.excess_tokens <= alert.excess_high
    assert opened.excess_tokens == pytest.approx(opened.observed - opened.expected)
    assert opened.expected <= USUAL * opened.window.horizon_seconds
    assert opened.expected < opened.upper < opened.observed, "it alerts for what it uses"
    assert opened.excess_since == opened.window.start
    assert opened.excess_output_tokens == pytest.approx(opened.excess_tokens / 3, rel=0.01)
    (now,) = shard.open_alerts()
    assert now.expected == pytest.approx(USUAL * now.window.horizon_seconds, rel=1e-6)
    assert now.excess_high == pytest.approx(30 * 60 * 150_000, rel=0.1), "all that it used may be an attacker's"

    why = explain(shard._keys.held["new"], 1)
    assert why.peers is not None
    assert why.peers.ratio == pytest.approx(why.peers.observed / why.peers.expected)
    assert why.peers.ratio > 100
    assert why.peers.upper < why.peers.observed


def opened_and_used(shard: Shard, arrivals: list[Arrival]) -> tuple[Alert, int]:
    """The first alert, and the tokens of the time that its excess is of."""
    opened = next(iter(shard.observe(arrivals, len(arrivals)).alerts))
    assert (opened.kind, opened.status) == ("newcomer", "opened")
    assert opened.upper <= opened.observed
    assert opened.excess_tokens == pytest.approx(opened.observed - opened.expected)
    assert opened.expected == pytest.approx(USUAL * opened.window.horizon_seconds)
    return opened, sum(
        call.input_tokens + call.output_tokens
        for _, time, call in arrivals
        if opened.excess_since <= time < opened.window.end
    )


@pytest.mark.parametrize("hours", [1.25, 4, 48])
def test_at_its_opening_all_that_a_newcomer_used_may_be_an_attackers(hours: float) -> None:
    arrivals = arrivals_of(50, 60, 6_000, 3_000)
    # the channel is silent until a key has used so much; it is asked every quarter of an hour
    shard = new_shard(bucket_seconds=300, min_excess_tokens=(hours - 0.2) * 60 * 9_000)
    opened, used = opened_and_used(shard, arrivals)
    assert (opened.window.end - START) / HOUR == hours
    assert opened.excess_high == pytest.approx(used, rel=1e-3)
    assert opened.observed == pytest.approx(used, rel=1e-3)


def test_a_newcomer_that_begins_in_earnest_after_hours_is_not_told_to_have_done_so_all_the_time() -> None:
    arrivals = arrivals_of(3, 60, 1, 1)
    arrivals += [
        (i + 180, time + 3 * HOUR, msgspec.structs.replace(call, event_id=f"hot-{i}", time=time + 3 * HOUR))
        for i, time, call in arrivals_of(3, 60, 200_000, 100_000)
    ]
    opened, used = opened_and_used(new_shard(bucket_seconds=300), arrivals)
    assert opened.excess_since < START + 3 * HOUR < opened.window.end
    assert opened.excess_high == pytest.approx(used, rel=1e-3)


def test_a_newcomers_excess_is_told_with_the_time_from_which_it_counts() -> None:
    shard, alerts = shard_of(30, 60, 100_000, output=50_000)
    opened, later = alerts[0], [*alerts[1:], *shard.open_alerts()]
    assert " above that" in opened.summary
    assert opened.excess_since == opened.window.start < opened.started_at
    assert {alert.status for alert in later} == {"updated"}
    for alert in later:
        assert f" above new keys since {rfc3339(opened.excess_since)[:16]}Z" in alert.summary
        assert alert.excess_tokens > alert.observed - alert.expected, "it began before the incident did"


def test_a_small_key_whose_calls_are_unlike_others_is_not_said_to_use_much() -> None:
    _, alerts = shard_of(24 * 6, 12, 1, output=100_000)
    newcomers = [alert for alert in alerts if alert.kind == "newcomer"]
    assert newcomers
    opened = newcomers[0]
    assert "its calls are not like those of other keys: output per input ×" in opened.summary
    assert opened.shape["output_ratio"] == pytest.approx(100_000, rel=0.1)
    assert opened.upper <= opened.observed


def test_an_incident_of_a_version_that_noted_all_aspects_against_the_key_itself_goes_on() -> None:
    arrivals = arrivals_of(40, 60, 100_000, 50_000)
    cut = 30 * 60
    earlier = new_shard()
    earlier.observe(arrivals[:cut], cut - 1)
    key = earlier._keys.held["new"]
    assert key.incident is not None
    key.incident.shape = {"output_length": 3.0, "model_focus": 0.1, "at_limit": 2.0, "output_ratio": 0.01}
    key.stale = True
    shard = new_shard()
    shard.load(earlier.changes())
    (now,) = shard.open_alerts()
    assert now.kind == "newcomer"
    taken_up = shard._keys.held["new"]
    assert taken_up.incident is not None
    assert peers.upper_rate(taken_up.rules, taken_up.incident.shape) == pytest.approx(
        peers.upper_rate(taken_up.rules, {"at_limit": 2.0})
    ), "what has no law, or is not above it, says nothing"
    taken_up.moment.begin(taken_up.next_bucket - 1, taken_up.active_days)
    assert set(peers.view_of(taken_up).shape) == {"at_limit"}
    shard.observe(arrivals[cut:], len(arrivals))
    assert set(taken_up.incident.shape) <= {"at_limit", "output_ratio", "uniformity"}


def test_how_much_a_new_key_may_use_depends_on_what_its_calls_are_like() -> None:
    rules = Rules(Settings(), shipped_priors())
    shape = peers.differences(rules.priors, [6.0, 5.0, 0.0, 0.0, 0.0, 0.0])
    assert set(shape) == {"output_ratio", "uniformity", "at_limit"}
    assert peers.upper_rate(rules, shape) == pytest.approx(peers.usual_rate(rules.priors)), "they alone are enough"
    assert peers.upper_rate(rules, {}) > 1000 * peers.usual_rate(rules.priors)
    assert peers.differences(rules.priors, None) == {}
    assert peers.differences(rules.priors, [-9.0, -9.0, 0.0, -9.0, 0.0, 0.0]) == {}


@pytest.mark.parametrize("z", [0.0, 1.0, 2.5])
def test_a_rate_and_its_place_in_the_population_are_one(z: float) -> None:
    law = shipped_priors().population["level"]
    assert law.above(math.log(peers.rate_at(shipped_priors(), z) + law.offset)) == pytest.approx(z)
