"""`overdraw simulate`: made-up traffic with labelled attacks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.cli.common import BadInput, FiniteRange, Unreachable, settings_from, settings_options
from stream.cli.output import keep_apart

if TYPE_CHECKING:
    from stream.lab.simulate import Simulation
    from stream.settings import Settings


@click.command()
@click.option("--scenario", default="mixed", show_default=True, metavar="NAME", help="Which attacks; --list tells.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--keys", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="API keys.")
@click.option("--days", type=FiniteRange(0, 3650, min_open=True), default=14.0, show_default=True)
@click.option(
    "--rate",
    type=FiniteRange(0, 1e6, min_open=True),
    default=1.0,
    show_default=True,
    help="Mean calls per second of all keys together; 1 makes 86,400 calls a day.",
)
@click.option(
    "--start",
    metavar="TIME",
    help="First moment, such as 2026-01-05T00:00:00Z, or now; else that one, and for kafka DAYS before now.",
)
@click.option("--to", "target", metavar="FILE|kafka", help="A .jsonl file, packed if it ends in .gz; - is stdout.")
@click.option("--labels", metavar="FILE", help="Where the labels go; else labels.jsonl beside FILE, or here.")
@click.option("--speed", type=FiniteRange(0), help="kafka: event seconds per second; 0: as fast as it goes.")
@click.option("--list", "list_scenarios", is_flag=True, help="List the scenarios and stop.")
@settings_options
def command(
    scenario: str,
    seed: int,
    keys: int,
    days: float,
    rate: float,
    start: str | None,
    target: str | None,
    labels: str | None,
    speed: float | None,
    list_scenarios: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Make the traffic of a gateway, after the figures of real traces, with attacks in it and their labels apart.

    The calls are in time order and say nothing of the attacks; labels.jsonl has a line for each attacked key: key_id,
    family, start, end, attack_tokens, intensity, mimic. With kafka the calls go into the source topic.

    \b
    Example:
      overdraw simulate --scenario surge --days 10 --to calls.jsonl.gz
      overdraw simulate --to - | overdraw replay -
      overdraw simulate --to kafka --labels labels.jsonl --start now --speed 1
    """
    from stream.lab.files import InputError, format_of
    from stream.lab.simulate import simulate
    from stream.lab.simulate_output import write_calls, write_labels

    if list_scenarios:
        return _list()
    if target is None:
        raise click.UsageError("say where to: --to FILE, --to - or --to kafka")
    if speed is not None and target != "kafka":
        raise click.UsageError("--speed is for --to kafka: a file has no pace")
    if format_of(target) == "csv":
        raise click.UsageError(f"{target}: replay would read it as a table, and calls are JSON lines: name it .jsonl")
    if labels == "-":
        raise click.UsageError("--labels needs the name of a file: standard output has the calls")
    begin = _start(start, days, live=target == "kafka")
    # kafka and stdout have no folder: then it is the working one, as Path("kafka").parent says
    labels_path = Path(labels) if labels else Path(target).parent / "labels.jsonl"
    if labels is None and labels_path == Path(target):
        raise click.UsageError(f"{target} would be the calls and the labels: say --labels FILE")
    to_file = None if target in ("-", "kafka") else target
    keep_apart("--to", to_file, [config])
    keep_apart("--labels", str(labels_path), [to_file, config])
    try:
        run = simulate(scenario, seed=seed, keys=keys, days=days, rate=rate, start=begin)
    except InputError as error:
        raise BadInput(str(error)) from error
    if run.end > time.time() + (days * 86_400 / speed if speed else 0) + 1:
        click.echo("Warning: the run ends in the future; what lies there is refused: say an earlier --start", err=True)
    try:
        if target == "kafka":
            count = _produce(run, settings_from(assignments, config), speed or 0.0)
        else:
            count = _writing(target, lambda: write_calls(run, target))
    except (KeyboardInterrupt, Unreachable):
        # a live run ends by Ctrl-C: what has been sent must not stay without its labels
        _writing(str(labels_path), lambda: write_labels(run, labels_path))
        raise
    _writing(str(labels_path), lambda: write_labels(run, labels_path))
    attacked = len(run.labels)
    click.echo(f"{count:,} calls of {keys:,} keys to {target}, {attacked} attacked: {labels_path}", err=True)


def _list() -> None:
    from stream.lab.scenarios import scenarios

    for name, chosen in scenarios().items():
        click.echo(f"{name:<23}{chosen.summary}")


def _start(text: str | None, days: float, *, live: bool) -> float:
    from pydantic_core import PydanticCustomError

    from stream.events import epoch_seconds
    from stream.lab.simulate import DEFAULT_START

    if text == "now":
        return float(int(time.time()))
    if text is None:
        # a broker's log is about now: what is ahead of the clock would be refused
        return float(int(time.time() - days * 86_400)) if live else DEFAULT_START
    try:
        return epoch_seconds(float(text) if text.replace(".", "", 1).isdigit() else text)
    except PydanticCustomError as error:
        raise BadInput(f"--start {text}: {error.message()}") from error


def _writing(name: str, write: Callable[[], int]) -> int:
    try:
        return write()
    except OSError as error:
        if isinstance(error, BrokenPipeError) or name == "-":  # of standard output the front door tells
            raise
        raise BadInput(f"cannot write {name}: {error.strerror or error}") from error


def _produce(run: Simulation, settings: Settings, speed: float) -> int:
    from stream.lab.produce import ProduceError, Timed, produce
    from stream.lab.simulate_output import records

    def windows() -> Iterator[list[Timed]]:
        for hour in run:
            yield records(hour)

    try:
        return asyncio.run(produce(settings, windows(), speed=speed))
    except ProduceError as error:
        raise Unreachable(str(error)) from error
