"""`overdraw evidence`: all that there is about an incident, as a folder to be sent on."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.alerts import Alert, printable, rfc3339
from stream.cli.common import BadInput, moment_of, settings_from, settings_options
from stream.cli.formats import Reading, format_options

if TYPE_CHECKING:
    from stream.cli.explain import Answer
    from stream.settings import Settings


@click.command("evidence")
@click.argument("alert_id", metavar="ALERT_ID")
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False), metavar="DIR", help="A new or empty folder."
)
@click.option(
    "--file", "files", multiple=True, metavar="INPUT", help="From recorded calls instead of Kafka; with hours."
)
@functools.partial(format_options, prefix="--file: ")
@click.option("--prices", "prices_file", type=click.Path(dir_okay=False), metavar="FILE", help="Price file (TOML).")
@click.option("--since", metavar="TIME", help="Kafka: alerts that were written from this time on; else all.")
@settings_options
def command(
    alert_id: str,
    out: str,
    files: tuple[str, ...],
    reading: Reading,
    prices_file: str | None,
    since: str | None,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Write the evidence of an incident into a folder, ready to be sent to whoever runs the model.

    The steps of the incident (JSON lines, table, OCSF), what was taken step by step, why it was found, the settings
    that decided, a picture, a one-page README, and the SHA-256 of every file. No address of ours, no secret and no
    prompt is in it; the ids of keys are: they are what it is about.

    \b
      overdraw evidence 8d0254295b2f2b0ef765e512efe32f4e -o case-17
      overdraw evidence 8d0254295b2f2b0ef765e512efe32f4e -o case-17 --file calls.jsonl.gz
    """
    settings = settings_from(assignments, config)
    folder = _empty(out)
    answer = _answer(alert_id, files, reading, settings, since)
    steps = [alert for alert in answer.alerts if alert.alert_id == alert_id]
    if not steps:
        raise BadInput(
            f"there is no alert {printable(alert_id)}: `overdraw alerts export --format csv` lists them by their ids"
        )
    _write(folder, answer, steps, settings, prices_file)
    click.echo(f"{folder}: {len(steps)} step{'s' * (len(steps) != 1)} of {printable(steps[-1].summary, 200)}")


def _empty(out: str) -> Path:
    """The folder; raises BadInput if there is something in it."""
    folder = Path(out)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise BadInput(f"{out} is not empty: name a new folder, so that nothing else is sent with it")
    except OSError as error:
        raise BadInput(f"cannot look into {out}: {error.strerror}") from error
    return folder


def _answer(alert_id: str, files: tuple[str, ...], reading: Reading, settings: Settings, since: str | None) -> Answer:
    from stream.cli.explain import Files, from_files, from_kafka

    if files:
        if since is not None:
            raise click.UsageError("--since is about the alert topic: it does not go with --file")
        return from_files(alert_id, Files(files, reading, settings), settings, None)
    for name, value in reading.given.items():
        if value:
            raise click.UsageError(f"{name} goes with --file")
    return asyncio.run(from_kafka(alert_id, settings, None if since is None else moment_of(since, "--since")))


def settings_of(settings: Settings) -> dict[str, Any]:
    """The settings that decide what is found, and the digest that alerts carry."""
    from stream.core.rules import Rules
    from stream.settings import DECIDING

    rules = Rules(settings)
    return {
        **{name: getattr(settings, name) for name in DECIDING},
        "holidays": sorted(map(str, settings.holidays)),
        "priors_digest": rules.priors.digest,
        "config_digest": rules.digest,
    }


def _ledger(steps: list[Alert], prices_file: str | None) -> dict[str, Any]:
    from stream.cli.ledger import document_of, prices_of
    from stream.ledger import Ledger, rows_of

    ledger = Ledger()
    for alert in steps:
        ledger.take(alert)
    prices = None if prices_file is None else prices_of(prices_file)
    return document_of(rows_of(ledger.entries(), prices, by_entity=False), prices)


def _write(folder: Path, answer: Answer, steps: list[Alert], settings: Settings, prices_file: str | None) -> None:
    from stream.cli.explain import document_of
    from stream.evidence.folder import files_of

    explanation: dict[str, Any] | None = None
    if answer.explanation is not None:
        explanation = document_of(answer, None)
        del explanation["alerts"]  # they have a file of their own, without links
    ledger = _ledger(steps, prices_file)
    texts = files_of(steps, settings_of(settings), ledger, time.time(), explanation, _plot(answer, steps))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in texts.items():
            with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text.encode("utf-8", "surrogatepass"))
    except OSError as error:
        raise BadInput(f"cannot write into {folder}: {error.strerror}") from error


def _plot(answer: Answer, steps: list[Alert]) -> str | None:
    """The key's hours against its band; without hours what the incident's own steps say; None for a lone step."""
    from stream.cli.explain_text import points_of, shown_window, spans_of
    from stream.core.explain import span
    from stream.core.residuals import HORIZONS
    from stream.lab.plot import Point
    from stream.lab.plot_svg import svg_of

    last = steps[-1]
    title, mark = f"Tokens per hour of {printable(last.entity.id)}", f"alert: {last.kind}"
    if answer.hours:
        h = shown_window(answer)
        what = f"the mean of the last {span(HORIZONS[h])}" if h > 1 else "hour by hour"
        return svg_of(
            title, f"{what}, what is expected of it, and the key's own band",
            [(hour.start, hour.tokens) for hour in answer.hours], points_of(answer.hours, h), spans_of(steps), mark,
        )  # fmt: skip
    points = {}
    for alert in steps:
        hours = alert.window.horizon_seconds / 3600
        if alert.unit == "tokens" and hours > 0:
            start = alert.window.end - 3600
            points[start] = Point(start, alert.observed / hours, alert.expected / hours, alert.upper / hours)
    if len(points) < 2:
        return None
    what = f"the windows of {len(points)} alerts until {rfc3339(last.window.end)}, what was expected, and usual at most"
    return svg_of(title, what, [], [points[start] for start in sorted(points)], spans_of(steps), mark)
