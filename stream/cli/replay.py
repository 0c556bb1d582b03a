"""`overdraw replay`: recorded calls through the detector."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from stream.cli.common import BadInput, pairs, settings_from, settings_options

if TYPE_CHECKING:
    from stream.events import Reject
    from stream.lab.replay import Summary


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--format", "format_", help="overdraw (JSON lines) or csv; else by the file's name.")
@click.option("--map", "mapping", multiple=True, metavar="FIELD=COLUMN", help="csv: take FIELD from this column.")
@click.option("--const", "constants", multiple=True, metavar="FIELD=VALUE", help="csv: the same value in every row.")
@click.option("--zone", default="UTC", show_default=True, help="csv: time zone of times that have none.")
@click.option("--alerts", "alerts_to", type=click.Path(dir_okay=False), help="Write alerts there as JSON lines.")
@click.option("--json", "as_json", is_flag=True, help="Alerts and, as the last line, the summary as JSON.")
@settings_options
def command(
    inputs: tuple[str, ...],
    format_: str | None,
    mapping: tuple[str, ...],
    constants: tuple[str, ...],
    zone: str,
    alerts_to: str | None,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Run the detector over recorded calls: .jsonl or .csv files, gzip or not, or - for standard input.

    Files are read one after the other, each in its own order. The exit code is 0 whether or not something was found.

    \b
    Example:
      overdraw replay calls.jsonl.gz --alerts alerts.jsonl
      overdraw replay usage.csv --map key_id=account --map time=created --set bucket_seconds=600 --json
    """
    from stream.alerts import printable_json
    from stream.lab.files import InputError, format_of, read_chunks
    from stream.lab.replay import Replay
    from stream.partition import partition_of

    settings = settings_from(assignments, config)
    columns, values = pairs(mapping, "--map"), pairs(constants, "--const")
    replay = Replay(settings, partition_of=partition_of, now=time.time())
    refusals = _Refusals(replay.summary)
    begin = time.perf_counter()
    try:
        for number, path in enumerate(inputs):
            prefix = "row" if len(inputs) == 1 else f"file-{number}-row"
            chunks = read_chunks(path, format_of(path, format_), columns, values, zone=zone, row_prefix=prefix)
            with _progress(path) as advance:
                for chunk in chunks:
                    replay.feed([value for _, value in chunk])
                    refusals.locate(path, [line for line, _ in chunk])
                    advance(len(chunk))
    except InputError as error:
        raise BadInput(str(error)) from error
    replay.finish()
    summary = replay.summary
    report = summary.as_json(time.perf_counter() - begin)
    lines = (alert.model_dump_json() for alert in summary.step.alerts)
    if alerts_to is not None:
        try:
            with open(alerts_to, "w", encoding="utf-8") as out:
                out.writelines(line + "\n" for line in lines)
        except OSError as error:
            raise BadInput(f"cannot write {alerts_to}: {error.strerror}") from error
    refusals.tell(report["events"])
    if as_json:
        if alerts_to is None:
            for line in lines:
                click.echo(printable_json(line))
        click.echo(json.dumps(report))
        return
    _tell(report, replay, sys.stdout)


def _tell(report: dict[str, Any], replay: Any, out: IO[str]) -> None:
    from stream.alerts import rfc3339

    for alert in replay.summary.step.alerts:
        line = f"{rfc3339(alert.detected_at if alert.status == 'opened' else alert.updated_at)}  "
        click.echo(f"{line}{alert.status:<8}  {alert.severity:<8}  {alert.kind:<6}  {alert.summary}", out)
    events = report["events"]
    refused = sum(events["dead_letters"].values())
    click.echo(
        f"{events['read']:,} events read: {events['accepted']:,} accepted, {events['duplicate']:,} duplicate, "
        f"{events['late']:,} late, {refused:,} refused; {report['keys']:,} keys; "
        f"{report['alerts']['opened']:,} incidents; {report['seconds']:.1f} s",
        out,
    )
    for reason, count in events["dead_letters"].items():
        click.echo(f"  refused {reason}: {count:,}", out)


class _Refusals:
    """Where the refused records that are shown stand: file and line, as an editor counts them."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._first = 0
        self._lines: list[str] = []

    def locate(self, path: str, numbers: Sequence[int]) -> None:
        """Take the refusals since the last call, which are of the chunk whose records stand on these lines."""
        for reject in self._summary.rejects[len(self._lines) :]:
            index = reject.position - self._first
            name = "stdin" if path == "-" else path.rsplit("/", 1)[-1]
            # a record held back until a later one confirms its time may be of an earlier chunk
            place = f"{name}, line {numbers[index]}" if 0 <= index < len(numbers) else f"record {reject.position + 1}"
            self._lines.append(self._line(place, reject))
        self._first += len(numbers)

    def tell(self, events: dict[str, Any]) -> None:
        """Print them, and say so if nothing could be taken at all."""
        self._lines += [self._line(f"record {r.position + 1}", r) for r in self._summary.rejects[len(self._lines) :]]
        for line in self._lines:
            click.echo(line, err=True)
        if events["read"] and sum(events["dead_letters"].values()) == events["read"]:
            hint = "nothing could be taken: is it one JSON object a line (`overdraw schema event`), or --format csv?"
            click.echo(hint, err=True)

    @staticmethod
    def _line(place: str, reject: Reject) -> str:
        element = "" if reject.element is None else f", element {reject.element}"
        return f"{place}{element}: {reject.reason}: {reject.message}"


class _progress:
    """A counter on a terminal; nothing elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None

    def __enter__(self) -> Any:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, TextColumn

            columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} records"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            task = self._bar.add_task(self._name.rsplit("/", 1)[-1])
            return lambda count: self._bar.advance(task, count)
        return lambda count: None

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
