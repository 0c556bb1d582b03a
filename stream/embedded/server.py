"""One Kafka server as a process: its configuration, its command line, and how to tell that it serves."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

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
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # a broker that was killed is only let back in when its session is over: 9 s by default
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
"""One small server for one machine: every replication factor is 1, every pool and buffer small."""


def properties(log_dir: Path, port: int, controller_port: int, extra: Mapping[str, str]) -> str:
    """The text of `server.properties`; both listeners are on loopback."""
    values = {
        **PROPERTIES,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "log.dirs": str(log_dir),
        **extra,
    }
    # in a properties file a backslash starts an escape
    return "".join(f"{name}={value}\n" for name, value in values.items()).replace("\\", "\\\\")


def command(
    java: Java, jars: Sequence[Path], options: Sequence[str], work: Path, main: str, *arguments: str | Path
) -> list[str]:
    """A whole command line that runs a main class of Kafka's; a crash of the JVM is reported in `work`."""
    crash = f"-XX:ErrorFile={work / CRASH_REPORT}"
    class_path = ":".join(map(str, jars))
    return [str(java.path), *JVM_OPTIONS, crash, *options, "-cp", class_path, main, *map(str, arguments)]


def command_options(java: Java, cache: Path | None) -> list[str]:
    """Options for a run with the class cache, if there is one."""
    return java.using(cache) if cache else []


def free_port(avoid: int = 0) -> int:
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
        if port != avoid:
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
    # a Metadata request of version 1: correlation id 1, no client id, no topics
    request = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    try:
        with socket.create_connection((HOST, port), ANSWER_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = b""
            while len(answer) < 12:
                more = connection.recv(12 - len(answer))
                if not more:
                    return False
                answer += more
    except OSError:
        return False
    _length, _correlation_id, brokers = struct.unpack(">iii", answer)
    return bool(brokers >= 1)


def wait_until_serving(child: Child, port: int, seconds: float, cancelled: Callable[[], bool]) -> bool:
    """True once it serves; False when it has ended, is too slow, or nobody wants it any more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not cancelled():
        if child.returncode is not None:
            return False
        if serves(port):
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
