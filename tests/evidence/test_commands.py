"""`overdraw alerts export` and `overdraw evidence`: what is chosen, what is written, and what is not."""

from __future__ import annotations

import csv
import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from services import EVIL, T0, made_alert

from stream.alerts import Alert, rfc3339
from stream.cli.alerts import command as alerts
from stream.evidence.folder import README, SUMS, files_of
from stream.settings import load_settings

STEPS = [
    made_alert(),
    made_alert(status="updated", severity="critical", at=T0 + 3600, excess_tokens=3_500_000),
    made_alert(status="resolved", at=T0 + 7200, excess_tokens=3_600_000),
]
OTHERS = [
    made_alert(key="=cmd|' /C calc'!A0", severity="warning", at=T0 + 60),
    made_alert(key=EVIL[:256], severity="high", kind="drift", at=T0 + 120),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "alerts.jsonl"
    path.write_text("".join(f"{alert.model_dump_json()}\n" for alert in [*STEPS, *OTHERS]), "utf-8")
    return path


def exported(file: Path, *words: str) -> str:
    done = CliRunner().invoke(alerts, ["export", "--from-file", str(file), *words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    ("words", "expected", "why"),
    [
        ([], 5, "all"),
        (["--entity", "key-17"], 3, "an id"),
        (["--entity", "key-*"], 3, "a pattern"),
        (["--entity", "<!channel> [*]b*"], 1, "a pattern, in which brackets are a choice"),
        (["--kind", "drift"], 1, "a kind"),
        (["--severity", "critical", "--severity", "warning"], 2, "either"),
        (["--type", "org"], 0, "nothing is about an organisation"),
        (["--since", rfc3339(T0 + 120), "--until", rfc3339(T0 + 7200)], 2, "from then on, and before"),
        (["--alert", STEPS[0].alert_id], 3, "an incident"),
    ],
)
def test_what_is_chosen_is_written(file: Path, words: list[str], expected: int, why: str) -> None:
    assert len(exported(file, "--format", "jsonl", *words).splitlines()) == expected, why
    assert len(exported(file, *words).splitlines()) == expected, why


def test_json_lines_are_the_alerts_themselves(file: Path) -> None:
    lines = exported(file, "--format", "jsonl").splitlines()
    assert [Alert.model_validate_json(line) for line in lines] == [*STEPS, *OTHERS]
    assert all(line.isascii() and line.isprintable() for line in lines), "nothing moves a terminal's cursor"


def test_findings_are_one_a_line(file: Path) -> None:
    findings = [json.loads(line) for line in exported(file).splitlines()]
    assert {finding["class_uid"] for finding in findings} == {2004}


def test_no_cell_is_a_formula_and_no_id_becomes_two_rows(file: Path) -> None:
    rows = list(csv.DictReader(exported(file, "--format", "csv").splitlines()))
    assert len(rows) == 5
    assert rows[3]["entity_id"] == "'=cmd|' /C calc'!A0"
    assert "\x1b" not in rows[4]["entity_id"]
    assert "\\u202e" in rows[4]["entity_id"]
    assert (rows[2]["resolved_at"], rows[0]["resolved_at"], rows[0]["excess_tokens"]) == (
        rfc3339(T0 + 7200), "", "2100000",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "yesterday"], "--since yesterday"),
        (["--since", rfc3339(T0), "--until", rfc3339(T0)], "--since must lie before --until"),
        (["--format", "xml"], "xml"),
        (["-o", "/nowhere/at/all"], "cannot write /nowhere/at/all"),
    ],
)
def test_bad_usage_is_said(file: Path, words: list[str], said: str) -> None:
    done = CliRunner().invoke(alerts, ["export", "--from-file", str(file), *words])
    assert done.exit_code == 2
    assert said in done.output


def test_what_is_no_alert_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text('\n{"a": 1}\n')
    done = CliRunner().invoke(alerts, ["export", "--from-file", str(path)])
    assert done.exit_code == 2
    assert "line 2 of" in done.output


# ---------------------------------------------------------------------- the folder


def folder_of(steps: list[Alert], **more: Any) -> dict[str, str]:
    settings = {"config_digest": STEPS[0].config_digest, "bucket_seconds": 300}
    return files_of(steps, settings, {"entries": []}, T0 + 9000, **more)


