"""deploy/systemd: systemd understands the unit, it is closed, and it fits the program."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from stream.settings import load_settings
from stream.worker.ending import STOP_SECONDS
from stream.worker.tools import EXIT_BAD_STATE, EXIT_STUCK, EXIT_TWIN

FOLDER = Path(__file__).parent.parent / "deploy" / "systemd"
UNIT = FOLDER / "overdraw@.service"
INSTALLED = "/opt/overdraw/bin/overdraw"
MOST_EXPOSED = 15
"""Tenths of systemd's own measure, from 0 to 100; what is left is the network, without which there is no Kafka."""


def entries(section: str) -> dict[str, list[str]]:
    """All values of each name in a section, in order."""
    found: dict[str, list[str]] = {}
    inside = ""
    for line in UNIT.read_text("utf-8").splitlines():
        if line.startswith("["):
            inside = line.strip("[]")
        elif "=" in line and not line.startswith("#") and inside == section:
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


SERVICE = entries("Service")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not on the PATH: a systemd is needed to read a unit")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The unit with a program that there is on this machine."""
    text = UNIT.read_text("utf-8")
    assert text.count(INSTALLED) == 1
    path = tmp_path / "overdraw@1.service"
    path.write_text(text.replace(INSTALLED, f"{sysconfig.get_path('scripts')}/overdraw"), "utf-8")
    return path


def test_systemd_finds_nothing_wrong(here: Path) -> None:
    done = analyze("verify", "--man=no", here)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_find_a_misspelt_name(here: Path) -> None:
    here.write_text(here.read_text("utf-8").replace("ProtectHome=", "ProtectHomes="), "utf-8")
    assert "ProtectHomes" in analyze("verify", "--man=no", here).stderr


def test_systemd_holds_it_for_closed(here: Path) -> None:
    done = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSED}", here)
    assert done.returncode == 0, done.stdout


def test_a_worker_that_cannot_be_mended_by_a_start_is_not_started_again() -> None:
    (never,) = SERVICE["RestartPreventExitStatus"]
    assert {int(code) for code in never.split()} == {EXIT_BAD_STATE, EXIT_TWIN}
    assert SERVICE["Restart"] == ["on-failure"]
    assert str(EXIT_STUCK) not in never.split()


def test_it_waits_for_a_worker_that_stops() -> None:
    (limit,) = SERVICE["TimeoutStopSec"]
    assert int(limit) > STOP_SECONDS


def test_each_instance_is_a_static_member_of_the_group() -> None:
    assert "OVERDRAW_INSTANCE_ID=%H-%i" in SERVICE["Environment"]
    assert UNIT.name == "overdraw@.service"


def test_the_settings_that_are_named_exist_and_the_example_is_valid() -> None:
    example = (FOLDER / "overdraw.env.example").read_text("utf-8")
    given = dict(re.findall(r"^#?(OVERDRAW_[A-Z_]+)=(.*)$", example, re.M))
    unit = dict(re.findall(r"(OVERDRAW_[A-Z_]+)=(\S+)", " ".join(SERVICE["Environment"])))
    settings = load_settings(environ={**given, **unit})
    assert settings.broker.count(",") == 2
