"""`overdraw calibrate`: make the dial mean what it says on the user's own traffic."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from stream.cli.common import FOUND, BadInput, settings_from, settings_options
from stream.cli.inputs import Inputs, input_options
from stream.cli.output import files_of, keep_apart

if TYPE_CHECKING:
    from stream.lab.calibration.incidents import Incidents
    from stream.lab.calibration.run import Calibration, Fit
    from stream.lab.calibration.tail import Rate


@click.command()
@input_options
@click.option(
    "--out", default="priors.json", show_default=True, type=click.Path(dir_okay=False), help="The new priors file."
)
@click.option(
    "--exclude", metavar="FILE", type=click.Path(dir_okay=False),
    help="Confirmed incidents as JSON lines: alerts (of groups: the members that they name), or labels with key_id, "
    "start and end.",
)  # fmt: skip
@click.option(
    "--warm-up", "warm_up_days", type=click.IntRange(7), default=21, show_default=True, metavar="DAYS",
    help="Days at the history's beginning that only teach what is usual; with fewer the rate is set too low.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object on stdout.")
@settings_options
def command(
    inputs: Inputs,
    out: str,
    exclude: str | None,
    warm_up_days: int,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Fit the rate of false alerts to your own history, and write a priors file for `priors_file`.

    INPUT is what `replay` takes, in order of time: six weeks of calls or more, of which the first three only teach what
    is usual, and so many keys that five false alerts are due in the rest. What makes a score stays as it is; fitted is
    how many clean key-days reach which score. A key-day is a UTC day with a call, after the key's first week. Leave
    out, with --exclude, the incidents that you know to be attacks, and only those: all others count as false.

    \b
    Example:
      overdraw calibrate calls-2026-0[1-3].jsonl.gz --out priors.json
      overdraw calibrate calls.jsonl.gz --exclude confirmed.jsonl --set false_alerts_per_1000_key_days=3
      overdraw worker --set priors_file=priors.json

    Exit: 0 written, 1 the history is too short for the dial or too quiet, 2 bad input.
    """
    from stream.lab.calibration.peaks import Peaks
    from stream.lab.calibration.run import DialError, calibrate
    from stream.lab.calibration.tail import TooFewError
    from stream.lab.replay import Replay
    from stream.partition import partition_of

    if out == "-":
        raise BadInput("--out needs the name of a file: standard output has the report")
    settings = settings_from(assignments, config)
    # the priors that are in use have been read: a new fit may take their place
    others = [file for file in files_of(settings, config) if file != settings.priors_file]
    keep_apart("--out", out, [*inputs.paths, inputs.reading.mapping_file, exclude, *others])
    incidents = _incidents(exclude)
    peaks = Peaks()
    replay = Replay(settings, partition_of=partition_of, now=time.time(), watch=peaks.see)
    refusals = inputs.feed(replay)
    refusals.tell(replay.summary.as_json(0.0)["events"])
    try:
        result = calibrate(settings, peaks, incidents, warm_up_days)
    except (DialError, TooFewError) as error:
        click.echo(f"Nothing was written: {error}", err=True)
        sys.exit(FOUND)
    try:
        with open(out, "w", encoding="utf-8") as file:
            file.write(result.text)
    except OSError as error:
        raise BadInput(f"cannot write {out}: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps({**result.as_json(), "out": out}))
    else:
        _tell(result, incidents, out)


def _incidents(path: str | None) -> Incidents:
    from stream.gateways.errors import InputError
    from stream.lab.calibration.incidents import Incidents, read_incidents

    if path is None:
        return Incidents({}, 0)
    try:
        return read_incidents(_lines(path))
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8: it is no file of JSON lines") from error
    except InputError as error:
        raise BadInput(f"{path}, {error}") from error


def _lines(path: str) -> Iterator[str]:
    from stream.lab.files import InputError, read_lines

    try:
        for chunk in read_lines(path):
            yield from (line.decode("utf-8") for _, line in chunk)
    except InputError as error:
        raise BadInput(f"--exclude: {error}") from error


def _tell(result: Calibration, incidents: Incidents, out: str) -> None:
    from stream.core.explain import few
    from stream.lab.calibration.run import date_of

    alerts, newcomers = result.alerts, result.newcomers
    click.echo(
        f"{result.keys:,} keys from {date_of(result.first_day)} to {date_of(result.last_day)}, "
        f"{result.active_keys:,.0f} of them in use on a day; counted from {date_of(result.counted_from)} on"
    )
    if incidents.count or incidents.others:
        others = f"; {incidents.others:,} in the file name no key" if incidents.others else ""
        click.echo(f"{result.excluded:,} key-days left out with {incidents.count:,} incidents{others}")
    click.echo(_heading("after the first week", alerts))
    _tell_fit(alerts)
    click.echo(_heading("of first weeks", newcomers))
    if newcomers.kept:
        click.echo(f"  as it was: {newcomers.kept}")
    else:
        _tell_fit(newcomers)
    before, after = result.per_day
    click.echo(
        f"At {result.active_keys:,.0f} active keys the dial means {few(after)} false alerts a day, {few(7 * after)} a "
        f"week; before it were {few(before)} and {few(7 * before)}"
    )
    click.echo(f"A page, at most {result.pages_per_week:g} a week, needs a score of {result.page_score:.2f}")
    click.echo(f"{out}, digest {result.digest}: use it with priors_file={out}")


def _heading(what: str, fit: Fit) -> str:
    days = len(fit.days)
    return f"{days:,} key-days {what}; dial {fit.dial:g} per 1,000: {fit.dial * days / 1000:.1f} expected"


def _tell_fit(fit: Fit) -> None:
    for word, rows in (("before", fit.old), ("after", fit.new)):
        click.echo(f"  {word:<6}  from score {fit.threshold(rows):.2f}: {_rate(fit.rate(rows))}")


def _rate(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.count:,} key-days, {rate.per_1000:.2f} per 1,000 (95 %: {low:.2f} to {high:.2f})"
