"""`overdraw maintenance`: planned events, during which nobody is paged and nothing is learned."""

from __future__ import annotations

import time
from typing import Any

import click

from stream.alerts import rfc3339
from stream.cli.common import BadInput, settings_from, settings_options
from stream.cli.operators import (
    end_of,
    message_of,
    remove_rule,
    say,
    scope_of,
    show_held,
    speech_options,
    standing,
    time_of,
    time_options,
    undo_options,
)
from stream.control import Maintenance


@click.group(
    "maintenance",
    help="Planned events: alerts are info, nobody is paged, nothing is learned.\n\n\b\n  overdraw maintenance list",
)
def command() -> None:
    """Hold the subcommands."""


@command.command("add")
@click.option("--key", metavar="ID", help="One key.")
@click.option("--org", metavar="ID", help="All keys of an organisation, by the org_id of their calls.")
@click.option("--pattern", metavar="GLOB", help="All keys whose ids fit, such as 'batch-*'.")
@click.option("--all", "everything", is_flag=True, help="All keys.")
@click.option("--from", "begin", metavar="TIME", help="When it begins, in event time. Default: now.")
@time_options
@speech_options
def add(
    key: str | None, org: str | None, pattern: str | None, everything: bool, begin: str | None, length: str | None,
    until: str | None, **options: Any,
) -> None:  # fmt: skip
    """Announce a planned event. It counts from the next bucket boundary on, at the earliest.

    \b
      overdraw maintenance add --org acme --from 2026-03-01T08:00Z --for 6h --why "migration"
      overdraw maintenance add --all --for 2h --why "gateway upgrade"
    """
    settings = settings_from(options["assignments"], options["config"])
    scope = scope_of(key, org, pattern, everything)
    now = time.time()
    start = now if begin is None else time_of(begin)
    end = end_of(length, until, start)
    if end is None:
        raise BadInput("say when the event ends: --for 6h, or --until TIME")
    if end <= now:
        # not refused: it is event time, and a backlog may still bring calls from then
        text = f"Warning: this is over since {rfc3339(end)}: it counts only where calls from then are yet to be read"
        click.echo(text, err=True)
    message = message_of("maintenance", options["by"], options["why"], now, scope=scope, begin=start, until=end)
    say(settings, message, options["as_json"], f"planned: {scope} from {rfc3339(start)} until {rfc3339(end)}")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One message a line, as JSON.")
@settings_options
def list_(as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Print the planned events that are not over.

    \b
      overdraw maintenance list
    """
    held = standing(settings_from(assignments, config)).at(time.time())
    show_held([one for one in held if isinstance(one, Maintenance)], as_json, "no event is planned")


@command.command("remove")
@click.argument("rule_id", metavar="ID")
@undo_options
def remove(rule_id: str, **options: Any) -> None:
    """End a planned event early, or take it back.

    \b
      overdraw maintenance remove 3f2a9c01d4e5
    """
    remove_rule(Maintenance, rule_id, "planned event", options)
