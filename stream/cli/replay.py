"""`overdraw replay`: recorded calls through the detector."""

from __future__ import annotations

import json
import sys
import time
from typing import IO, Any

import click

from stream.cli.common import BadInput, settings_from, settings_options
from stream.cli.inputs import Inputs, input_options


@click.command()
@input_options
@click.option("--alerts", "alerts_to", type=click.Path(dir_okay=False), help="Write alerts there as JSON lines.")
@click.option("--json", "as_json", is_flag=True, help="Alerts and, as the last line, the summary as JSON.")
@settings_options
def command(
    inputs: Inputs,
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
    from stream.lab.replay import Replay
    from stream.partition import partition_of

    settings = settings_from(assignments, config)
    replay = Replay(settings, partition_of=partition_of, now=time.time())
    begin = time.perf_counter()
    refusals = inputs.feed(replay)
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
    if incomplete := report["group_hours"]["incomplete"]:
        click.echo(
            f"  {incomplete:,} hours of groups were judged without a partition that was silent for long: alerts about "
            "them say so",
            out,
        )
