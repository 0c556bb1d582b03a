"""`overdraw chaos`: what breaks, and what is left."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from stream.cli.common import FOUND, BadInput, Unreachable, run_stoppable

if TYPE_CHECKING:
    from stream.lab.chaos.run import Row


@click.command()
@click.argument("names", nargs=-1, metavar="[EXPERIMENT]...")
@click.option(
    "--kafka", "versions", multiple=True, metavar="VERSION", help="Kafka release, or `all`; the newest if not given."
)
@click.option("--short", is_flag=True, help="Fewer kills and shorter outages: a few minutes in all.")
@click.option("--seed", type=int, default=3, show_default=True, help="Of the traffic and the moments of the kills.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line and experiment.")
@click.option("--list", "only_list", is_flag=True, help="Only name the experiments.")
def command(
    names: tuple[str, ...], versions: tuple[str, ...], short: bool, seed: int, as_json: bool, only_list: bool
) -> None:
    """Break things under real workers on a real Kafka, and compare what is left with an undisturbed run.

    An embedded Kafka, workers as processes, and a gateway that goes on sending: workers and brokers are killed,
    stopped, filled up and restarted. Then the sums of every key, every step of every incident and every dead letter
    are compared with what was sent and with the pure core's judgement of the same log. All experiments take some
    twenty minutes a Kafka release; everything is on loopback and gone at the end.

    \b
    Example:
      overdraw chaos --short
      overdraw chaos kills broker-gone
      overdraw chaos --kafka all --json

    Exit: 0 all exact, 1 something was not, 2 an unknown experiment, 3 no Kafka could be started.
    """
    from stream.lab.chaos.experiments import EXPERIMENTS

    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        raise BadInput(f"unknown experiment {unknown[0]!r}: known are {', '.join(EXPERIMENTS)}")
    if only_list:
        for name, experiment in EXPERIMENTS.items():
            click.echo(f"{name:<18} {experiment.summary}")
        return
    from stream.broker import KAFKA_VERSION, KAFKA_VERSIONS, BrokerError
    from stream.lab.chaos.run import exact, run_all
    from stream.lab.chaos.table import table

    chosen = KAFKA_VERSIONS if "all" in versions else versions or (KAFKA_VERSION,)
    strange = [version for version in chosen if version not in KAFKA_VERSIONS]
    if strange:
        raise BadInput(f"there is no Kafka {strange[0]!r} here: choose {' or '.join(KAFKA_VERSIONS)}, or all")

    def show(row: Row) -> None:
        if as_json:
            click.echo(json.dumps(row.as_json()))

    def tell(line: str) -> None:
        click.echo(f"… {line}", err=True)

    run = run_all(names or tuple(EXPERIMENTS), chosen, short=short, seed=seed, tell=tell, show=show)
    try:
        rows = run_stoppable(run)
    except BrokerError as error:
        raise Unreachable(str(error)) from error
    if not as_json:
        click.echo(table(rows))
    for row in rows:
        for fault in row.faults:
            click.echo(f"{row.name} on Kafka {row.kafka}: {fault}", err=True)
    sys.stdout.flush()
    if not exact(rows):
        raise click.exceptions.Exit(FOUND)
