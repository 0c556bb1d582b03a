"""The whole page: what was read, what decided, and every incident, the strongest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream import __version__
from stream.alerts import RANK, Alert, rfc3339
from stream.core.charted import MOST_KEYS, Chart
from stream.lab.inject import words
from stream.lab.plot import Span
from stream.lab.report.incident import card_of, cost, plot_of, severity, strongest_first, until, who
from stream.lab.report.markup import facts, name, table, text
from stream.lab.report.style import STYLE
from stream.ledger import MAX_INCIDENTS, Ledger, rows_of, total_of
from stream.notify.message import amount

MOST_INCIDENTS = 200
"""Told in full: more is a list for a program, which the alerts as JSON lines are."""
MOST_PLOTS = 20
MOST_FILES = 50
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if something of a record were taken for markup, it could run nothing and fetch nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a replay came to.

    files: name and records of each; summary: as `Summary.as_json` has it; settings: those that decided, with
    `priors_digest` and `config_digest`; began, ended: the span of the calls in epoch seconds, None if there was none;
    charts: by alert id
    """

    files: Sequence[tuple[str, int]]
    summary: Mapping[str, Any]
    settings: Mapping[str, Any]
    alerts: Sequence[Alert]
    began: float | None = None
    ended: float | None = None
    charts: Mapping[str, Chart] = field(default_factory=dict)


def page_of(found: Found) -> str:
    """The page as text: the same for the same input, settings and version, for no clock is asked."""
    last = {alert.alert_id: alert for alert in found.alerts}
    incidents = sorted(last.values(), key=strongest_first)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>Overdraw: {_incidents(len(incidents))}</title><style>{STYLE}</style></head><body>",
        *_head(found, incidents),
        *_list(incidents),
        *_cards(found, incidents),
        *_input(found),
        f'<p class="soft">Made by Overdraw {text(__version__)} by a replay of records. All times are UTC and those of '
        "the calls themselves; the page holds no time of its own, so that the same records and settings make the same "
        "page. Prompts and answers are not in it: Overdraw never reads them. Excess is what was used above the key’s "
        "own baseline.</p>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _incidents(count: int) -> str:
    return f"{count:,} incident{'' if count == 1 else 's'}"


def _head(found: Found, incidents: Sequence[Alert]) -> Iterator[str]:
    yield "<header><h1>What Overdraw found</h1>"
    span = "no call was accepted"
    if found.began is not None and found.ended is not None:
        span = f"calls from {rfc3339(found.began)} to {rfc3339(found.ended)}"
    yield f'<p class="soft">{len(found.files):,} file{"" if len(found.files) == 1 else "s"}, {span}</p></header>'
    events = found.summary["events"]
    ledger = Ledger()
    for alert in incidents[:MAX_INCIDENTS]:
        ledger.take(alert)
    # a member's incident and its campaign's hold the same tokens
    total = total_of(rows_of(ledger.entries()))
    bad = Counter(alert.severity for alert in incidents)
    worst = ", ".join(f"{bad[grade]:,} {grade}" for grade in reversed(RANK) if bad[grade]) or "none"
    figures = [
        (f"{len(incidents):,}", f"incidents: {worst}"),
        (
            amount(total.excess),
            "tokens above the baselines, each once" + ("" if total.cost is None else f": {total.cost:,.2f} USD"),
        ),
        (f"{found.summary['keys']:,}", "keys"),
        (amount(events["accepted"]), f"records accepted, of {events['read']:,}"),
    ]
    boxes = "".join(f"<div><b>{text(figure)}</b>{text(what)}</div>" for figure, what in figures)
    if (injected := found.summary.get("injected")) is not None:
        said = "; ".join(words(injected))
        yield f'<p class="card"><strong>A rehearsal: one attack here is made up.</strong> {text(said)}.</p>'
    yield f'<div class="figures">{boxes}</div>'


def _list(incidents: Sequence[Alert]) -> Iterator[str]:
    yield "<h2>Incidents</h2>"
    if not incidents:
        yield "<p>None: no key and no group of keys left what is usual for it.</p>"
        return
    shown = incidents[:MOST_INCIDENTS]
    yield '<p class="soft">By severity, then by the tokens above the baseline.</p>'
    rows = [
        (
            f'<a href="#incident-{number}">{number}</a>', severity(alert), text(alert.kind), who(alert),
            f'<span class="when">{rfc3339(alert.started_at)}</span>', f'<span class="when">{until(alert)}</span>',
            amount(alert.excess_tokens), text(cost(alert)),
        )
        for number, alert in enumerate(shown, 1)
    ]  # fmt: skip
    yield table(("", "severity", "kind", "who", "since", "until", "excess", "cost"), rows, (0, 6, 7))
    if rest := incidents[MOST_INCIDENTS:]:
        by = Counter(alert.severity for alert in rest)
        grades = ", ".join(f"{by[grade]:,} {grade}" for grade in reversed(RANK) if by[grade])
        taken = amount(sum(alert.excess_tokens for alert in rest), "tokens")
        yield (
            f"<p><strong>{len(rest):,} more are not shown here</strong>, all weaker than these: {grades}, {taken} above"
            " their baselines. <code>overdraw replay … --alerts OUT.jsonl</code> has every one.</p>"
        )


def _cards(found: Found, incidents: Sequence[Alert]) -> Iterator[str]:
    if not incidents:
        return
    yield "<h2>Each of them</h2>"
    if found.summary["keys"] > MOST_KEYS:
        yield f'<p class="soft">Hours were kept, to be drawn, of the {MOST_KEYS:,} keys that were seen first.</p>'
    drawn = 0
    for number, alert in enumerate(incidents[:MOST_INCIDENTS], 1):
        plot = None
        chart = found.charts.get(alert.alert_id) if drawn < MOST_PLOTS else None
        if chart is not None:
            same = [Span(a.started_at, a.resolved_at) for a in incidents if a.entity == alert.entity]
            plot = plot_of(alert, chart, same)
            drawn += plot is not None
        yield card_of(number, alert, plot)


def _input(found: Found) -> Iterator[str]:
    events, hours = found.summary["events"], found.summary["group_hours"]
    yield "<h2>What was read</h2>"
    yield table(("file", "records"), [(name(file), f"{count:,}") for file, count in found.files[:MOST_FILES]], (1,))
    if len(found.files) > MOST_FILES:
        yield f"<p>And {len(found.files) - MOST_FILES:,} more files.</p>"
    refused = events["dead_letters"]
    rows = [
        ("Accepted", f"{events['accepted']:,}"),
        ("Duplicate", f"{events['duplicate']:,}, counted once"),
        ("Late", f"{events['late']:,}, not counted" if events["late"] else "0"),
        ("Refused", ", ".join(f"{count:,} {text(reason)}" for reason, count in refused.items()) or "0"),
        ("Tokens", f"{found.summary['tokens']['input']:,} input, {found.summary['tokens']['output']:,} output"),
        ("Hours of groups", f"{hours['closed']:,} judged" + _incomplete(hours["incomplete"])),
    ]
    yield facts(rows)
    yield "<h2>What decided</h2>"
    yield facts((setting, name(_words(value))) for setting, value in found.settings.items() if value != [])


def _incomplete(count: int) -> str:
    return f", {count:,} of them without a partition that was silent for long" if count else ""


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
