"""`overdraw alerts`: the alert topic."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from stream.alerts import Alert, printable, printable_json, rfc3339, title_of
from stream.cli.common import FiniteRange, settings_from, settings_options
from stream.cli.export import export
from stream.cli.incidents import list_, show
from stream.cli.word import ack, feedback, mute, unmute

if TYPE_CHECKING:
    from rich.text import Text

    from stream.settings import Settings

STYLES = {"critical": "bold white on red", "high": "bold red", "warning": "yellow", "info": "cyan"}
POLL_SECONDS = 0.5
MAX_SUMMARY = 300
NAMED_MEMBERS = 3


@click.group("alerts", help="Read alerts, and say what they were.\n\n\b\n  overdraw alerts list")
def command() -> None:
    """Hold the subcommands."""


command.add_command(export)
for _other in (list_, show, ack, mute, unmute, feedback):
    command.add_command(_other)


@command.command("tail")
@click.option("--json", "as_json", is_flag=True, help="One alert a line, as JSON in the Alert schema.")
@click.option("--from-beginning", is_flag=True, help="Start with all alerts that the topic holds.")
@click.option("--for", "seconds", type=FiniteRange(min=0), help="End after this many seconds. Default: Ctrl-C.")
@settings_options
def tail(
    as_json: bool, from_beginning: bool, seconds: float | None, assignments: tuple[str, ...], config: str | None
) -> None:
    """Print alerts as they are written, one a line.

    \b
      overdraw alerts tail
      overdraw alerts tail --from-beginning --for 10 --json
    """
    settings = settings_from(assignments, config)
    try:
        asyncio.run(_tail(settings, as_json, from_beginning, seconds))
    except KeyboardInterrupt:
        return


async def _tail(settings: Settings, as_json: bool, from_beginning: bool, seconds: float | None) -> None:
    from stream.cli.kafka import partitions_of, reachable

    async with reachable(settings):
        partitions = await partitions_of(settings, settings.alert_topic)
        await _follow(settings, partitions, as_json, from_beginning, seconds)


async def _follow(
    settings: Settings, partitions: int, as_json: bool, from_beginning: bool, seconds: float | None
) -> None:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from stream.security import client_options

    end = None if seconds is None else time.monotonic() + seconds
    consumer: Any = AIOKafkaConsumer(
        **client_options(settings),
        isolation_level="read_committed",  # what a transaction has not committed was never said
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        assigned = [TopicPartition(settings.alert_topic, partition) for partition in range(partitions)]
        consumer.assign(assigned)
        await (consumer.seek_to_beginning if from_beginning else consumer.seek_to_end)(*assigned)
        show = _show_json if as_json else _liner()
        while end is None or time.monotonic() < end:
            left = POLL_SECONDS if end is None else min(POLL_SECONDS, max(0.0, end - time.monotonic()))
            batches = await consumer.getmany(timeout_ms=int(left * 1000))
            records = sorted((r for batch in batches.values() for r in batch), key=lambda r: r.timestamp)
            for record in records:
                show(record.value or b"")
    finally:
        await consumer.stop()


def _show_json(value: bytes) -> None:
    click.echo(printable_json(value.decode("utf-8", "backslashreplace").replace("\n", " ")))


def _liner() -> Any:
    from pydantic import ValidationError
    from rich.console import Console

    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)

    def show(value: bytes) -> None:
        try:
            alert = Alert.model_validate_json(value)
        except ValidationError:
            click.echo("a record of the alert topic is not an alert of this version: passed over", err=True)
            return
        console.print(line_of(alert))

    return show


def line_of(alert: Alert) -> Text:
    """One line: when, how bad, what became of it, what it is, and the summary; ids escaped, no markup."""
    from rich.text import Text

    severity = "backlog" if alert.historical else alert.severity
    return Text.assemble(
        (rfc3339(alert.updated_at), "dim"),
        " ",
        (f"{severity:<8}", STYLES.get(severity, "dim") if alert.status != "resolved" else "green"),
        f" {alert.status:<8} {alert.kind:<8} ",
        (title_of(alert.entity), "bold"),
        f"  {printable(alert.summary, MAX_SUMMARY)}",
        (_named(alert), "dim"),
    )


def _named(alert: Alert) -> str:
    """The strongest members of a group's alert."""
    top = alert.members.top if alert.members is not None else []
    more = ", …" if len(top) > NAMED_MEMBERS else ""
    return f"  ({', '.join(printable(member.key_id, 40) for member in top[:NAMED_MEMBERS])}{more})" if top else ""
