"""`overdraw alerts ack|mute|unmute|feedback`: what operators say of incidents."""

from __future__ import annotations

import time
from typing import Any, get_args

import click

from stream.alerts import Entity, EntityType, printable
from stream.cli.common import BadInput, settings_from
from stream.cli.operators import (
    alert_of,
    end_of,
    message_of,
    require_held,
    say,
    speech_options,
    time_options,
    undo_options,
    until_words,
)
from stream.control import Unmute, Verdict

type_option = click.option(
    "--type", "kind", type=click.Choice(get_args(EntityType)), default="key", show_default=True,
    help="What the id is of, as in the alert's entity. Muting an org mutes its keys too.",
)  # fmt: skip

MOST_ID = 256
"""Characters of the id of a key or an organisation: a longer one is a slip of the hand."""


@click.command("ack")
@click.argument("alert_id")
@speech_options
def ack(alert_id: str, **options: Any) -> None:
    """Say that somebody is at an incident: notifiers repeat it no more, unless it gets worse.

    \b
      overdraw alerts ack 8d0254295b2f2b0ef765e512efe32f4e --why "asking the owner"
    """
    settings = settings_from(options["assignments"], options["config"])
    alert = alert_of(settings, alert_id)
    if alert.status == "resolved":
        raise BadInput("the incident is over: there is nothing to be at")
    message = message_of(
        "acknowledge", options["by"], options["why"], time.time(), alert_id=alert_id, entity=alert.entity,
        severity=alert.severity,
    )  # fmt: skip
    words = (
        f"acknowledged: {alert.entity.type} {printable(alert.entity.id)}, unless it gets worse than {alert.severity}"
    )
    say(settings, message, options["as_json"], words)


@click.command("mute")
@click.argument("entity_id", metavar="ID")
@type_option
@time_options
@speech_options
def mute(entity_id: str, kind: EntityType, length: str | None, until: str | None, **options: Any) -> None:
    """Let notifiers say nothing of a key (or org, network, …) for a time; detection goes on.

    \b
      overdraw alerts mute key-042 --for 4h --why "load test of the billing team"
    """
    settings = settings_from(options["assignments"], options["config"])
    now = time.time()
    end = end_of(length, until, now)
    if end is None:
        raise BadInput("say when the mute ends: --for 4h, or --until TIME")
    if not 0 < len(entity_id) <= MOST_ID and kind in ("key", "org"):
        raise BadInput(f"no {kind} is called that: an id has 1 to {MOST_ID} characters, and this one {len(entity_id)}")
    message = message_of("mute", options["by"], options["why"], now, entity={"type": kind, "id": entity_id}, until=end)
    say(settings, message, options["as_json"], f"muted: {kind} {printable(entity_id)} {until_words(end)}")


@click.command("unmute")
@click.argument("entity_id", metavar="ID")
@type_option
@undo_options
def unmute(entity_id: str, kind: EntityType, **options: Any) -> None:
    """End a mute.

    \b
      overdraw alerts unmute key-042
    """
    settings = settings_from(options["assignments"], options["config"])
    entity = Entity(type=kind, id=entity_id)
    message = message_of("unmute", options["by"], options["why"], time.time(), entity=entity)
    assert isinstance(message, Unmute)
    require_held(settings, message, f"{kind} {printable(entity_id)} is not muted")
    say(settings, message, options["as_json"], f"no longer muted: {kind} {printable(entity_id)}")


@click.command("feedback")
@click.argument("alert_id")
@click.argument("verdict", type=click.Choice(get_args(Verdict)))
@speech_options
def feedback(alert_id: str, verdict: Verdict, **options: Any) -> None:
    """Say what an incident of a key was; the detector follows at the next bucket boundary.

    expected: it ends, and its level is learned as the new normal. wrong: the key's bar rises by 0.3 decades, by 1 at
    most, half of which is gone after 30 days. right: the bar is the usual one again.

    \b
      overdraw alerts feedback 8d0254295b2f2b0ef765e512efe32f4e expected --why "the new product went live"
    """
    settings = settings_from(options["assignments"], options["config"])
    alert = alert_of(settings, alert_id)
    if alert.entity.type != "key":
        raise BadInput(f"the incident is about {alert.entity.type} {printable(alert.entity.id)}: only keys learn")
    if verdict == "expected" and alert.status == "resolved":
        click.echo(
            "the incident is over, so nothing is learned of it; `overdraw allow add` lets the next one pass", err=True
        )
    message = message_of(
        "feedback", options["by"], options["why"], time.time(), alert_id=alert_id, key_id=alert.entity.id,
        verdict=verdict,
    )  # fmt: skip
    words = f"{verdict}: the incident of key {printable(alert.entity.id)}; it counts from the next bucket on"
    say(settings, message, options["as_json"], words)
