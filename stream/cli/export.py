"""`overdraw alerts export`: alerts for other systems."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, nullcontext
from typing import IO, TYPE_CHECKING, get_args

import click

from stream.alerts import Alert, EntityType, Kind, Severity, printable
from stream.cli.common import BadInput, moment_of, settings_from, settings_options
from stream.cli.output import keep_apart, text_file

if TYPE_CHECKING:
    from stream.settings import Settings

FORMATS = ("ocsf", "jsonl", "csv")


@click.command("export")
@click.option("--format", "form", type=click.Choice(FORMATS), default="ocsf", help="How it is written.")
@click.option("--since", metavar="TIME", help="Said from this time on, such as 2026-03-01T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Said before this time.")
@click.option("--entity", metavar="ID", help="About this id, or ids that fit this pattern, such as 'acme-*'.")
@click.option("--type", "types", multiple=True, type=click.Choice(get_args(EntityType)), help="About such entities.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(get_args(Kind)), help="Of this kind.")
@click.option(
    "--severity", "severities", multiple=True, type=click.Choice(get_args(Severity)), help="Of this severity."
)
@click.option("--alert", "alert_id", metavar="ALERT_ID", help="Of this incident.")
@click.option(
    "--from-file", type=click.Path(dir_okay=False, allow_dash=True), metavar="ALERTS.jsonl",
    help="Alerts of `replay --alerts`, or - for standard input, instead of Kafka.",
)  # fmt: skip
@click.option("-o", "--out", type=click.Path(dir_okay=False), metavar="FILE", help="Default: standard output.")
@settings_options
def export(
    form: str,
    since: str | None,
    until: str | None,
    entity: str | None,
    types: tuple[str, ...],
    kinds: tuple[str, ...],
    severities: tuple[str, ...],
    alert_id: str | None,
    from_file: str | None,
    out: str | None,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Write every step of the incidents that are wanted, one a line, in the order of the topic's partitions.

    ocsf: Detection Findings (class 2004, version 1.5) for a SIEM; jsonl: the Alert schema; csv: a table, in which no
    text is a formula.

    \b
      overdraw alerts export --format ocsf --since 2026-03-01T00:00:00Z > findings.jsonl
      overdraw alerts export --format csv --entity 'acme-*' --severity high --severity critical -o acme.csv
      overdraw alerts export --from-file alerts.jsonl --kind surge
    """
    from stream.evidence.choice import Choice

    choice = Choice(
        None if since is None else moment_of(since, "--since"),
        None if until is None else moment_of(until, "--until"),
        entity, frozenset(types), frozenset(kinds), frozenset(severities), alert_id,
    )  # fmt: skip
    if choice.since is not None and choice.until is not None and choice.since >= choice.until:
        raise click.UsageError("--since must lie before --until")
    keep_apart("--out", out, [from_file, config])
    # nothing is overwritten before it is clear that the settings are right
    settings = settings_from(assignments, config) if from_file is None else None
    with nullcontext(sys.stdout) if out in (None, "-") else text_file(str(out)) as file:
        write = _writer(form, file)

        def take(alert: Alert) -> None:
            if choice.wants(alert):
                write(alert)

        if settings is not None:
            asyncio.run(each_alert(settings, take))
        else:
            for alert in alerts_of_file(str(from_file)):
                take(alert)


def _writer(form: str, file: IO[str]) -> Callable[[Alert], None]:
    from stream.evidence.ocsf import finding_of
    from stream.evidence.rows import COLUMNS, csv_line, row_of

    if form == "csv":
        file.write(csv_line(COLUMNS))
        return lambda alert: void(file.write(csv_line(row_of(alert))))
    if form == "jsonl":
        return lambda alert: void(file.write(alert.model_dump_json(ensure_ascii=True) + "\n"))
    return lambda alert: void(file.write(json.dumps(finding_of(alert)) + "\n"))


def void(_: int) -> None:
    """Drop the number of characters that a file has written."""


def alerts_of_file(path: str) -> Iterator[Alert]:
    """The alerts of a file of JSON lines, one after the other; raises BadInput."""
    from pydantic import ValidationError

    from stream.lab.files import InputError, read_lines

    try:
        for number, line in (record for chunk in read_lines(path) for record in chunk):
            if line.strip():
                try:
                    alert = Alert.model_validate_json(line)
                except ValidationError as error:
                    place = printable(".".join(map(str, error.errors()[0]["loc"])) or "the line")
                    raise BadInput(
                        f"line {number} of {path} is no alert ({place}): see `overdraw schema alert`"
                    ) from None
                yield alert
    except InputError as error:
        raise BadInput(str(error)) from None


async def each_alert(settings: Settings, take: Callable[[Alert], None]) -> None:
    """Hand on every alert of the topic; what is none of this version is counted and said. Raises Unreachable."""
    passed = 0
    async with aclosing(_alerts_of_topic(settings)) as alerts:  # whoever reads may go, as head does
        async for alert in alerts:
            if alert is None:
                passed += 1
            else:
                take(alert)
    if passed:
        click.echo(f"passed over {passed:,} records that are no alerts of this version", err=True)


async def _alerts_of_topic(settings: Settings) -> AsyncGenerator[Alert | None]:
    """Every alert of the topic; None for a record that is none of this version. Raises Unreachable."""
    from pydantic import ValidationError

    from stream.cli.kafka import partitions_of, reachable
    from stream.worker.lookup import committed

    async with reachable(settings):
        partitions = await partitions_of(settings, settings.alert_topic)
        async for batch in committed(settings, settings.alert_topic, partitions):
            for record in batch:
                try:
                    yield Alert.model_validate_json(record.value or b"")
                except ValidationError:
                    yield None
