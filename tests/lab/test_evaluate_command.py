"""`overdraw evaluate`: what it prints, what it refuses, and when it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from stream.cli.evaluate import command
from stream.lab.evaluation import floors, run, suites
from stream.lab.evaluation.floors import FLOORS, MEASURES, Floor
from stream.lab.evaluation.run import Case, Manner, Result, Seen, Tell
from stream.lab.evaluation.scoring import Line, Outcome, Scores
from stream.lab.evaluation.suites import SUITES, Wish
from stream.lab.training.__main__ import SYNTHETIC
from stream.lab.worlds.world import Episode, World
from stream.settings import Settings

SMALL = ["--keys", "10", "--days", "29", "--jobs", "1"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--suite", "nothing"], "choose synthetic"),
        (["--seed", "7"], "seeds below 1,000 are for tuning"),
        (["--seed", "2001", "--tuning"], "tune on a lower one"),
        (["--suite", "servegen"], "--data DIR"),
        (["--suite", "servegen", "--keys", "20"], "leave --keys and --days out"),
        (["--suite", "ci", "--seed", "2001"], "the suite ci is fixed"),
        (["--suite", "ci", "--dial", "3"], "a dial of its own, so that its floors"),
        (["--suite", "nab"], "a copy of https://github.com/numenta/NAB"),
        (["--suite", "nab", "--dial", "3"], "it takes --data and --json"),
        (["--suite", "nab", "--seed", "3000"], "it takes --data and --json"),
        (["--suite", "nab", "--worlds", "2"], "it takes --data and --json"),
        (["--suite", "nab", "--set", "timezone=UTC"], "it takes --data and --json"),
        (["--floors"], "--floors is for the suite ci"),
        (["--against", "magic"], "choose all, or of static"),
        (["--set", "bucket_seconds=60"], "buckets of 300 s"),
        (["--days", "20"], "29"),
        (["--vary", "min_calls"], "a setting but bucket_seconds and its values"),
        (["--vary", "bucket_seconds=60"], "a setting but bucket_seconds and its values"),
        (["--vary", "broker=a:1,b:2"], "--vary broker: it has no effect on what is found here: choose of false_alerts"),
        (["--vary", "max_groups=100,200"], "--vary max_groups: it has no effect"),
        (["--data", "."], "--data is for the suites servegen, nab"),
        (["--suite", "ci", "--data", "."], "--data is for the suites servegen, nab"),
        (["--vary", "min_calls=3", "--dial", "3"], "--vary and --dial do not go together"),
        (["--suite", "ci", "--caution", "1", "--floors"], "--caution and --floors do not go"),
        (["--suite", "campaigns", "--caution", "1"], "for the suites synthetic, servegen, ci"),
        (["--caution", "2"], "0<=x<=1"),
        (["--suite", "ci", "--calibrated"], "for the suite synthetic"),
        (["--suite", "campaigns", "--calibrated"], "for the suite synthetic"),
        (["--suite", "servegen", "--calibrated"], "no other clients that nothing was tuned on"),
        (["--suite", "nab", "--calibrated"], "it takes --data and --json"),
        (["--vary", "min_calls=3", "--calibrated"], "--vary and --calibrated do not go"),
        (["--caution", "1", "--calibrated"], "--caution and --calibrated do not go"),
    ],
)
def test_what_makes_no_sense_is_refused_with_advice(words: list[str], what: str) -> None:
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 2
    assert what in done.output


def test_caution_raises_the_bar_of_every_bucket() -> None:
    rules = run.cautious(0.7, Settings())
    assert (rules.quality.caution, rules.quality.caution_at(0), rules.quality.caution_at(10**6)) == (0.7, 0.7, 0.7)
    assert run.cautious(0.0, Settings()).quality.caution_at(5) == 0.0


def test_a_folder_without_the_traces_is_bad_input(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--suite", "servegen", "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert "ServeGen" in done.output


def test_a_folder_that_is_not_nab_is_bad_input(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--suite", "nab", "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert "combined_windows.json" in done.output


def test_nab_is_judged_in_its_own_terms(tmp_path: Path) -> None:
    """A level that jumps by a hundred once, where the label says so."""
    values = [10 + i % 3 for i in range(2_000)]
    values[1_500:1_510] = [1_000] * 10
    begin = datetime(2026, 1, 5, tzinfo=UTC)
    times = [f"{begin + i * timedelta(minutes=5):%Y-%m-%d %H:%M:%S}" for i in range(len(values))]
    rows = [f"{time},{value}" for time, value in zip(times, values, strict=True)]
    (tmp_path / "data" / "made").mkdir(parents=True)
    (tmp_path / "data" / "made" / "jump.csv").write_text("timestamp,value\n" + "\n".join(rows) + "\n")
    (tmp_path / "labels").mkdir()
    windows = {"made/jump.csv": [[f"{times[1_490]}.000000", f"{times[1_530]}.000000"]]}
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    found = json.loads(CliRunner().invoke(command, ["--suite", "nab", "--data", str(tmp_path), "--json"]).stdout)
    assert (found["suite"], found["series"], found["windows"]) == ("nab", 1, 1)
    standard = found["profiles"][0]
    assert standard["profile"]["name"] == "standard"
    assert standard["counts"]["found"] == 1
    assert "| standard |" in CliRunner().invoke(command, ["--suite", "nab", "--data", str(tmp_path)]).stdout


@pytest.mark.slow
def test_json_is_one_object_with_a_result_for_each_world_and_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "REPORTED_PROFILES", ("B", "D"))
    done = CliRunner().invoke(command, [*SMALL, "--dial", "1", "--dial", "10", "--against", "static", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    results = document["results"]
    seen = {"B": "seen profile, new seed", "D": "unseen profile"}
    assert [(one["world"], one["seen"], one["dial"]) for one in results] == [
        (f"synthetic {profile}, seed 2001", seen[profile], dial)
        for profile in suites.REPORTED_PROFILES
        for dial in (1.0, 10.0)
    ]
    for one in results:
        assert one["clean"]["key_days"] > 0
        assert one["calm"]["key_days"] > one["clean"]["key_days"]
        total = one["attacks"][0]
        assert (total["group"], total["name"]) == ("all", "all attacks")
        assert total["low"] <= total["recall"] <= total["high"]
        assert total["chance"] is not None
        assert sum(row["attacks"] for row in one["attacks"] if row["group"] == "family") == total["attacks"]
        (rival,) = one["against"]
        assert rival["clean"]["alerts"] <= one["clean"]["alerts"]
        assert [who["notifier"] for who in one["told"]] == ["pagerduty", "alertmanager", "slack", "slack alone"]
    assert "synthetic B, seed 2001 at dial 10: keys" in done.stderr


@pytest.fixture
def one_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the synthetic suite the first world alone."""
    synthetic = SUITES["synthetic"]
    monkeypatch.setitem(SUITES, "synthetic", lambda wish: synthetic(wish)[:1])


