"""Embedded Kafka: the real Apache Kafka in KRaft mode as one child process, without Docker, root or an installed Java.

For demos, tests and a first look; a production cluster is somebody else's. It listens on loopback only, has one
broker, and everything in it is replicated once.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from stream.embedded import server, storage
from stream.embedded.child import Child
from stream.embedded.classcache import class_cache, retire, train
from stream.embedded.errors import BrokerError
from stream.embedded.jars import KAFKA_VERSION, complete, kafka_jars, only_one
from stream.embedded.java import Java, find_java
from stream.settings import load_settings

__all__ = ["KAFKA_VERSION", "BrokerError", "EmbeddedKafka"]

START_SECONDS = 120.0
"""Ready in 1 to 3 s on an idle machine; this long on one that swaps."""
STOP_SECONDS = 20.0
ATTEMPTS = 4
TRAINING_SECONDS = 120.0


class EmbeddedKafka:
    """One Kafka broker as a child process that never outlives this one. All calls block; use threads from asyncio.

    data_dir: folder of the topics, formatted once and kept; None: a temporary one that goes with `close`
    port: port on 127.0.0.1; 0: a free one, kept over restarts of this object
    cache_dir: folder of the jars and the class cache, shared by all; None: the setting `data_dir`
    extra_properties: further lines of `server.properties`
    tell: takes lines of progress (a first download takes a while)

    `stop`, `kill` and `start` keep data and port; `close`, or the end of the `with` block, gives everything back.
    Raises BrokerError, whose message says what to do.

        with EmbeddedKafka() as kafka:
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        port: int = 0,
        cache_dir: str | Path | None = None,
        extra_properties: Mapping[str, str] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._wanted_dir = None if data_dir is None else Path(data_dir).absolute()
        self._wanted_port = port
        self._port = port
        self._served = False
        self._home = Path(cache_dir or load_settings().data_dir).expanduser().absolute() / f"kafka-{KAFKA_VERSION}"
        self._extra = dict(extra_properties or {})
        self._tell = tell or (lambda text: None)
        self._child: Child | None = None
        self._data: Path | None = None
        self._held = ExitStack()
        self._lock_fd = -1
        self._turn = threading.RLock()
        self._stopping = threading.Event()

    def __enter__(self) -> EmbeddedKafka:
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
        """`host:port` for clients; known from the first `start` on, or at once with a port of your own."""
        if not self._port:
            raise BrokerError("the embedded Kafka has no port yet: start() it first")
        return f"{server.HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id; None while it does not run."""
        return self._child.pid if self._child and self._child.returncode is None else None

    @property
    def data_dir(self) -> Path:
        """The folder of the topics; known from the first `start` on."""
        if self._data is None:
            raise BrokerError("the embedded Kafka has no folder yet: start() it first")
        return self._data

    @property
    def log(self) -> Path:
        """What the broker of the last start said."""
        return self.data_dir / "kafka.log"

    @property
    def cluster_id(self) -> str:
        """The id that the data folder was formatted with; it never changes."""
        return storage.meta_property(self.data_dir, "cluster.id")

    def start(self) -> EmbeddedKafka:
        """Start, or start again on the same data and port; returns when the broker serves. Harmless when it runs."""
        with self._turn:
            if self.pid is not None:
                return self
            self._stopping.clear()
            java, jars, cache = self._prepare()
            fresh = self._data is None
            self._open_data_dir()
            try:
                if (self.data_dir / "log").exists():
                    self.cluster_id  # noqa: B018 - a look that raises where the folder is damaged
                else:
                    cache = self._format(java, jars, cache)
                self._boot(java, jars, cache)
            except BaseException as error:
                where = self.data_dir
                self.kill()
                if fresh:  # a first start that failed holds on to nothing
                    self._give_back()
                if isinstance(error, OSError):
                    raise BrokerError(f"cannot run Kafka on {where}: {error}") from error
                raise
            return self

    def stop(self) -> None:
        """A clean stop, killed if it takes too long; the data stay. Harmless when it does not run."""
        self._stopping.set()
        with self._turn:
            if self._child:
                self._child.end(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL, for failure experiments; the data stay as they are."""
        with self._turn:
            if self._child:
                self._child.kill()

    def close(self) -> None:
        """Stop, give the data folder free, and remove it if it is temporary."""
        self.stop()
        with self._turn:
            self._give_back()

    def _give_back(self) -> None:
        self._held.close()
        self._data, self._lock_fd, self._child = None, -1, None
        self._port, self._served = self._wanted_port, False

    def death(self) -> str | None:
        """None while it runs; else one text on how it ended, with the last lines that it said."""
        code = self._child.returncode if self._child else None
        if code is None:
            return None
        how = f"signal {-code}" if code < 0 else f"code {code}"
        return f"the embedded Kafka ended with {how}; its last lines:\n{server.last_lines(self.log)}"

    def _prepare(self) -> tuple[Java, list[Path], Path | None]:
        """Java, jars and class cache, shared by all processes of this user and made by the first one."""
        java = find_java()
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            jars = kafka_jars(self._home, self._tell) if complete(self._home) else None
            if jars is None or not class_cache(self._home, java, jars).exists():
                with only_one(self._home / "lock", self._tell):
                    jars = kafka_jars(self._home, self._tell)
                    cache = class_cache(self._home, java, jars)
                    if not cache.exists():
                        train(java, jars, cache, self._tell, self._stopping.is_set)
                        self._go_on()
            cache = class_cache(self._home, java, jars)
            return java, jars, cache if cache.stat().st_size else None
        except OSError as error:
            raise BrokerError(
                f"cannot use the folder {self._home} for Kafka's jars: {error}: make it writable, or set "
                "OVERDRAW_DATA_DIR to a folder that is"
            ) from error

    def _open_data_dir(self) -> None:
        """Make the data folder ours until `close`."""
        if self._data is None:
            data = self._wanted_dir
            if data is None:
                storage.sweep(Path(tempfile.gettempdir()))
                data = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix=storage.TEMPORARY_PREFIX)))
            self._lock_fd = storage.take(data, self._held)
            self._data = data

    def _format(self, java: Java, jars: Sequence[Path], cache: Path | None) -> Path | None:
        """Format the data folder; the class cache to go on with, None once it has done harm."""
        options = server.command_options(java, cache)
        try:
            storage.format_storage(java, jars, options, self.data_dir, self._extra)
        except BrokerError:
            if cache is None:
                raise
            storage.format_storage(java, jars, [], self.data_dir, self._extra)
            retire(cache)  # without it, it went well
            return None
        return cache

    def _boot(self, java: Java, jars: Sequence[Path], cache: Path | None) -> None:
        """Start until it serves: once more without the class cache, or on other ports, if that was the trouble."""
        suspect = None
        for attempt in range(ATTEMPTS):
            if not self._port:
                self._port = server.free_port()
            elif not server.is_free(self._port):
                raise _port_taken(self._port)
            if self._run(server.command_options(java, cache), java, jars):
                self._served = True
                if suspect:
                    retire(suspect)
                return
            self._go_on()
            code = self._child.returncode if self._child else None
            self.kill()
            said = server.last_lines(self.log)
            if "Address already in use" in said and attempt + 1 < ATTEMPTS:
                # somebody took one of our ports since we looked; ours is only promised once it has served
                self._port = self._port if self._served else self._wanted_port
            elif code is not None and cache:
                suspect, cache = cache, None  # if it goes well without it, no later start shall have it
            else:
                raise _died(code, said, self._port, self.data_dir)

    def _run(self, options: Sequence[str], java: Java, jars: Sequence[Path]) -> bool:
        """Start the process; True when it serves."""
        configuration = self.data_dir / "server.properties"
        text = server.properties(self.data_dir / "log", self._port, server.free_port(self._port), self._extra)
        configuration.write_text(text, "utf-8")
        self.log.write_bytes(b"")
        self._child = Child(
            server.command(java, jars, options, self.data_dir, "kafka.Kafka", configuration),
            self.log,
            keep_open=[self._lock_fd],
            remove=None if self._wanted_dir else self.data_dir,
        )
        return server.wait_until_serving(self._child, self._port, START_SECONDS, self._stopping.is_set)

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise BrokerError("the embedded Kafka was stopped while it started")


def _port_taken(port: int) -> BrokerError:
    return BrokerError(
        f"port {port} on {server.HOST} is taken: stop what listens there, or choose another one with --port (0: any)"
    )


def _died(code: int | None, said: str, port: int, data: Path) -> BrokerError:
    if "Address already in use" in said:
        return _port_taken(port)
    if code is None:
        text = f"the embedded Kafka did not serve within {START_SECONDS:.0f} s: is the machine overloaded?"
    else:
        text = f"the embedded Kafka died at its start ({f'signal {-code}' if code < 0 else f'code {code}'})"
    if "No space left" in said:
        text += f": make room on the disk of {data}"
    elif any(word in said for word in ("log dir", "Corrupt", "checkpoint", "meta.properties")):
        text += f": its folder {data} seems damaged: move it away and start with a new one"
    return BrokerError(f"{text}. Its last lines:\n{said or '  (none)'}")
