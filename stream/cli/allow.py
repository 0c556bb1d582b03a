"""`overdraw allow`: how much of a key is fine, whatever the detector thinks of it."""

from __future__ import annotations

import time
from typing import Any

import click

from stream.cli.common import settings_from, settings_options
from stream.cli.operators import (
    end_of,
    message_of,
    remove_rule,
    say,
    scope_of,
    show_held,
    speech_options,
    standing,
    time_options,
    undo_options,
    until_words,
)
from stream.control import Allow


@click.group("allow", help="Allow rules: up to so many tokens an hour are fine.\n\n\b\n  overdraw allow list")
def command() -> None:
    """Hold the subcommands."""


@command.command("add")
@click.option("--key", metavar="ID", help="One key.")
@click.option("--org", metavar="ID", help="Each key of an organisation, by the org_id of its calls.")
@click.option("--pattern", metavar="GLOB", help="Each key whose id fits, such as 'batch-*'.")
@click.option(
    "--tokens-per-hour",
    type=click.IntRange(1, 10**15),
    required=True,
    help="In an hour of the clock, each key by itself.",
)
@time_options
@speech_options
def add(
    key: str | None, org: str | None, pattern: str | None, tokens_per_hour: int, length: str | None, until: str | None,
    **options: Any,
) -> None:  # fmt: skip
    """Allow keys up to so many tokens an hour: no incident opens, and it is learned. Beyond it all is as usual.

    \b
      overdraw allow add --key nightly-batch --tokens-per-hour 5000000 --why "the nightly batch"
    """
    settings = settings_from(options["assignments"], options["config"])
    scope = scope_of(key, org, pattern)
    now = time.time()
    end = end_of(length, until, now)
    message = message_of(
        "allow", options["by"], options["why"], now, scope=scope, tokens_per_hour=tokens_per_hour, until=end
    )
    words = f"allowed: {scope} up to {tokens_per_hour:,} tokens an hour, {until_words(end)}"
    say(settings, message, options["as_json"], words)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One message a line, as JSON.")
@settings_options
def list_(as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Print the allow rules in force.

    \b
      overdraw allow list
    """
    held = standing(settings_from(assignments, config)).at(time.time())
    show_held([one for one in held if isinstance(one, Allow)], as_json, "nothing is allowed")


@command.command("remove")
@click.argument("rule_id", metavar="ID")
@undo_options
def remove(rule_id: str, **options: Any) -> None:
    """Take an allow rule back.

    \b
      overdraw allow remove 3f2a9c01d4e5
    """
    remove_rule(Allow, rule_id, "allow rule", options)
