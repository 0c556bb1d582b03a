"""`overdraw alerts list|show`: the incidents, one a line, and one of them with all that is known of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, get_args

import click

from stream.alerts import (
    RANK,
    Alert,
    Kind,
    Severity,
    fingerprint_of,
    printable,
    printable_json,
    reading_order,
    rfc3339,
    worst_first,
)
from stream.cli.common import settings_from, settings_options
from stream.cli.export import alerts_of_file, each_alert
from stream.cli.operators import alert_id_of_text, hear, steps_of
from stream.control import Acknowledge, Feedback, Message
from stream.standing import Standing

if TYPE_CHECKING:
    from stream.settings import Settings

MOST_OVER = 200
"""Incidents that are over and shown: the newest."""
MAX_WHO = 60
MOST_SHOWN = 20
"""Members of a group's incident."""

file_option = click.option(
    "--from-file", type=click.Path(dir_okay=False, allow_dash=True), metavar="ALERTS.jsonl",
    help="Alerts of `replay --alerts`, or - for standard input, instead of Kafka.",
)  # fmt: skip


@dataclass(slots=True)
class Incidents:
    """The last step of each incident; of those that are over the newest `MOST_OVER`."""

    open: dict[str, Alert] = field(default_factory=dict)
    """By fingerprint: at most one incident of an entity is open, so a later one replaces one whose end was lost."""
    over: dict[str, Alert] = field(default_factory=dict)

    def take(self, alert: Alert) -> None:
        """Take up the next step; those of one entity come in their order."""
        if alert.status != "resolved":
            self.open[alert.fingerprint] = alert
            return
        held = self.open.get(alert.fingerprint)
        if held is not None and held.alert_id == alert.alert_id:
            del self.open[alert.fingerprint]
        self.over.pop(alert.alert_id, None)
        self.over[alert.alert_id] = alert
        if len(self.over) > 2 * MOST_OVER:
            self.over = {one.alert_id: one for one in self.newest()}

    def worst(self) -> list[Alert]:
        """Those that are open, the worst first."""
        return sorted(self.open.values(), key=worst_first)

    def newest(self) -> list[Alert]:
        """Those that are over, the last one last."""
        return sorted(self.over.values(), key=reading_order)[-MOST_OVER:]


