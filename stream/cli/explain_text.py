"""An explanation for people: paragraphs, tables and a plot, as wide as the terminal; ids escaped, no markup."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING

import click

from stream.alerts import Alert, printable, rfc3339
from stream.core.explain import short, span
from stream.core.residuals import HORIZONS
from stream.lab.plot import Point, Span, lines_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stream.cli.explain import Answer
    from stream.core.explanation import Decision, Explanation, Habits
    from stream.core.watched import Hour

PLAIN_WIDTH = 110
"""Columns where there is no terminal."""
MOST_WIDTH = 160
DAY_WINDOW = 3
DAY_SECONDS = 86_400
MOST_STEPS = 8
"""Steps of an alert's life that are listed, the first and the last ones."""
TO_ASCII = str.maketrans({"×": "x", "…": "...", "·": ".", "–": "-", "−": "-"})


def show(answer: Answer, days: float, window: int | None) -> None:
    """Print all of it; `window`: of the plot, by position in HORIZONS, None: what the alert is about."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    real = Console(file=sys.stdout)
    ascii_only = real.options.ascii_only
    width = min(real.width, MOST_WIDTH) if terminal else PLAIN_WIDTH
    out = Console(file=StringIO(), width=width, highlight=False, force_terminal=terminal, legacy_windows=False)
    for part in _parts(answer, days, window, width, ascii_only):
        out.print(part)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    if ascii_only:
        text = text.translate(TO_ASCII).encode("ascii", "backslashreplace").decode()
    click.echo("\n".join(line.rstrip() for line in text.splitlines()))


def _parts(answer: Answer, days: float, window: int | None, width: int, ascii_only: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    why = answer.explanation
    if answer.alerts:
        yield from _life(answer.alerts)
    if why is None:
        yield Text(f"key {printable(answer.key_id)}: no bucket of it has closed, so nothing is known yet")
        return
    head = Text.assemble(("key ", "dim"), (printable(why.key_id), "bold"), f", as of {rfc3339(why.as_of)}")
    yield head.append(", when the incident opened" if answer.alert_id and answer.hours else ", its last closed bucket")
    yield from (Text("  " + line) for line in habits_in_words(why, why.habits))
    yield Text()
    yield _windows(why, ascii_only)
    yield Text()
    yield from (Text(line) for line in decision_in_words(why, why.decision))
    if why.statistics:
        yield _statistics(why, ascii_only)
    for view in why.context:
        yield Text(f"  {view.effect:+.1f}  {view.reason}")
    yield Text()
    yield from (Text(line) for line in _plot(answer, days, window, width, ascii_only))


def habits_in_words(why: Explanation, habits: Habits) -> Iterator[str]:
    """What is usual for the key, a few lines."""
    yield (
        f"known for {habits.age_days:.1f} days, active on {habits.active_days}, maturity {habits.maturity:.2f}; "
        f"{why.calls:,} calls, {short(why.input_tokens)} input and {short(why.output_tokens)} output tokens in all"
    )
    yield (
        f"usually {short(habits.tokens_per_day)} tokens a day, {short(habits.tokens_per_call)} a call, "
        f"{habits.input_share:.0%} of them prompt"
    )
    yield (
        f"{habits.predictability}: an hour is within {habits.hour_factor:.1f} × of what was expected; "
        f"{habits.volatility}: within {habits.day_factor:.1f} ×"
    )
    yield (
        f"{habits.season} (season {habits.season_strength:.2f} of 1); {habits.activity} ({habits.active_share:.0%} of "
        "the last ten days)"
    )


def decision_in_words(why: Explanation, decision: Decision) -> Iterator[str]:
    """The score, what it is measured by, and the open incident."""
    yield (
        f"score {decision.score:.2f} by {decision.by}; an incident opens at {decision.threshold:.2f} (dial: "
        f"{decision.dial:g} false alerts per 1,000 key-days), a page at {decision.page_threshold:.2f}"
    )
    if decision.gate is not None:
        yield f"  not judged: {decision.gate}"
    else:
        yield (
            f"  clean days of keys like this one reach it with a chance of {decision.false_alarm_probability:.2g}; "
            f"evidence {decision.evidence:.2f} before the key's own restlessness is counted"
        )
    if abs(decision.score - decision.score_at_close) >= 0.005:
        yield f"  at the close of the bucket, before it was learned: {decision.score_at_close:.2f}"
    incident = why.incident
    if incident is not None:
        state = "cooling down" if incident.cooling else "open"
        yield (
            f"incident {state} since {rfc3339(incident.started_at)}: {incident.kind}, {incident.severity} "
            f"({incident.severity_reason}); {short(incident.excess_tokens)} tokens above the baseline since "
            f"{rfc3339(incident.since)}, highest score {incident.score:.2f}"
        )
        yield "  channels: " + ", ".join(f"{name} (z {z:.1f})" for name, z in incident.channels.items())
        yield f"  for a page it needs {decision.to_page}"
    elif decision.score >= decision.threshold:
        yield f"  for a page it needs {decision.to_page}"


def _life(alerts: Sequence[Alert]) -> Iterator[RenderableType]:
    """The steps of the last incident's alerts; of a long one the first and the last."""
    from rich.text import Text

    incidents: dict[str, list[Alert]] = {}
    for alert in alerts:
        incidents.setdefault(alert.alert_id, []).append(alert)
    for alert_id, steps in list(incidents.items())[:-1]:
        last = steps[-1]
        yield Text(
            f"earlier: {alert_id}  {last.kind}, {last.severity}, {rfc3339(last.started_at)}, {last.status}", "dim"
        )
    alert_id, steps = list(incidents.items())[-1]
    yield Text.assemble(("alert ", "dim"), (alert_id, "bold"))
    for number, alert in enumerate(steps):
        if len(steps) > MOST_STEPS and number == MOST_STEPS // 2:
            yield Text(f"  … {len(steps) - MOST_STEPS} more steps")
        if len(steps) <= MOST_STEPS or number < MOST_STEPS // 2 or number >= len(steps) - MOST_STEPS // 2:
            yield Text(
                f"  {rfc3339(alert.updated_at)}  {alert.status:<8} {alert.severity:<8} {printable(alert.summary, 300)}"
            )
    last = steps[-1]
    found = ", ".join(f"{printable(channel.name)} (z {channel.z:.1f})" for channel in last.channels)
    yield Text(f"  severity: {printable(last.severity_reason, 300)}; channels: {found}")
    yield Text()


