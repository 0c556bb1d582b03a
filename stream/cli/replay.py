"""`overdraw replay`: recorded calls through the detector."""

from __future__ import annotations

import json
import sys
import time
from typing import IO, TYPE_CHECKING, Any

import click

from stream.cli.common import BAD_INPUT, BadInput, settings_from, settings_options
from stream.cli.inputs import Inputs, Refusals, input_options
from stream.cli.output import files_of, keep_apart, text_file
from stream.cli.page import Page

if TYPE_CHECKING:
    from stream.core.charted import Charts
    from stream.lab.inject import Mixer
    from stream.lab.replay import Replay
    from stream.settings import Settings


@click.command()
@input_options
@click.option(
    "--alerts", "alerts_to", type=click.Path(dir_okay=False), metavar="FILE",
    help="Write alerts there as JSON lines, packed if it ends in .gz.",
)  # fmt: skip
@click.option("--report", "report_to", type=click.Path(), metavar="OUT.html", help="Write one page to pass on.")
@click.option("--inject", metavar="SCENARIO", help="Lay an attack over the records: surge, drift, leaked-key …")
@click.option("--seed", type=click.IntRange(0), help="Which attack --inject makes; 1.")
@click.option("--json", "as_json", is_flag=True, help="Alerts and, as the last line, the summary as JSON.")
@settings_options
def command(
    inputs: Inputs,
    alerts_to: str | None,
    report_to: str | None,
    inject: str | None,
    seed: int | None,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Run the detector over recorded calls: .jsonl or .csv files, gzip or not, - for standard input, or kafka:TOPIC.

    Files are read one after the other, each in its own order. A topic is read from its beginning to what is its end
    now, its partitions by the times at which their records were written; nothing is committed and no worker is
    disturbed. As in files, any time up to now is taken, and keys go to the shards of their ids, wherever their records
    stand: what a worker makes a dead letter (future, misrouted) counts here. The exit code is 0 whether or not
    something was found, and 2 if nothing was read: no record, or none that could be taken.
    The page of --report needs nothing but a browser: it holds the summary, the settings that decided, the 200 strongest
    incidents, and plots of the 20 strongest of single keys. The same records and settings make the same page.

    With --inject the files are read twice: once to choose a key and a time, once with the attack's calls among the
    records, which the counts then hold as well. At the end it says whether an incident opened on it, and how soon.

    \b
    Example:
      overdraw replay calls.jsonl.gz --alerts alerts.jsonl
      overdraw replay calls.jsonl.gz --report found.html
      overdraw replay calls.jsonl.gz --inject leaked-key --seed 3
      overdraw replay kafka:api-calls --set broker=kafka:9092 --report found.html
      overdraw replay usage.csv --map key_id=account --map time=created --set bucket_seconds=600 --json
    """
    from stream.alerts import printable_json
    from stream.core.charted import Charts
    from stream.core.key import KeyState
    from stream.lab.inject import outcome
    from stream.lab.replay import Replay
    from stream.lab.report.page import MOST_PLOTS
    from stream.partition import partition_of

    if seed is not None and inject is None:
        raise click.UsageError("--seed is for --inject: nothing else is left to chance")
    if alerts_to == "-":
        raise BadInput("--alerts needs the name of a file: --json writes alerts to standard output")
    settings = settings_from(assignments, config)
    now = time.time()
    read = [*inputs.paths, inputs.reading.mapping_file, *files_of(settings, config)]
    keep_apart("--alerts", alerts_to, read)
    page = None if report_to is None else _page_at(report_to, [alerts_to, *read])
    mixer = None if inject is None else _mixer(inject, 1 if seed is None else seed, inputs, settings, now)
    charts = None if page is None else Charts(MOST_PLOTS)
    replay = Replay(settings, partition_of=partition_of, now=now, make_key=charts or KeyState)
    begin = time.perf_counter()
    refusals = inputs.feed(replay, mixer)
    summary = replay.summary
    report = summary.as_json(time.perf_counter() - begin)
    if mixer is not None:
        slack = settings.bucket_seconds + settings.allowed_lateness_seconds
        report["injected"] = outcome(mixer.injection, summary.step.alerts, slack)
    lines = (alert.model_dump_json() for alert in summary.step.alerts)
    if alerts_to is not None:
        with text_file(alerts_to) as out:
            out.writelines(line + "\n" for line in lines)
    if page is not None and charts is not None:
        page.write(_report(report, replay, charts, refusals))
    refusals.tell(report["events"])
    if as_json:
        if alerts_to is None:
            for line in lines:
                click.echo(printable_json(line))
        click.echo(json.dumps(report))
    else:
        _tell(report, replay, sys.stdout)
    if not report["events"]["accepted"]:
        # whoever looks at the code alone must not take it for a time without incidents
        raise click.exceptions.Exit(BAD_INPUT)


def _mixer(name: str, seed: int, inputs: Inputs, settings: Settings, now: float) -> Mixer:
    from stream.lab.files import InputError
    from stream.lab.inject import Mixer, check, plan

    try:
        check(name)
        return Mixer(plan(name, inputs.survey(settings, now), seed), now)
    except InputError as error:
        raise BadInput(str(error)) from error


def _page_at(path: str, others: list[str | None]) -> Page:
    """Where the page goes; raises BadInput now, not after hours, if it cannot."""
    if path == "-":
        raise BadInput("--report needs the name of a file: standard output has the alerts")
    keep_apart("--report", path, others)
    return Page(path)


def _report(summary: dict[str, Any], replay: Replay, charts: Charts, refusals: Refusals) -> str:
    from stream.cli.evidence import settings_of
    from stream.lab.report import Found, page_of

    settings = replay.settings
    newest = max(shard.newest for shard in replay.shards)
    some = charts.first_bucket >= 0
    return page_of(
        Found(
            files=refusals.files,
            summary=summary,
            settings=settings_of(settings),
            alerts=replay.summary.step.alerts,
            began=float(charts.first_bucket * settings.bucket_seconds) if some else None,
            ended=newest if some else None,
            charts=charts.finish(settings.bucket_seconds),
        )
    )


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
    if incomplete := report["group_hours"]["incomplete"]:
        click.echo(
            f"  {incomplete:,} hours of groups were judged without a partition that was silent for long: alerts about "
            "them say so",
            out,
        )
    if "injected" in report:
        from stream.lab.inject import words

        for line in words(report["injected"]):
            click.echo(line, out)
