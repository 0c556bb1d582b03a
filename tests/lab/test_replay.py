"""`overdraw replay`: what it prints, in what order, and with which exit code."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from stream.__main__ import main
from stream.lab.replay import SHOWN_REJECTS, Replay
from stream.partition import partition_of
from stream.settings import Settings

START = 1_772_409_600.0
DAY = 86_400.0
ROOT = Path(__file__).parents[2]


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments, stdin=""):
    """The command through its front door, in this process: a new one takes seconds to start."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        patch.object(sys, "argv", ["overdraw", "replay", *map(str, arguments)]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    return Result(code, out.getvalue(), err.getvalue())


def record(number, time, key_id="k", **fields):
    return json.dumps({"event_id": f"e{number}", "time": time, "key_id": key_id, **fields})


def attacked(days=12.0, keys=("k", "calm")):
    """Two steady keys; in the last three hours the first one uses fifty times as much."""
    lines = []
    for i in range(int(days * DAY / 240)):
        time = START + i * 240.0
        for key_id in keys:
            n = 50 if key_id == "k" and time >= START + (days - 0.5) * DAY and time < START + (days - 0.4) * DAY else 1
            lines.append(
                record(len(lines), time, key_id, calls=n, input_tokens=n * (1800 + i % 7), output_tokens=n * 600)
            )
    return lines


