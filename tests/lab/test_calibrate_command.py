"""`overdraw calibrate` through its front door: what it prints, writes and refuses."""

from __future__ import annotations

import json
import random
import re

import pytest
from click.testing import CliRunner

from stream.__main__ import cli
from stream.core.priors import Priors, shipped_text

pytestmark = pytest.mark.slow

START = 1_772_409_600
HOUR = 3600
KEYS, DAYS = 14, 40
COARSE = ("--set", "bucket_seconds=3600", "--set", "partitions=2", "--set", "min_excess_tokens=1000")
DIAL = ("--set", "false_alerts_per_1000_key_days=150")


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Keys that are used every three hours, now and then for much more than usual."""
    rng = random.Random(4)
    path = tmp_path_factory.mktemp("calibrate") / "calls.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for number in range(DAYS * 8 * KEYS):
            slot, key = divmod(number, KEYS)
            many = int(20 * rng.lognormvariate(0, 0.4) * (rng.paretovariate(1.1) if rng.random() < 0.03 else 1))
            call = {
                "event_id": f"e{number}", "time": START + slot * 3 * HOUR, "key_id": f"key-{key}", "calls": many,
                "input_tokens": 800 * many, "output_tokens": 200 * many,
            }  # fmt: skip
            out.write(json.dumps(call) + "\n")
    return path


def run(*arguments):
    return CliRunner().invoke(cli, ["calibrate", *map(str, arguments)])


def test_it_writes_a_whole_priors_file_and_says_what_it_means(history, tmp_path):
    out = tmp_path / "priors.json"
    result = run(history, *COARSE, *DIAL, "--out", out)
    assert result.exit_code == 0, result.output
    assert Priors.from_json(out.read_text("utf-8")).tail != Priors.from_json(shipped_text()).tail
    assert "key-1" not in out.read_text("utf-8")
    assert (
        "14 keys from 2026-03-02 to 2026-04-10, 14 of them in use on a day; counted from 2026-03-23 on" in result.stdout
    )
    assert re.search(r"266 key-days after the first week; dial 150 per 1,000: 39\.9 expected", result.stdout)
    assert re.search(r"after .* per 1,000 \(95 %: [\d.]+ to [\d.]+\)", result.stdout)
    assert "as it was: only 0 key-days of first weeks" in result.stdout
    assert "At 14 active keys the dial means 2.1 false alerts a day, 14.7 a week" in result.stdout
    assert f"use it with priors_file={out}" in result.stdout


def test_the_new_file_brings_the_realised_rate_to_the_dial(history, tmp_path):
    out = tmp_path / "priors.json"
    first = json.loads(run(history, *COARSE, *DIAL, "--out", out, "--json").stdout)
    after = first["alerts"]["after"]
    assert 0.5 < after["per_1000"] / 150 < 2
    assert abs(after["per_1000"] - 150) < abs(first["alerts"]["before"]["per_1000"] - 150)
    again = run(history, *COARSE, *DIAL, "--set", f"priors_file={out}", "--out", tmp_path / "second.json", "--json")
    second = json.loads(again.stdout)
    assert second["alerts"]["before"] == after
    assert second["digest"] == first["digest"], "the same history tells the same, and counts once"


def test_confirmed_incidents_are_left_out(history, tmp_path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps({"key_id": "key-3", "start": "2026-04-01T00:00:00Z", "end": "2026-04-03T00:00:00Z"}))
    result = run(history, *COARSE, *DIAL, "--out", tmp_path / "p.json", "--exclude", labels, "--json")
    report = json.loads(result.stdout)
    assert report["excluded"] == {"incidents": 1, "key_days": 4}
    assert report["alerts"]["key_days"] == 262


def test_a_dial_that_is_too_low_for_the_history_ends_with_1_and_writes_nothing(history, tmp_path):
    out = tmp_path / "priors.json"
    result = run(history, *COARSE, "--out", out)
    assert result.exit_code == 1
    assert "a dial of 19 or more" in result.stderr
    assert "266 clean key-days" in result.stderr
    assert not out.exists()


def test_a_shorter_warm_up_counts_more_days(history, tmp_path):
    result = run(history, *COARSE, *DIAL, "--warm-up", "7", "--out", tmp_path / "p.json", "--json")
    assert json.loads(result.stdout)["alerts"]["key_days"] == 14 * 33
    assert run(history, "--warm-up", "6").exit_code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--exclude", "absent.jsonl"), "absent.jsonl: there is no such file"),
        (("--set", "priors_file=absent.json"), "priors_file"),
        (("--out", "no/such/folder/p.json"), "cannot write no/such/folder/p.json"),
    ],
)
def test_bad_input_ends_with_2(history, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(history, *COARSE, *DIAL, *options)
    assert result.exit_code == 2 or "SettingsError" in repr(result.exception)
    assert said in result.output + str(result.exception)


def test_a_bad_line_of_incidents_is_named(history, tmp_path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"key_id": "key-3"}')
    result = run(history, *COARSE, *DIAL, "--exclude", labels)
    assert result.exit_code == 2
    assert "labels.jsonl, line 1: a label has key_id, start and end" in result.stderr
