"""What the dials mean at a number of keys, as `overdraw check` says it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from stream.cli.check import command
from stream.core.rules import Rules
from stream.settings import Settings
from stream.worker.forecast import Keys, findings_of, forecast

NOBODY = "broker=127.0.0.1:1"


def test_false_alerts_are_the_dial_times_the_active_keys() -> None:
    made = forecast(Settings(false_alerts_per_1000_key_days=2), Keys(known=30_000, active=10_000))
    assert (made.false_alerts_per_day, made.false_alerts_per_week) == (20.0, 140.0)
    assert made.alert_score == pytest.approx(Rules(Settings(false_alerts_per_1000_key_days=2)).open_score, abs=0.001)


def test_pages_are_bounded_by_their_own_dial_and_by_the_alerts() -> None:
    assert forecast(Settings(false_pages_per_week=3), Keys(10_000, 10_000)).false_pages_per_week == 3.0
    assert forecast(Settings(false_pages_per_week=3), Keys(100, 100)).false_pages_per_week == pytest.approx(0.7)


def test_the_page_threshold_rises_with_the_keys_that_are_known() -> None:
    scores = [forecast(Settings(), Keys(known, 10)).page_score for known in (100, 10_000, 1_000_000)]
    assert scores == sorted(scores)
    assert scores[1] == pytest.approx(Rules(Settings()).page_score(10_000), abs=0.001)


def test_without_a_key_it_says_how_to_ask() -> None:
    (finding,) = findings_of(forecast(Settings(), Keys(0, 0)))
    assert "--keys N" in finding.text


def test_with_keys_given_it_needs_no_broker() -> None:
    answer = CliRunner().invoke(command, ["--set", NOBODY, "--keys", "5000"])
    assert answer.exit_code == 3, "that is still a problem"
    assert "1 per 1,000 key-days are 5 a day, 35 a week to expect of 5,000 active keys" in answer.stdout
    assert "at most 1 a week to expect of 5,000 keys; a page needs a score of" in answer.stdout
    answer = CliRunner().invoke(command, ["--set", NOBODY, "--keys", "5000", "--json"])
    report = json.loads(answer.stdout)
    assert report["forecast"]["false_alerts_per_week"] == 35.0
    assert report["forecast"]["keys"] == {"known": 5000, "active": 5000}
    assert "forecast" in json.loads(CliRunner().invoke(command, ["--set", NOBODY, "--json"]).stdout)