@pytest.fixture(scope="module")
def attack_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "calls.jsonl"
    path.write_text("\n".join(attacked()) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def found(attack_file):
    result = run(attack_file, "--json")
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_last_line_is_the_summary(found, attack_file):
    *alerts, summary = found
    count = len(attack_file.read_text("utf-8").splitlines())
    assert set(summary) == {"events", "keys", "group_hours", "alerts", "tokens", "seconds"}
    assert summary["events"] == {"read": count, "accepted": count, "duplicate": 0, "late": 0, "dead_letters": {}}
    assert summary["keys"] == 2
    opened = [alert for alert in alerts if alert["status"] == "opened"]
    assert summary["alerts"]["opened"] == len(opened) >= 1
    assert sum(summary["alerts"]["by_kind"].values()) == len(opened)
    assert sum(summary["alerts"]["by_severity"].values()) == len(opened)
    records = [json.loads(line) for line in attack_file.read_text("utf-8").splitlines()]
    assert summary["tokens"]["input"] == sum(r["input_tokens"] for r in records)
    assert summary["tokens"]["output"] == sum(r["output_tokens"] for r in records)
    assert summary["tokens"]["excess"] > 0
    assert summary["seconds"] > 0


def test_alerts_come_in_order_of_detection(found):
    alerts = found[:-1]
    assert alerts[0]["status"] == "opened"
    assert {alert["entity"]["id"] for alert in alerts} == {"k"}
    moments = [alert["updated_at"] for alert in alerts]
    assert moments == sorted(moments)
    by_incident = {}
    for alert in alerts:
        assert alert["sequence"] == by_incident.get(alert["alert_id"], -1) + 1
        by_incident[alert["alert_id"]] = alert["sequence"]
        assert alert["historical"] is False


def test_alerts_go_to_a_file_and_only_the_summary_to_the_output(attack_file, found, tmp_path):
    out = tmp_path / "alerts.jsonl"
    result = run(attack_file, "--alerts", out, "--json")
    assert result.returncode == 0
    assert [json.loads(line) for line in out.read_text("utf-8").splitlines()] == found[:-1]
    (line,) = result.stdout.splitlines()
    assert {**json.loads(line), "seconds": 0} == {**found[-1], "seconds": 0}


def test_without_json_people_read_it(attack_file):
    result = run(attack_file)
    assert result.returncode == 0
    assert "key k uses" in result.stdout
    assert "0 refused; 2 keys" in result.stdout.splitlines()[-1]


def test_standard_input_is_read_and_refusals_are_told(tmp_path):
    lines = [record(1, START), "{", "", record(2, START + 1), json.dumps([json.loads(record(3, START + 2)), 7])]
    result = run("-", "--json", stdin="\n".join(lines))
    assert result.returncode == 0
    events = json.loads(result.stdout.splitlines()[-1])["events"]
    assert events == {
        "read": 5, "accepted": 3, "duplicate": 0, "late": 0, "dead_letters": {"broken_json": 1, "not_an_object": 1},
    }  # fmt: skip
    assert "broken_json" in result.stderr
    assert "element 2" in result.stderr or "element 1" in result.stderr


def test_a_refusal_names_the_file_and_the_line_that_an_editor_shows(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join([record(1, START), "", "", record(2, START + 1)]), "utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(["", record(3, START + 2), "{", "[7]"]), "utf-8")
    result = run(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--json")
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [
        ["b.jsonl, line 3", "broken_json"],
        ["b.jsonl, line 4, element 0", "not_an_object"],
    ]


def test_a_file_of_nothing_but_refusals_is_pointed_out(tmp_path):
    path = tmp_path / "calls.txt"
    path.write_text("key,calls\na,1\n", "utf-8")
    result = run(path)
    assert "--format csv" in result.stderr.splitlines()[-1]
    assert (result.returncode, result.stdout.splitlines()[0][:13]) == (2, "2 events read")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_nothing_read_is_not_taken_for_nothing_found(text, tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text(text, "utf-8")
    for options in ([], ["--json"]):
        result = run(path, *options)
        assert result.returncode == 2
        assert result.stderr == "nothing was read: there is no record in it\n"
    assert json.loads(result.stdout)["events"]["read"] == 0
    path.write_text(text + record(1, START) + "\n{\n", "utf-8")
    assert run(path).returncode == 0, "one that could be taken will do"


def test_ids_in_json_cannot_steer_a_terminal(tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(line.replace('"k"', '"\\u202ek\\u009b31m"') for line in attacked(12.0)), "utf-8")
    result = run(path, "--json")
    assert result.stdout.replace("\n", "").isprintable()
    assert "\u202ek\x9b31m" in {json.loads(line).get("entity", {}).get("id") for line in result.stdout.splitlines()}


def test_columns_of_a_csv_are_mapped(tmp_path):
    path = tmp_path / "usage.csv"
    path.write_text("groupId,when,in,out\na,2026-03-02 00:00:00,10,3\nb,2026-03-02 00:00:05,20,4\n", "utf-8")
    mapping = [
        "--map",
        "key_id=groupId",
        "--map",
        "time=when",
        "--map",
        "input_tokens=in",
        "--map",
        "output_tokens=out",
    ]
    result = run(path, *mapping, "--const", "model=m", "--zone", "Europe/Berlin", "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])
    assert (summary["keys"], summary["events"]["accepted"]) == (2, 2)
    assert (summary["tokens"]["input"], summary["tokens"]["output"]) == (30, 7)


def test_a_second_file_goes_on_where_the_first_ended(tmp_path):
    for name, start in (("a", 0), ("b", 50)):
        lines = [record(i, START + i) for i in range(start, start + 50)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    result = run(tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["events"]["accepted"] == 100


@pytest.mark.parametrize(
    ("arguments", "words", "why"),
    [
        (["FILE", "--set", "bucket_secnds=60"], ["bucket_secnds", "did you mean 'bucket_seconds'"], "a typo"),
        (["FILE", "--set", "bucket_seconds=7"], ["bucket_seconds"], "a bad value"),
        (["FILE", "--set", "bucket_seconds"], ["NAME=VALUE"], "no value"),
        (["absent.jsonl"], ["absent.jsonl", "no such file"], "no file"),
        (["."], ["is a folder"], "a folder"),
        (["FILE", "--format", "parquett"], ["parquett", "overdraw", "csv"], "an unknown format"),
        (["FILE", "--map", "key_id=a"], ["--map", "csv"], "a mapping of JSON"),
        (["FILE", "--alerts", "/nowhere/at/all.jsonl"], ["cannot write", "/nowhere/at/all.jsonl"], "nowhere to write"),
        (["FILE", "--alerts", "-"], ["needs the name of a file", "--json"], "alerts beside the summary"),
        (["FILE", "--seed", "3"], ["--seed is for --inject"], "no attack to choose"),
        (["FILE", "--zone", "Mars/X"], ["--zone needs --format csv"], "no such zone, which nobody would ask"),
        (["FILE", "--zone", "Europe/Berlin"], ["--zone needs --format csv"], "times of JSON have a zone"),
        (["FILE", "--key-from", "foo.bar"], ["--key-from", "gateway's format"], "JSON names its own fields"),
        (["FILE", "--format", "kong", "--mapping", "m.toml"], ["--mapping is a format"], "two formats"),
        (["FILE", "--config", "absent.toml"], ["absent.toml"], "no configuration"),
        ([], ["INPUT"], "nothing to read"),
        (["FILE", "--colour"], ["--colour"], "an unknown flag"),
    ],
)
def test_a_users_mistake_is_told_without_a_traceback(arguments, words, why, tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text(record(1, START) + "\n", "utf-8")
    result = run(*[path if argument == "FILE" else argument for argument in arguments])
    assert result.returncode == 2, why
    for word in words:
        assert word in result.stderr, why


def test_the_process_ends_with_the_exit_code_and_no_traceback():
    result = subprocess.run(
        [sys.executable, "-m", "stream", "replay", "absent.jsonl"],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: absent.jsonl")
    assert "Traceback" not in result.stderr


# ---------------------------------------------------------------- the class behind it


def replayed(values, chunk, **settings):
    replay = Replay(Settings(**settings), partition_of=partition_of, now=START + 365 * DAY)
    for first in range(0, len(values), chunk):
        replay.feed(values[first : first + chunk])
    replay.finish()
    return replay


def test_how_a_file_is_cut_into_chunks_changes_nothing():
    values = [line.encode() for line in attacked(12.0, ("k", "calm", "third"))]
    whole, cut = (replayed(values, chunk, partitions=4, min_excess_tokens=1000) for chunk in (10**6, 97))
    assert cut.summary.step.alerts == whole.summary.step.alerts
    assert cut.summary.as_json(0) == whole.summary.as_json(0)


@pytest.mark.parametrize("partitions", [1, 3, 8])
def test_sums_do_not_depend_on_the_number_of_shards(partitions):
    values = [
        record(i, START + i * 7.0, f"key-{i % 11}", input_tokens=i, output_tokens=1).encode() for i in range(3000)
    ]
    replay = replayed(values, 500, partitions=partitions)
    summary = replay.summary.as_json(0)
    assert (summary["events"]["accepted"], summary["keys"]) == (3000, 11)
    assert summary["tokens"]["input"] == sum(range(3000))
    assert replay.key("key-3").calls == len(range(3, 3000, 11))
    assert replay.key("absent") is None


def test_every_record_read_has_one_outcome():
    good = [record(i, START + i * 60.0) for i in range(200)]
    values = [*good, good[-1], record("late", START), record("future", START + 400 * DAY), "{", "[]", "[1, 2]"]
    events = replayed([value.encode() for value in values], 50).summary.as_json(0)["events"]
    assert (events["accepted"], events["duplicate"], events["late"]) == (200, 1, 1)
    assert events["dead_letters"] == {"broken_json": 1, "future": 1, "not_an_object": 2}
    outcomes = events["accepted"] + events["duplicate"] + events["late"] + sum(events["dead_letters"].values())
    assert outcomes == events["read"]


def test_only_the_first_refusals_of_a_reason_are_kept():
    summary = replayed([b"{"] * 1000 + [b""] * 1000, 300).summary
    assert sum(summary.dead_letters.values()) == 2000
    assert len(summary.rejects) == 2 * SHOWN_REJECTS


def test_an_empty_file_is_a_summary_of_nothing():
    summary = replayed([], 1).summary.as_json(0)
    assert summary["events"]["read"] == summary["keys"] == summary["alerts"]["opened"] == 0
