"""Embedded Kafka: the real Apache Kafka in KRaft mode as child processes, without Docker, root or an installed Java.

For demos, tests and a first look; a production cluster is somebody else's. It listens on loopback only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from stream.embedded.cluster import Nodes
from stream.embedded.errors import BrokerError
from stream.embedded.jars import KAFKA_VERSION, KAFKA_VERSIONS
from stream.embedded.node import Node
from stream.embedded.security import Security

__all__ = ["KAFKA_VERSION", "KAFKA_VERSIONS", "BrokerError", "EmbeddedCluster", "EmbeddedKafka", "Node", "Security"]


class EmbeddedKafka(Nodes):
    """One Kafka broker as a child process that never outlives this one. All calls block; use threads from asyncio.

    data_dir: folder of the topics, formatted once and kept; None: a temporary one that goes with `close`
    port: port on 127.0.0.1; 0: a free one, kept over restarts of this object
    cache_dir: folder of the jars and the class cache, shared by all; None: the setting `data_dir`
    extra_properties: further lines of `server.properties`
    tell: takes lines of progress (a first download takes a while)
    version: a release of KAFKA_VERSIONS
    security: TLS, passwords and access rules, for tests; `listeners` then holds `host:port` by protocol

    `stop`, `kill` and `start` keep data and port; `close`, or the end of the `with` block, gives everything back.
    Everything in it is replicated once. Raises BrokerError, whose message says what to do.

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
        version: str = KAFKA_VERSION,
        security: Security | None = None,
    ) -> None:
        super().__init__([port], data_dir, cache_dir, extra_properties, tell, version, security)

    @property
    def listeners(self) -> dict[str, str]:
        """`host:port` by protocol; known from the first start on."""
        return self.nodes[0].listeners

    @property
    def pid(self) -> int | None:
        """The broker's process id; None while it does not run."""
        return self.nodes[0].pid

    @property
    def log(self) -> Path:
        """What the broker of the last start said."""
        return self.nodes[0].log

    def _folders(self, data: Path) -> list[Path]:
        return [data]


class EmbeddedCluster(Nodes):
    """Several Kafka brokers, each a controller of the quorum as well. All calls block; use threads from asyncio.

    nodes: how many; with three and more, topics have three copies by default, two of which must be in step, so that
        one node may be missing; with one or two none may
    data_dir: folder of the nodes' folders, formatted once and kept; None: a temporary one that goes with `close`
    port: port of the first node on 127.0.0.1, the others' ports follow it; 0: free ones, kept over restarts

    For the rest, see EmbeddedKafka. After a node's SIGKILL the others go on within some 5 s, which is its session.

        with EmbeddedCluster() as cluster:
            cluster.nodes[1].kill()
            producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all")
    """

    def __init__(
        self,
        nodes: int = 3,
        data_dir: str | Path | None = None,
        port: int = 0,
        cache_dir: str | Path | None = None,
        extra_properties: Mapping[str, str] | None = None,
        tell: Callable[[str], None] | None = None,
        version: str = KAFKA_VERSION,
    ) -> None:
        ports = [port + place if port else 0 for place in range(nodes)]
        super().__init__(ports, data_dir, cache_dir, extra_properties, tell, version)
