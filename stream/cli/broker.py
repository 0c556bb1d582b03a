"""`overdraw broker`: embedded Kafka in the foreground."""

from __future__ import annotations

import json
import signal
import threading
from types import FrameType

import click

from stream.broker import KAFKA_VERSION, KAFKA_VERSIONS, BrokerError, EmbeddedCluster, EmbeddedKafka
from stream.cli.common import Unreachable, settings_from, settings_options
from stream.embedded.server import is_free

DEFAULT_PORT = 9092
MOST_NODES = 9
"""Each takes some 250 MB of memory."""
LOOK_SECONDS = 0.3


@click.command(
    "broker",
    help=f"""Run Apache Kafka {KAFKA_VERSION} on this machine until Ctrl-C: no Docker, no root, no installed Java.

\b
  overdraw broker --data ./kafka-data
  overdraw broker --port 0 --json
  overdraw broker --nodes 3 --kafka {KAFKA_VERSIONS[-1]}

Prints `ready HOST:PORT` (with several nodes `ready HOST:PORT,HOST:PORT,…`) when it serves, on loopback only. The first
start of a release downloads 45 MB. Several nodes are one cluster: each is a broker and a controller, topics have up to
three copies. Of three nodes one may be killed: the others go on.""",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port on 127.0.0.1, of further nodes the next ones; 0: any free one. Default: {DEFAULT_PORT}, or any free "
    "one where that is taken.",
)
@click.option(
    "--nodes",
    type=click.IntRange(1, MOST_NODES),
    default=1,
    show_default=True,
    help="How many brokers the cluster has.",
)
@click.option(
    "--kafka",
    "version",
    type=click.Choice(KAFKA_VERSIONS),
    default=KAFKA_VERSION,
    show_default=True,
    help="Release of Apache Kafka.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    help="Folder of the topics, kept over restarts. Default: a temporary one that goes at the end.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the line `ready HOST:PORT`.")
@settings_options
def command(
    port: int | None,
    nodes: int,
    version: str,
    data: str | None,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Boot, say so, wait for a signal or the broker's end, stop."""
    settings = settings_from(assignments, config)
    stopped, serving = threading.Event(), threading.Event()
    if port is None:
        port = DEFAULT_PORT if all(is_free(DEFAULT_PORT + place) for place in range(nodes)) else 0

    def tell(text: str) -> None:
        click.echo(text, err=True)

    kafka = (
        EmbeddedKafka(data, port, settings.data_dir, tell=tell, version=version)
        if nodes == 1
        else EmbeddedCluster(nodes, data, port, settings.data_dir, tell=tell, version=version)
    )

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        if not serving.is_set():
            raise KeyboardInterrupt  # breaks off a download or a slow start as well

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with kafka:
            serving.set()
            _announce(kafka, as_json, temporary=data is None, default_port=port == DEFAULT_PORT)
            _mind(kafka, stopped)
    except KeyboardInterrupt:
        click.echo("stopped before it was ready", err=True)
    except BrokerError as error:
        raise Unreachable(str(error)) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mind(kafka: EmbeddedKafka | EmbeddedCluster, stopped: threading.Event) -> None:
    """Wait to be stopped; raises Unreachable once too few nodes are left to serve."""
    lost: set[int] = set()
    while not stopped.wait(LOOK_SECONDS):
        death = kafka.death()
        if death:
            raise Unreachable(death)
        for node in kafka.nodes:
            if node.pid is None and node.number not in lost:
                lost.add(node.number)
                click.echo(f"node {node.number} at {node.bootstrap} has ended; the others go on", err=True)


def _announce(kafka: EmbeddedKafka | EmbeddedCluster, as_json: bool, *, temporary: bool, default_port: bool) -> None:
    if as_json:
        pids = [node.pid for node in kafka.nodes]
        facts = {"ready": kafka.bootstrap, "pids": pids, "data": str(kafka.data_dir), "kafka": kafka.version}
        click.echo(json.dumps({"pid": pids[0], **facts} if len(pids) == 1 else facts))
    else:
        click.echo(f"ready {kafka.bootstrap}")
    click.get_text_stream("stdout").flush()
    if not default_port or len(kafka.nodes) > 1:
        click.echo(f"use it with: export OVERDRAW_BROKER={kafka.bootstrap}", err=True)
    if temporary:
        click.echo("its topics are in a temporary folder and go at the end; keep them with --data DIR", err=True)
