"""Why: the numbers of an explanation are those of the state, recounted; explaining changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from core_streams import PRIORS, SETTINGS, calls
from hypothesis import given, settings
from hypothesis import strategies as st
from made_priors import FLAT, made_priors

from stream.alerts import DataQuality
from stream.core.bucket import OpenBucket
from stream.core.explanation import BAND_DAYS
from stream.core.judging import ask_again
from stream.core.key import KeyState
from stream.core.reporting import settle
from stream.core.residuals import HORIZONS
from stream.core.rule import CONTEXT
from stream.core.rules import Rules
from stream.core.season import season_of
from stream.core.shard import Shard
from stream.core.state import pack_model, pack_sums
from stream.core.watched import WatchedKey
from stream.core.why import explain
from stream.events import Arrival
from stream.settings import Settings

HOURLY = Settings(
    partitions=1, bucket_seconds=3600, min_excess_tokens=100_000, min_calls=2, false_alerts_per_1000_key_days=1
)
QUALITY = DataQuality(missing_usage=0.0, late=0.0, duplicates=0.0, lag_seconds=0.0)
FIRST = 20_512 * 24
"""The first hour of 2026-02-28."""


def usual(hour: int) -> int:
    """Tokens in an hour of a key that is busy by day."""
    return 20_000 + 10_000 * (8 <= hour % 24 < 18) + 700 * (hour * 7 % 11)


def calls_of(tokens: int) -> int:
    """Calls of the same size always."""
    return tokens // 1_000


def feed(key: KeyState, tokens: list[int], first: int = FIRST) -> KeyState:
    """Close one bucket an hour."""
    for i, total in enumerate(tokens):
        index, calls = first + i, calls_of(total)
        bucket: OpenBucket = key.open_bucket(index, index, ())
        bucket.calls, bucket.input_tokens, bucket.output_tokens = calls, total // 2, total - total // 2
        bucket.log_output, bucket.log_output_squares, bucket.models = calls * 6_000, calls * 35_500, {1: calls}
        key.calls += calls
        key.open[index] = bucket
        settle(key, index + 1, (), QUALITY, 1)
    return key


def traffic(days: int, surge: int = 0, times: int = 30) -> list[int]:
    """Usual hours, and then some with so many times as much."""
    hours = days * 24
    return [usual(h) for h in range(hours)] + [times * usual(hours + h) for h in range(surge)]


def key_of(tokens: list[int], rules: Rules | None = None) -> KeyState:
    return feed(KeyState("key-1", rules or Rules(HOURLY, made_priors())), tokens)


def test_the_windows_are_a_recount_of_the_traffic() -> None:
    tokens = traffic(12, surge=5)
    key = key_of(tokens)
    why = explain(key, 1)
    horizons = key.residuals.horizons
    assert [view.horizon_seconds for view in why.windows] == list(HORIZONS)
    for view, decay, buckets in zip(why.windows, horizons.decay, horizons.buckets, strict=True):
        recount = 0.0
        for total in tokens:
            recount = decay * recount + (1 - decay) * total
        assert view.observed == pytest.approx(recount * buckets, rel=1e-4)
        assert view.ratio == pytest.approx(view.observed / view.expected)
        held = sum(calls_of(total) * decay**i for i, total in enumerate(reversed(tokens)))
        assert view.calls == pytest.approx(held, rel=1e-3)


def test_the_sums_and_habits_are_those_of_the_traffic() -> None:
    why = explain(key_of(traffic(12)), 1)
    habits = why.habits
    assert (why.calls, why.as_of) == (sum(map(calls_of, traffic(12))), (FIRST + 12 * 24) * 3600.0)
    assert (habits.age_days, habits.active_days) == (12, 12)
    assert habits.tokens_per_day == pytest.approx(sum(usual(h) for h in range(24)), rel=0.1)
    assert habits.tokens_per_call == pytest.approx(1_000, rel=0.05)
    assert habits.input_share == pytest.approx(0.5, abs=0.01)
    assert habits.activity == "used round the clock"
    assert why.incident is None


def test_the_score_is_the_one_by_which_the_rule_decides() -> None:
    key = key_of(traffic(12, surge=5))
    why = explain(key, 1)
    moment = ask_again(key)
    rules = key.rules
    quick = rules.quick_score(key.channels, key.context(max(key.residuals.excess(0), key.residuals.excess(1))))
    slow = rules.slow_score(key.channels, key.context(moment.excess), moment.excess)
    assert why.decision.score == max(quick, slow) > rules.open_score == why.decision.threshold
    assert why.decision.false_alarm_probability == rules.law.share(why.decision.score)


def test_while_an_incident_is_open_the_score_is_the_one_of_the_close() -> None:
    key = key_of(traffic(12, surge=3))
    assert key.incident is not None
    decision = explain(key, 1).decision
    assert decision.score_at_close == pytest.approx(key.score)
    assert decision.score == pytest.approx(key.score, rel=0.02)


def test_what_the_numbers_add_is_what_stands_between_the_bias_and_the_log_odds() -> None:
    key = key_of(traffic(12, surge=5))
    why = explain(key, 1)
    head = getattr(key.rules.rule, why.decision.by)
    assert why.decision.log_odds == pytest.approx(head.bias + sum(view.share for view in why.statistics))
    shares = [view.share for view in why.statistics]
    assert shares == sorted(shares, reverse=True)
    assert all(view.value > 0 for view in why.statistics)


def test_how_rare_a_number_is_follows_gumbels_law() -> None:
    why = explain(key_of(traffic(12, surge=5)), 1)
    views = [view for view in why.statistics if view.standardised is not None]
    assert {"level_10m", "level_4h"} <= {view.statistic for view in views}
    for view in views:
        assert view.value == pytest.approx(math.log1p(min(view.standardised, 100.0)))
        if view.standardised < 15:
            assert 1 / view.once_in_days == pytest.approx(1 - math.exp(-math.exp(-view.standardised)))


def test_a_window_at_the_end_of_its_band_is_one_day_in_twenty() -> None:
    key = key_of(traffic(12))
    for h, view in enumerate(explain(key, 1).windows):
        assert view.band is not None
        assert view.band > view.expected > 0
        channel, i = (key.channels[0], h) if h < 2 else (key.channels[1], h - 2)
        residuals = key.residuals
        offset = residuals.offset(h, key.baseline.call_tokens.value, key.baseline.level.value)
        held = view.band / residuals.horizons.buckets[h]
        log_ratio = math.log((held + offset) / (residuals.expected[h] + offset))
        variance = channel.width(i, key.next_bucket - 1) if h < 2 else channel.scales.variance[i]
        z = (log_ratio - channel.scales.mean[i]) / math.sqrt(variance)
        once = 1 - math.exp(-math.exp(-channel.laws.laws[i].standardise(z)))
        assert once == pytest.approx(1 / BAND_DAYS, rel=0.01)


def test_a_key_like_no_other_has_no_context_to_speak_of_without_weights() -> None:
    assert explain(key_of(traffic(12, surge=5)), 1).context == ()


def test_what_a_number_of_the_context_does_is_what_would_be_without_it() -> None:
    priors = made_priors()
    place = CONTEXT.index("log_active_days")
    context = tuple(-2.0 if i == place else weight for i, weight in enumerate(FLAT))
    rule = replace(priors.rule, **{n: replace(getattr(priors.rule, n), context=context) for n in ("quick", "volume")})
    key = key_of(traffic(24, surge=5), Rules(HOURLY, replace(priors, rule=rule)))
    why = explain(key, 1)
    (view,) = why.context
    # each unit of log odds is one decade in these priors
    assert view.name == "log_active_days"
    assert view.effect == pytest.approx(-2.0 * view.value)
    assert "active on 25 days" in view.reason


def test_a_calm_key_is_not_judged_and_says_why() -> None:
    decision = explain(key_of(traffic(12)), 1).decision
    assert (decision.by, decision.score, decision.log_odds) == ("nothing", 0.0, None)
    assert decision.gate is not None
    assert "min_excess_tokens" in decision.gate
    assert explain(key_of(traffic(12, surge=2)), 1).decision.gate is None


def test_a_young_key_is_not_compared_with_itself() -> None:
    why = explain(key_of(traffic(2, surge=4)), 1)
    assert all(view.z is None and view.band is None and view.upper is None for view in why.windows)
    assert "younger than 3 days" in explain(key_of(traffic(2)), 1).decision.gate


def test_what_a_page_lacks_is_told() -> None:
    why = explain(key_of(traffic(12, surge=2)), 10_000_000)
    decision = why.decision
    assert decision.page_threshold > decision.threshold
    assert why.incident is not None
    lacking_score, lacking_excess = decision.missing_for_page
    assert lacking_score == pytest.approx(max(0.0, decision.page_threshold - why.incident.score))
    assert lacking_excess == pytest.approx(max(0.0, 2e6 - why.incident.excess_tokens))
    assert (lacking_score > 0) == ("a score higher by" in decision.to_page)


def test_an_incident_is_told_as_the_state_has_it() -> None:
    key = key_of(traffic(12, surge=3))
    view, incident = explain(key, 1).incident, key.incident
    assert view is not None
    assert incident is not None
    assert view.started_at == incident.started * 3600.0 == (FIRST + 12 * 24) * 3600.0
    assert (view.kind, view.excess_tokens, view.score) == (incident.kind, incident.excess, incident.score)
    assert not view.cooling


def test_nothing_can_be_said_before_the_first_close() -> None:
    with pytest.raises(ValueError, match="no bucket of the key was closed"):
        explain(KeyState("key-1", Rules(HOURLY, made_priors())), 1)


def test_the_learned_week_is_what_the_key_would_be_expected_to_do() -> None:
    key = key_of(traffic(22))
    hours = season_of(key)
    assert len(hours) == 168
    assert all(after.start - before.start == 3600 for before, after in pairwise(hours))
    assert hours[-1].start + 3600 == key.next_bucket * 3600
    bucket = key.next_bucket - 30
    assert hours[-30].expected == key.baseline.predict(bucket)[0]
    by_day = [hour.held for hour in hours if 9 <= hour.start % 86_400 / 3600 < 17]
    by_night = [hour.held for hour in hours if hour.start % 86_400 / 3600 < 6]
    assert min(by_day) > 1.1 * max(by_night)


def test_a_key_that_never_closed_has_no_week() -> None:
    assert season_of(KeyState("key-1", Rules(HOURLY, made_priors()))) == ()


Look = Callable[[KeyState], object]


@pytest.mark.parametrize("look", [lambda key: explain(key, 3), season_of])
def test_a_look_changes_nothing_and_what_follows_is_the_same(look: Look) -> None:
    seen, unseen = key_of(traffic(8, surge=3)), key_of(traffic(8, surge=3))
    look(seen)
    assert pack_model(seen) == pack_model(unseen)
    more = traffic(9)[-30:]
    feed(seen, more[:10], FIRST + 195)
    look(seen)
    feed(seen, more[10:], FIRST + 205)
    feed(unseen, more, FIRST + 195)
    assert (pack_model(seen), pack_sums(seen)) == (pack_model(unseen), pack_sums(unseen))


def run(seed: int, watched: list[WatchedKey] | None, at: float | None = None) -> tuple[Shard, list[object]]:
    def make(key_id: str, rules: Rules) -> KeyState:
        if watched is None:
            return KeyState(key_id, rules)
        watched.append(WatchedKey(key_id, rules, lambda: 3, at))
        return watched[-1]

    shard = Shard(0, SETTINGS, partition_of=lambda _: 0, priors=PRIORS, make_key=make)
    arrivals: list[Arrival] = [(i, time, call) for i, (time, call) in enumerate(calls(seed))]
    step = shard.observe(arrivals, len(arrivals) - 1)
    return shard, list(step.alerts)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_a_watched_key_does_the_same_as_any_other(seed: int) -> None:
    plain, alerts = run(seed, None)
    shard, same = run(seed, [])
    assert same == alerts
    assert sorted(shard.changes()) == sorted(plain.changes())


def test_a_watched_key_notes_every_hour_and_why_each_incident_opened() -> None:
    watched: list[WatchedKey] = []
    opened = []
    for seed in range(6):
        watched.clear()
        _, alerts = run(seed, watched)
        for key in watched:
            starts = {int(a.started_at // 3600) for a in alerts if a.status == "opened" and a.entity.id == key.key_id}
            closed = {start for start in starts if start < key.next_bucket}
            opened += closed
            assert set(key.openings) == closed
            for start, why in key.openings.items():
                assert why.as_of == (start + 1) * 3600
            assert [hour.start for hour in key.hours] == [
                bucket * 3600.0 for bucket in range(key.next_bucket - len(key.hours), key.next_bucket)
            ]
    assert opened


def test_why_as_of_a_time_is_what_a_shorter_run_would_have_said() -> None:
    whole: list[WatchedKey] = []
    run(4, whole, at=1_772_323_200.0 + 100 * 3600.0)
    for key in whole:
        why = key.why()
        assert why is not None
        assert why.as_of <= 1_772_323_200.0 + 100 * 3600.0
        assert key.hours[-1].start + 3600 <= 1_772_323_200.0 + 100 * 3600.0
        assert why.windows[0].observed == pytest.approx(key.hours[-1].windows[0].observed * HORIZON_HOURS, rel=1e-6)


def test_a_key_that_was_forgotten_is_explained_as_it_was_before() -> None:
    at = (FIRST + 12 * 24 + 24 * 7) * 3600.0
    key = WatchedKey("key-1", Rules(HOURLY, made_priors()), lambda: 1, at)
    feed(key, traffic(12))
    feed(key, traffic(1), FIRST + 60 * 24)
    why = key.why()
    assert key.baseline.age < 30
    assert why is not None
    assert why.habits.active_days == 12


HORIZON_HOURS = Rules(SETTINGS, PRIORS).horizons.buckets[0]
