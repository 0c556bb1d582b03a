"""A newcomer is told of as it was judged: against what new keys usually use, not against itself."""

from __future__ import annotations

import math

import pytest
from core_streams import HOUR, SETTINGS, START
from made_priors import made_priors

from stream.alerts import Alert
from stream.core import peers
from stream.core.priors import shipped_priors
from stream.core.rules import Rules
from stream.core.shard import Shard
from stream.core.why import explain
from stream.events import Call
from stream.settings import Settings

PRIORS = made_priors()
USUAL = peers.usual_rate(PRIORS)
"""Of these priors the middle is about one token a second."""


def shard_of(hours: int, calls: int, tokens: int, output: int = 10) -> tuple[Shard, list[Alert]]:
    """A new key that makes so many calls of so many tokens each hour."""
    shard = Shard(0, SETTINGS, partition_of=lambda _: 0, priors=PRIORS)
    arrivals = []
    for hour in range(hours):
        for i in range(calls):
            time = START + hour * HOUR + i * HOUR / calls
            call = Call(event_id=f"{hour}-{i}", time=time, key_id="new", input_tokens=tokens, output_tokens=output)
            arrivals.append((len(arrivals), time, call))
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


def test_a_small_key_whose_calls_are_unlike_others_is_not_said_to_use_much() -> None:
    _, alerts = shard_of(24 * 6, 12, 1, output=100_000)
    newcomers = [alert for alert in alerts if alert.kind == "newcomer"]
    assert newcomers
    opened = newcomers[0]
    assert "its calls are not like those of other keys: output per input ×" in opened.summary
    assert opened.shape["output_ratio"] == pytest.approx(100_000, rel=0.1)
    assert opened.upper <= opened.observed


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
