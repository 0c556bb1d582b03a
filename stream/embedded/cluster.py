"""Nodes that are one cluster: their folder, and starts that are tried again where that helps."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.embedded import server, storage
from stream.embedded.classcache import retire
from stream.embedded.errors import BrokerError
from stream.embedded.jars import KAFKA_VERSION
from stream.embedded.node import Node, Place, how
from stream.embedded.prepare import go_on, prepare
from stream.embedded.security import Security
from stream.embedded.server import Runtime
from stream.settings import load_settings

START_SECONDS = 120.0
"""Ready in 1 to 3 s on an idle machine; this long on one that swaps."""
ATTEMPTS = 4


class Nodes:
    """What a single broker and a cluster have in common; `ports` are those of the nodes, 0: any free one."""

    def __init__(
        self,
        ports: Sequence[int],
        data_dir: str | Path | None,
        cache_dir: str | Path | None,
        extra_properties: Mapping[str, str] | None,
        tell: Callable[[str], None] | None,
        version: str,
        security: Security | None = None,
    ) -> None:
        if security is not None and version != KAFKA_VERSION:
            raise BrokerError(f"only Kafka {KAFKA_VERSION} can ask for passwords here: {version} needs an older Java")
        self.version = version
        self._wanted_dir = None if data_dir is None else Path(data_dir).absolute()
        self._cache_dir = Path(cache_dir or load_settings().data_dir).expanduser().absolute()
        self._extra = {**(security.properties if security else {}), **(extra_properties or {})}
        self._format_arguments = security.format_arguments if security else []
        self._tell = tell or (lambda text: None)
        secured = security is not None
        self._nodes = tuple(Node(number, port, self._start_one, secured) for number, port in enumerate(ports, 1))
        self._data: Path | None = None
        self._held = ExitStack()
        self._turn = threading.RLock()
        """Held while the folder is opened, prepared or given back."""
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """`host:port` of every broker, separated by commas; known from the first start on."""
        return ",".join(node.bootstrap for node in self._nodes)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The brokers' processes, to be killed, stopped and started one by one."""
        return self._nodes

    @property
    def data_dir(self) -> Path:
        """The folder of the topics; known from the first start on."""
        if self._data is None:
            raise BrokerError("the embedded Kafka has no folder yet: start() it first")
        return self._data

    @property
    def cluster_id(self) -> str:
        """The id that the data folder was formatted with; it never changes."""
        return storage.meta_property(self._nodes[0].folder, "cluster.id")

    def start(self) -> Self:
        """Start what does not run, on the same data and ports as before; returns when all serve."""
        self._start(self._nodes)
        return self

    def stop(self) -> None:
        """A clean stop of all that runs, killed if it takes too long; the data stay."""
        self._stopping.set()
        for node in self._nodes:
            node.ask_to_stop()
        for node in self._nodes:
            node.stop()

    def kill(self) -> None:
        """SIGKILL to all that runs, for failure experiments; the data stay as they are."""
        for node in self._nodes:
            node.kill()

    def close(self) -> None:
        """Stop, give the data folder free, and remove it if it is temporary."""
        self._stopping.set()
        if self._wanted_dir is None:
            self.kill()  # what goes away needs no clean stop, which takes a cluster 5 s
        else:
            self.stop()
        with self._turn:
            self._give_back()

    def death(self) -> str | None:
        """None while most nodes run, or none was started; else one text on how they ended, with what they said last."""
        deaths = [death for node in self._nodes if (death := node.death())]
        return "\n".join(deaths) if 2 * len(deaths) >= len(self._nodes) and deaths else None

    def _give_back(self) -> None:
        self._held.close()
        self._data = None
        for node in self._nodes:
            node.give_back()

    def _start_one(self, node: Node) -> None:
        self._start([node])

    def _start(self, nodes: Sequence[Node]) -> None:
        """Start those of the nodes that do not run, and return when they serve."""
        with ExitStack() as turns:
            for node in nodes:
                turns.enter_context(node.turn)
            waiting = [node for node in nodes if node.pid is None]
            if not waiting:
                return
            self._stopping.clear()
            with self._turn:
                runtime = prepare(self.version, self._cache_dir, self._tell, self._stopping.is_set)
                fresh = self._data is None
            try:
                with self._turn:
                    self._open()
                    runtime = self._format(runtime)
                self._boot(waiting, runtime)
            except BaseException as error:
                where = self._data or self._wanted_dir
                for node in waiting:
                    node.kill()
                if fresh:  # a first start that failed holds on to nothing
                    self._give_back()
                if isinstance(error, OSError):
                    raise BrokerError(f"cannot run Kafka on {where}: {error}") from error
                raise

    def _open(self) -> None:
        """Make the data folder ours until `close`."""
        if self._data is not None:
            return
        data = self._wanted_dir
        if data is None:
            storage.sweep(Path(tempfile.gettempdir()))
            data = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix=storage.TEMPORARY_PREFIX)))
        folders = self._folders(data)
        own = storage.OWN_FILES if folders == [data] else {"lock", *(folder.name for folder in folders)}
        lock = storage.take(data, self._held, own)
        remove = None if self._wanted_dir else data
        for node, folder in zip(self._nodes, folders, strict=True):
            folder.mkdir(exist_ok=True)
            node.place = Place(folder, lock, remove)
        self._data = data

    def _folders(self, data: Path) -> list[Path]:
        """Every node's own folder."""
        return [data / f"node-{node.number}" for node in self._nodes]

    def _format(self, runtime: Runtime) -> Runtime:
        """Format what is not yet; what to run the nodes with."""
        formatted = [node for node in self._nodes if (node.folder / "log").exists()]
        # a look that raises where a folder is damaged
        ids = {storage.meta_property(node.folder, "cluster.id") for node in formatted}
        if len(ids) > 1:
            raise BrokerError(f"{self.data_dir} holds nodes of different clusters: start with a new folder")
        cluster_id = ids.pop() if ids else storage.new_cluster_id()
        for node in self._nodes:
            if node not in formatted:
                runtime = node.format(runtime, cluster_id, len(self._nodes), self._extra, self._format_arguments)
        return runtime

    def _boot(self, nodes: Sequence[Node], runtime: Runtime) -> None:
        """Start until all serve: once more without the class cache, or on other ports, if that was the trouble."""
        suspect = None
        for attempt in range(ATTEMPTS):
            self._choose_ports(nodes)
            seats = [node.seat for node in self._nodes]
            for node in nodes:
                node.run(runtime, seats, self._extra)
            failed = self._wait(nodes)
            if failed is None:
                for node in nodes:
                    node.served = True
                if suspect:
                    retire(suspect)
                return
            go_on(self._stopping.is_set)
            code = failed.code
            for node in nodes:
                node.kill()
            said = server.last_lines(failed.log)
            if "Address already in use" in said and attempt + 1 < ATTEMPTS:
                # somebody took one of our ports since we looked; ours is only promised once it has served
                for node in nodes:
                    node.forget_port()
            elif code is not None and runtime.cache:
                # if it goes well without it, no later start shall have it
                suspect, runtime = runtime.cache, Runtime(runtime.java, runtime.jars)
            else:
                raise _died(code, said, failed)

    def _choose_ports(self, nodes: Sequence[Node]) -> None:
        """Ports for the nodes to start; raises BrokerError where one that must be kept is taken."""
        for node in nodes:
            # all nodes must know all controllers' ports: they only change while nobody runs
            if len(nodes) == len(self._nodes):
                node.controller_port = 0
            for port in node.seat.ports:
                if port and not server.is_free(port):
                    raise _port_taken(port)
        for node in self._nodes:
            node.choose_ports([port for each in self._nodes for port in each.seat.ports])

    def _wait(self, nodes: Sequence[Node]) -> Node | None:
        """None once all serve and know each other; else the one that came to nothing."""
        deadline = time.monotonic() + START_SECONDS
        wanted = {node.number for node in nodes}

        def given_up() -> bool:
            return self._stopping.is_set() or any(node.code is not None for node in nodes)

        for node in nodes:
            if not node.wait(wanted, deadline - time.monotonic(), given_up):
                return next((each for each in nodes if each.code is not None), node)
        return None


def _port_taken(port: int) -> BrokerError:
    return BrokerError(
        f"port {port} on {server.HOST} is taken: stop what listens there, or choose another one with --port (0: any)"
    )


def _died(code: int | None, said: str, node: Node) -> BrokerError:
    if "Address already in use" in said:
        return _port_taken(node.port)
    if code is None:
        text = f"the embedded Kafka did not serve within {START_SECONDS:.0f} s: is the machine overloaded?"
    else:
        text = f"the embedded Kafka died at its start ({how(code)})"
    if "No space left" in said:
        text += f": make room on the disk of {node.folder}"
    elif any(word in said for word in ("log dir", "Corrupt", "checkpoint", "meta.properties")):
        text += f": its folder {node.folder} seems damaged: move it away and start with a new one"
    return BrokerError(f"{text}. Its last lines:\n{said or '  (none)'}")
