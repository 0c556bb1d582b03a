"""An explanation for people: paragraphs, tables and a plot, as wide as the terminal; ids escaped, no markup."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING

import click

from stream.alerts import Alert, printable, rfc3339
from stream.cli.explain_words import decision_in_words, habits_in_words, life_in_words
from stream.core.explain import short, span
from stream.core.explanation import BAND_DAYS
from stream.core.residuals import HORIZONS
from stream.lab.plot import ASCII, BLOCKS, Point, Span, lines_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stream.cli.explain import Answer
    from stream.core.explanation import Explanation
    from stream.core.watched import Hour

PLAIN_WIDTH = 110
"""Columns where there is no terminal."""
MOST_WIDTH = 160
TO_ASCII = str.maketrans({"×": "x", "…": "...", "·": ".", "–": "-", "−": "-"})


def show(answer: Answer, days: float, window: int | None) -> None:
    """Print all of it; `window`: of the plot, by position in HORIZONS, None: what the alert is about."""
    from rich.console import Console
    from rich.text import Text

    terminal = sys.stdout.isatty()
    real = Console(file=sys.stdout)
    ascii_only = real.options.ascii_only
    width = min(real.width, MOST_WIDTH) if terminal else PLAIN_WIDTH
    out = Console(file=StringIO(), width=width, highlight=False, force_terminal=terminal, legacy_windows=False)
    for part in _parts(answer, days, window, width, ascii_only):
        out.print(part if not isinstance(part, str) else Text(_wrapped(part, width)))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    if ascii_only:
        text = text.translate(TO_ASCII).encode("ascii", "backslashreplace").decode()
    click.echo("\n".join(line.rstrip() for line in text.splitlines()))


def _wrapped(line: str, width: int) -> str:
    """One line as a paragraph, what follows its first line indented more."""
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, width, subsequent_indent=indent)


def _parts(
    answer: Answer, days: float, window: int | None, width: int, ascii_only: bool
) -> Iterator[str | RenderableType]:
    why = answer.explanation
    if answer.alerts:
        yield from life_in_words(answer.alerts, answer.alert_id)
        yield ""
    if why is None:
        if not answer.alerts or answer.alerts[-1].entity.type == "key":
            yield f"key {printable(answer.key_id)}: no bucket of it had closed, so nothing was known of it"
        return
    opening = answer.alert_id is not None and answer.hours
    moment = "when the incident's first bucket had closed" if opening else "the end of its last closed bucket"
    yield f"key {printable(why.key_id)} as of {rfc3339(why.as_of)}, {moment}"
    yield from (f"  {line}" for line in habits_in_words(why, why.habits))
    yield ""
    yield _windows(why, ascii_only)
    yield ""
    yield from decision_in_words(why, why.decision)
    if why.statistics:
        yield ""
        yield _statistics(why, ascii_only)
    if why.context:
        yield ""
        yield "what raises and lowers the score, against a key that is neither this nor that:"
    yield from (f"  {view.effect:+.1f}  {view.reason}" for view in why.context)
    yield ""
    yield from _plot(answer, days, window, width, ascii_only)


def _table(ascii_only: bool) -> object:
    from rich import box
    from rich.table import Table

    return Table(box=box.ASCII if ascii_only else box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _windows(why: Explanation, ascii_only: bool) -> RenderableType:
    from rich.table import Table

    table = _table(ascii_only)
    assert isinstance(table, Table)
    for name in ("window", "observed", "expected", "ratio", "1 day in 20", "z", "calls", "alone alerts at"):
        table.add_column(name, justify="left" if name == "window" else "right")
    for view in why.windows:
        table.add_row(
            span(view.horizon_seconds),
            short(view.observed),
            short(view.expected),
            "" if view.ratio is None else f"{view.ratio:.2f}" if view.ratio < 1e6 else "> 1 M",
            "" if view.band is None else short(view.band),
            "" if view.z is None else f"{view.z:.1f}",
            f"{view.calls:.0f}",
            "never" if view.upper is None else short(view.upper),
        )
    return table


def _statistics(why: Explanation, ascii_only: bool) -> RenderableType:
    from rich.table import Table

    table = _table(ascii_only)
    assert isinstance(table, Table)
    for name in ("channel", "number", "z", "own days", "weight", "reason"):
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
            hour.windows[window].band,
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

    if answer.hours:
        h = shown_window(answer) if window is None else window
        points = points_of(last_days(answer.hours, days), h)
        what = "tokens per hour" if h < 2 else f"tokens per hour, mean of the last {span(HORIZONS[h])}"
        yield f"{what}; its own days go beyond the band once in {BAND_DAYS:g}"
    else:
        points = [Point(hour.start, hour.held, hour.expected, None) for hour in answer.season]
        yield (
            "tokens per hour, as the state has learned the week: what each hour of it has held (older weeks count half "
            "each), and what is expected of it now; --file shows the hours themselves"
        )
    yield from lines_of(points, spans_of(answer.alerts), width, ascii_only=ascii_only)
    signs = ASCII if ascii_only else BLOCKS
    over, band = (f", {signs.over} beyond its band", f", {signs.band} band") if answer.hours else ("", "")
    yield (
        f"{signs.usual} as expected, {signs.above} above that{over}; {signs.expected} expected{band}, "
        f"{signs.incident} incident"
    )
