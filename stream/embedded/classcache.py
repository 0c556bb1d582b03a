"""The class cache: what the JVM remembers of Kafka's classes, so that the next start takes a third of the time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from stream.embedded import server, storage
from stream.embedded.child import Child
from stream.embedded.errors import BrokerError
from stream.embedded.jars import Tell
from stream.embedded.java import Java

TRAINING_SECONDS = 120.0
KEPT = 2


def class_cache(home: Path, java: Java, jars: Sequence[Path]) -> Path:
    """Where the cache for exactly this Java, these jars and these options is kept; an empty file means: none."""
    parts = [java.path, java.version, *server.JVM_OPTIONS, *jars]
    digest = sha256("\0".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return home / f"classes-{digest}.cache"


def train(runtime: server.Runtime, cache: Path, tell: Tell, cancelled: Callable[[], bool]) -> None:
    """Write the cache by one start and stop of a server that nobody uses; whatever fails, Kafka starts without it."""
    tell("preparing quick starts of Kafka, only this once")
    fresh = cache.with_name(cache.name + ".partial")
    fresh.unlink(missing_ok=True)
    try:
        _run_once(replace(runtime, options=tuple(runtime.java.training(fresh))), cancelled)
    except BrokerError as error:
        tell(f"no class cache: {error}")
    if cancelled():
        fresh.unlink(missing_ok=True)
        return
    if fresh.exists():
        os.replace(fresh, cache)
        _forget_old(cache.parent)
    else:
        tell("no class cache could be made: Kafka will start a little slower")
        retire(cache)


def retire(cache: Path) -> None:
    """Have no cache from now on: an empty file, so that neither it nor its making is tried again at every start."""
    fresh = cache.with_name(cache.name + ".partial")
    fresh.write_bytes(b"")
    os.replace(fresh, cache)


def _forget_old(home: Path) -> None:
    """Remove the caches of Javas and options that were left behind; each is as large as Kafka itself."""
    for old in sorted(home.glob("classes-*.cache"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        old.unlink()


def _run_once(runtime: server.Runtime, cancelled: Callable[[], bool]) -> None:
    with tempfile.TemporaryDirectory(prefix=storage.TEMPORARY_PREFIX) as folder:
        work = Path(folder)
        storage.format_storage(
            server.Runtime(runtime.java, runtime.jars), work, {}, cluster_id=storage.new_cluster_id()
        )
        port = server.free_port()
        seat = server.Seat(1, port, server.free_port(port))
        configuration = work / "server.properties"
        configuration.write_text(server.properties(work / "log", seat, [seat], {}), "utf-8")
        child = Child(runtime.command(work, "kafka.Kafka", configuration), work / "kafka.log", remove=work)
        grace = 0.0
        try:
            if server.wait_until_serving(child, port, {seat.node}, TRAINING_SECONDS, cancelled):
                grace = TRAINING_SECONDS  # the JVM writes the cache after Kafka has stopped
        finally:
            child.end(grace)
