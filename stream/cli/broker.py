"""`overdraw broker`: embedded Kafka in the foreground."""

from __future__ import annotations

import json
import signal
import threading
from types import FrameType

import click

from stream.broker import KAFKA_VERSION, BrokerError, EmbeddedKafka
from stream.cli.common import Unreachable, settings_from, settings_options
from stream.embedded.server import is_free

DEFAULT_PORT = 9092
LOOK_SECONDS = 0.3


@click.command(
    "broker",
    help=f"""Run Apache Kafka {KAFKA_VERSION} on this machine until Ctrl-C: no Docker, no root, no installed Java.

\b
  overdraw broker --data ./kafka-data
  overdraw broker --port 0 --json

Prints `ready HOST:PORT` when it serves, on loopback only. The first start downloads 45 MB.""",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port on 127.0.0.1; 0: any free one. Default: {DEFAULT_PORT}, or any free one where that is taken.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    help="Folder of the topics, kept over restarts. Default: a temporary one that goes at the end.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the line `ready HOST:PORT`.")
@settings_options
def command(
    port: int | None, data: str | None, as_json: bool, assignments: tuple[str, ...], config: str | None
) -> None:
    """Boot, say so, wait for a signal or the broker's end, stop."""
    settings = settings_from(assignments, config)
    stopped, serving = threading.Event(), threading.Event()
    chosen = port if port is not None else DEFAULT_PORT if is_free(DEFAULT_PORT) else 0
    kafka = EmbeddedKafka(data, chosen, settings.data_dir, tell=lambda text: click.echo(text, err=True))

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        if not serving.is_set():
            raise KeyboardInterrupt  # breaks off a download or a slow start as well

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with kafka:
            serving.set()
            _announce(kafka, as_json, temporary=data is None, default_port=chosen == DEFAULT_PORT)
            while not stopped.wait(LOOK_SECONDS):
                death = kafka.death()
                if death:
                    raise Unreachable(death)
    except KeyboardInterrupt:
        click.echo("stopped before it was ready", err=True)
    except BrokerError as error:
        raise Unreachable(str(error)) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(kafka: EmbeddedKafka, as_json: bool, *, temporary: bool, default_port: bool) -> None:
    if as_json:
        facts = {"ready": kafka.bootstrap, "pid": kafka.pid, "data": str(kafka.data_dir), "kafka": KAFKA_VERSION}
        click.echo(json.dumps(facts))
    else:
        click.echo(f"ready {kafka.bootstrap}")
    click.get_text_stream("stdout").flush()
    if not default_port:
        click.echo(f"use it with: export OVERDRAW_BROKER={kafka.bootstrap}", err=True)
    if temporary:
        click.echo("its topics are in a temporary folder and go at the end; keep them with --data DIR", err=True)
