"""`overdraw bench`: what it costs."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING

import click

from stream.cli.common import FOUND, BadInput, FiniteRange, Unreachable, run_stoppable, settings_from, settings_options

if TYPE_CHECKING:
    from stream.lab.bench import Report
    from stream.settings import Settings

NEEDED = ("orjson", "psutil")
LEAST_EVENTS = 1_000


@click.command()
@click.option("--events", type=int, help="Events of each kind through Kafka; 1,000,000, or with --quick 60,000.")
@click.option(
    "--quick",
    is_flag=True,
    help="Fewer events, one turn: for a first look, too rough for --gate, which makes it three.",
)
@click.option("--recovery-keys", type=int, help="Also recover the states of so many keys, beside 100,000: 1.5 kB each.")
@click.option("--adapters", is_flag=True, help="Only the adapters of gateways' formats: no Kafka, some 15 seconds.")
@click.option("--storm", is_flag=True, help="Only 10,000 incidents at once, against calm: no Kafka, some minutes.")
@click.option("--check", is_flag=True, help="Exit 1 if a bar is missed; else the verdicts are only shown.")
@click.option(
    "--gate",
    type=FiniteRange(0, 1, max_open=True),
    metavar="MARGIN",
    help="Measure only what is a ratio to the raw loop, and exit 1 if it is short of its bar by more than this share.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
@settings_options
def command(
    events: int | None,
    quick: bool,
    recovery_keys: int | None,
    adapters: bool,
    storm: bool,
    check: bool,
    gate: float | None,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Measure throughput and memory, as ratios to a raw consumer loop in the same run.

    An embedded Kafka is filled with simulated traffic of two sizes of event. Then in turns a bare aiokafka loop that
    only decodes, and a real worker that does everything, read the same topic from its beginning, and both are charged
    with their process's CPU time. Before that the core by itself is measured, and `replay` on files of up to 1.6 GB in
    the temporary folder; after it the recovery of many keys from the state topic. Takes some six minutes, a third of
    which goes into the keys' past; it needs the extras `dev` and `embedded`.

    \b
    Example:
      overdraw bench
      overdraw bench --quick
      overdraw bench --recovery-keys 1000000
      overdraw bench --adapters
      overdraw bench --storm
      overdraw bench --check --json > bench.json
      overdraw bench --quick --gate 0.4
    """
    if adapters:
        _bench_adapters(as_json, check)
        return
    if storm:
        _bench_storm(settings_from(assignments, config), as_json, check)
        return
    from stream.lab.bench_table import below, missed
    from stream.security import without_security

    settings = without_security(settings_from(assignments, config))  # the broker is one of our own
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise BadInput(f"the bench needs {' and '.join(lacking)}: pip install 'overdraw[dev,embedded]'")
    from stream.broker import BrokerError
    from stream.lab.bench import DEFAULT_EVENTS, MOST_EVENTS, QUICK_EVENTS, REPEATS, Bench, Plan
    from stream.lab.bench_recovery import KEYS, MOST_KEYS
    from stream.lab.bench_runs import BenchError
    from stream.lab.produce import ProduceError
    from stream.lab.workers import WorkerDied

    if events is None:
        events = QUICK_EVENTS if quick else DEFAULT_EVENTS
    if not LEAST_EVENTS <= events <= MOST_EVENTS:
        raise BadInput(f"--events {events}: choose between {LEAST_EVENTS:,} and {MOST_EVENTS:,}")
    if recovery_keys is not None and not KEYS <= recovery_keys <= MOST_KEYS:
        raise BadInput(f"--recovery-keys {recovery_keys}: choose between {KEYS:,} and {MOST_KEYS:,}")
    recovered = tuple(sorted({KEYS, recovery_keys or KEYS}))
    # one turn is too rough for a verdict, and a gate is one
    repeats = 1 if quick and gate is None else REPEATS
    plan = Plan(
        events, repeats=repeats, recovered=recovered, brief=gate is not None and not check and recovery_keys is None
    )
    bench = Bench(settings, plan, lambda line: click.echo(f"… {line}", err=True))
    try:
        report = run_stoppable(bench.run())
    except (BrokerError, ProduceError, BenchError, WorkerDied) as error:
        raise Unreachable(str(error)) from error
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        _show(report)
    short = below(report.rows, gate) if gate is not None else []
    for row in short:
        click.echo(f"{row.what}: {row.judged:.2f} of the raw loop, far from {row.bar_text}", err=True)
    if short or (check and missed(report.rows)):
        sys.exit(FOUND)


def _bench_adapters(as_json: bool, check: bool) -> None:
    from stream.lab.bench_adapters import measure

    rows = []
    if not as_json:
        click.echo(f"{'format':<14}{'bytes':>8}{'calls':>7}{'calls/CPU-s':>13}{'MB/CPU-s':>10}{'bar':>9}")
    for row in measure():
        rows.append(row)
        if not as_json:
            click.echo(
                f"{row.format:<14}{row.record_bytes:>8,}{row.calls_a_record:>7}{row.calls_a_second:>13,.0f}"
                f"{row.megabytes_a_second:>10,.0f}{row.bar:>9,.0f}  {row.verdict}"
            )
    if as_json:
        click.echo(json.dumps({"adapters": [row.as_json() for row in rows]}))
    if check and any(row.verdict != "ok" for row in rows):
        sys.exit(FOUND)


def _bench_storm(settings: Settings, as_json: bool, check: bool) -> None:
    from stream import native
    from stream.lab.bench import Report
    from stream.lab.bench_storm import BUCKETS, RECORDS_A_BUCKET, measure
    from stream.lab.bench_table import missed

    rows = measure(settings, tell=lambda line: click.echo(f"… {line}", err=True))
    traffic = f"{BUCKETS} buckets of {RECORDS_A_BUCKET} records of each key, up to Kafka; core: {native.core()}"
    report = Report(traffic, rows)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        _show(report)
    if check and missed(rows):
        sys.exit(FOUND)


def _show(report: Report) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(table(report))


def table(report: Report) -> object:
    """The report as a table for people."""
    from rich.table import Table
    from rich.text import Text

    from stream.lab.bench_table import number

    shown = Table(title=report.traffic, title_justify="left", title_style="", box=None, pad_edge=False)
    for name in ("what", "measured", "of raw", "bar", "", "note"):
        shown.add_column(name, justify="right" if name in ("measured", "of raw", "bar") else "left")
    for row in report.rows:
        shown.add_row(
            row.what,
            f"{number(row.value)} {row.unit}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.bar_text,
            Text(row.verdict, "green" if row.verdict == "ok" else "bold red"),
            Text(row.note, "dim"),
        )
    return shown
