"""`overdraw state`: what the state topic holds, read without a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from stream.alerts import printable, rfc3339
from stream.cli.common import BadInput, settings_from, settings_options

if TYPE_CHECKING:
    from stream.core.view import KeyView
    from stream.settings import Settings

LINE = "{:<40} {:>14} {:>18} {:>18} {:<24} {:<24} {}"


@click.group("state", help="Look into the state topic, without a worker.\n\n\b\n  overdraw state dump --json")
def command() -> None:
    """Hold the subcommands."""


@command.command("dump")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@settings_options
def dump(as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Print one line per key: its exact lifetime sums and its open incidents.

    \b
      overdraw state dump
      overdraw state dump --json | jq -s 'map(.calls) | add'

    Only what is committed is read; a worker may run meanwhile, and is then half a second ahead of it.
    """
    settings = settings_from(assignments, config)
    asyncio.run(_dump(settings, as_json))


async def _dump(settings: Settings, as_json: bool) -> None:
    from stream.core.state import StateError

    heads = ("key_id", "calls", "input_tokens", "output_tokens", "first_seen", "last_seen", "open_incidents")
    told = as_json
    try:
        async for view in _views(settings):
            if not told:  # a head above an error says nothing
                told = True
                click.echo(LINE.format(*heads).rstrip())
            click.echo(_json(view) if as_json else _line(view))
    except StateError as error:
        raise BadInput(str(error)) from error
    if not told:
        click.echo("no key so far")


async def _views(settings: Settings) -> AsyncIterator[KeyView]:
    from stream.cli.kafka import partitions_of, reachable
    from stream.core.state import summaries
    from stream.worker.recovery import read_state

    async with reachable(settings):
        count = await partitions_of(settings, settings.state_topic)
        for partition in range(count):
            state = await read_state(settings, partition, stable=True)
            for view in summaries(state.states.items()):
                yield view


def _json(view: KeyView) -> str:
    content = {
        "key_id": view.key_id,
        "calls": view.calls,
        "input_tokens": view.input_tokens,
        "output_tokens": view.output_tokens,
        "first_seen": rfc3339(view.first_seen),
        "last_seen": rfc3339(view.last_seen),
        "open_incidents": view.open_incidents,
    }
    return json.dumps(content)


def _line(view: KeyView) -> str:
    return LINE.format(
        printable(view.key_id, 40),
        view.calls,
        view.input_tokens,
        view.output_tokens,
        rfc3339(view.first_seen),
        rfc3339(view.last_seen),
        ",".join(view.open_incidents),
    ).rstrip()
