"""The compiled core gives what the sources give, to the last bit; and it runs only while it fits them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream import native
from stream.lab.compile import MODULES, lacking

PROGRAM = Path(__file__).parent / "both_cores.py"


def run(pure: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, native.PURE: pure},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_states_alerts_and_sums_are_the_same_to_the_last_bit():
    if not native.fitting():
        pytest.skip(lacking() or "what was compiled is of other sources: make compiled")
    compiled, sources = run("0"), run("1")
    assert (compiled["core"], sources["core"]) == ("compiled", "sources")
    assert compiled["found"] == sources["found"]
    assert sum(alerts for _, _, alerts in sources["found"].values()) > 20


def test_the_tests_run_on_the_sources():
    assert native.core() == "sources"


@pytest.fixture
def built(tmp_path):
    """A package of two sources, and what was compiled of it."""
    package, folder = tmp_path / "stream", tmp_path / "compiled"
    (package / "core").mkdir(parents=True)
    (package / "core/key.py").write_text("A = 1\n")
    (package / "events.py").write_text("B = 2\n")
    folder.mkdir()
    (folder / native.MANIFEST).write_text(native.manifest({"stream.core.key": "key.so"}, native.digests(package)))
    return package, folder


def test_what_fits_is_found(built):
    package, folder = built
    assert native.fitting(folder, package) == {"stream.core.key": folder / "key.so"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("core/key.py", "A = 3\n"),  # a module that is compiled
        ("events.py", "B = 3\n"),  # one whose types it knows
        ("core/new.py", ""),  # one more
        ("core/key.py", None),  # one less
    ],
)
def test_nothing_that_is_stale_runs(built, file, text):
    package, folder = built
    if text is None:
        (package / file).unlink()
    else:
        (package / file).write_text(text)
    assert native.fitting(folder, package) == {}


def test_what_was_made_for_another_python_does_not_run(built, monkeypatch):
    package, folder = built
    monkeypatch.setattr(native, "abi", lambda: "cpython-99 elsewhere")
    assert native.fitting(folder, package) == {}


@pytest.mark.parametrize("said", ["", "{", "[]", "{}", '{"abi": 1}'])
def test_half_a_manifest_is_none(built, said):
    package, folder = built
    (folder / native.MANIFEST).write_text(said)
    assert native.fitting(folder, package) == {}


def test_a_touched_source_that_is_the_same_still_fits(built):
    package, folder = built
    os.utime(package / "core/key.py", (0, 0))
    assert native.fitting(folder, package) != {}


def test_every_module_that_is_to_be_compiled_exists():
    assert [name for name in MODULES if not (native.PACKAGE / f"core/{name.replace('.', '/')}.py").is_file()] == []


def test_training_takes_the_sources_unless_it_is_too_late(monkeypatch):
    finder = native.Finder()
    finder._modules = {"stream.core.nothing": Path("nothing.so")}
    monkeypatch.setattr(native, "FINDER", finder)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    native.take_sources()
    assert finder not in sys.meta_path
    assert native.core() == "sources"

    finder._modules = {"stream.native": Path("native.so")}
    monkeypatch.setattr(native, "FINDER", finder)
    with pytest.raises(RuntimeError, match="OVERDRAW_PURE"):
        native.take_sources()
