"""A key's rate against its band as an SVG: no script, no font, no colour that a dark page would swallow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from stream.core.explain import short
from stream.lab.plot import Axis, Point, Span

WIDTH, HEIGHT = 960, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 46, 56
DAY_SECONDS = 86_400
HOUR_SECONDS = 3600
MOST_DATES = 16
STYLE = """
  .paper { fill: #ffffff } .text { fill: #24292f } .quiet { fill: #57606a }
  .grid { stroke: #d0d7de } .hours { fill: #9aa7b5; opacity: .45 } .inside { fill: #2f81f7; opacity: .16 }
  .expected { stroke: #2f81f7 } .band { stroke: #2f81f7; stroke-dasharray: 5 4 } .observed { stroke: #cf222e }
  .incident { fill: #cf222e; opacity: .09 } .mark { stroke: #cf222e }
  .marked { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .text { fill: #e6edf3 } .quiet { fill: #8b949e } .grid { stroke: #30363d }
    .hours { fill: #6e7681 } .inside { fill: #58a6ff } .expected, .band { stroke: #58a6ff }
    .observed, .mark { stroke: #ff7b72 } .incident, .marked { fill: #ff7b72 }
  }
"""

Place = Callable[[float], float]
"""Event time, or a rate, to a coordinate."""


def svg_of(
    title: str,
    subtitle: str,
    hours: Sequence[tuple[float, float]],
    points: Sequence[Point],
    spans: Sequence[Span],
    mark: str,
    style: str = STYLE,
) -> str:
    """The picture as text.

    hours: (start in epoch seconds, tokens) of each, as grey bars; points: the window that is judged, with its band;
    spans: incidents, each marked with `mark`; style: what is written into it, nothing for a page that has STYLE itself.
    Texts are untrusted, and escaped. Raises ValueError without points.
    """
    if not points:
        raise ValueError("no hour of the key has ended: there is nothing to draw")
    seen = [Point(start, tokens, None, None) for start, tokens in hours]
    axis = Axis.of([*points, *seen], HEIGHT - TOP - BOTTOM)
    axis = Axis(axis.top * 1.04, axis.least, axis.rows, False)
    # the axis holds the bars of single hours, too
    first, last = points[0].start, points[-1].start + HOUR_SECONDS
    scale = (WIDTH - LEFT - RIGHT) / (last - first)

    def x(time: float) -> float:
        return LEFT + scale * (min(max(time, first), last) - first)

    def y(rate: float) -> float:
        return HEIGHT - BOTTOM - axis.height(rate)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12"><title>{escape(title)}</title>',
        *([f"<style>{style}</style>"] if style else []),
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        f'<text class="text" x="{LEFT}" y="20" font-size="14" font-weight="600">{escape(title)}</text>',
        f'<text class="quiet" x="{LEFT}" y="37">{escape(subtitle)}</text>',
    ]
    for quarter in range(5):
        rate = axis.top * quarter / 4
        parts.append(f'<path class="grid" d="M{LEFT} {y(rate):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="quiet" x="{LEFT - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{short(rate)}</text>')
    parts += _dates(first, last, x)
    shown = [span for span in spans if span.start < last and (span.end is None or span.end > first)]
    for span in shown:
        begin, end = x(span.start), x(last if span.end is None else span.end)
        parts.append(
            f'<rect class="incident" x="{begin:.1f}" y="{TOP}" width="{max(end - begin, 1):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/>'
        )
    width = max(scale * HOUR_SECONDS - 0.4, 0.5)
    bars = "".join(
        f"M{x(start):.1f} {y(0):.1f}V{y(tokens):.1f}h{width:.1f}V{y(0):.1f}z"
        for start, tokens in hours
        if tokens > 0 and first <= start < last
    )
    parts.append(f'<path class="hours" d="{bars}"/>')
    for run in _runs(points):
        forth = [f"{x(p.start + HOUR_SECONDS):.1f} {y(p.band or 0):.1f}" for p in run]
        back = [f"{x(p.start + HOUR_SECONDS):.1f} {y(p.expected or 0):.1f}" for p in reversed(run)]
        parts.append(f'<path class="inside" d="M{"L".join(forth + back)}z"/>')
    for name in ("band", "expected", "observed"):
        width_of = {"band": 1.2, "expected": 1.6, "observed": 2.0}[name]
        for line in _lines(points, name, x, y):
            parts.append(f'<path class="{name}" fill="none" stroke-width="{width_of}" d="M{line}"/>')
    for span in shown:
        if span.start >= first:
            at = x(span.start)
            parts.append(f'<path class="mark" stroke-width="1.5" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
            anchor = "end" if at > WIDTH / 2 else "start"
            shift = -6 if anchor == "end" else 6
            parts.append(
                f'<text class="marked" x="{at + shift:.1f}" y="{TOP + 14}" text-anchor="{anchor}">{escape(mark)}</text>'
            )
    parts += _legend([name for name in ("observed", "expected", "band") if any(getattr(p, name) for p in points)])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _runs(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Stretches of points that have a band, without a hole."""
    run: list[Point] = []
    for point in points:
        if run and (point.band is None or point.start - run[-1].start > HOUR_SECONDS):
            yield run
            run = []
        if point.band is not None:
            run.append(point)
    if run:
        yield run


def _lines(points: Sequence[Point], name: str, x: Place, y: Place) -> Iterator[str]:
    """Coordinates of one of a point's rates, as many lines as there are stretches without a hole."""
    line: list[str] = []
    before: float | None = None
    for point in points:
        rate = getattr(point, name)
        if line and (rate is None or (before is not None and point.start - before > HOUR_SECONDS)):
            yield "L".join(line)
            line = []
        if rate is not None:
            line.append(f"{x(point.start + HOUR_SECONDS):.1f} {y(rate):.1f}")
            before = point.start
    if line:
        yield "L".join(line)


def _dates(first: float, last: float, x: Place) -> Iterator[str]:
    days = int(last // DAY_SECONDS) - int(first // DAY_SECONDS) + 1
    every = -(-days // MOST_DATES)
    day = -(-first // DAY_SECONDS) * DAY_SECONDS
    number = 0
    while day < last:
        if number % every == 0:
            date = datetime.fromtimestamp(day, UTC)
            yield f'<path class="grid" d="M{x(day):.1f} {HEIGHT - BOTTOM}v5"/>'
            text = f"{date:%b} {date.day}"
            yield f'<text class="quiet" x="{x(day):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>'
        number += 1
        day += DAY_SECONDS


def _legend(lines: Sequence[str]) -> Iterator[str]:
    """What is drawn: the bars, the incident, and of the lines those that there are."""
    y = HEIGHT - 14
    at = LEFT
    for name, text in (
        ("hours", "tokens of an hour"),
        ("observed", "the window that is judged"),
        ("expected", "expected"),
        ("band", "band: above it on 1 of its own days in 20"),
        ("incident", "incident"),
    ):
        if name not in ("hours", "incident", *lines):
            continue
        if name in ("hours", "incident"):
            yield f'<rect class="{name}" x="{at}" y="{y - 9}" width="18" height="10"/>'
        else:
            yield f'<path class="{name}" fill="none" stroke-width="2" d="M{at} {y - 4}h18"/>'
        yield f'<text class="text" x="{at + 24}" y="{y}">{text}</text>'
        at += 24 + 7 * len(text) + 16
