"""One broker of an embedded cluster: a process with its folder and its ports."""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.embedded import server, storage
from stream.embedded.child import Child
from stream.embedded.classcache import retire
from stream.embedded.errors import BrokerError
from stream.embedded.server import Runtime, Seat

STOP_SECONDS = 20.0
"""For a clean stop: the log is flushed and the leaders are handed over."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node keeps its data: its folder, the lock that its process holds, what goes if we die unseen."""

    folder: Path
    lock: int
    remove: Path | None


class Node:
    """A broker and controller as a child process. Made by a cluster; all calls block.

    `stop`, `kill` and `start` keep data and ports.
    """

    def __init__(self, number: int, port: int, start: Callable[[Node], None], secured: bool = False) -> None:
        self.number = number
        self._secured = secured
        self.turn = threading.RLock()
        """Held while the node is started or ended."""
        self.place: Place | None = None
        self.port = self._wanted_port = port
        self.controller_port = 0
        self._tls_port = self._inner_port = 0
        self.served = False
        """It has served on its port, which is a promise from then on."""
        self._child: Child | None = None
        self._start = start

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients; known from the first `start` on, or at once with a port of your own."""
        if not self.port:
            raise BrokerError("the embedded Kafka has no port yet: start() it first")
        return f"{server.HOST}:{self.port}"

    @property
    def listeners(self) -> dict[str, str]:
        """`host:port` by protocol: PLAINTEXT alone, or those of `Security`; known as `bootstrap` is."""
        return {name: f"{server.HOST}:{port}" for name, port in self.seat.listeners.items()}

    @property
    def pid(self) -> int | None:
        """The process id; None while it does not run."""
        return self._child.pid if self._child and self._child.returncode is None else None

    @property
    def folder(self) -> Path:
        """Where its data are; known from the first `start` on."""
        if self.place is None:
            raise BrokerError("the embedded Kafka has no folder yet: start() it first")
        return self.place.folder

    @property
    def log(self) -> Path:
        """What it has said since its last start."""
        return self.folder / "kafka.log"

    def start(self) -> None:
        """Start again on the same data and ports; returns when it serves. Harmless when it runs.

        It serves once most of the cluster's nodes run: to start several, call `start` of the cluster, or use threads.
        """
        self._start(self)

    def stop(self) -> None:
        """A clean stop, killed if it takes too long. Harmless when it does not run."""
        with self.turn:
            if self._child:
                self._child.end(STOP_SECONDS)

    def ask_to_stop(self) -> None:
        """Begin a clean stop, without waiting."""
        if self._child:
            self._child.ask()

    def kill(self) -> None:
        """SIGKILL, for failure experiments; the data stay as they are."""
        with self.turn:
            if self._child:
                self._child.kill()

    def fill_disk(self, room: int = 0) -> None:
        """Let the running broker find its disk full, for failure experiments; `start` gives it room again.

        room: bytes up to which each of its files may still grow; with 0 it can also no longer say why it ends

        It is a limit of the process on the length of a file (RLIMIT_FSIZE), for which neither root nor a file system
        of its own is needed. A write beyond it fails in the kernel with EFBIG, where a full disk says ENOSPC: to Kafka
        both are an IOException on its log folder, and as on a full tmpfs it takes the folder out of service and ends
        with code 1, within a second as it writes its metadata twice in one. Not simulated: a mapped index page that
        finds no block (SIGBUS), and a start on a disk that is still full. Linux only; raises BrokerError elsewhere, or
        if it does not run.
        """
        if sys.platform != "linux":
            raise BrokerError("a full disk can only be simulated on Linux")
        pid = self.pid
        if pid is None:
            raise BrokerError("the embedded Kafka does not run: start() it first")
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, most))

    def death(self) -> str | None:
        """None while it runs; else one text on how it ended, with the last lines that it said."""
        code = self._child.returncode if self._child else None
        if code is None:
            return None
        said = server.last_lines(self.log)
        return f"the embedded Kafka at {self.bootstrap} ended with {how(code)}; its last lines:\n{said}"

    # ------------------------------------------------------------------ for the cluster

    @property
    def code(self) -> int | None:
        """How the process of the last start ended; None while it runs, or if there was none."""
        return self._child.returncode if self._child else None

    @property
    def seat(self) -> Seat:
        """Where it listens."""
        return Seat(self.number, self.port, self.controller_port, self._tls_port, self._inner_port)

    def choose_ports(self, taken: Sequence[int]) -> None:
        """Free ports for all that it listens at and that has none yet."""
        self.port = self.port or server.free_port(*taken)
        self.controller_port = self.controller_port or server.free_port(self.port, *taken)
        if self._secured:
            chosen = (self.port, self.controller_port, *taken)
            self._tls_port = self._tls_port or server.free_port(*chosen)
            self._inner_port = self._inner_port or server.free_port(self._tls_port, *chosen)

    def forget_port(self) -> None:
        """Somebody else took a port of ours: choose again, unless it was promised or asked for."""
        if not self.served:
            self.port, self._tls_port, self._inner_port = self._wanted_port, 0, 0

    def give_back(self) -> None:
        """Hold on to nothing."""
        self.place, self._child, self.served = None, None, False
        self.port, self.controller_port, self._tls_port, self._inner_port = self._wanted_port, 0, 0, 0

    def format(
        self, runtime: Runtime, cluster_id: str, nodes: int, extra: Mapping[str, str], arguments: Sequence[str]
    ) -> Runtime:
        """Make an empty folder its storage; what to run it with, without the class cache if that did harm."""

        def make(by: Runtime) -> None:
            storage.format_storage(
                by, self.folder, extra, arguments=arguments, cluster_id=cluster_id, node=self.number, nodes=nodes
            )

        try:
            make(runtime)
        except BrokerError:
            if runtime.cache is None:
                raise
            bare = Runtime(runtime.java, runtime.jars)
            make(bare)
            retire(runtime.cache)  # without it, it went well
            return bare
        return runtime

    def run(self, runtime: Runtime, seats: Sequence[Seat], extra: Mapping[str, str]) -> None:
        """Start the process, without waiting."""
        assert self.place is not None
        configuration = self.folder / "server.properties"
        configuration.write_text(server.properties(self.folder / "log", self.seat, seats, extra), "utf-8")
        self.log.write_bytes(b"")
        self._child = Child(
            runtime.command(self.folder, "kafka.Kafka", configuration),
            self.log,
            keep_open=[self.place.lock],
            remove=self.place.remove,
        )

    def wait(self, wanted: set[int], seconds: float, cancelled: Callable[[], bool]) -> bool:
        """True once it serves and sees all brokers of `wanted`; False if it does not come to that."""
        assert self._child is not None
        port = self.seat.listeners["PLAINTEXT"]
        return server.wait_until_serving(self._child, port, wanted, seconds, cancelled)


def how(code: int) -> str:
    """How a process ended, for people.

    >>> how(-9), how(1)
    ('signal 9', 'code 1')
    """
    return f"signal {-code}" if code < 0 else f"code {code}"
