"""Everything that a start needs before there is a server: a Java, the jars of a release, the class cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stream.embedded.classcache import class_cache, train
from stream.embedded.errors import BrokerError
from stream.embedded.jars import Tell, complete, kafka_jars, only_one
from stream.embedded.java import find_java
from stream.embedded.server import Runtime


def home_of(version: str, cache_dir: Path) -> Path:
    """The folder of a release's jars and class caches."""
    return cache_dir / f"kafka-{version}"


def prepare(version: str, cache_dir: Path, tell: Tell, cancelled: Callable[[], bool]) -> Runtime:
    """What runs a release: shared by all processes of this user and made by the first one; raises BrokerError."""
    java, home = find_java(), home_of(version, cache_dir)
    try:
        home.mkdir(parents=True, exist_ok=True)
        jars = kafka_jars(version, home, tell) if complete(version, home) else None
        if jars is None or not class_cache(home, java, jars).exists():
            with only_one(home / "lock", tell):
                jars = kafka_jars(version, home, tell)
                cache = class_cache(home, java, jars)
                if not cache.exists():
                    train(Runtime(java, tuple(jars)), cache, tell, cancelled)
        go_on(cancelled)
        cache = class_cache(home, java, jars)
        return Runtime(java, tuple(jars), cache if cache.stat().st_size else None)
    except OSError as error:
        raise BrokerError(
            f"cannot use the folder {home} for Kafka's jars: {error}: make it writable, or set "
            "OVERDRAW_DATA_DIR to a folder that is"
        ) from error


def go_on(cancelled: Callable[[], bool]) -> None:
    """Raise BrokerError once nobody wants the start any more."""
    if cancelled():
        raise BrokerError("the embedded Kafka was stopped while it started")
