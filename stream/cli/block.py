"""`overdraw block` and `overdraw unblock`: which keys the gateway refuses, so that the detector knows."""

from __future__ import annotations

import time
from typing import Any

import click

from stream.alerts import printable
from stream.cli.common import settings_from
from stream.cli.operators import end_of, message_of, say, speech_options, time_options, undo_options, until_words


@click.command("block")
@click.argument("key_id")
@time_options
@speech_options
def block(key_id: str, length: str | None, until: str | None, **options: Any) -> None:
    """Record that a key is blocked. The gateway is what refuses it: this tells the detector, and whoever acts on it.

    A key may be blocked before its first call, such as one that has leaked: a note says so if nothing was seen of it.

    \b
      overdraw block key-042 --for 2h --why "drained, owner not reached"
    """
    settings = settings_from(options["assignments"], options["config"])
    now = time.time()
    end = end_of(length, until, now)
    message = message_of("block", options["by"], options["why"], now, key_id=key_id, until=end)
    say(settings, message, options["as_json"], f"blocked: key {printable(key_id)} {until_words(end)}")


@click.command("unblock")
@click.argument("key_id")
@undo_options
def unblock(key_id: str, **options: Any) -> None:
    """Record that a key is no longer blocked.

    \b
      overdraw unblock key-042
    """
    settings = settings_from(options["assignments"], options["config"])
    message = message_of("unblock", options["by"], options["why"], time.time(), key_id=key_id)
    say(settings, message, options["as_json"], f"no longer blocked: key {printable(key_id)}")
