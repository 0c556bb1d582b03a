"""What commands write: never over what they read, packed where the name says so, and without a traceback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_alerts import alert

from stream.__main__ import cli
from stream.cli.common import BadInput
from stream.cli.output import keep_apart, text_file

ROOT = Path(__file__).parents[1]
CALL = '{"event_id": "e1", "time": 1772409600, "key_id": "k", "input_tokens": 7, "output_tokens": 1}\n'
SERIES = "timestamp,value\n" + "".join(f"{1_772_323_200 + 60 * i},{i % 5}\n" for i in range(2000))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an input of each kind, and a link to each."""
    monkeypatch.chdir(tmp_path)
    Path("calls.jsonl").write_text(CALL, "utf-8")
    Path("alerts.jsonl").write_text(alert().model_dump_json() + "\n", "utf-8")
    Path("series.csv").write_text(SERIES, "utf-8")
    Path("overdraw.toml").write_text("partitions = 2\n", "utf-8")
    Path("holidays.csv").write_text("date,end,name\n2026-01-01,,New Year\n", "utf-8")
    for name in ("calls.jsonl", "alerts.jsonl", "series.csv"):
        os.symlink(name, f"link-to-{name}")
        os.link(name, f"same-as-{name}")
    os.symlink("calls.jsonl", "calls.svg")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "replay calls.jsonl --alerts calls.jsonl",
        "replay calls.jsonl --alerts ./link-to-calls.jsonl",
        "replay calls.jsonl --alerts same-as-calls.jsonl",
        "replay calls.jsonl --alerts overdraw.toml",
        "replay calls.jsonl --alerts holidays.csv --set holidays_file=holidays.csv",
        "replay calls.jsonl --report link-to-calls.jsonl",
        "replay calls.jsonl --alerts new --report new",
        "explain k --file calls.jsonl --plot calls.svg",
        "calibrate calls.jsonl --out calls.jsonl",
        "calibrate calls.jsonl --exclude alerts.jsonl --out link-to-alerts.jsonl",
        "calibrate calls.jsonl --out overdraw.toml",
        "score series.csv --out link-to-series.csv",
        "score series.csv --out same-as-series.csv",
        "alerts export --from-file alerts.jsonl -o alerts.jsonl",
        "alerts export --from-file alerts.jsonl -o link-to-alerts.jsonl",
        "simulate --to calls.jsonl --labels link-to-calls.jsonl",
    ],
)
def test_no_input_is_written_over(words: str, files: Path) -> None:
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    done = CliRunner().invoke(cli, words.split())
    assert done.exit_code == 2, done.output
    assert "would take the place of another file of this command" in done.stderr
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_standard_input_is_an_input_too(files: Path) -> None:
    with Path("calls.jsonl").open() as stdin:
        done = overdraw("replay", "-", "--alerts", "calls.jsonl", stdin=stdin)
    assert done.returncode == 2
    assert Path("calls.jsonl").read_text() == CALL


def test_what_is_no_file_loses_nothing() -> None:
    keep_apart("--out", os.devnull, [os.devnull, None, "-", "kafka:api-calls"])
    keep_apart("--out", None, ["a"])
    with pytest.raises(BadInput):
        keep_apart("--out", "not/there", ["not/./there"])


def test_priors_in_use_may_be_fitted_anew(files: Path) -> None:
    from stream.core.priors import shipped_text

    Path("priors.json").write_text(shipped_text(), "utf-8")
    done = CliRunner().invoke(cli, ["calibrate", "calls.jsonl", "--set", "priors_file=priors.json"])
    assert done.exit_code == 1
    assert "Nothing was written" in done.stderr


@pytest.mark.parametrize("name", ["a.jsonl.gz", "A.GZ"])
def test_a_name_that_ends_in_gz_is_packed(name: str, files: Path) -> None:
    with text_file(name) as file:
        file.write("a\nb\n")
    with text_file("other.gz") as file:
        file.write("a\nb\n")
    assert gzip.decompress(Path(name).read_bytes()) == b"a\nb\n"
    assert Path(name).read_bytes() == Path("other.gz").read_bytes()


def test_packed_alerts_are_read_by_what_reads_alerts(files: Path) -> None:
    packed = gzip.compress(Path("alerts.jsonl").read_bytes())
    Path("packed.jsonl.gz").write_bytes(packed)
    plain = CliRunner().invoke(cli, ["ledger", "--from-file", "alerts.jsonl", "--json"])
    done = CliRunner().invoke(cli, ["ledger", "--from-file", "packed.jsonl.gz", "--json"])
    assert json.loads(done.stdout) == json.loads(plain.stdout)
    done = CliRunner().invoke(cli, ["calibrate", "calls.jsonl", "--exclude", "packed.jsonl.gz"])
    assert done.exit_code == 1, "it is read, and one call is no history"


# ---------------------------------------------------------------------- a process of its own


def overdraw(*words: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = [sys.executable, "-m", "stream", *words]
    return subprocess.run(command, text=True, env=environ, timeout=120, check=False, **streams)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is full")
@pytest.mark.parametrize(
    "words",
    [
        "replay calls.jsonl",
        "score series.csv",
        "ledger --from-file alerts.jsonl",
        "schema settings",
        "alerts export --from-file alerts.jsonl",
        "simulate --days 0.1 --rate 1 --to -",
    ],
)
def test_an_output_that_is_full_is_one_line_and_exit_2(words: str, files: Path) -> None:
    with open("/dev/full", "w") as full:
        done = overdraw(*words.split(), stdout=full)
    assert done.stderr == "Error: cannot write the output: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.slow
def test_an_output_that_is_closed_is_no_error(files: Path) -> None:
    done = overdraw("score", "series.csv", stdout=None, preexec_fn=lambda: os.close(1))
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", ["score series.csv", "replay calls.jsonl", "simulate --days 0.1 --rate 1 --to -"])
def test_a_reader_that_has_gone_is_no_error(words: str, files: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = overdraw(*words.split(), stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
