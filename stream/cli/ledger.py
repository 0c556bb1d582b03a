"""`overdraw ledger`: what incidents have taken, and at what price."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from stream.alerts import Alert, escaped, printable, printable_json, rfc3339
from stream.cli.common import BadInput, moment_of, settings_from, settings_options
from stream.cli.export import each_alert

if TYPE_CHECKING:
    from stream.ledger import Entry, Ledger, Row, Sums
    from stream.prices import Prices
    from stream.settings import Settings

FORMATS = ("table", "csv", "json")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What begins a cell that a spreadsheet would run."""
COLUMNS = (
    "entity_type", "entity_id", "incidents", "alert_ids", "kinds", "status", "since", "until", "calls", "excess_tokens",
    "excess_low", "excess_high", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost",
    "cost_low", "cost_high", "currency", "unpriced_tokens", "counted_tokens", "within", "models",
)  # fmt: skip
MAX_LISTED = 20
"""Ids of incidents in a cell; JSON has them all."""
MEMBERS = 100
LINE = "{:<34} {:>3} {:<17} {:<17} {:>9} {:>8} {:>17} {:>8} {:>8} {:>9} {:>11}"


@click.command()
@click.option("--key", metavar="KEY_ID", help="Only this key, and its part of groups that name it.")
@click.option("--org", metavar="ORG_ID", help="Only groups about this organisation, and the keys that they name.")
@click.option("--since", metavar="TIME", help="Incidents that lasted beyond this time, such as 2026-03-01T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Incidents that began before this time.")
@click.option("--prices", "prices_file", type=click.Path(dir_okay=False), metavar="FILE", help="Price file (TOML).")
@click.option("--by", type=click.Choice(("entity", "incident")), default="entity", help="What a row is.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="How it is written; table.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--from-file", type=click.Path(dir_okay=False), metavar="ALERTS.jsonl",
    help="Alerts of `replay --alerts`, or - for standard input, instead of Kafka.",
)  # fmt: skip
@settings_options
def command(
    key: str | None,
    org: str | None,
    since: str | None,
    until: str | None,
    prices_file: str | None,
    by: str,
    form: str | None,
    as_json: bool,
    from_file: str | None,
    assignments: tuple[str, ...],
    config: str | None,
) -> None:
    """Say what keys, groups and campaigns have taken above their baselines: since when, how many tokens, at what price.

    It is a sum of the alert topic, which is exact whatever was killed, as far back as the topic reaches. Incidents
    count whole, also where they reach beyond --since or --until.

    \b
    Example:
      overdraw ledger --since 2026-03-01T00:00:00Z --prices prices.toml
      overdraw ledger --key key-042 --by incident --format csv > key-042.csv
      overdraw ledger --from-file alerts.jsonl --json
    """
    from stream.ledger import LedgerFullError, rows_of

    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json is --format json, and --format {form} is another: leave one out")
    begin = -math.inf if since is None else moment_of(since, "--since")
    end = math.inf if until is None else moment_of(until, "--until")
    if begin >= end:
        raise click.UsageError("--since must lie before --until")
    prices = None if prices_file is None else prices_of(prices_file)
    try:
        if from_file is not None:
            ledger = read_file(from_file)
        else:
            ledger = asyncio.run(from_kafka(settings_from(assignments, config)))
    except LedgerFullError as error:
        raise BadInput(f"{error}: give it alerts of less time at once, by --from-file") from error
    rows = rows_of(ledger.entries(key=key, org=org, since=begin, until=end), prices, by_entity=by == "entity")
    {"table": _table, "csv": _csv, "json": _json}["json" if as_json else form or "table"](rows, prices)


def prices_of(path: str) -> Prices:
    """The prices of a file; raises BadInput."""
    from stream.prices import PriceFileError, Prices

    try:
        with open(path, encoding="utf-8") as file:
            return Prices(file.read())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8") from error
    except PriceFileError as error:
        raise BadInput(f"{path}: {error}") from error


def read_file(path: str) -> Ledger:
    """The ledger of a file; raises BadInput on a line that is not an alert."""
    from pydantic import ValidationError

    from stream.lab.files import InputError, read_lines
    from stream.ledger import Ledger

    ledger = Ledger()
    try:
        for number, line in (record for chunk in read_lines(path) for record in chunk):
            try:
                if line.strip():
                    ledger.take(Alert.model_validate_json(line))
            except ValidationError as error:
                raise BadInput(
                    f"{path}, line {number}: not an alert of this version: `overdraw replay … --alerts FILE` "
                    "writes such a file, and `overdraw schema alert` says what it holds"
                ) from error
    except InputError as error:
        raise BadInput(str(error)) from error
    return ledger


async def from_kafka(settings: Settings) -> Ledger:
    """The ledger of the alert topic; what is no alert in it is counted and said."""
    from stream.ledger import Ledger

    ledger = Ledger()
    await each_alert(settings, ledger.take)
    return ledger


def _table(rows: Sequence[Row], prices: Prices | None) -> None:
    from stream.core.explain import short
    from stream.ledger import total_of

    if not rows:
        click.echo("no incident so far")
        return
    currency = _currency(prices)
    heads = ("who", "n", "since", "until", "calls", "tokens", "90 % interval", "input", "output", "reasoning", currency)
    click.echo(LINE.format(*heads).rstrip())

    def line(who: str, incidents: int, since: str, until: str, sums: Sums) -> None:
        between = "–" if sums.low is None or sums.high is None else f"{short(sums.low)} – {short(sums.high)}"
        numbers = (sums.excess, sums.input, sums.output, sums.reasoning)
        excess, *parts = ("–" if number is None else short(number) for number in numbers)
        calls = "–" if sums.calls is None else f"{sums.calls:,}"
        cost = "–" if sums.cost is None else f"{sums.cost:,.2f}"
        click.echo(LINE.format(who, incidents, since, until, calls, excess, between, *parts, cost).rstrip())

    for row in rows:
        who = f"{row.entity.type} {printable(row.entity.id, 33 - len(row.entity.type))}"
        line(who, len(row.entries), _minute(row.since), "open" if row.open else _minute(row.until), row.sums)
    total = total_of(rows)
    line("all, each token once", sum(len(row.entries) for row in rows), "", "", total)
    for note in _notes(rows, total, prices):
        click.echo(note)


