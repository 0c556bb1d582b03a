"""`overdraw check`: whether everything is there that a worker needs."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stream.cli.common import FOUND, UNREACHABLE, BadInput, FiniteRange, settings_from, settings_options
from stream.cli.topics import quiet_client

if TYPE_CHECKING:
    from stream.settings import Settings
    from stream.worker.forecast import Keys
    from stream.worker.inspection import Finding

COLOURS = {"ok": "green", "hint": "yellow", "problem": "red"}


@click.command("check")
@click.option(
    "--live", is_flag=True, help="Also look at the records at the end of the topics: do their keys lie right?"
)
@click.option("--for", "seconds", type=FiniteRange(0), help="With --live: look at what comes in so many seconds.")
@click.option(
    "--keys",
    type=click.IntRange(1),
    metavar="N",
    help="Active keys to count false alerts for; else those of the last day.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: ok, findings, forecast, settings (no secrets).")
@settings_options
def command(
    live: bool,
    seconds: float | None,
    keys: int | None,
    as_json: bool,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Check settings, broker, topics, rights and retention, and say how to mend what is wrong.

    It also says how many false alerts and pages to expect by the dials in force: of --keys, or of the keys on the state
    topic, which it reads if the topics are as they must be (a million keys take some seconds).

    \b
    Example:
      overdraw check
      overdraw check --set broker=kafka:9092 --json
      overdraw check --live --for 60
      overdraw check --keys 5000

    Exit: 0 all is well (hints included), 1 a problem was found, 2 a wrong setting, 3 no broker.
    """
    from stream.worker.cluster import BrokerUnreachable
    from stream.worker.forecast import Keys, findings_of, forecast
    from stream.worker.inspection import Finding, cluster_findings, settings_findings, shown_settings
    from stream.worker.placement import live_findings

    if seconds is not None and not live:
        raise BadInput("--for says how long to look at what comes: say --live too")
    settings = settings_from(assignments, config)
    quiet_client()
    findings = settings_findings(settings)
    code = 0
    known = None if keys is None else Keys(keys, keys)
    try:
        findings += asyncio.run(cluster_findings(settings))
        if live:
            findings += asyncio.run(live_findings(settings, seconds or 0.0))
        if known is None and not any(finding.level == "problem" for finding in findings):
            known = _keys(settings, findings)
    except BrokerUnreachable as error:
        text, _, remedy = str(error).partition(": ")
        findings.append(Finding("problem", "broker", text, remedy))
        code = UNREACHABLE
    else:
        code = FOUND if any(finding.level == "problem" for finding in findings) else 0
    made = None if known is None else forecast(settings, known)
    if made is not None:
        findings += findings_of(made)
    if as_json:
        report = {
            "ok": code == 0,
            "findings": [asdict(finding) for finding in findings],
            "forecast": None if made is None else asdict(made),
            "settings": shown_settings(settings),
        }
        click.echo(json.dumps(report))
    else:
        for finding in findings:
            click.echo(_line(finding))
    sys.stdout.flush()
    if code:
        raise click.exceptions.Exit(code)


def _keys(settings: Settings, findings: list[Finding]) -> Keys | None:
    """The keys that the state topic tells of; None, and a finding, if it does not."""
    from aiokafka.errors import KafkaError

    from stream.alerts import printable
    from stream.core.state import StateError
    from stream.worker.forecast import SUBJECT, known_keys
    from stream.worker.inspection import Finding

    try:
        return asyncio.run(known_keys(settings))
    except (KafkaError, StateError, TimeoutError) as error:
        text = printable(f"the keys on {settings.state_topic} cannot be counted: {error}", 300)
        findings.append(Finding("hint", SUBJECT, text, "say --keys N to have them foretold"))
        return None


def _line(finding: Finding) -> str:
    word = click.style(f"{finding.level:<8}", fg=COLOURS[finding.level])
    remedy = f"\n{'':9}→ {finding.remedy}" if finding.remedy else ""
    return f"{word} {finding.subject}: {finding.text}{remedy}"
