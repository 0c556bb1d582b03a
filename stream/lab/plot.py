"""A key's rate against its band as text: one column a stretch of hours, eighths of a character high."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stream.core.explain import short

ROWS = 10
LOG_FROM = 12.0
"""Where the highest rate is so many times the usual one, the axis is logarithmic: else the usual would be a line."""
LEAST_SHARE = 0.05
"""A logarithmic axis begins at this share of the usual rate: silence has no logarithm."""
HOUR_SECONDS = 3600
MARGIN = 9
"""Columns for the numbers of the axis."""


@dataclass(frozen=True, slots=True)
class Point:
    """One hour: its start in epoch seconds, and tokens per hour; `band`: where what is usual ends. None: not known."""

    start: float
    observed: float | None
    expected: float | None
    band: float | None


@dataclass(frozen=True, slots=True)
class Span:
    """An incident: from its start to its end, None while it is open."""

    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters: of a bar up to the expectation, above it, above the band; tops of bars by eighths."""

    usual: str
    above: str
    over: str
    tops: str
    expected: str
    band: str
    incident: str
    axis: str
    floor: str


BLOCKS = Signs("▒", "▓", "█", "▁▂▃▄▅▆▇", "─", "┄", "▲", "┤", "─")
ASCII = Signs(":", "+", "#", "...::::", "-", "~", "^", "|", "-")


@dataclass(frozen=True, slots=True)
class Axis:
    """Rates to heights in [0, rows]."""

    top: float
    least: float
    rows: int
    logarithmic: bool

    @classmethod
    def of(cls, points: Sequence[Point], rows: int) -> Axis:
        """One that holds all observed and expected rates, and their bands unless those are far beyond."""
        observed = [p.observed for p in points if p.observed is not None]
        expected = sorted(p.expected for p in points if p.expected is not None)
        highest = max(*observed, *expected, 1.0, 1.0)
        usual = max(expected[len(expected) // 2] if expected else 0.0, highest / 1000, 1.0)
        bands = sorted(p.band for p in points if p.band is not None)
        if bands:
            # a band is wide in the first days: it must not press all else to the ground
            highest = max(highest, min(bands[-1], 1.5 * max(highest, bands[len(bands) // 2])))
        return cls(highest, LEAST_SHARE * usual, rows, highest / usual >= LOG_FROM)

    def height(self, rate: float) -> float:
        """The height of a rate, cut at the top."""
        if rate <= 0:
            return 0.0
        if self.logarithmic:
            share = math.log(max(rate, self.least) / self.least) / math.log(self.top / self.least)
        else:
            share = rate / self.top
        return self.rows * min(share, 1.0)

    def rate(self, height: float) -> float:
        """The rate at a height."""
        share = height / self.rows
        return self.least * (self.top / self.least) ** share if self.logarithmic else share * self.top


def lines_of(
    points: Sequence[Point], spans: Sequence[Span], width: int, *, ascii_only: bool = False, rows: int = ROWS
) -> list[str]:
    """The plot's lines, none wider than `width`, the days below; no line without points.

    Bars are what was observed, shaded by what was expected and by the band; where a bar ends below these, they are
    drawn by themselves. Hours without telemetry stay empty.
    """
    if not points:
        return []
    signs = ASCII if ascii_only else BLOCKS
    first, last = points[0].start, points[-1].start
    hours = int((last - first) / HOUR_SECONDS) + 1
    per_column = max(1, math.ceil(hours / max(width - MARGIN, 8)))
    columns = _columns(points, first, math.ceil(hours / per_column), per_column)
    axis = Axis.of([point for point in columns if point is not None], rows)
    cells = [[" "] * len(columns) for _ in range(rows)]
    for x, point in enumerate(columns):
        if point is not None:
            _draw(cells, x, point, axis, signs)
    lines = []
    for row in reversed(range(rows)):
        label = short(axis.rate(row + 1)) if (rows - 1 - row) % 3 == 0 else ""
        lines.append(f"{label:>{MARGIN - 2}} {signs.axis if label else ' '}{''.join(cells[row])}".rstrip())
    marks = [_mark(first, x, per_column, spans, signs) for x in range(len(columns))]
    lines.append(" " * (MARGIN - 1) + " " + "".join(marks))
    lines.append(" " * (MARGIN - 1) + " " + _days(first, len(columns), per_column))
    return [line.rstrip() for line in lines]


def _columns(points: Sequence[Point], first: float, count: int, per_column: int) -> list[Point | None]:
    """Means of some hours each; None where nothing is known."""
    held: list[list[Point]] = [[] for _ in range(count)]
    for point in points:
        held[int((point.start - first) / HOUR_SECONDS) // per_column].append(point)
    return [
        Point(
            part[0].start,
            _mean([p.observed for p in part]),
            _mean([p.expected for p in part]),
            _mean([p.band for p in part]),
        )
        if part
        else None
        for part in held
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _draw(cells: list[list[str]], x: int, point: Point, axis: Axis, signs: Signs) -> None:
    expected = axis.height(point.expected) if point.expected is not None else None
    band = axis.height(point.band) if point.band is not None and point.band <= axis.top else None
    for height, sign in ((band, signs.band), (expected, signs.expected)):
        if height is not None:
            cells[min(int(height), axis.rows - 1)][x] = sign
    if not point.observed:
        return
    bar = axis.height(point.observed)
    for row in range(math.floor(bar)):
        sign = signs.usual
        if expected is not None and row + 0.5 > expected:
            sign = signs.above
        if band is not None and row + 0.5 > band:
            sign = signs.over
        cells[row][x] = sign
    eighths = int((bar - math.floor(bar)) * 8)
    if eighths and cells[math.floor(bar)][x] == " ":
        cells[math.floor(bar)][x] = signs.tops[eighths - 1]


def _mark(first: float, x: int, per_column: int, spans: Sequence[Span], signs: Signs) -> str:
    begin = first + x * per_column * HOUR_SECONDS
    end = begin + per_column * HOUR_SECONDS
    for span in spans:
        if begin <= span.start < end:
            return signs.incident
        if span.start < begin and (span.end is None or begin < span.end):
            return signs.floor
    return " "


def _days(first: float, columns: int, per_column: int) -> str:
    """Dates below the columns that a UTC day begins with, as many as there is room for."""
    line = [" "] * (columns + 6)
    free = 0
    for x in range(columns):
        begin = first + x * per_column * HOUR_SECONDS
        day = math.ceil(begin / 86_400) * 86_400
        if day < begin + per_column * HOUR_SECONDS and x >= free and x + 5 <= columns:
            line[x : x + 5] = datetime.fromtimestamp(day, UTC).strftime("%m-%d")
            free = x + 7
    return "".join(line)