def _notes(rows: Sequence[Row], total: Sums, prices: Prices | None) -> list[str]:
    """What has to be known of the numbers."""
    from stream.core.explain import short

    notes = []
    twice = sum(row.sums.excess for row in rows) - total.excess
    if twice >= 1:
        notes.append(f"{short(twice)} tokens are in a group's row and in that of a member: they count once below.")
    if total.unpriced >= 1:
        remedy = "say --prices FILE" if prices is None else 'add its models, or "*" for all others, to the price file'
        notes.append(f"{short(total.unpriced)} tokens have no price: {remedy}.")
    return notes


def _minute(seconds: float) -> str:
    return rfc3339(seconds // 60 * 60)[:16] + "Z"


def _currency(prices: Prices | None) -> str:
    from stream.ledger import GATEWAY_CURRENCY

    return GATEWAY_CURRENCY if prices is None else prices.currency


def _csv(rows: Sequence[Row], prices: Prices | None) -> None:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        record = _record(row, prices)
        record["alert_ids"] = _listed([entry.alert_id for entry in row.entries])
        record["kinds"] = " ".join(record["kinds"])
        record["within"] = _listed(record["within"])
        record["models"] = " ".join(f"{name}:{share:.3f}" for name, share in record["models"].items())
        table.writerow([cell(record[column]) for column in COLUMNS])
    click.echo(out.getvalue(), nl=False)


def _listed(ids: Sequence[str]) -> str:
    more = [f"and {len(ids) - MAX_LISTED} more"] if len(ids) > MAX_LISTED else []
    return " ".join([*ids[:MAX_LISTED], *more])


def cell(value: object) -> str:
    r"""A cell of a CSV: controls escaped, and what a spreadsheet would take for a formula marked as text.

    >>> cell("=cmd|'/c calc'!A1"), cell(" \t+1"), cell(None), cell(0.5), cell("key-1")
    ("'=cmd|'/c calc'!A1", "' \\t+1", '', '0.5', 'key-1')
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    text = escaped(value)
    return f"'{text}" if value.lstrip(" \u3000\xa0").startswith(FORMULA) or value.lstrip().startswith(FORMULA) else text


def _json(rows: Sequence[Row], prices: Prices | None) -> None:
    click.echo(printable_json(json.dumps(document_of(rows, prices))))


def document_of(rows: Sequence[Row], prices: Prices | None) -> dict[str, Any]:
    """The rows and their total as JSON."""
    from stream.ledger import total_of

    return {
        "currency": _currency(prices),
        "entries": [_record(row, prices) | {"of": [_incident(entry, prices) for entry in row.entries]} for row in rows],
        "total": _numbers(total_of(rows)),
    }


def _record(row: Row, prices: Prices | None) -> dict[str, Any]:
    """A row, all of its numbers as `_numbers` gives them."""
    from stream.ledger import models_of

    return {
        "entity_type": row.entity.type,
        "entity_id": row.entity.id,
        "incidents": len(row.entries),
        "kinds": sorted({entry.kind for entry in row.entries}),
        "status": "open" if row.open else "resolved",
        "since": rfc3339(row.since),
        "until": rfc3339(row.until),
        **_numbers(row.sums),
        "currency": _currency(prices) if row.sums.cost is not None else None,
        "counted_tokens": round(row.counted),
        "within": _unique(entry.within for entry in row.entries),
        "models": models_of(row.entries, prices),
    }


def _incident(entry: Entry, prices: Prices | None) -> dict[str, Any]:
    """One incident of a row."""
    from stream.ledger import models_of

    return {
        "alert_id": entry.alert_id,
        "sequence": entry.sequence,
        "kind": entry.kind,
        "severity": entry.severity,
        "status": "open" if entry.open else "resolved",
        "started_at": rfc3339(entry.started),
        "since": rfc3339(entry.since),
        "until": rfc3339(entry.until),
        **_numbers(entry.sums),
        "counted_tokens": round(entry.counted * entry.sums.excess),
        "within": entry.within,
        "models": models_of([entry], prices),
        "members": [member.model_dump(mode="json") for member in entry.members[:MEMBERS]],
        "shared_traits": dict(entry.traits),
    }


def _unique(ids: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(alert_id for alert_id in ids if alert_id is not None))


def _numbers(sums: Sums) -> dict[str, int | float | None]:
    """Whole tokens, and money to four digits."""

    def whole(number: float | None) -> int | None:
        return None if number is None else round(number)

    def money(number: float | None) -> float | None:
        return None if number is None else round(number, 4)

    return {
        "calls": sums.calls,
        "excess_tokens": whole(sums.excess),
        "excess_low": whole(sums.low),
        "excess_high": whole(sums.high),
        "input_tokens": whole(sums.input),
        "cached_input_tokens": whole(sums.cached_input),
        "output_tokens": whole(sums.output),
        "reasoning_tokens": whole(sums.reasoning),
        "cost": money(sums.cost),
        "cost_low": money(sums.cost_low),
        "cost_high": money(sums.cost_high),
        "unpriced_tokens": whole(sums.unpriced),
    }
