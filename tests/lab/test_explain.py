"""`overdraw explain` on files: the key or the alert, at the end or at a time, as text, as JSON, as a picture."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from pathlib import Path
from xml.dom.minidom import parse

import pytest
from click.testing import CliRunner, Result

from stream.__main__ import cli
from stream.alerts import rfc3339
from stream.cli.explain_words import peers_in_words
from stream.core.channels import STATISTICS
from stream.core.explanation import PeersView

START = 1_772_323_200.0  # 2026-03-01T00:00:00Z
HOUR = 3600.0
SURGE = 15 * 24 + 9
NASTY = "key-\x1b[31m<b>&\u202e"
SETTINGS = ["--set", "bucket_seconds=3600", "--set", "partitions=2"]


def record(key: str, hour: int, calls: int, number: int = 0) -> bytes:
    rng = random.Random(f"{key}{hour}{number}")
    call = {
        "event_id": f"{key}-{hour}-{number}",
        "time": START + hour * HOUR + 1800 + number,
        "key_id": key,
        "calls": calls,
        "input_tokens": calls * rng.randrange(700, 900),
        "output_tokens": calls * rng.randrange(280, 320),
        "model": "m",
    }
    return json.dumps(call).encode()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keys for sixteen days; one is drained for five hours on the last."""
    path = tmp_path_factory.mktemp("explain") / "calls.jsonl"
    lines = []
    for hour in range(16 * 24):
        lines.append(record("key-1", hour, 30))
        lines.append(record(NASTY, hour, 30))
        if SURGE <= hour < SURGE + 5:
            lines.append(record("key-1", hour, 4_000, 1))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["explain", *words])


def document(*words: str) -> dict:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


@pytest.fixture(scope="module")
def told(recorded: Path) -> dict:
    """The drained key, in the midst of it."""
    at = rfc3339(START + (SURGE + 3) * HOUR)
    return document("key-1", "--file", str(recorded), *SETTINGS, "--at", at)


def test_an_open_incident_is_explained_with_its_alerts(told: dict) -> None:
    why = told["explanation"]
    assert why["as_of"] == rfc3339(START + (SURGE + 3) * HOUR)
    assert why["incident"]["started_at"] == told["alerts"][0]["started_at"] == rfc3339(START + SURGE * HOUR)
    assert {alert["status"] for alert in told["alerts"]} <= {"opened", "updated"}
    assert why["decision"]["score"] > why["decision"]["threshold"]
    assert {view["statistic"] for view in why["statistics"]} <= set(STATISTICS)
    assert why["statistics"][0]["share"] > 0
    assert told["alert_id"] is None


def test_the_hours_are_those_of_the_file_up_to_that_time(told: dict, recorded: Path) -> None:
    wanted = {}
    for line in recorded.read_text().splitlines():
        call = json.loads(line)
        if call["key_id"] == "key-1":
            hour = (call["time"] - START) // HOUR
            wanted[hour] = wanted.get(hour, 0) + call["input_tokens"] + call["output_tokens"]
    hours = told["hours"]
    assert len(hours) == SURGE + 3
    assert [hour["tokens"] for hour in hours] == [wanted[i] for i in range(SURGE + 3)]
    assert hours[-1]["start"] == rfc3339(START + (SURGE + 2) * HOUR)
    window = hours[-1]["windows"][0]
    assert window["horizon_seconds"] == 600
    assert window["observed"] > window["band"] > window["expected"] > 0


def test_the_json_has_these_fields(told: dict) -> None:
    """Others read them: add, but take none away."""
    assert set(told) == {"key_id", "alert_id", "explanation", "alerts", "hours", "season"}
    why = told["explanation"]
    assert set(why) == {
        "key_id", "as_of", "steps_as_of", "calls", "input_tokens", "output_tokens", "first_seen", "last_seen",
        "habits", "windows", "statistics", "context", "decision", "incident", "peers",
    }  # fmt: skip
    assert set(why["habits"]) == {
        "age_days", "active_days", "maturity", "tokens_per_day", "tokens_per_call", "input_share", "season_strength",
        "season", "hour_factor", "predictability", "day_factor", "volatility", "active_share", "activity",
    }  # fmt: skip
    assert set(why["windows"][0]) == {
        "horizon_seconds", "observed", "expected", "ratio", "band", "upper", "z", "calls",
    }  # fmt: skip
    assert set(why["statistics"][0]) == {
        "channel", "statistic", "z", "standardised", "once_in_days", "value", "share", "reason",
    }  # fmt: skip
    assert set(why["decision"]) == {
        "by", "log_odds", "score", "score_at_close", "false_alarm_probability", "threshold", "dial", "page_threshold",
        "excess_tokens", "gate", "missing_for_page", "to_page",
    }  # fmt: skip
    assert set(why["incident"]) == {
        "started_at", "since", "kind", "cooling", "channels", "score", "excess_tokens", "severity", "severity_reason",
    }  # fmt: skip
    assert set(told["hours"][0]) == {"start", "tokens", "expected", "windows"}


