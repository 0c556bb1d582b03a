"""The line at the top of each dashboard says what is the matter: promtool runs its query on made-up series."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from parts import BOARDS

pytestmark = pytest.mark.stack

NOW_MINUTES = 60
VALUES = {"$__range": "10m", "$instance": ".*", "$key": "k"}
ALWAYS = "1x60"

KNOWN = {'up{job="o", instance="a"}': ALWAYS, 'overdraw_build_info{job="o", instance="a"}': ALWAYS}
READY = {**KNOWN, 'overdraw_ready{job="o", instance="a"}': ALWAYS}
READING = {
    **READY,
    'overdraw_watermark_timestamp_seconds{job="o", instance="a", partition="0"}': "0+60x60",
    'overdraw_events_total{job="o", instance="a", outcome="accepted"}': "0+60x60",
    'overdraw_keys_tracked{job="o", instance="a"}': "100000x60",
}
TOP = {
    **READING,
    'overdraw_top_key_score{job="o", instance="a", key_id="k"}': "0x60",
    'overdraw_top_key_upper_tokens_per_second{job="o", instance="a", key_id="k"}': "9x60",
}
START = "overdraw_top_key_incident_start_timestamp_seconds"
"""Of an incident: `started(key, severity)` for the whole line."""


def started(key: str, severity: str = "warning") -> dict[str, str]:
    return {f'{START}{{job="o", instance="a", key_id="{key}", kind="surge", severity="{severity}"}}': "3000x60"}


def open_group(severity: str, kind: str = "campaign") -> dict[str, str]:
    return {f'overdraw_alerts_open{{job="o", instance="a", kind="{kind}", severity="{severity}"}}': ALWAYS}


CASES = {
    "overdraw-overview": [
        ("no worker was ever scraped", {'up{job="p", instance="p"}': ALWAYS}, "No worker was scraped within a day"),
        ("all workers are gone", {'overdraw_build_info{job="o", instance="a"}': "1x10 stale"}, "No worker answers"),
        ("the only worker restarts", {**KNOWN, 'overdraw_ready{job="o", instance="a"}': "0x60"}, "No worker is ready"),
        (
            "one of two workers restarts",
            {
                **READING,
                'up{job="o", instance="b"}': "0x60",
                'overdraw_build_info{job="o", instance="b"}': "1x50 stale",
            },
            "A worker is not ready",
        ),
        ("no data yet", READY, "No call was read yet"),
        (
            "the feed is silent",
            {**READING, 'overdraw_alerts_open{job="o", instance="a", kind="feed", severity="high"}': ALWAYS},
            "The detector is blind in part",
        ),
        (
            "a partition stands still",
            {**READING, 'overdraw_watermark_timestamp_seconds{job="o", instance="a", partition="1"}': ALWAYS},
            "A partition is half an hour behind",
        ),
        (
            "nobody calls at present",
            {**READING, 'overdraw_events_total{job="o", instance="a", outcome="accepted"}': "7x60"},
            "No calls in this time",
        ),
        ("one key", {**READING, 'overdraw_keys_tracked{job="o", instance="a"}': ALWAYS}, "Fine, with one key only"),
        ("a hundred thousand keys", READING, "Fine: every worker is ready"),
    ],
    "overdraw-key": [
        ("no data yet", READY, "No key at all in this time"),
        (
            "another key is known",
            {**READING, 'overdraw_top_key_score{job="o", instance="a", key_id="other"}': "0x60"},
            "Not among the keys that Prometheus knows",
        ),
        (
            "it was known",
            {**READING, 'overdraw_top_key_score{job="o", instance="a", key_id="k"}': "0x55 stale"},
            "No longer among the busiest keys",
        ),
        ("a page is open", {**TOP, **started("k", "high")}, "An incident of high severity is open"),
        ("a ticket is open", {**TOP, **started("k")}, "An incident is open"),
        ("another key's page is open", {**TOP, **started("other", "high")}, "Calm: no incident"),
        (
            "a young key",
            {name: values for name, values in TOP.items() if "_upper_" not in name},
            "Calm; too young",
        ),
        ("a calm key", TOP, "Calm: no incident"),
    ],
    "overdraw-campaigns": [
        ("no data yet", READY, "No call was read yet"),
        ("one key", {**READING, 'overdraw_keys_tracked{job="o", instance="a"}': ALWAYS}, "One key only"),
        ("four keys", {**READING, **{k: v for n in range(4) for k, v in started(f"k{n}").items()}}, "No group"),
        ("a ticket of a group", {**READING, **open_group("warning")}, "A group's incident is open"),
        (
            "a page of a group, and five keys",
            {**READING, **open_group("high"), **{k: v for n in range(5) for k, v in started(f"k{n}").items()}},
            "A campaign of high severity",
        ),
        ("what a key does is no group's", {**READING, **open_group("high", "surge")}, "No group"),
        (
            "five keys",
            {**READING, **{k: v for n in range(5) for k, v in started(f"k{n}").items()}},
            "Five keys or more",
        ),
    ],
}
ROWS = [(uid, why, series, words) for uid, cases in CASES.items() for why, series, words in cases]


def test_the_line_says_what_is_the_matter(program: Callable[[str], str], tmp_path: Path) -> None:
    tests = []
    for uid, why, series, words in ROWS:
        line = BOARDS[uid]["panels"][1]
        expr = line["targets"][0]["expr"]
        for name, value in VALUES.items():
            expr = expr.replace(name, value)
        states = line["fieldConfig"]["defaults"]["mappings"][0]["options"]
        (code,) = [code for code, state in states.items() if state["text"].startswith(words)]
        tests.append(
            {
                "name": f"{uid}: {why}",
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expr,
                        "eval_time": f"{NOW_MINUTES}m",
                        "exp_samples": [{"labels": "{}", "value": int(code)}],
                    }
                ],
            }
        )
    cases = tmp_path / "matter.yml"
    cases.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": tests}), "utf-8")
    done = subprocess.run(
        [program("promtool"), "test", "rules", cases], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_state_of_every_line_is_put_to_the_test() -> None:
    for uid, cases in CASES.items():
        options = BOARDS[uid]["panels"][1]["fieldConfig"]["defaults"]["mappings"][0]["options"]
        said = {state["text"] for state in options.values()}
        no_worker = {text for text in said if text.startswith("No worker")}
        seen = {text for text in said for _, _, words in cases if text.startswith(words)}
        assert said - seen - (no_worker if uid != "overdraw-overview" else set()) == set()
    assert BOARDS["overdraw-engine"]["panels"][1]["targets"] == BOARDS["overdraw-overview"]["panels"][1]["targets"]
