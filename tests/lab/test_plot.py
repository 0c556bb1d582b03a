"""Plots of a key's rate against its band: as text, and as a picture."""

from __future__ import annotations

from xml.dom.minidom import parseString

import pytest

from stream.lab.plot import ASCII, BLOCKS, Axis, Point, Span, lines_of
from stream.lab.plot_svg import svg_of

START = 1_772_323_200.0  # 2026-03-01T00:00:00Z
HOUR = 3600.0


def points(days: int = 3, high_from: int = 60, times: float = 4.0) -> list[Point]:
    return [
        Point(START + i * HOUR, 100.0 * (times if i >= high_from else 1.0), 100.0, 250.0 if i > 12 else None)
        for i in range(days * 24)
    ]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("days", [1, 7, 30])
def test_no_line_is_wider_than_the_terminal(width: int, days: int) -> None:
    lines = lines_of(points(days), [Span(START + 60 * HOUR, None)], width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 12


def test_a_bar_is_shaded_by_what_was_expected_and_by_the_band() -> None:
    lines = lines_of(points(), [], 90)
    low, high = 9 + 30, 9 + 65
    column = [line.ljust(100)[low] for line in lines[:10]]
    assert BLOCKS.over not in column
    assert BLOCKS.usual in column
    column = [line.ljust(100)[high] for line in lines[:10]]
    order = [sign for sign in column if sign.strip()]
    assert order == sorted(order, key=[BLOCKS.over, BLOCKS.above, BLOCKS.usual].index)
    assert set(order) == {BLOCKS.over, BLOCKS.above, BLOCKS.usual}


def test_where_a_bar_ends_below_them_expectation_and_band_are_drawn() -> None:
    quiet = [Point(p.start, 10.0, p.expected, p.band) for p in points()]
    text = "\n".join(lines_of(quiet, [], 90))
    assert BLOCKS.expected in text
    assert BLOCKS.band in text


def test_an_incident_is_marked_below_from_its_start_to_its_end() -> None:
    ended = lines_of(points(), [Span(START + 60 * HOUR, START + 66 * HOUR)], 90)[10]
    assert ended[9:].index(BLOCKS.incident) == 60
    assert ended[9:].rstrip().endswith(BLOCKS.incident + 5 * BLOCKS.floor)
    still = lines_of(points(), [Span(START + 60 * HOUR, None)], 90)[10]
    assert len(still[9:]) == 72


def test_the_days_stand_below_the_hours_that_they_begin_with() -> None:
    days = lines_of(points(), [], 90)[11]
    assert (days[9:14], days[33:38], days[57:62]) == ("03-01", "03-02", "03-03")


def test_a_terminal_without_blocks_gets_ascii() -> None:
    lines = lines_of(points(), [Span(START + 60 * HOUR, None)], 80, ascii_only=True)
    assert all(line.isascii() for line in lines)
    assert ASCII.over in "".join(lines)


def test_a_leak_of_a_thousand_times_leaves_the_usual_visible() -> None:
    axis = Axis.of(points(times=1000.0), 10)
    assert axis.logarithmic
    assert 1 < axis.height(100.0) < axis.height(250.0) < axis.height(100_000.0) == 10
    assert axis.rate(axis.height(100.0)) == pytest.approx(100.0)
    assert not Axis.of(points(), 10).logarithmic


def test_hours_that_are_not_known_stay_empty() -> None:
    known = [point for point in points() if not 20 <= (point.start - START) / HOUR < 30]
    lines = lines_of(known, [], 90)
    assert {line.ljust(100)[9 + 25] for line in lines[:10]} == {" "}


def test_nothing_but_zeros_is_a_plot_too() -> None:
    assert len(lines_of([Point(START, 0.0, 0.0, None)], [], 80)) == 12
    assert lines_of([], [], 80) == []


def picture(title: str = "Tokens", mark: str = "alert: drift") -> str:
    shown = points()
    hours = [(point.start, point.observed or 0.0) for point in shown]
    return svg_of(title, "a day", hours, shown, [Span(START + 60 * HOUR, None)], mark)


def test_a_picture_is_sound_xml_with_bars_band_and_the_alert() -> None:
    root = parseString(picture()).documentElement
    classes = {node.getAttribute("class") for node in root.getElementsByTagName("*")}
    assert {"hours", "inside", "band", "expected", "observed", "incident", "mark", "marked"} <= classes
    assert "alert: drift" in root.toxml()
    assert "prefers-color-scheme: dark" in root.toxml()


def test_a_picture_asks_nobody_for_anything_and_runs_nothing() -> None:
    text = picture()
    assert "url(" not in text
    assert "<script" not in text
    assert "href" not in text


def test_a_picture_escapes_what_others_have_written() -> None:
    text = picture(title="<script>alert(1)</script>&", mark='"><b>')
    assert "<script" not in text
    assert "<b>" not in text
    assert parseString(text).documentElement.getElementsByTagName("title")[0].firstChild.data.endswith("</script>&")


def test_every_coordinate_lies_in_the_picture() -> None:
    root = parseString(picture()).documentElement
    for node in root.getElementsByTagName("path"):
        for pair in node.getAttribute("d").replace("z", "").split("L")[1:-1]:
            x, y = map(float, pair.split())
            assert 0 <= x <= 960
            assert 0 <= y <= 360


def test_there_is_no_picture_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        svg_of("a", "b", [], [], [], "")
