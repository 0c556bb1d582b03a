"""`overdraw state`: what the state topic holds, read without a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from stream.alerts import printable, rfc3339
from stream.cli.common import BadInput, settings_from, settings_options

if TYPE_CHECKING:
    from stream.core.groupview import GroupView
    from stream.core.view import KeyView
    from stream.settings import Settings

GROUP_LINE = "{:<12} {:<40} {:>8} {:>14} {:>14} {:>14} {:<24} {:<24} {}"
LINE = "{:<40} {:>14} {:>18} {:>18} {:<24} {:<24} {}"


@click.group("state", help="Look into the state topic, without a worker.\n\n\b\n  overdraw state dump --json")
def command() -> None:
    """Hold the subcommands."""


@command.command("dump")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--groups", is_flag=True, help="The groups of keys instead: members, rates of about a day, campaigns.")
@settings_options
def dump(as_json: bool, groups: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Print one line per key: its exact lifetime sums and its open incidents.

    \b
      overdraw state dump
      overdraw state dump --groups
      overdraw state dump --json | jq -s 'map(.calls) | add'

    Only what is committed is read; a worker may run meanwhile, and is then half a second ahead of it.
    """
    settings = settings_from(assignments, config)
    asyncio.run(_dump_groups(settings, as_json) if groups else _dump(settings, as_json))


async def _dump(settings: Settings, as_json: bool) -> None:
    heads = ("key_id", "calls", "input_tokens", "output_tokens", "first_seen", "last_seen", "open_incidents")
    async with aclosing(_views(settings)) as views:  # whoever reads may go, as head does
        lines = (_json(view) if as_json else _line(view) async for view in views)
        await _print(lines, None if as_json else LINE.format(*heads).rstrip(), "no key so far")


async def _dump_groups(settings: Settings, as_json: bool) -> None:
    heads = (
        "type", "id", "members", "tokens/s", "expected/s", "excess_tokens", "first_seen", "last_seen", "campaign",
    )  # fmt: skip
    async with aclosing(_group_views(settings)) as views:
        lines = (_group_json(view) if as_json else _group_line(view) async for view in views)
        await _print(lines, None if as_json else GROUP_LINE.format(*heads).rstrip(), "no group so far")


async def _print(lines: AsyncIterator[str], head: str | None, none: str) -> None:
    """Print lines below a head, or that there are none; without a head nothing but the lines."""
    from stream.core.state import StateError

    told = head is None
    try:
        async for line in lines:
            if not told:  # a head above an error says nothing
                told = True
                click.echo(head)
            click.echo(line)
    except StateError as error:
        raise BadInput(str(error)) from error
    if not told:
        click.echo(none)


async def _group_views(settings: Settings) -> AsyncGenerator[GroupView]:
    from stream.cli.kafka import partitions_of, reachable
    from stream.core.groupview import group_summaries
    from stream.worker.recovery import read_state

    async with reachable(settings):
        await partitions_of(settings, settings.group_state_topic)
        own = settings.model_copy(update={"state_topic": settings.group_state_topic})
        state = await read_state(own, 0, stable=True)
        for view in group_summaries(state.states.items()):
            yield view


def _group_json(view: GroupView) -> str:
    from dataclasses import asdict

    return json.dumps({**asdict(view), "first_seen": rfc3339(view.first_seen), "last_seen": rfc3339(view.last_seen)})


def _group_line(view: GroupView) -> str:
    return GROUP_LINE.format(
        view.type,
        printable(view.id, 40),
        view.members,
        f"{view.tokens_per_second:.1f}",
        f"{view.expected_tokens_per_second:.1f}",
        round(view.excess_tokens),
        rfc3339(view.first_seen),
        rfc3339(view.last_seen),
        view.campaign or "",
    ).rstrip()


async def _views(settings: Settings) -> AsyncGenerator[KeyView]:
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