def test_an_alert_is_explained_as_of_its_opening_with_its_whole_life(recorded: Path, told: dict) -> None:
    alert_id = told["alerts"][0]["alert_id"]
    found = document(alert_id, "--file", str(recorded), *SETTINGS)
    assert (found["alert_id"], found["key_id"]) == (alert_id, "key-1")
    assert found["explanation"]["as_of"] == rfc3339(START + (SURGE + 1) * HOUR)
    assert found["alerts"][0]["status"] == "opened"
    assert found["alerts"][: len(told["alerts"])] == told["alerts"]
    text = run(alert_id, "--file", str(recorded), *SETTINGS).output
    assert f"alert {alert_id}" in text
    assert "when the incident's first bucket had closed" in text


def test_the_text_tells_numbers_reasons_and_draws(recorded: Path) -> None:
    at = rfc3339(START + (SURGE + 3) * HOUR)
    done = run("key-1", "--file", str(recorded), *SETTINGS, "--at", at)
    assert done.exit_code == 0
    for part in ("window", "1 day in 20", "score", "incident open since", "reason", "▲", "█", "tokens per hour"):
        assert part in done.output, part
    assert max(map(len, done.output.splitlines())) <= 110


def test_a_calm_key_says_why_it_is_not_judged_and_ids_are_escaped(recorded: Path) -> None:
    done = run(NASTY, "--file", str(recorded), *SETTINGS)
    assert done.exit_code == 0
    assert "not judged: no window holds" in done.output
    assert "key-\\x1b[31m<b>&\\u202e" in done.output
    assert "\x1b" not in done.output
    assert "\u202e" not in run(NASTY, "--file", str(recorded), *SETTINGS, "--json").output


def test_a_picture_is_written_with_the_alert_in_it(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "key.svg"
    done = run("key-1", "--file", str(recorded), *SETTINGS, "--plot", str(out), "--days", "4")
    assert done.exit_code == 0
    root = parse(str(out)).documentElement
    texts = [node.firstChild.data for node in root.getElementsByTagName("text")]
    assert any(text.startswith("alert: ") for text in texts)
    assert "Mar 14" in texts
    assert "Mar 2" not in texts


def test_a_picture_of_a_nasty_key_is_sound(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "key.svg"
    assert run(NASTY, "--file", str(recorded), *SETTINGS, "--plot", str(out)).exit_code == 0
    assert "<b>" not in out.read_text()
    parse(str(out))


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["nobody"], 2, "no key and no alert has the id nobody"),
        (["f" * 32], 2, "`overdraw replay … --alerts alerts.jsonl` lists the alerts"),
        (["key-1", "--at", "yesterday"], 2, "--at yesterday"),
        (["key-1", "--since", "2026-03-01T00:00:00Z"], 2, "say --at"),
        (["key-1", "--plot", "/nowhere/at/all.svg"], 2, "cannot write"),
        (["key-1", "--format", "parquet"], 2, "parquet"),
        (["key-1", "--days", "nan"], 2, "nan is no number that can be worked with"),
        (["key-1", "--plot", "key-1.png"], 2, "--plot writes SVG: name a file that ends in .svg"),
        (["key-1", "--plot", "-"], 2, "--plot writes SVG: name a file that ends in .svg"),
    ],
)
def test_bad_words_are_told_in_one_line(recorded: Path, words: list[str], code: int, what: str) -> None:
    done = run(*words, "--file", str(recorded), *SETTINGS)
    assert done.exit_code == code, done.output
    assert what in done.output


def test_an_id_that_is_hidden_is_asked_for_by_its_pseudonym(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERDRAW_PSEUDONYM_KEY", "0123456789abcdef")
    done = run("key-1", "--file", str(recorded), *SETTINGS)
    assert done.exit_code == 2
    assert "ask for the one that `overdraw pseudonym ID` prints" in done.output


@pytest.mark.parametrize("words", [["--at", "2026-03-01T00:00:00Z"], ["--plot", "a.svg"], ["--window", "1d"]])
def test_what_needs_calls_needs_a_file(words: list[str]) -> None:
    done = run("key-1", *words)
    assert done.exit_code == 2
    assert "goes with --file" in done.output


def test_before_the_first_close_there_is_nothing_to_say(recorded: Path) -> None:
    done = run("key-1", "--file", str(recorded), *SETTINGS, "--at", rfc3339(START + 60))
    assert done.exit_code == 0
    assert "nothing was known of it" in done.output


def test_an_alert_of_standard_input_asks_for_its_key(recorded: Path, told: dict) -> None:
    alert_id = told["alerts"][0]["alert_id"]
    words = ["explain", alert_id, "--file", "-", *SETTINGS]
    done = CliRunner().invoke(cli, words, input=io.BytesIO(recorded.read_bytes()))
    assert done.exit_code == 2
    assert "give the key's id" in done.output
    words[1] = "key-1"
    assert CliRunner().invoke(cli, words, input=io.BytesIO(recorded.read_bytes())).exit_code == 0


def test_of_a_newcomer_it_is_said_what_new_keys_use_and_how_their_calls_are() -> None:
    view = PeersView(4500.0, 25.3e6, 21_200.0, 1193.4, 30_000.0, {"output_ratio": (4190.0, 5.2)})
    compared, calls = peers_in_words(view)
    assert "25.3 M tokens over 75 min, 1,193 × as much as they usually use (21.2 k)" in compared
    assert "alerts from 30.0 k on" in compared
    assert calls.endswith("output per input × 4,190 (z 5.2)")
    (alone,) = peers_in_words(replace(view, shape={}, expected=0.0, ratio=None))
    assert "25.3 M tokens over 75 min, while they usually use none; with calls like these" in alone