@click.command("list")
@click.option("--all", "everything", is_flag=True, help=f"Also the last {MOST_OVER} that are over.")
@click.option("--entity", metavar="ID", help="About this id, or ids that fit this pattern, such as 'acme-*'.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(get_args(Kind)), help="Of this kind.")
@click.option(
    "--severity", "severities", multiple=True, type=click.Choice(get_args(Severity)), help="Of this severity."
)
@click.option("--json", "as_json", is_flag=True, help="The last step of each, one a line, in the Alert schema.")
@file_option
@settings_options
def list_(
    everything: bool,
    entity: str | None,
    kinds: tuple[str, ...],
    severities: tuple[str, ...],
    as_json: bool,
    from_file: str | None,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Print the incidents that are open, the worst first: id, severity, kind, since when, who, what is gone.

    Also whether somebody is at it, or it is muted. The ids are those that `show`, `ack`, `feedback` and `explain` take.

    \b
      overdraw alerts list
      overdraw alerts list --all --entity 'acme-*' --severity high --severity critical
    """
    settings = settings_from(assignments, config)
    found = Incidents()

    if from_file is None:
        said = said_by_operators(settings)
        asyncio.run(each_alert(settings, found.take))
    else:
        said = []
        for alert in alerts_of_file(from_file):
            found.take(alert)
    chosen = [
        alert
        for alert in [*found.worst(), *(found.newest() if everything else [])]
        if (entity is None or alert.entity.id == entity or fnmatchcase(alert.entity.id, entity))
        and (not kinds or alert.kind in kinds)
        and (not severities or alert.severity in severities)
    ]
    for line in lines_of(chosen, said, time.time(), as_json):
        click.echo(line)
    if not chosen and not as_json:
        click.echo("no such incident" if everything or entity or kinds or severities else "no incident is open")


def said_by_operators(settings: Settings) -> list[Message]:
    """What operators have said. Raises Unreachable, BadInput without a topic."""
    return [said.message for said in hear(settings) if said.message is not None]


def lines_of(alerts: Iterable[Alert], said: Sequence[Message], now: float, as_json: bool) -> Iterator[str]:
    """One line an incident."""
    from stream.notify.hush import names_of
    from stream.notify.message import amount, length

    held = Standing(said).at(now)
    muted = {fingerprint_of(one.entity): one.until for one in held if one.kind == "mute"}
    takers = {one.alert_id: one for one in said if isinstance(one, Acknowledge)}
    for alert in alerts:
        if as_json:
            yield printable_json(alert.model_dump_json(ensure_ascii=True))
            continue
        end = alert.resolved_at if alert.status == "resolved" else None
        lasted = f", over after {length(end - alert.started_at)}" if end is not None else ""
        cost = "" if alert.excess_cost_usd is None else f", {alert.excess_cost_usd:,.2f} USD"
        gone = "" if alert.kind == "feed" else f": {amount(alert.excess_tokens, 'tokens')}{cost}"
        notes = []
        if (taker := takers.get(alert.alert_id)) is not None:
            worse = "" if RANK[alert.severity] <= RANK[taker.severity] else ", but it got worse since"
            notes.append(f"{printable(taker.by, MAX_WHO)} is at it{worse}")
        notes += [f"muted until {rfc3339(muted[one])}" for one in names_of(alert) if one in muted][:1]
        yield (
            f"{printable(alert.alert_id)}  {'backlog' if alert.historical else alert.severity:<8}  {alert.kind:<11}  "
            f"{rfc3339(alert.started_at)}{lasted}  {alert.entity.type} {printable(alert.entity.id, MAX_WHO)}{gone}"
            + (f"  ({'; '.join(notes)})" if notes else "")
        )


@click.command("show")
@click.argument("alert_id")
@click.option("--json", "as_json", is_flag=True, help="Every step, one a line, in the Alert schema.")
@file_option
@settings_options
def show(alert_id: str, as_json: bool, from_file: str | None, assignments: tuple[str, ...], config: str | None) -> None:
    """Print one incident: what a page says of it now, whom it names, each step and its reason, what operators said.

    `overdraw explain` tells why it was found.

    \b
      overdraw alerts show 8d0254295b2f2b0ef765e512efe32f4e
    """
    from stream.notify.message import Message as Page

    settings = settings_from(assignments, config)
    if from_file is None:
        steps, said = steps_of(settings, alert_id), said_by_operators(settings)
    else:
        wanted, said = alert_id_of_text(alert_id), []
        steps = [alert for alert in alerts_of_file(from_file) if alert.alert_id == wanted]
        if not steps:
            raise click.UsageError(f"{from_file} holds no alert {wanted}: see `overdraw alerts list --from-file`")
    if as_json:
        for step in steps:
            click.echo(printable_json(step.model_dump_json(ensure_ascii=True)))
        return
    last = steps[-1]
    click.echo(Page(last, "").text())
    for line in _members(last):
        click.echo(line)
    click.echo("\nSteps")
    for step in steps:
        reason = printable(step.status_reason or "", 300)
        click.echo(f"  {rfc3339(step.updated_at)}  {step.status:<8}  {step.severity:<8}  {reason}".rstrip())
    if words := list(_words(last, said)):
        click.echo("\nSaid")
        for word in words:
            click.echo(f"  {word}")


def _members(alert: Alert) -> Iterator[str]:
    """What the keys of a group's alert share, and who they are, the largest first."""
    members = alert.members
    if members is None:
        return
    if members.shared_traits:
        yield "\nShared"
    for trait, value in members.shared_traits.items():
        yield f"  {trait:<15}  {printable(value, MAX_WHO)}"
    if members.top:
        yield f"\nMembers  ({members.count} named; tokens above the baseline, mean z)"
    for member in members.top[:MOST_SHOWN]:
        yield f"  {printable(member.key_id, MAX_WHO):<40}  {member.excess_tokens:>15,.0f}  {member.z:>5.1f}"
    if len(members.top) > MOST_SHOWN:
        yield f"  … and {len(members.top) - MOST_SHOWN} more: --json has them"


def _words(alert: Alert, said: Sequence[Message]) -> Iterator[str]:
    """What operators said of an incident, or of its entity since it began."""
    from stream.worker.control.topic import line_of_message

    for message in said:
        of_it = isinstance(message, Acknowledge | Feedback) and message.alert_id == alert.alert_id
        if of_it or (message.at >= alert.started_at and _is_about(message, alert)):
            yield (
                f"{rfc3339(message.at)}  {printable(message.by, MAX_WHO)}: {message.kind} "
                f"{line_of_message(message)}: {printable(message.why, 300)}"
            )


def _is_about(message: Any, alert: Alert) -> bool:
    """Whether a message that is no acknowledgement and no feedback is about the alert's entity."""
    if isinstance(message, Acknowledge | Feedback):
        return False
    if (entity := getattr(message, "entity", None)) is not None:
        return bool(entity == alert.entity)
    if (scope := getattr(message, "scope", None)) is not None and alert.entity.type == "key":
        return bool(scope.fits(alert.entity.id, alert.org_id))
    return alert.entity.type == "key" and getattr(message, "key_id", None) == alert.entity.id
