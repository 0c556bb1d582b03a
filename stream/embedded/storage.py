"""The data folder of an embedded Kafka: taken by one owner at a time, formatted once and whole."""

from __future__ import annotations

import base64
import os
import re
import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from time import monotonic, sleep, time

from stream.embedded import server
from stream.embedded.child import Child
from stream.embedded.errors import BrokerError

OWN_FILES = {"log", "log.partial", "lock", "kafka.log", "server.properties", server.CRASH_REPORT}
"""All that is ever in the data folder of a single broker."""
TEMPORARY_PREFIX = "overdraw-kafka-"
YOUNG_SECONDS = 60.0
TAKEN_SECONDS = 3.0
"""A server whose owner was killed lets go of its folder within milliseconds; wait so long before calling it in use."""


def take(data: Path, held: ExitStack, own: Collection[str] = OWN_FILES) -> int:
    """Make the folder ours until `held` closes; the descriptor of its lock, for the server to hold as well.

    own: the names that may be in it. Raises BrokerError where the folder is somebody else's, in use, or cannot be
    written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        foreign = sorted({path.name for path in data.iterdir()} - set(own))
        if foreign:
            raise BrokerError(
                f"{data} holds files that are not the embedded Kafka's ({', '.join(foreign[:3])}): name a new or an "
                "empty folder"
            )
        lock = (data / "lock").open("ab")
    except OSError as error:
        raise BrokerError(f"cannot use {data} as Kafka's data folder: {error}: name another one") from error
    deadline = monotonic() + TAKEN_SECONDS
    with ExitStack() as trying:
        trying.enter_context(lock)
        while True:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > deadline:
                    raise BrokerError(
                        f"{data} is in use by another embedded Kafka: stop that one, or name another folder"
                    ) from None
                sleep(server.POLL_SECONDS)
        held.push(trying.pop_all())
        return lock.fileno()


def sweep(parent: Path) -> None:
    """Remove temporary folders whose owner was killed while its broker did not run, so that nobody else could."""
    for folder in parent.glob(TEMPORARY_PREFIX + "*"):
        with suppress(OSError):  # somebody else's, or gone already
            # a young one may be about to be taken
            if time() - folder.stat().st_mtime < YOUNG_SECONDS or folder.stat().st_uid != os.getuid():
                continue
            with (folder / "lock").open("rb") as lock:
                flock(lock, LOCK_EX | LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def new_cluster_id() -> str:
    """An id that no other cluster has."""
    # a leading dash would be read as an option
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]


def format_storage(
    runtime: server.Runtime,
    data: Path,
    extra: Mapping[str, str],
    *,
    arguments: Sequence[str] = (),
    cluster_id: str,
    node: int = 1,
    nodes: int = 1,
) -> None:
    """Make `data/log` the storage of a node of `nodes` in a cluster, whole or not at all; raises BrokerError."""
    partial = data / "log.partial"
    shutil.rmtree(partial, ignore_errors=True)
    # the ports only need to be valid here
    seats = [server.Seat(number, 2 * number - 1, 2 * number) for number in range(1, nodes + 1)]
    (data / "server.properties").write_text(server.properties(partial, seats[node - 1], seats, extra), "utf-8")
    options: list[str | Path] = ["format", "-t", cluster_id, "-c", data / "server.properties", *arguments]
    child = Child(runtime.command(data, "kafka.tools.StorageTool", *options), data / "kafka.log")
    try:
        code = child.wait(server.FORMAT_SECONDS)
    finally:
        child.kill()
    if code != 0:
        raise BrokerError(
            f"cannot format {data} for Kafka ({'it took too long' if code is None else f'code {code}'}). Its last "
            f"lines:\n{server.last_lines(data / 'kafka.log')}"
        )
    os.replace(partial, data / "log")


def meta_property(data: Path, name: str) -> str:
    """A property of a formatted folder, such as `cluster.id`; raises BrokerError where the folder is damaged."""
    try:
        text = (data / "log" / "meta.properties").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    found = re.search(rf"^{re.escape(name)}=(\S+)$", text, re.MULTILINE)
    if not found:
        raise BrokerError(
            f"{data} is damaged (no {name} in log/meta.properties): move it away and start with a new one"
        )
    return found.group(1)
