"""`overdraw replay --inject`: an attack among recorded calls, and what became of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from stream.__main__ import cli
from stream.gateways.errors import InputError
from stream.gateways.overdraw import parse
from stream.lab.inject import INJECTABLE, REFUSED, Injection, Mixer, Survey, outcome, plan, words
from stream.lab.scenarios import LEAD_IN, scenarios
from tests.made_alerts import HOUR, T0, alert

DAYS = 10
NOW = T0 + 400 * 86_400.0
SETTINGS = ("--set", "partitions=1")


def recording(days: int = DAYS, keys: tuple[str, ...] = ("k0", "k1", "k2"), per_hour: int = 2) -> list[bytes]:
    rng = random.Random(7)
    lines = []
    for hour in range(days * 24):
        for place, time in enumerate(
            sorted(T0 + hour * HOUR + rng.random() * HOUR for _ in range(per_hour * len(keys)))
        ):
            key = keys[place % len(keys)]
            call = {
                "event_id": f"{hour}-{place}", "time": round(time, 3), "key_id": key, "org_id": f"org-{key}",
                "model": "m", "input_tokens": rng.randrange(700, 900), "output_tokens": rng.randrange(200, 400),
                "client_ip": "198.51.100.7", "user_agent": "openai-python/1.93.0", "status": 200,
            }  # fmt: skip
            lines.append(json.dumps(call).encode())
    return lines


LONG = recording(days=21, per_hour=6)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inject") / "calls.jsonl"
    path.write_bytes(b"\n".join(LONG) + b"\n")
    return path


def run(*words: object, stdin: bytes = b""):
    return CliRunner().invoke(cli, ["replay", *map(str, words)], input=stdin)


def surveyed(lines: list[bytes], now: float = NOW) -> Survey:
    survey = Survey(now)
    for first in range(0, len(lines), 97):
        survey.take(lines[first : first + 97])
    return survey


def test_every_scenario_is_injected_or_refused_with_a_reason():
    assert {*INJECTABLE, *REFUSED} == set(scenarios())
    for name in INJECTABLE:
        assert len(scenarios()[name].attacks) == 1, "the others of it would be left out without a word"


@pytest.mark.parametrize("name", INJECTABLE)
def test_an_attack_lies_within_the_recording_after_time_to_learn(name):
    survey = surveyed(recording())
    found = plan(name, survey, 1)
    times = [time for time, _, _ in found.calls]
    assert times == sorted(times)
    assert survey.first + LEAD_IN * (survey.last - survey.first) - 1 <= found.since <= times[0]
    assert times[-1] <= found.until <= survey.last
    arrivals, rejects = parse([(i, value, NOW) for i, (_, _, value) in enumerate(found.calls)])
    assert not rejects
    assert [time for _, time, _ in arrivals] == pytest.approx(times)
    assert {call.key_id for _, _, call in arrivals} == set(found.keys)
    assert sum((call.input_tokens or 0) + (call.output_tokens or 0) for _, _, call in arrivals) == found.tokens
    assert len({call.event_id for _, _, call in arrivals}) == len(times)
    known = set(survey.keys)
    assert set(found.keys) <= known if len(found.keys) == 1 else not set(found.keys) & known


@pytest.mark.parametrize("name", INJECTABLE)
def test_the_same_seed_makes_the_same_attack(name):
    lines = recording()
    assert plan(name, surveyed(lines), 3) == plan(name, surveyed(lines), 3)
    assert plan(name, surveyed(lines), 3).calls != plan(name, surveyed(lines), 4).calls


def test_a_surge_takes_what_its_scenario_says():
    found = plan("surge", surveyed(recording()), 1)
    assert found.until - found.since == 3600
    assert found.tokens == pytest.approx(scenarios()["surge"].attacks[0].floor_tokens, rel=0.2)


def test_an_attack_that_mimics_copies_the_keys_own_requests():
    survey = surveyed(recording())
    mimics = 0
    for seed in range(12):
        found = plan("surge", survey, seed)
        calls = [call for _, _, call in parse([(i, v, NOW) for i, (_, _, v) in enumerate(found.calls)])[0]]
        own = {(c.client_ip, c.user_agent, c.org_id, c.model) for c in survey.keys[found.keys[0]].samples}
        if {(c.client_ip, c.user_agent, c.org_id, c.model) for c in calls} <= own:
            mimics += 1
    assert 0 < mimics < 12


def test_what_was_reduced_is_not_reduced_again():
    (_, time, call), *_ = parse([(0, recording()[0], NOW)])[0]
    again = msgspec.structs.replace(call, time=time)
    assert parse([(0, msgspec.json.encode(again), NOW)])[0][0][2] == again


def test_keys_of_short_history_are_not_chosen():
    late = [line.replace(b'"k1"', b'"new"') if i > 900 else line for i, line in enumerate(recording())]
    for seed in range(10):
        assert plan("surge", surveyed(late), seed).keys[0] in {"k0", "k2"}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "span 0.0"),
        (recording(days=2), "2.0"),
        ([line.replace(b"_tokens", b"_words") for line in recording()], "no key was used"),
    ],
    ids=["empty", "short", "without tokens"],
)
def test_a_recording_that_will_not_do_is_told(lines, why):
    with pytest.raises(InputError, match="--inject") as told:
        plan("surge", surveyed(lines), 1)
    assert why in str(told.value)


def test_calls_are_mixed_in_by_time_whatever_the_chunks():
    lines = recording()
    found = plan("surge", surveyed(lines), 1)
    mixed = []
    for size in (50, 10**6):
        mixer = Mixer(found, NOW)
        numbered = list(enumerate(lines, 1))
        mixed.append([p for i in range(0, len(lines), size) for p in mixer.mix(numbered[i : i + size])])
        assert mixer.placed == len(found.calls)
    assert mixed[0] == mixed[1]
    times = [json.loads(value)["time"] for _, value in mixed[0]]
    assert times == sorted(times)
    assert [value for _, value in mixed[0] if value in set(lines)] == lines


def test_a_found_attack_says_how_soon_and_what_was_gone(file):
    done = run(file, *SETTINGS, "--inject", "leaked-key", "--json")
    assert done.exit_code == 0, done.output
    *alerts, summary = map(json.loads, done.output.splitlines())
    said = summary["injected"]
    assert said["found"]
    assert (said["scenario"], said["seed"]) == ("leaked-key", 1)
    assert summary["events"]["accepted"] == len(LONG) + said["calls"]
    opened = next(a for a in alerts if a["alert_id"] == said["alert_id"] and a["status"] == "opened")
    assert opened["entity"]["id"] == said["keys"][0]
    assert said["since"] <= said["found_at"] == opened["detected_at"]
    assert 0 < said["tokens_before_alert"] <= said["tokens"]


def test_people_and_the_page_are_told_as_well(file, tmp_path):
    out = tmp_path / "found.html"
    done = run(file, *SETTINGS, "--inject", "leaked-key", "--seed", 2, "--report", out)
    assert done.exit_code == 0, done.output
    injected, found = done.output.splitlines()[-2:]
    assert injected.startswith("injected leaked-key (seed 2) on key k")
    assert found.startswith("found after")
    page = out.read_text("utf-8")
    assert "one attack here is made up" in page
    assert injected in page
    again = tmp_path / "again.html"
    run(file, *SETTINGS, "--inject", "leaked-key", "--seed", 2, "--report", again)
    assert again.read_text("utf-8") == page
    assert f'<td class="n">{len(LONG):,}</td>' in page, "a file has as many records as it has"


def test_lines_of_refusals_stay_those_of_the_file(tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"\n".join([*recording(), b"{"]) + b"\n")
    done = run(path, *SETTINGS, "--inject", "surge")
    assert f"calls.jsonl, line {len(recording()) + 1}: broken_json" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FILE", "--inject", "surges"], ["did you mean 'surge'", "leaked-key"]),
        (["FILE", "--inject", "nothing"], ["no such scenario", "drift", "campaign-new-accounts"]),
        *((["FILE", "--inject", name], [why, "surge"]) for name, why in REFUSED.items()),
        (["-", "--inject", "surge"], ["twice", "name files"]),
        (["absent.jsonl", "--inject", "surge"], ["no such file"]),
        (["FILE", "--inject", "surge", "--seed", "-1"], ["--seed"]),
    ],
)
def test_what_cannot_be_done_is_bad_input(arguments, words, file):
    done = run(*[file if word == "FILE" else word for word in arguments])
    assert done.exit_code == 2, done.output
    for word in words:
        assert word in done.output


# ---------------------------------------------------------------- what counts as found

CALLS = ((T0 + 10 * HOUR, 5, b""), (T0 + 11 * HOUR, 7, b""))
ATTACK = Injection("surge", 1, ("key-1",), T0 + 10 * HOUR, T0 + 12 * HOUR, CALLS)


@pytest.mark.parametrize(
    ("alerts", "found", "before", "why"),
    [
        ([], False, False, "nothing"),
        ([alert(start=10)], True, False, "on it"),
        ([alert("key-2", start=10)], False, False, "another key"),
        ([alert(start=5)], False, False, "over before it began"),
        ([alert(start=5, status="opened")], False, True, "open when it began"),
        ([alert(start=20)], False, False, "long after"),
        ([alert("acme", type="org", start=10)], False, False, "a group of which nobody is named"),
    ],
)
def test_what_counts_as_found(alerts, found, before, why):
    said = outcome(ATTACK, alerts, 400.0)
    assert (said["found"], said["open_before"]) == (found, before), why
    if found:
        assert said["seconds_to_alert"] == 600
        assert said["tokens_before_alert"] == 5
    assert words(said)[1].startswith("found" if found else "no incident" if before else "not found")
