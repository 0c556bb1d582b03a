"""`overdraw notify test|show`: look at notifiers before somebody needs them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from stream.alerts import (
    Alert,
    Baseline,
    ChannelScore,
    DataQuality,
    Entity,
    Window,
    alert_id_of,
    fingerprint_of,
    printable,
    rfc3339,
)
from stream.cli.common import BadInput, Unreachable, settings_from, settings_options

if TYPE_CHECKING:
    from stream.notify.client import Answer
    from stream.notify.config import NotifyConfig, Secrets
    from stream.notify.hold import Held
    from stream.notify.tally import Act
    from stream.settings import Settings

MOST_TEXT = 200
"""Characters of a summary where it is not the message itself."""


@click.group("notify")
def command() -> None:
    """Try notifiers, and see who would be told what.

    \b
    Example:
      overdraw notify test oncall --set notify_file=notify.toml
      overdraw notify show alerts.jsonl --set notify_file=notify.toml
    """


def notify_config(settings: Settings) -> NotifyConfig:
    """The notify file of these settings. Raises BadInput if there is none or it cannot be used."""
    from stream.notify.config import NotifyFileError, read_notify_file

    if settings.notify_file is None:
        raise BadInput("there is no notify file: set notify_file (OVERDRAW_NOTIFY_FILE); the README shows one")
    try:
        return read_notify_file(settings.notify_file)
    except NotifyFileError as error:
        raise BadInput(str(error)) from None


def secrets_by_name(config: NotifyConfig, names: Iterable[str]) -> dict[str, Secrets]:
    """The secrets of these notifiers, read now. Raises BadInput."""
    from stream.notify.config import NotifyFileError, secrets_of

    try:
        return {name: secrets_of(config, name) for name in names}
    except NotifyFileError as error:
        raise BadInput(str(error)) from None


def marked_alert(now: float) -> Alert:
    """An alert that says that it is a test, about a key that does not exist."""
    entity = Entity(type="key", id=f"overdraw-test-{int(now)}")
    start = now - 600
    return Alert(
        alert_id=alert_id_of(entity, start),
        fingerprint=fingerprint_of(entity),
        sequence=0,
        status="opened",
        severity="info",
        severity_reason="this is a test",
        kind="surge",
        entity=entity,
        started_at=start,
        detected_at=now,
        updated_at=now,
        window=Window(start=start, end=now, horizon_seconds=600),
        observed=50_000,
        expected=1_000,
        upper=5_000,
        ratio=50.0,
        z=9.9,
        score=0.999,
        false_alarm_probability=0.001,
        excess_tokens=49_000,
        excess_output_tokens=20_000,
        excess_per_hour=294_000,
        channels=[ChannelScore(name="surge", z=9.9)],
        baseline=Baseline(age_seconds=0, active_days=0, maturity=0, learning=0),
        data_quality=DataQuality(missing_usage=0, late=0, duplicates=0, lag_seconds=0),
        summary="TEST of Overdraw's notifiers: nothing has happened, and it is resolved at once",
        suggested_action="Nothing: this is a test.",
        config_digest="test",
    )


@command.command("test")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: what came back of each message.")
@settings_options
def test(name: str, as_json: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Send a marked test message, opened and at once resolved, and say what came back; its severity is info.

    \b
    Example:
      overdraw notify test oncall

    Exit: 0 both were taken, 2 wrong settings or notify file, 3 one was not taken.
    """
    settings = settings_from(assignments, config)
    chosen = notify_config(settings)
    if name not in chosen.notifiers:
        named = ", ".join(chosen.notifiers)
        raise BadInput(f"there is no notifier {printable(name)!r} in {settings.notify_file}: known are {named}")
    answers = asyncio.run(_send(settings, chosen, name))
    if as_json:
        said = {status: {"verdict": one.verdict, "answer": one.words} for status, one in answers.items()}
        click.echo(json.dumps({"notifier": name, "messages": said}))
    else:
        for status, one in answers.items():
            word = "taken" if one.verdict == "delivered" else "NOT TAKEN"
            click.echo(f"{status:<9} {word}: {one.words}")
    sys.stdout.flush()
    if any(one.verdict != "delivered" for one in answers.values()):
        hints = {
            "refused": "check its credentials and its address",
            "rejected": "it does not understand the message: is it the service that `type` says?",
            "retry": "is it running, and can this machine reach it? `overdraw notifier` would try again",
        }
        worst = next(one for one in answers.values() if one.verdict != "delivered")
        raise Unreachable(f"notifier {name} did not take the test: {hints[worst.verdict]}")


