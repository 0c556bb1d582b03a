"""The README: its tables are what the code says, its examples are what the code takes."""

from __future__ import annotations

import io
import json
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from cogapp import Cog

from stream.__main__ import cli
from stream.alerts import Alert
from stream.events import ApiCall

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = sorted({line.split("#")[0].strip() for line in re.findall(r"^(overdraw [^\n]+)$", README, re.M)})


def json_blocks() -> list[dict]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", README, re.S)]


def test_the_tables_are_what_the_code_says() -> None:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = Cog().main(["cog", "--check", str(ROOT / "README.md")])
    assert code == 0, f"run `.venv/bin/cog -r README.md`\n{out.getvalue()}"


def test_the_events_example_is_an_event() -> None:
    assert ApiCall.model_validate(json_blocks()[0]).key_id == "key-17"


def test_the_alerts_example_has_the_fields_of_an_alert() -> None:
    assert set(json_blocks()[1]) <= set(Alert.model_fields)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_is_understood(line: str) -> None:
    """Its options and arguments parse; what they need, a broker or a file, is another matter."""
    words = shlex.split(line)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(command.name or "", words, resilient_parsing=False)


def test_the_replay_of_the_readme_runs(tmp_path: Path) -> None:
    call = json_blocks()[0]
    (tmp_path / "calls.jsonl").write_text(json.dumps(call) + "\n")
    (tmp_path / "usage.csv").write_text("account,created,completion\nacme,2026-03-01 12:00:00,344\n")
    entry = json.loads((ROOT / "tests/gateways/records/kong/entry.json").read_text("utf-8"))["record"]
    (tmp_path / "gateway.log").write_text(json.dumps(entry) + "\n")
    runner = CliRunner()
    # an attack needs days of calls, and a topic a broker: tests/lab/test_inject.py, tests/kafka/test_replay.py
    elsewhere = ("--inject", "kafka:")
    lines = [line for line in COMMANDS if line.startswith("overdraw replay")]
    for line in (line for line in lines if not any(part in line for part in elsewhere)):
        ours = ("usage.", "alerts.", "gateway.", "found.")
        words = [str(tmp_path / w) if w.startswith(ours) else w for w in shlex.split(line)[1:]]
        words = [str(tmp_path / "calls.jsonl") if w == "calls.jsonl.gz" else w for w in words]
        done = runner.invoke(cli, words)
        assert done.exit_code == 0, done.output
        assert "1" in done.output


def test_the_pictures_are_there_and_ask_nobody_for_anything() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        content = (ROOT / path).read_bytes()
        if path.endswith(".png"):
            assert content.startswith(b"\x89PNG")
        else:
            assert "url(" not in content.decode().replace("url(#", "")
