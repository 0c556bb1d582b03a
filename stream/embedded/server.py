"""One Kafka server as a process: its configuration, its command line, and how to tell that it serves."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stream.embedded.child import Child
from stream.embedded.java import Java

HOST = "127.0.0.1"
FORMAT_SECONDS = 60.0
POLL_SECONDS = 0.02
ANSWER_SECONDS = 2.0
CRASH_REPORT = "crash.log"
EPHEMERAL_FROM = 32_768
"""Where Linux starts to hand out ports by default."""
FREE_FROM = 15_000

JVM_OPTIONS = (
    "-Xmx256m",
    "-XX:-CreateCoredumpOnCrash",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # the JVM's own remarks on a class cache that does not quite fit are nobody's business
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
)

PROPERTIES = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "share.coordinator.state.topic.num.partitions": "1",
    # a broker that was killed is only let back in, and its partitions only go to others, when its session is over:
    # 9 s by default
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.cleaner.backoff.ms": "1000",
    "log.index.size.max.bytes": "1048576",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}
"""A small server for one machine: every pool and buffer is small."""

MOST_COPIES = 3
INTERNAL_TOPICS = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")


@dataclass(frozen=True, slots=True)
class Seat:
    """A node of a cluster and where it listens on loopback: for clients and brokers, and for controllers."""

    node: int
    port: int
    controller_port: int
    tls_port: int = 0
    inner_port: int = 0
    """With `Security`: for clients with certificates, and for brokers and whoever administers them."""

    @property
    def listeners(self) -> dict[str, int]:
        """Ports for clients, by protocol."""
        if not self.inner_port:
            return {"PLAINTEXT": self.port}
        return {"SASL_SSL": self.port, "SSL": self.tls_port, "PLAINTEXT": self.inner_port}

    @property
    def ports(self) -> tuple[int, ...]:
        """All that it listens at."""
        return (*self.listeners.values(), self.controller_port)


def properties(log_dir: Path, seat: Seat, seats: Sequence[Seat], extra: Mapping[str, str]) -> str:
    """The text of `server.properties` for one of the seats; every node is a broker and a controller of the quorum."""
    copies = min(MOST_COPIES, len(seats))
    # with three copies one may be missing; with two, one could not be missed
    in_sync = 2 if copies == MOST_COPIES else 1
    values = {
        **PROPERTIES,
        "node.id": str(seat.node),
        "controller.quorum.voters": ",".join(f"{each.node}@{HOST}:{each.controller_port}" for each in seats),
        "listeners": ",".join(
            f"{name}://{HOST}:{port}" for name, port in {**seat.listeners, "CONTROLLER": seat.controller_port}.items()
        ),
        "log.dirs": str(log_dir),
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(in_sync),
        **{f"{topic}.replication.factor": str(copies) for topic in INTERNAL_TOPICS},
        **{f"{topic}.min.isr": str(in_sync) for topic in INTERNAL_TOPICS if topic != "offsets.topic"},
        **extra,
    }
    # in a properties file a backslash starts an escape
    return "".join(f"{name}={value}\n" for name, value in values.items()).replace("\\", "\\\\")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs a Kafka release: a Java, the class path, the class cache if there is one, further JVM options."""

    java: Java
    jars: tuple[Path, ...]
    cache: Path | None = None
    options: tuple[str, ...] = ()

    def command(self, work: Path, main: str, *arguments: str | Path) -> list[str]:
        """A whole command line that runs a main class of Kafka's; a crash of the JVM is reported in `work`."""
        options = [
            *JVM_OPTIONS,
            f"-XX:ErrorFile={work / CRASH_REPORT}",
            *(self.java.using(self.cache) if self.cache else []),
            *self.options,
        ]
        return [str(self.java.path), *options, "-cp", ":".join(map(str, self.jars)), main, *map(str, arguments)]


def free_port(*avoid: int) -> int:
    """A free port on loopback, outside the range from which the system serves outgoing connections.

    In that range a client that dials a stopped broker again and again may be given the broker's port itself, and the
    broker could never come back.
    """
    below = EPHEMERAL_FROM
    with suppress(OSError, ValueError):
        below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    pick = random.SystemRandom()
    for _ in range(100):
        port = pick.randrange(FREE_FROM, below) if below > FREE_FROM + 1000 else 0
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        if port not in avoid:
            return port
    raise OSError("no free port found on loopback")


def is_free(port: int) -> bool:
    """True when a server could listen on this port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: closed connections do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def serves(port: int) -> bool:
    """True when a broker on this port answers, and knows itself as part of its cluster."""
    return bool(brokers_at(port))


def brokers_at(port: int) -> set[int]:
    """The numbers of the brokers that work, as the one on this port sees it; empty while it does not answer."""
    # a Metadata request of version 1: correlation id 1, no client id, no topics
    request = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    try:
        with socket.create_connection((HOST, port), ANSWER_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                _length, _correlation_id, count = struct.unpack(">iii", stream.read(12))
                return {_broker(stream) for _ in range(count)}
    except (OSError, struct.error):  # the latter: it ended in the middle
        return set()


def _broker(stream: BinaryIO) -> int:
    """Read one broker of a Metadata answer; its number."""
    number, host_bytes = struct.unpack(">ih", stream.read(6))
    stream.read(host_bytes)
    _port, rack_bytes = struct.unpack(">ih", stream.read(6))
    stream.read(max(0, rack_bytes))
    return int(number)


def wait_until_serving(
    child: Child, port: int, wanted: set[int], seconds: float, cancelled: Callable[[], bool]
) -> bool:
    """True once it serves and sees all brokers of `wanted`; False when it has ended, is too slow, or is not wanted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not cancelled():
        if child.returncode is not None:
            return False
        if wanted <= brokers_at(port):
            return True
        time.sleep(POLL_SECONDS)
    return False


def last_lines(log: Path, count: int = 8) -> str:
    """The end of a log as it is shown to people: no blank lines, no stack frames, no line without end."""
    try:
        text = log.read_bytes()[-65_536:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("at ", "WARNING:"))]
    return "\n".join("  " + line[:300] for line in lines[-count:])
