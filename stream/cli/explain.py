"""`overdraw explain`: why an alert was raised, or what is known of a key."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.alerts import printable, printable_json, rfc3339
from stream.cli.common import BadInput, FiniteRange, moment_of, settings_from, settings_options
from stream.cli.formats import Reading, format_options
from stream.cli.output import files_of, keep_apart

if TYPE_CHECKING:
    from stream.alerts import Alert
    from stream.core.explanation import Explanation
    from stream.core.season import SeasonHour
    from stream.core.watched import Hour
    from stream.settings import Settings

DAY_SECONDS = 86_400
WINDOWS = {"40m": 1, "4h": 2, "1d": 3, "5d": 4}
"""What can be drawn, by position in HORIZONS; ten minutes are less than the hour that a picture's column is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found of an id. `season` is all that a state tells of the hours, where no files are read."""

    key_id: str
    alert_id: str | None
    explanation: Explanation | None
    alerts: Sequence[Alert]
    hours: Sequence[Hour]
    season: Sequence[SeasonHour]


@click.command()
@click.argument("wanted", metavar="ALERT_ID|KEY_ID")
@click.option("--file", "files", multiple=True, metavar="INPUT", help="Explain from recorded calls instead of Kafka.")
@functools.partial(format_options, prefix="--file: ")
@click.option("--at", metavar="TIME", help="--file: a key as of this time, such as 2026-03-01T12:00:00Z; else the end.")
@click.option("--since", metavar="TIME", help="Kafka: alerts that were written from this time on; else all.")
@click.option("--days", type=FiniteRange(0, 120, min_open=True), help="Days in the plot; 7, or 21 as a picture.")
@click.option("--window", type=click.Choice(list(WINDOWS)), help="--file: what is drawn; else what its alert is about.")
@click.option("--plot", type=click.Path(dir_okay=False), metavar="OUT.svg", help="--file: write a picture, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@settings_options
def command(
    wanted: str,
    files: tuple[str, ...],
    reading: Reading,
    at: str | None,
    since: str | None,
    days: float | None,
    window: str | None,
    plot: str | None,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Say why: numbers, windows, every number that speaks and its reason, the baseline, and a plot.

    From Kafka it is the key's committed state and its alerts; of its past hours the state knows the learned week. From
    files it is a replay, with all hours; an alert is then explained as of the moment when it opened.

    \b
    Example:
      overdraw explain key-042
      overdraw explain 5d41402abc4b2a76b9719d911017c592 --since 2026-03-01T00:00:00Z
      overdraw explain key-042 --file calls.jsonl.gz --at 2026-03-01T12:00:00Z --plot key-042.svg
    """
    settings = settings_from(assignments, config)
    if plot is not None and Path(plot).suffix.lower() != ".svg":
        raise BadInput(f"{plot}: --plot writes SVG: name a file that ends in .svg")
    keep_apart("--plot", plot, [*files, reading.mapping_file, *files_of(settings, config)])
    if files:
        if since is not None:
            raise click.UsageError("--since is about the alert topic: with --file say --at")
        read = Files(files, reading, settings)
        answer = from_files(wanted, read, settings, None if at is None else moment_of(at, "--at"))
    else:
        only = reading.given | {"--at": at, "--window": window, "--plot": plot}
        for name, value in only.items():
            if value:
                raise click.UsageError(f"{name} goes with --file: the state topic holds no calls")
        answer = asyncio.run(from_kafka(wanted, settings, None if since is None else moment_of(since, "--since")))
    if plot is not None:
        _draw(answer, Path(plot), days or 21.0, window)
    if as_json:
        click.echo(printable_json(json.dumps(document_of(answer, days))))
        return
    from stream.cli.explain_text import show

    show(answer, days or 7.0, None if window is None else WINDOWS[window])


@dataclass(frozen=True, slots=True)
class Files:
    """Recorded calls, and how they are read."""

    paths: tuple[str, ...]
    reading: Reading
    settings: Settings

    def __call__(self) -> Iterator[list[bytes]]:
        """Their records, piece by piece; raises InputError."""
        for number, path in enumerate(self.paths):
            prefix = "row" if len(self.paths) == 1 else f"file-{number}-row"
            for chunk in self.reading.chunks(path, self.settings, row_prefix=prefix):
                yield [value for _, value in chunk]


def from_files(wanted: str, read: Files, settings: Settings, at: float | None) -> Answer:
    """Explain by a replay; raises BadInput if the files cannot be read, or hold no such key and raise no such alert."""
    from stream.lab.explain import Watch
    from stream.lab.files import InputError
    from stream.partition import partition_of

    used = False

    def begin() -> Iterator[list[bytes]]:
        nonlocal used
        if used and "-" in read.paths:
            raise InputError(
                "an alert's key is known only at the end, and standard input is read once: give the key's id"
            )
        used = True
        return read()

    try:
        case = Watch(settings, partition_of, now=time.time(), at=at).explain(begin, wanted)
    except InputError as error:
        raise BadInput(str(error)) from error
    if case is None:
        raise BadInput(
            f"no key and no alert has the id {printable(wanted)} in {printable(', '.join(read.paths), 200)}: "
            f"`overdraw replay … --alerts alerts.jsonl` lists the alerts{_by_pseudonym(settings)}"
        )
    return Answer(case.key_id, case.alert_id, case.explanation, case.alerts, case.hours, ())


async def from_kafka(wanted: str, settings: Settings, since: float | None) -> Answer:
    """Explain by the alert topic and the state topic; raises BadInput if neither knows the id, and Unreachable."""
    from stream.cli.kafka import partitions_of, reachable
    from stream.core.season import season_of
    from stream.core.state import StateError
    from stream.core.why import explain
    from stream.worker.lookup import alerts_about, key_state

    async with reachable(settings):
        alerts = await alerts_about(settings, wanted, await partitions_of(settings, settings.alert_topic), since)
        entity = next((alert.entity for alert in alerts if alert.alert_id == wanted), None)
        key_id = wanted if entity is None else entity.id
        found = None
        if entity is None or entity.type == "key":
            try:
                found = await key_state(settings, key_id, await partitions_of(settings, settings.state_topic))
            except StateError as error:
                raise BadInput(str(error)) from error
    if found is None and not alerts:
        raise BadInput(
            f"neither the state topic nor the alert topic knows {printable(wanted)}: `overdraw alerts list "
            f"--all` lists incidents, `overdraw state dump` keys{_by_pseudonym(settings)}"
        )
    explanation = None
    season: Sequence[SeasonHour] = ()
    if found is not None:
        season = season_of(found.key)
        explanation = explain(found.key, found.keys) if season else None
    return Answer(key_id, None if entity is None else wanted, explanation, alerts, (), season)


def _by_pseudonym(settings: Settings) -> str:
    """What else to try where ids are hidden."""
    hint = "; ids are pseudonyms here: ask for the one that `overdraw pseudonym ID` prints"
    return "" if settings.pseudonym_secret is None else hint


def document_of(answer: Answer, days: float | None) -> dict[str, Any]:
    """The answer as JSON; times as RFC 3339, rates as tokens per hour. `days`: of hours at the end, None: all."""
    from dataclasses import asdict

    from stream.core.residuals import HORIZONS

    explanation: dict[str, Any] | None = None
    if answer.explanation is not None:
        explanation = asdict(answer.explanation)
        for name in ("as_of", "steps_as_of", "first_seen", "last_seen"):
            explanation[name] = rfc3339(explanation[name])
        if explanation["incident"] is not None:
            for name in ("started_at", "since"):
                explanation["incident"][name] = rfc3339(explanation["incident"][name])
    return {
        "key_id": answer.key_id,
        "alert_id": answer.alert_id,
        "explanation": explanation,
        "alerts": [alert.model_dump(mode="json") for alert in answer.alerts],
        "hours": [
            {
                "start": rfc3339(hour.start),
                "tokens": hour.tokens,
                "expected": hour.expected,
                "windows": [
                    {"horizon_seconds": seconds, **asdict(rate)}
                    for seconds, rate in zip(HORIZONS, hour.windows, strict=True)
                ],
            }
            for hour in last_days(answer.hours, days)
        ],
        "season": [asdict(hour) | {"start": rfc3339(hour.start)} for hour in answer.season],
    }


def last_days(hours: Sequence[Hour], days: float | None) -> Sequence[Hour]:
    """The hours of the last `days`; all if None."""
    if days is None or not hours:
        return hours
    return [hour for hour in hours if hour.start > hours[-1].start - days * DAY_SECONDS]


def _draw(answer: Answer, path: Path, days: float, window: str | None) -> None:
    from stream.cli.explain_text import points_of, shown_window, spans_of
    from stream.core.explain import span
    from stream.core.residuals import HORIZONS
    from stream.lab.plot_svg import svg_of

    hours = last_days(answer.hours, days)
    h = shown_window(answer) if window is None else WINDOWS[window]
    mark = next((alert.kind for alert in reversed(answer.alerts)), "")
    what = f"the mean of the last {span(HORIZONS[h])}" if h > 1 else "hour by hour"
    try:
        text = svg_of(
            f"Tokens per hour of {printable(answer.key_id)}",
            f"{what}, what is expected of it, and the key's own band",
            [(hour.start, hour.tokens) for hour in hours],
            points_of(hours, h),
            spans_of(answer.alerts),
            f"alert: {mark}",
        )
        path.write_text(text, "utf-8")
    except ValueError as error:
        raise BadInput(f"--plot: {error}") from error
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
