"""The compiled core: extension modules made of the sources by mypyc, which run only while they fit these very sources.

`python -m stream.lab.compile` makes them, in a folder of their own: nothing is found there but through `install`, and
that hands out nothing unless each source that they were made of is as it was then. So a changed line always runs.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Sequence
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parent
FOLDER = PACKAGE / "compiled"
MANIFEST = "manifest.json"
PURE = "OVERDRAW_PURE"
"""Anything but 0 in this variable of the environment: the sources run, whatever was compiled."""
GROUP = "overdraw_core"
"""What the one library is called that holds the code of all compiled modules."""
READ = (
    *("alerts.py", "control.py", "events.py", "holidays.py", "native.py", "core/**/*.py", "settings/*.py"),
    *("gateways/quick.py", "gateways/traits.py", "lab/compile.py", "lab/evaluation/summed.py"),
)
"""The sources that count: those that are compiled, and all that they know by its type."""


def abi() -> str:
    """What extension modules have to be made for: this Python, on this kind of machine."""
    return f"{sysconfig.get_config_var('SOABI')} {sysconfig.get_platform()}"


def digests(package: Path = PACKAGE) -> dict[str, str]:
    """A hash of every source that counts, by its path in the package."""
    paths = sorted({path for pattern in READ for path in package.glob(pattern)})
    return {
        path.relative_to(package).as_posix(): blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in paths
    }


def manifest(modules: dict[str, str], sources: dict[str, str]) -> str:
    """What lies beside compiled modules: the file of each, what they were made of, and what for."""
    return json.dumps({"abi": abi(), "modules": modules, "sources": sources}, indent=1)


def fitting(folder: Path = FOLDER, package: Path = PACKAGE) -> dict[str, Path]:
    """The compiled modules by name; none unless they were made of these sources, and for this Python."""
    try:
        said = json.loads((folder / MANIFEST).read_text("utf-8"))
        fits = said["abi"] == abi() and said["sources"] == digests(package)
        return {name: folder / file for name, file in said["modules"].items()} if fits else {}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):  # half a manifest, or that of another version
        return {}


class Finder(MetaPathFinder):
    """Finds modules of this package among the compiled ones; looks at the sources once, when the first is asked for."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._modules: dict[str, Path] | None = None

    @property
    def modules(self) -> dict[str, Path]:
        """Those that fit."""
        if self._modules is None:
            self._modules = fitting(self._folder)
        return self._modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The compiled module, or None: then the sources are looked at as ever."""
        if not fullname.startswith(("stream.", GROUP)):
            return None
        file = self.modules.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))


def install() -> Finder | None:
    """Let compiled modules be found, unless the environment says that the sources are to run."""
    if os.environ.get(PURE, "0") not in ("", "0") or not (FOLDER / MANIFEST).exists():
        return None
    finder = Finder()
    sys.meta_path.insert(0, finder)
    return finder


FINDER = install()


def take_sources() -> None:
    """The sources run from here on: for what replaces parts of the core, which those that are compiled do not allow.

    Raises RuntimeError if a compiled module has been imported already.
    """
    global FINDER
    if FINDER is None:
        return
    if any(name in sys.modules for name in FINDER.modules):
        raise RuntimeError(f"the compiled core is in use: set {PURE}=1")
    sys.meta_path.remove(FINDER)
    FINDER = None


def core() -> str:
    """What runs: `compiled`, or the `sources`."""
    return "compiled" if FINDER is not None and FINDER.modules else "sources"
