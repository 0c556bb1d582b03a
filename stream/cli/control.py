"""`overdraw control`: what operators have said, and what of it holds."""

from __future__ import annotations

import time

import click

from stream.alerts import printable_json
from stream.cli.common import settings_from, settings_options
from stream.cli.operators import hear, show_held, shown, shown_json, standing, time_of


@click.group("control", help="What operators have said: the trail, and what holds.\n\n\b\n  overdraw control log")
def command() -> None:
    """Hold the subcommands."""


@command.command("log")
@click.option("--since", metavar="TIME", help="Only what was written from this time on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: offset, written_at, message.")
@settings_options
def log(since: str | None, as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Print all that was ever said: when, who, what, why; and what could not be followed.

    \b
      overdraw control log
      overdraw control log --since 2026-03-01T00:00Z --json
    """
    first = float("-inf") if since is None else time_of(since)
    found = [said for said in hear(settings_from(assignments, config)) if said.at >= first]
    for said in found:
        click.echo(printable_json(shown_json(said)) if as_json else shown(said))
    if not found and not as_json:
        click.echo("nothing was said")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One message a line, as JSON.")
@settings_options
def list_(as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Print what holds now: mutes, planned events, allow rules, blocked keys.

    \b
      overdraw control list
    """
    show_held(standing(settings_from(assignments, config)).at(time.time()), as_json, "nothing holds")
