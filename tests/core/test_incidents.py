"""The life of an incident: one table, total, and hysteresis around it."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.incidents import HOLD, TRANSITIONS, Incident, Phase, Signal
from stream.core.priors import shipped_priors
from stream.core.rules import Rules
from stream.settings import Settings

CALM = 12
buckets = st.lists(st.booleans(), max_size=200)


def test_the_table_is_total():
    assert set(TRANSITIONS) == set(itertools.product(Phase, Signal))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("signal", Signal)
def test_a_transition_is_told_exactly_when_somebody_has_to_know(phase, signal):
    after, told = TRANSITIONS[phase, signal]
    assert (told == "opened") == (phase is Phase.QUIET and after is Phase.OPEN)
    assert (told == "resolved") == (phase is not Phase.QUIET and after is Phase.QUIET)
    assert (told == "continued") == (phase is not Phase.QUIET and signal is Signal.ANOMALOUS)
    assert (after is Phase.OPEN) == (signal is Signal.ANOMALOUS)


def told_of(anomalous):
    """What an entity's buckets lead to, by the table alone."""
    incident, told = None, []
    for bucket, bad in enumerate(anomalous):
        if incident is None:
            if bad:
                incident = Incident("surge", bucket, 0.0, bucket)
                told.append("opened")
            continue
        transition = incident.move(incident.signal(bad, bucket, CALM))
        if transition == "continued":
            incident.last_anomalous = bucket
        if transition == "resolved":
            incident = None
            told.append("resolved")
    return told, incident


@given(anomalous=buckets)
def test_opened_and_resolved_take_turns(anomalous):
    told, incident = told_of(anomalous)
    assert told == ["opened", "resolved"] * (len(told) // 2) + ["opened"] * (len(told) % 2)
    assert (incident is not None) == (len(told) % 2 == 1)


@pytest.mark.parametrize(
    ("pattern", "told", "why"),
    [
        ("", [], "nothing"),
        ("x" + "." * 11, ["opened"], "not calm for an hour yet"),
        ("x" + "." * 12, ["opened", "resolved"], "an hour of calm ends it"),
        ("x" + "." * 11 + "x" + "." * 11, ["opened"], "each relapse begins the hour anew"),
        ("x" + "." * 13 + "x", ["opened", "resolved", "opened"], "after the end it is another incident"),
        ("xxxx" + "." * 12, ["opened", "resolved"], "counted from the last anomalous bucket"),
    ],
)
def test_an_incident_ends_after_an_hour_without_an_anomalous_bucket(pattern, told, why):
    assert told_of([letter == "x" for letter in pattern])[0] == told, why


@pytest.mark.parametrize(("bucket_seconds", "calm"), [(10, 360), (300, 12), (3600, 1)])
def test_calm_is_an_hour_in_every_bucket_length(bucket_seconds, calm):
    rules = Rules(Settings(bucket_seconds=bucket_seconds))
    assert rules.calm_buckets == calm
    assert rules.update_buckets * bucket_seconds == 20 * 3600
    assert rules.accept_buckets * bucket_seconds == 7 * 86_400


def test_an_open_incident_holds_below_the_score_that_opened_it():
    rules = Rules(Settings(), shipped_priors())
    assert rules.hold_score == HOLD * rules.open_score
    assert 0 < HOLD < 1


@pytest.mark.parametrize("dial", [0.01, 0.1, 1, 10, 100, 1000])
def test_a_page_needs_at_least_the_score_that_opens(dial):
    rules = Rules(Settings(false_alerts_per_1000_key_days=dial))
    scores = [rules.page_score(keys) for keys in (0, 1, 100, 10_000, 4_000_000)]
    assert scores == sorted(scores), "more keys, more false maxima a week: a higher threshold"
    assert scores[0] >= rules.open_score


def test_the_dial_moves_the_threshold_one_way():
    scores = [Rules(Settings(false_alerts_per_1000_key_days=dial)).open_score for dial in (0.01, 0.1, 1, 10, 100)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


def test_evidence_counts_more_the_more_days_a_key_was_active():
    values = [Rules.maturity(days) for days in range(60)]
    assert values == sorted(values)
    assert 0 < values[0] < values[-1] < 1


def test_an_incident_packs_into_what_it_was():
    incident = Incident("drift", 5, 1.5, 9, Phase.COOLING, 3, 2, "why", channels={"surge": 4.0, "drift": 5.0})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(incident), type=Incident) == incident
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(["drift", 5, 1.5, 9, 7]), type=Incident)
