"""Incidents that follow one another: when they are accepted as the new normal, and when not."""

from __future__ import annotations

import pytest
from core_streams import HOUR, START, Run, log_of
from made_priors import made_priors

from stream.core.incidents import Incident
from stream.core.key import KeyState
from stream.core.rules import Rules
from stream.core.shard import Shard
from stream.events import Call
from stream.settings import Settings

SETTINGS = Settings(bucket_seconds=3600, allowed_lateness_seconds=3600, accept_days=7)
FIRST = 20_000 * 24
DAY = 24


def key_of() -> KeyState:
    key = KeyState("k", Rules(SETTINGS, made_priors()))
    key.next_bucket = FIRST
    return key


def guarded(key: KeyState, *incidents: tuple[float, float, str]) -> list[float]:
    """Days after which an incident (first day, last day, kind) was not kept out of what is learned."""
    learned = []
    for first, last, kind in incidents:
        begin, end = FIRST + round(first * DAY), FIRST + round(last * DAY)
        incident = Incident(kind, begin, 0.0, begin)
        learned += [(bucket - FIRST) / DAY for bucket in range(begin, end) if not key._guards(incident, bucket)]
    return learned


@pytest.mark.parametrize(
    ("incidents", "learned", "why"),
    [
        ([(0, 7, "drift")], None, "it has not lasted for long enough"),
        ([(0, 9, "drift")], 7 + 1 / DAY, "it has"),
        ([(d, d + 0.8, "quiet_hours") for d in range(9)], 7 + 1 / DAY, "new habits, told every day"),
        ([(0, 0.1, "surge"), (3.9, 4.0, "surge"), (7.2, 9, "drift")], None, "two blips before it accept no attack"),
        ([(0, 4, "drift"), (9, 11, "drift")], None, "five calm days between them: another chain"),
        ([(0.5, 8, "newcomer"), (10, 12, "surge")], 0.5, "a newcomer's is learned, and belongs to no chain"),
    ],
)
def test_what_is_learned_of_incidents(incidents, learned, why):
    days = guarded(key_of(), *incidents)
    assert (days[0] if days else None) == (pytest.approx(learned, abs=0.01) if learned is not None else None), why
    if incidents[0][2] == "newcomer":
        assert max(days) < 8


def test_an_accepted_chain_is_not_accepted_for_ever():
    """Habits that changed again, weeks later, are news again."""
    days = guarded(key_of(), *[(d, d + 0.8, "quiet_hours") for d in range(30)])
    assert days[0] == pytest.approx(7, abs=0.1)
    assert not [day for day in days if 15.1 < day < 21.9], "a new chain has begun"


def test_accepting_happens_once_a_chain():
    key, seen = key_of(), []
    key.baseline.visits[0] = 9
    for day in range(14):
        guarded(key, (day, day + 0.9, "quiet_hours"))
        seen.append(key.baseline.visits[0])
        key.baseline.visits[0] = 9
    assert seen.count(1) == 1


def test_what_was_accepted_is_no_rise_to_the_groups_of_the_key():
    key = key_of()
    for day in range(30):
        key.days.take(day, 5e5 if day >= 26 else 5e4, 1.0)
    assert min(departure for departure, _ in key.days.departures()) > 0.5
    assert guarded(key, (0, 9, "drift")), "accepted after a week"
    assert key.days.departures() == []


def test_a_crash_within_a_chain_changes_nothing():
    """A week of bursts, and more: learned and told alike, whether or not the state was packed in between."""
    stream = []
    for hour in range(24 * 24):
        calls = 20 if hour < 24 * 10 or hour % 24 > 12 else 2000
        at = START + hour * HOUR
        stream.append((at, Call(event_id=str(hour), time=at, key_id="k", calls=calls, input_tokens=calls * 1000)))
    log = log_of(stream)
    run = Run()
    for position in range(len(log)):
        run.observe(log, position)
        run.flush()
        if position % 5 == 0:
            run.crash()
    whole = Run()
    whole.observe(log, len(log) - 1)
    whole.flush()
    assert run.alerts == whole.alerts
    assert run.state == whole.state
    assert whole.shard._keys.held["k"].chain.last > 0


def test_tokens_of_a_sum_count_where_its_whole_calls_do_not():
    """One call an hour, said of the hour: eleven of its twelve buckets hold tokens and no call."""
    shard = Shard(0, Settings(partitions=1), partition_of=lambda key_id: 0)
    stream = [
        (START + h * HOUR, Call(event_id=str(h), time=0.0, key_id="k", input_tokens=1_200_000, period_seconds=3600.0))
        for h in range(1, 24 * 6)
    ]
    shard.observe(log_of(stream), len(stream) - 1)
    residuals = shard._keys.held["k"].residuals
    for h in range(4):
        assert residuals.observed[h] == pytest.approx(100_000, rel=0.05)
        assert residuals.observed[h] == pytest.approx(residuals.expected[h], rel=0.1)