def _table(ascii_only: bool) -> object:
    from rich import box
    from rich.table import Table

    return Table(box=box.ASCII if ascii_only else box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _windows(why: Explanation, ascii_only: bool) -> RenderableType:
    from rich.table import Table

    table = _table(ascii_only)
    assert isinstance(table, Table)
    for name in ("window", "observed", "expected", "ratio", "alone alerts at", "z", "calls"):
        table.add_column(name, justify="left" if name == "window" else "right")
    for view in why.windows:
        table.add_row(
            span(view.horizon_seconds),
            short(view.observed),
            short(view.expected),
            "" if view.ratio is None else f"{view.ratio:.2f}" if view.ratio < 1e6 else "> 1 M",
            "never" if view.upper is None else short(view.upper),
            "" if view.z is None else f"{view.z:.1f}",
            f"{view.calls:.0f}",
        )
    return table


def _statistics(why: Explanation, ascii_only: bool) -> RenderableType:
    from rich.table import Table

    table = _table(ascii_only)
    assert isinstance(table, Table)
    for name in ("channel", "number", "z", "its own days", "weight", "reason"):
        table.add_column(name, justify="right" if name in ("z", "weight") else "left")
    for view in why.statistics:
        rare = "" if view.once_in_days is None else f"1 in {short(view.once_in_days)}"
        share = f"{view.share:.1f}" if view.share else ""
        table.add_row(view.channel, view.statistic, f"{view.z:.1f}", rare, share, view.reason)
    return table


def shown_window(answer: Answer) -> int:
    """What a plot is of: the window that the last alert opened by; a quick one, or none, is drawn as 40 minutes."""
    opened = [a for a in answer.alerts if a.status == "opened" and answer.alert_id in (None, a.alert_id)]
    if opened and opened[-1].window.horizon_seconds in HORIZONS:
        return max(1, HORIZONS.index(opened[-1].window.horizon_seconds))
    return 1


def points_of(hours: Sequence[Hour], window: int) -> list[Point]:
    """A window hour by hour; for the windows of minutes the hour itself is shown, with their band."""
    return [
        Point(
            hour.start,
            hour.tokens if window < 2 else hour.windows[window].observed,
            hour.expected if window < 2 else hour.windows[window].expected,
            hour.windows[window].upper,
        )
        for hour in hours
    ]


def spans_of(alerts: Sequence[Alert]) -> list[Span]:
    """Incidents as stretches of time."""
    spans: dict[str, Span] = {}
    for alert in alerts:
        spans[alert.alert_id] = Span(alert.started_at, alert.resolved_at)
    return list(spans.values())


def _plot(answer: Answer, days: float, window: int | None, width: int, ascii_only: bool) -> Iterator[str]:
    from stream.cli.explain import last_days

    legend = (
        "bars: {bars}; - expected, ~ upper, ^ incident" if ascii_only else "{bars}; ─ expected, ┄ upper, ▲ incident"
    )
    shades = (
        ": usual, + above the expectation, # above the upper limit"
        if ascii_only
        else "▒ usual, ▓ above it, █ over the limit"
    )
    if answer.hours:
        h = shown_window(answer) if window is None else window
        points = points_of(last_days(answer.hours, days), h)
        what = "tokens per hour" if h < 2 else f"tokens per hour, mean of the last {span(HORIZONS[h])}"
        yield f"{what}, against the rate at which the window of {span(HORIZONS[h])} alone would alert"
    else:
        points = [Point(hour.start, hour.held, hour.expected, None) for hour in answer.season]
        yield (
            "tokens per hour, as the state has learned the week: what each hour of it has held (older weeks count half "
            "each), and what is expected of it now; --file shows the hours themselves"
        )
    yield from lines_of(points, spans_of(answer.alerts), width, ascii_only=ascii_only)
    yield legend.format(bars=shades)