@pytest.mark.slow
@pytest.mark.usefixtures("one_world")
def test_a_dial_can_be_set_by_a_history_of_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "HISTORY_KEYS", 24)
    words = [*SMALL, "--tuning", "--calibrated", "--dial", "60"]
    done = CliRunner().invoke(command, [*words, "--dial", "90", "--json"])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)["results"]
    fits = [one["calibration"]["alerts"] for one in results]
    assert [fit["dial"] for fit in fits] == [60, 90]
    assert fits[0]["after"]["score"] > fits[1]["after"]["score"] != fits[1]["before"]["score"]
    assert results[0]["calibration"]["excluded"]["key_days"] > 0, "its look-alikes"
    shown = CliRunner().invoke(command, words)
    assert shown.exit_code == 0, shown.output
    after = fits[0]["after"]
    what = f"on {fits[0]['key_days']:,} clean key-days of other keys"
    assert f"calibrated    {what}: from score {fits[0]['before']['score']:.2f}" in shown.stdout
    assert f"to {after['score']:.2f} ({after['count']})" in shown.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("one_world")
def test_a_history_that_is_too_short_for_the_dial_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "HISTORY_KEYS", 10)
    done = CliRunner().invoke(command, [*SMALL, "--calibrated", "--dial", "9"])
    assert done.exit_code == 2
    assert "clean key-days: too few for dial 9, enough for" in done.output
    assert "making it" not in done.output, "no world is judged before"


def test_a_history_is_neither_reported_on_nor_tuned_on() -> None:
    for wish in (Wish(keys=10, days=29), Wish(keys=10, days=29, tuning=True)):
        for case in SUITES["synthetic"](wish):
            assert case.history is not None
            (_, *_), (seed, keys, days, profile) = case.make.args, case.history.args
            assert seed > suites.HISTORY_SEEDS
            assert (keys, days) == (suites.HISTORY_KEYS, suites.DAYS)
            assert case.name.startswith(f"synthetic {profile}")
            assert case.history.keywords == {"attacks": False}


@pytest.mark.slow
@pytest.mark.usefixtures("one_world")
def test_people_get_a_table_and_how_to_read_it() -> None:
    done = CliRunner().invoke(command, [*SMALL, "--tuning", "--against", "zscore-7d"])
    assert done.exit_code == 0, done.output
    for text in (
        "synthetic A, seed 1 (tuned on): 10 keys, 29 days", "false alerts per 1,000", "all attacks", "look-alikes",
        "oracle", "PromQL z-score, 7 d", "told          pagerduty", "95 % Poisson interval",
    ):  # fmt: skip
        assert text in done.stdout


