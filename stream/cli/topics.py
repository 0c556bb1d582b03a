"""`overdraw topics create|check`: the detector's topics."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stream.cli.common import FOUND, Unreachable, settings_from, settings_options

if TYPE_CHECKING:
    from stream.settings import Settings
    from stream.worker.topics import Problem


def quiet_client() -> None:
    """Keep aiokafka's own log lines off the terminal: our errors say the same, and what to do."""
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())


@click.group("topics")
def command() -> None:
    """Make the detector's topics, or say what is wrong with them.

    \b
    Example:
      overdraw topics create --set partitions=16
      overdraw topics check --json
    """


@command.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: created, existing, problems.")
@settings_options
def create(as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Make the topics that are missing; those that are there are checked, and left alone.

    \b
    Example:
      overdraw topics create --set broker=kafka:9092 --set replication=3
    """
    from stream.worker.topics import BrokerUnreachable, TopicError, check_topics, create_topics, every_topic

    settings = settings_from(assignments, config)
    quiet_client()

    async def run() -> tuple[list[str], list[Problem]]:
        return await create_topics(settings), await check_topics(settings, wanted=every_topic(settings))

    try:
        made, problems = asyncio.run(run())
    except BrokerUnreachable as error:
        raise Unreachable(str(error)) from error
    except TopicError as error:
        raise click.ClickException(str(error)) from error
    partitions = {topic.name: topic.partitions for topic in every_topic(settings)}
    kept = [name for name in partitions if name not in made]
    if as_json:
        report = {"created": made, "existing": kept, "problems": [asdict(problem) for problem in problems]}
        click.echo(json.dumps(report))
    else:
        for name in made:
            count = partitions[name]
            click.echo(f"created  {name} ({count} partition{'s' if count > 1 else ''})")
        for name in kept:
            click.echo(f"existing {name}")
        _show(problems)
    if problems:
        raise click.exceptions.Exit(FOUND)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: problems.")
@settings_options
def check(as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Say what is wrong with the topics, and how to mend it; exit 1 if anything is.

    \b
    Example:
      overdraw topics check --set partitions=16
    """
    from stream.worker.topics import BrokerUnreachable, check_topics, every_topic

    settings = settings_from(assignments, config)
    quiet_client()
    try:
        problems = asyncio.run(check_topics(settings, wanted=every_topic(settings)))
    except BrokerUnreachable as error:
        raise Unreachable(str(error)) from error
    if as_json:
        click.echo(json.dumps({"problems": [asdict(problem) for problem in problems]}))
    elif problems:
        _show(problems)
    else:
        click.echo(f"ok       all topics are there, with {_partitions(settings)}")
    if problems:
        raise click.exceptions.Exit(FOUND)


def _partitions(settings: Settings) -> str:
    count = f"{settings.partitions} partition{'s' if settings.partitions > 1 else ''} each"
    exceptions = f"{settings.control_topic} and those of groups have one"
    if settings.response_file is not None:
        exceptions = f"{settings.control_topic}, those of groups and of the responder have one"
    if settings.intake_topic is not None:
        exceptions += ", the intake topic may have any number"
    return f"{count} ({exceptions})"


def _show(problems: list[Problem]) -> None:
    for problem in problems:
        click.echo(f"problem  {problem}")
