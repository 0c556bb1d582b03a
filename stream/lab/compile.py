"""Compile the core with mypyc: `make compiled`, or `python -m stream.lab.compile` in a checkout.

The same source, the same numbers to the last bit, in less than half the time. See `stream.native` for when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stream.native import FOLDER, GROUP, MANIFEST, PACKAGE, digests, fitting, manifest

MODULES = (
    *("adaptivemean", "bucket", "baseline", "calendar", "calibration", "chains", "charted", "days", "explanation"),
    *("fields", "gathering", "holding", "judging", "key", "keyring", "links", "outlook", "pace", "presence"),
    *("quality", "reporting", "residuals", "rule", "rules", "scales", "shard", "step", "sums", "watched", "why"),
    "windows",
    *(f"channels.{name}" for name in ("base", "calls", "drift", "jump", "level", "newcomer", "quiet", "ramp")),
    *(f"channels.{name}" for name in ("records", "shape", "surge")),
)
"""Of `stream.core`: what runs at each call and at each close, and what inherits from that. Not what defines records for
msgspec: it would not see the types of their fields."""
OTHERS = ("gateways.quick", "lab.evaluation.summed")
FLAGS = ("-ffp-contract=off", *(f"-fno-builtin-{name}" for name in ("exp", "log", "pow")))
"""So that a compiled number is the same to the last bit: no multiplication is fused with an addition, and logarithms of
constants are left to the library that Python itself asks."""
OPTIMISATION = "2"
"""-O3 takes half as long again to compile, and what it makes is no quicker."""


class CannotCompile(Exception):
    """Something that it takes is not here, or the compiler does not accept the sources; the message says what."""


def lacking() -> str | None:
    """What is missing here, in words; None if nothing is."""
    if not (PACKAGE.parent / "pyproject.toml").is_file():
        return "a checkout: pyproject.toml does not lie beside the package"
    tools = [name for name in ("mypyc", "setuptools") if importlib.util.find_spec(name) is None]
    if tools:
        return f"{' and '.join(tools)}: pip install 'overdraw[compile]'"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"a C compiler: there is no {compiler}"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's headers: Debian has them in the package python3-dev"
    return None


def compile_core(folder: Path = FOLDER) -> None:
    """Make the compiled modules in `folder`, which takes the place of what was there; raises CannotCompile.

    It changes this process's working directory and imports what it takes to compile: let it have one of its own.
    """
    missing = lacking()
    if missing:
        raise CannotCompile(f"this takes {missing}")
    sources = digests()
    os.chdir(PACKAGE.parent)
    with tempfile.TemporaryDirectory(prefix="overdraw-compile-") as scratch, _said() as said:
        made = Path(scratch) / "made"
        try:
            _build(Path(scratch), made)
        except (Exception, SystemExit) as error:  # mypyc ends the process where the sources have errors
            raise CannotCompile(f"the core cannot be compiled: {error}\n{said.getvalue()}") from error
        if digests() != sources:
            raise CannotCompile("the sources were changed while they were compiled: try again")
        _install(made, folder, sources)


def _build(scratch: Path, made: Path) -> None:
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    names = [f"core.{name}" for name in MODULES] + list(OTHERS)
    paths = [f"stream/{name.replace('.', '/')}.py" for name in names]
    extensions = mypycify(
        ["--config-file=pyproject.toml", f"--cache-dir={os.devnull}", *paths],
        opt_level=OPTIMISATION,
        debug_level="0",
        multi_file=True,  # so that all cores of the machine compile
        group_name=GROUP,
        target_dir=str(scratch / "c"),
    )
    for extension in extensions:
        extension.extra_compile_args.extend(FLAGS)
    command = build_ext(Distribution({"name": "overdraw", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(made), str(scratch / "objects")
    command.parallel = os.cpu_count() or 1
    command.ensure_finalized()
    command.run()


def _install(made: Path, folder: Path, sources: dict[str, str]) -> None:
    """Put everything in its place at once: whoever starts meanwhile finds the old modules, the new ones, or none."""
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    with tempfile.TemporaryDirectory(prefix=".compiled-", dir=folder.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir(mode=0o755)
        modules = {}
        for path in sorted(made.rglob(f"*{suffix}")):
            name = ".".join(path.relative_to(made).parts).removesuffix(suffix)
            modules[name] = path.name if "." not in name else f"{name}{suffix}"
            shutil.copy(path, new / modules[name])
        (new / MANIFEST).write_text(manifest(modules, sources), "utf-8")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


@contextlib.contextmanager
def _said() -> Iterator[io.StringIO]:
    """What the compilers print is only told if they fail; gcc's own words go to the real streams."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said


def main(arguments: list[str] | None = None) -> int:
    """Compile if the sources have changed since; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stream.lab.compile", description="Compile the core with mypyc.")
    parser.add_argument("--if-possible", action="store_true", help="without a C compiler: do nothing, say nothing")
    asked = parser.parse_args(arguments)
    if fitting():
        return 0
    if asked.if_possible and lacking():
        return 0
    begin = time.monotonic()
    try:
        compile_core()
    except CannotCompile as error:
        sys.stderr.write(f"{error}\n" + ("the core runs from its sources\n" if asked.if_possible else ""))
        return 0 if asked.if_possible else 2
    sys.stdout.write(f"the core is compiled ({time.monotonic() - begin:.0f} s)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