def half_found(case: Case, manner: Manner, tell: Tell, by: None) -> Iterator[Result]:
    """Of two attacks one was found."""
    episode = Episode(0, 0, 12, "surge", "x10", False, 100)
    found = Outcome(episode, 100, 20, 300.0, 1, paged=True, covered=False)
    scores = Scores(Line(1000, 1, 0), Line(), (), (found, replace(found, gone=100, delay_seconds=None)))
    yield Result(case.name, case.seen, 10, 29, manner.dials[0], scores, ())


@pytest.mark.parametrize(("bound", "code"), [(0.5, 0), (0.51, 1)])
def test_a_missed_floor_fails_and_only_when_asked(monkeypatch: pytest.MonkeyPatch, bound: float, code: int) -> None:
    monkeypatch.setattr(run, "evaluate", half_found)
    monkeypatch.setattr(
        floors, "FLOORS", (Floor("synthetic B", "found", bound), Floor("synthetic D", "gone", 0.6, most=True))
    )
    asked = CliRunner().invoke(command, ["--suite", "ci", "--floors", "--json"])
    assert asked.exit_code == code
    document = json.loads(asked.stdout)
    assert {one["dial"] for one in document["results"]} == {1.0}
    assert [(one["measure"], one["value"], one["ok"]) for one in document["floors"]] == [
        ("found", 0.5, code == 0),
        ("gone", 0.6, True),
    ]
    shown = CliRunner().invoke(command, ["--suite", "ci"])
    assert shown.exit_code == 0
    assert shown.stdout.count("MISSED") == code


def test_every_floor_is_about_something_that_is_measured_and_every_world_has_some() -> None:
    assert {floor.measure for floor in FLOORS} <= set(MEASURES)
    assert {floor.world for floor in FLOORS} == {case.name.partition(",")[0] for case in SUITES["ci"](Wish())}


def test_tuning_and_report_share_no_seed_and_the_report_has_a_profile_that_was_never_tuned_on() -> None:
    cases = {
        tuning: [(case.name, case.seen.value) for case in SUITES["synthetic"](Wish(tuning=tuning))]
        for tuning in (False, True)
    }
    assert cases[True] == [(f"synthetic {profile}, seed 1", "tuned on") for profile in "ABC"]
    assert cases[False] == [
        ("synthetic B, seed 2001", "seen profile, new seed"),
        ("synthetic C, seed 2001", "seen profile, new seed"),
        ("synthetic D, seed 2001", "unseen profile"),
    ]


def test_what_trains_the_priors_is_what_the_report_takes_for_tuned_on() -> None:
    assert {profile for profile, _ in SYNTHETIC} == set(suites.TUNED_PROFILES)
    assert all(seed < suites.TUNING_SEEDS for _, seed in SYNTHETIC)


def test_the_suite_ci_has_a_profile_that_was_never_tuned_on() -> None:
    assert [(case.name, case.seen, case.twin) for case in SUITES["ci"](Wish())] == [
        ("synthetic B, seed 3001", Seen.NEW_SEED, False),
        ("synthetic D, seed 3001", Seen.NEVER, False),
    ]


@pytest.mark.parametrize(("tuning", "seen"), [(False, Seen.NEW_CLIENTS), (True, Seen.TUNED)])
def test_real_clients_say_whether_they_were_tuned_on(
    tuning: bool, seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites, "load_clients", lambda folder: None)
    (case,) = SUITES["servegen"](Wish(data=tmp_path, tuning=tuning))
    assert case.seen == seen


def test_the_twin_of_a_world_differs_in_its_attacked_keys_alone() -> None:
    """The others are run only once, for both."""
    case = SUITES["synthetic"](Wish(keys=40, days=30))[0]
    world, twin = case.make(True), case.make(False)
    attacked = {episode.key for episode in world.attacks}
    others = [key for key in range(40) if key not in attacked]
    assert twin.attacks == ()
    assert attacked
    assert others
    for name in (field for field in World.__slots__ if isinstance(getattr(world, field), np.ndarray)):
        assert np.array_equal(getattr(world, name)[:, others], getattr(twin, name)[:, others]), name
    assert np.any(world.calls != twin.calls)


@pytest.mark.slow
@pytest.mark.usefixtures("one_world")
def test_what_a_setting_does_is_shown_against_the_settings_as_they_are() -> None:
    words = [*SMALL, "--seed", "2001", "--vary", "min_excess_tokens=1000000000000"]
    done = CliRunner().invoke(command, [*words, "--json"])
    assert done.exit_code == 0, done.output
    as_they_are, changed = json.loads(done.stdout)["effects"]
    assert (as_they_are["setting"], as_they_are["value"]) == (None, None)
    assert (changed["setting"], changed["value"]) == ("min_excess_tokens", "1000000000000")
    found = [effect["attacks"][0]["found"] for effect in (as_they_are, changed)]
    assert found[0] > found[1]
    shown = CliRunner().invoke(command, words)
    assert "as they are" in shown.stdout
    assert "1000000000000" in shown.stdout
