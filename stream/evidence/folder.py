"""The evidence of one incident as files, by name: ready to be sent to whoever runs the model. Pure: texts, no I/O.

No address of ours stands in it: links are left out, and of the settings there are only those that decide what is found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from stream import __version__
from stream.alerts import Alert, Links, escaped, rfc3339, yardstick_of
from stream.evidence.ocsf import finding_of
from stream.evidence.rows import COLUMNS, csv_line, row_of
from stream.notify.message import KINDS, Message, amount

SUMS = "SHA256SUMS"
README = "README.md"
STEP_COLUMNS = (
    "sequence", "status", "updated_at", "excess_tokens", "excess_output_tokens", "excess_per_hour", "excess_cost_usd",
    "added_tokens",
)  # fmt: skip
ABOUT = {
    "alerts.jsonl": "every step of the incident, in the Alert schema: opened, updated, resolved",
    "alerts.csv": "the same as a table",
    "findings.ocsf.jsonl": "the same as OCSF Detection Findings (class 2004, version 1.5)",
    "taken.csv": "tokens above the baseline, step by step",
    "ledger.json": "what was taken in all, with its 90 % interval, its parts and its price",
    "settings.json": "the settings that decide what is found, and their digest",
    "explanation.json": "why: every window against its expectation, each number that speaks for it, the baseline",
    "tokens.svg": "tokens over time, what was expected, and the band of what is usual",
}


def without_links(alert: Alert) -> Alert:
    """The alert without addresses of ours."""
    return alert.model_copy(update={"links": Links()})


def files_of(
    steps: Sequence[Alert],
    settings: Mapping[str, Any],
    ledger: Mapping[str, Any],
    made_at: float,
    explanation: Mapping[str, Any] | None = None,
    plot: str | None = None,
) -> dict[str, str]:
    """The files by name, with README.md and SHA256SUMS. `steps`: all of one incident, in their order, at least one.

    `settings`: those that decide, with their `config_digest`, as they are now; `ledger`: as `overdraw ledger --json`
    has this incident. Raises ValueError without a step.
    """
    if not steps:
        raise ValueError("there is no step of the incident")
    steps = [without_links(alert) for alert in steps]
    files = {
        "alerts.jsonl": "".join(f"{alert.model_dump_json(ensure_ascii=True)}\n" for alert in steps),
        "alerts.csv": csv_line(COLUMNS) + "".join(csv_line(row_of(alert)) for alert in steps),
        "findings.ocsf.jsonl": "".join(f"{json.dumps(finding_of(alert))}\n" for alert in steps),
        "taken.csv": csv_line(STEP_COLUMNS) + "".join(map(csv_line, _taken(steps))),
        "ledger.json": json.dumps(ledger, indent=1) + "\n",
        "settings.json": json.dumps(dict(settings), indent=1) + "\n",
    }
    if explanation is not None:
        files["explanation.json"] = json.dumps(explanation, indent=1) + "\n"
    if plot is not None:
        files["tokens.svg"] = plot
    sums = {name: _sum_of(text) for name, text in files.items()}
    files[README] = _readme(steps, settings, made_at, sums)
    files[SUMS] = "".join(f"{_sum_of(text)}  {name}\n" for name, text in sorted(files.items()))
    return files


def _sum_of(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _taken(steps: Sequence[Alert]) -> list[list[object]]:
    rows: list[list[object]] = []
    before = 0.0
    for alert in steps:
        rows.append(
            [
                alert.sequence, alert.status, rfc3339(alert.updated_at), alert.excess_tokens,
                alert.excess_output_tokens, alert.excess_per_hour, alert.excess_cost_usd, alert.excess_tokens - before,
            ]
        )  # fmt: skip
        before = alert.excess_tokens
    return rows


def _readme(steps: Sequence[Alert], settings: Mapping[str, Any], made_at: float, sums: Mapping[str, str]) -> str:
    last = steps[-1]
    facts = [fact for fact in Message(last, "").facts() if fact.label not in ("Do",)]
    digests = sorted({alert.config_digest for alert in steps})
    same = all(alert.config_digest == settings.get("config_digest") for alert in steps)
    cost = "" if last.excess_cost_usd is None else f", {last.excess_cost_usd:,.2f} USD"
    lines = [
        f"# Evidence of incident {escaped(last.alert_id)}",
        "",
        f"{last.entity.type} {_code(last.entity.id)}: {KINDS[last.kind]}. {amount(last.excess_tokens, 'tokens')} above "
        f"{yardstick_of(last.kind)} since {rfc3339(last.started_at)}{cost}.",
        "",
        *(f"- **{fact.label}**: {_plain(fact.text)}" for fact in facts),
        "",
        f"Made by Overdraw {__version__} at {rfc3339(made_at)} from {len(steps)} alerts. All times are UTC, and the "
        "times of the calls themselves. Prompts and answers are not in it: Overdraw never reads them.",
        "",
        "## Files",
        "",
        "| file | what it is | SHA-256 |",
        "|---|---|---|",
        *(f"| {name} | {ABOUT[name]} | `{digest}` |" for name, digest in sums.items()),
        "",
        f"`sha256sum -c {SUMS}` checks them all, this page as well.",
        "",
        "## How it was found",
        "",
        f"Each step names the digest of the settings that decided ({', '.join(map(escaped, digests))}).",
        "settings.json has that very digest: with these settings and the same calls `overdraw replay` finds the same."
        if same
        else "settings.json has another one: the settings were changed since.",
        "",
    ]
    return "\n".join(lines)


def _code(text: str) -> str:
    """An id as code in Markdown; nothing of it is markup."""
    return f"`{escaped(text).replace('`', chr(0x2CB))}`"


def _plain(text: str) -> str:
    """Text in Markdown that is no markup: what could begin one is escaped."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>#|~!$" else character for character in text)
