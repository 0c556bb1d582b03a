"""`overdraw pseudonym`: from an id to the name that alerts have for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import click

from stream.cli.common import BadInput, settings_from, settings_options

ROLES = ("key", "org", "user")


@click.command("pseudonym")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--as", "role", type=click.Choice(ROLES), default="key", show_default=True, help="What the ids are of.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@settings_options
def command(ids: tuple[str, ...], role: str, as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Print the pseudonyms of ids, to find the key that an alert is about: of all your ids, look for the alert's.

    Ids are arguments, or lines of standard input. The secret comes from OVERDRAW_PSEUDONYM_KEY or from the file that
    OVERDRAW_PSEUDONYM_KEY_FILE names.

    \b
    Example:
      overdraw pseudonym key-17
      overdraw pseudonym < all-key-ids.txt | grep 7d91-4fucwd3nfcpyg2upws6ntnod
    """
    from stream.alerts import printable
    from stream.gateways import pseudonyms_of

    hidden = pseudonyms_of(settings_from(assignments, config))
    if hidden is None:
        raise BadInput("there is no secret: set OVERDRAW_PSEUDONYM_KEY_FILE (or OVERDRAW_PSEUDONYM_KEY)")
    for text in ids or _lines():
        name = hidden.of(role, text)
        click.echo(json.dumps({"id": text, "pseudonym": name}) if as_json else f"{name}  {printable(text)}")


def _lines() -> Iterable[str]:
    return filter(None, (line.rstrip("\r\n") for line in sys.stdin))