async def _send(settings: Settings, chosen: NotifyConfig, name: str) -> dict[str, Answer]:
    from stream.notify.client import Client
    from stream.notify.message import Message
    from stream.notify.services import notifier_of

    secrets, now = secrets_by_name(chosen, [name])[name], time.time()
    notifier, options = notifier_of(chosen, name, secrets), chosen.notifiers[name]
    client = Client(
        notifier, timeout_seconds=options.timeout_seconds, proxy=options.proxy, secrets=list(secrets.values())
    )
    opened = marked_alert(now)
    over: dict[str, Any] = {"status": "resolved", "sequence": 1, "resolved_at": now}
    answers: dict[str, Answer] = {}
    try:
        for alert in (opened, opened.model_copy(update=over)):
            message = Message(alert, f"/overdraw/{settings.app_id}/test", None, chosen.silence_base())
            answers[alert.status] = await client(notifier.alert(message, now))
    finally:
        await client.close()
    return answers


@command.command("show")
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@click.option("--count", is_flag=True, help="Only how many messages each notifier would make of all of them.")
@settings_options
def show(file: str, count: bool, assignments: tuple[str, ...], config: str | None) -> None:
    """Say who would be told of the alerts in FILE (JSON lines, gzip or not, - for standard input), and what.

    \b
    Example:
      overdraw replay calls.jsonl.gz --alerts alerts.jsonl
      overdraw notify show alerts.jsonl --set notify_file=notify.toml
      overdraw notify show alerts.jsonl --count

    They are gone through in their order, each as if it were told when it was found; each ends with what the notifiers
    make of it. Nothing is sent.
    """
    from stream.cli.export import alerts_of_file
    from stream.notify.message import Message
    from stream.notify.routing import Routing
    from stream.notify.tally import Act, Rehearsal

    settings = settings_from(assignments, config)
    chosen = notify_config(settings)
    if count:
        _count(chosen, alerts_of_file(file))
        return
    routing, rehearsal = Routing(chosen), Rehearsal(chosen)
    for alert in alerts_of_file(file):
        _show_due(rehearsal.due(alert.updated_at))
        click.echo(Message(alert, "", routing.owner_of(alert.entity), chosen.silence_base()).text())
        acts = {name: act.value for name, act in rehearsal.hear(alert).items() if act is not Act.SILENT}
        click.echo(f"  Told: {', '.join(f'{name} ({act})' for name, act in acts.items()) or 'nobody'}")
    _show_due(rehearsal.due())


def _show_due(due: Iterable[tuple[str, Held, Act]]) -> None:
    for name, held, act in due:
        click.echo(f"{rfc3339(held.due)}  {name} ({act.value}): {printable(held.alert.summary, MOST_TEXT)}")


def _count(chosen: NotifyConfig, alerts: Iterable[Alert]) -> None:
    from stream.notify.tally import tally

    for name, told in tally(chosen, alerts).items():
        each = "" if told.per_incident is None else f", {told.per_incident:.2f} notifications each"
        click.echo(
            f"{name}: {told.opened} incidents one by one{each} ({told.worsened} got worse), {told.ended} ends, "
            f"{told.digested} incidents in digests"
        )