def test_the_folder_has_every_step_and_its_sums_are_right(tmp_path: Path) -> None:
    files = folder_of(STEPS, explanation={"key_id": "key-17"}, plot="<svg/>")
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode())
    assert subprocess.run(["sha256sum", "-c", "--strict", SUMS], cwd=tmp_path, capture_output=True).returncode == 0
    assert set(files) == {line.split()[1] for line in files[SUMS].splitlines()} | {SUMS}
    for name in set(files) - {README, SUMS}:
        assert f"| {name} |" in files[README]
        assert sha256(files[name].encode()).hexdigest() in files[README]
    assert len(files["alerts.jsonl"].splitlines()) == 3
    taken = list(csv.DictReader(files["taken.csv"].splitlines()))
    assert [row["added_tokens"] for row in taken] == ["2100000", "1400000", "100000"]


def test_no_address_is_in_the_folder() -> None:
    text = "".join(folder_of(STEPS).values())
    assert "http" not in text
    assert "grafana" not in text


def test_the_page_says_what_it_is_and_whether_the_settings_are_those() -> None:
    page = folder_of(STEPS)[README]
    assert f"# Evidence of incident {STEPS[0].alert_id}" in page
    assert "3.6 M tokens above the baseline since 2026-02-28T23:50:00Z, 12.50 USD" in page
    assert "settings.json has that very digest" in page
    assert len(page.splitlines()) < 60, "one page"
    other = files_of(STEPS, {"config_digest": "f" * 16}, {}, T0)[README]
    assert "the settings were changed since" in other


def test_ids_are_no_markup_in_the_page() -> None:
    page = folder_of([made_alert(key="a`b` [x](http://evil) <img> |", summary=EVIL, severity_reason="# *b* | <i>")])[
        README
    ]
    assert "`aˋbˋ [x](http://evil) <img> |`" in page
    assert "\\# \\*b\\* \\| \\<i\\>" in page
    assert "\x1b" not in page


def test_a_folder_without_a_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="no step"):
        folder_of([])


# ---------------------------------------------------------------------- the command, on recorded calls


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Alert]:
    """Calls with a leaked key, and an alert that a replay finds in them."""
    from stream.cli.replay import command as replay
    from stream.cli.simulate import command as simulate

    folder = tmp_path_factory.mktemp("calls")
    path = folder / "calls.jsonl.gz"
    made = ["--scenario", "leaked-key", "--seed", "4", "--keys", "3", "--days", "10", "--rate", "0.08"]
    done = CliRunner().invoke(simulate, [*made, "--to", str(path), "--labels", str(folder / "labels.jsonl")])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(replay, [str(path), "--alerts", str(folder / "alerts.jsonl")])
    assert done.exit_code == 0, done.output
    found = [Alert.model_validate_json(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
    return path, next(alert for alert in found if alert.entity.type == "key")


@pytest.mark.slow
def test_the_evidence_of_recorded_calls_explains_and_draws_and_names_no_place_of_ours(
    calls: tuple[Path, Alert], tmp_path: Path
) -> None:
    from stream.cli.evidence import command, settings_of

    path, alert = calls
    out = tmp_path / "case"
    settings = ["--set", "dashboard_url=https://grafana.example.org", "--set", "broker=kafka.example.org:9092"]
    words = [alert.alert_id, "-o", str(out), "--file", str(path), *settings]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    assert {one.name for one in out.iterdir()} == {
        "README.md", "SHA256SUMS", "alerts.csv", "alerts.jsonl", "explanation.json", "findings.ocsf.jsonl",
        "ledger.json", "settings.json", "taken.csv", "tokens.svg",
    }  # fmt: skip
    assert subprocess.run(["sha256sum", "-c", SUMS], cwd=out, capture_output=True).returncode == 0
    text = "".join(one.read_text() for one in out.iterdir())
    assert "example.org" not in text
    assert json.loads((out / "settings.json").read_text()) == settings_of(load_settings(environ={}))
    assert "that very digest" in (out / README).read_text()
    assert json.loads((out / "ledger.json").read_text())["entries"][0]["entity_id"] == alert.entity.id
    assert json.loads((out / "explanation.json").read_text())["key_id"] == alert.entity.id
    assert all(one.stat().st_mode & 0o077 == 0 for one in out.iterdir()), "for nobody else on this machine"
    again = CliRunner().invoke(command, words)
    assert (again.exit_code, "is not empty" in again.output) == (2, True)


@pytest.mark.slow
def test_an_alert_that_is_not_there_is_said(calls: tuple[Path, Alert], tmp_path: Path) -> None:
    from stream.cli.evidence import command

    done = CliRunner().invoke(command, ["f" * 32, "-o", str(tmp_path / "case"), "--file", str(calls[0])])
    assert done.exit_code == 2
    assert not (tmp_path / "case").exists()
