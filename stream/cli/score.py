"""`overdraw score`: any single series through an online baseline."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import IO, TYPE_CHECKING

import click

from stream.cli.common import BadInput
from stream.cli.output import keep_apart, text_file

if TYPE_CHECKING:
    from stream.lab.score import Row


@click.command()
@click.argument("file", metavar="FILE.csv")
@click.option("--time", metavar="COLUMN", help="Column of times; else timestamp, time, ds or the first with times.")
@click.option("--value", metavar="COLUMN", help="Column of values; else value, y or the first with numbers.")
@click.option("--out", type=click.Path(dir_okay=False), metavar="SCORES.csv", help="Write there, not to stdout.")
@click.option("--json", "as_json", is_flag=True, help="Rows (unless --out) and, as the last line, a summary as JSON.")
def command(file: str, time: str | None, value: str | None, out: str | None, as_json: bool) -> None:
    """Score any single series online, each row by what came before it: a .csv, gzip or not, or - for standard input.

    The rows come back as timestamp,value,expected,lower,upper,score,alert. A score of 0.5 is an alert: once in 400
    values by the series' own laws. It marks where something begins; of what follows within 100 values only the much
    rarer counts. Nothing counts in the first day (at most 60 values). A missing value (empty, NaN, infinite)
    scores 0.

    \b
    Example:
      overdraw score requests.csv --out scores.csv
      overdraw score metrics.csv.gz --time when --value latency_ms --json
      tail -n +1 -f requests.csv | overdraw score -
    """
    from stream.gateways.errors import InputError
    from stream.lab.score import Scorer

    if out == "-":
        out = None
    keep_apart("--out", out, [file])
    scorer = Scorer(time, value)
    try:
        if out is None:
            _write(scorer.chunks(file), sys.stdout, as_json=as_json)
        else:
            _write_file(scorer.chunks(file), out)
    except InputError as error:
        raise BadInput(str(error)) from error
    summary = scorer.summary
    if as_json:
        click.echo(json.dumps(summary.as_json()))
        return
    text = f"{summary.rows:,} rows of {summary.value!r} over {summary.time!r}: {summary.alerts:,} alerts"
    click.echo(f"{text}, {summary.missing:,} without a value", err=out is None)


def _write_file(chunks: Iterator[list[Row]], path: str) -> None:
    begun = list(islice(chunks, 1))  # nothing is overwritten before it is clear that there is a series
    with text_file(path) as target:
        _write(chain(begun, chunks), target, as_json=False)


def _write(chunks: Iterable[list[Row]], target: IO[str], *, as_json: bool) -> None:
    from stream.lab.score import COLUMNS

    table = csv.writer(target, lineterminator="\n")
    headed = as_json
    for chunk in chunks:
        if not headed:
            table.writerow(COLUMNS)
            headed = True
        if as_json:
            target.writelines(json.dumps(row.as_json()) + "\n" for row in chunk)
        else:
            table.writerows(row.cells() for row in chunk)
        target.flush()  # whoever pipes a live series in waits for it
