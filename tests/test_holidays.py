"""The file of holidays: what it may say, and what is said of one that cannot be used."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.holidays import MAX_BYTES, MAX_DAYS, HolidaysError, parse_holidays, read_holidays


@pytest.mark.parametrize(
    ("text", "days", "why"),
    [
        ("date,end,name\n2026-01-01,,New Year\n", ["2026-01-01"], "one day"),
        ("date\n2026-01-01\n2026-05-01", ["2026-01-01", "2026-05-01"], "dates alone"),
        ("date,name\r\n2026-01-01,New Year\r\n", ["2026-01-01"], "as Windows writes it"),
        ("name,end,date\nx,2026-01-02,2026-01-01", ["2026-01-01", "2026-01-02"], "columns in another order"),
        ("date,end,name\n2026-01-01", ["2026-01-01"], "empty cells left out"),
        ("date,end\n2026-12-31,2027-01-01", ["2026-12-31", "2027-01-01"], "over the end of a year"),
        ("date,end\n2028-02-28,2028-03-01", ["2028-02-28", "2028-02-29", "2028-03-01"], "a leap day"),
        ("# ours\n\ndate,end\n  # and\n2026-01-01,2026-01-01\n", ["2026-01-01"], "remarks and blank lines"),
        ("date\n2026-01-01\n2026-01-01", ["2026-01-01"], "one day twice"),
        ('date,end,name\n2026-01-01, ,"New Year, observed"', ["2026-01-01"], "a comma in a name"),
        ("date,end,name\n", [], "no holidays at all"),
    ],
)
def test_a_file_lists_days(text, days, why):
    assert parse_holidays(text) == frozenset(map(date.fromisoformat, days)), why


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        ("", ["line 1", "header date,end,name"], "an empty file"),
        ("2026-01-01\n", ["line 1", "'2026-01-01'", "write date,end,name"], "no header"),
        ("date,until\n", ["line 1", "date,until"], "a column that there is not"),
        ("date,date\n", ["line 1"], "a column twice"),
        ("end,name\n", ["line 1"], "no date"),
        ("date\n# x\n\n24.12.2026\n", ["line 4", "'24.12.2026'", "2026-12-24"], "another way to write a day"),
        ("date\n20261224\n", ["line 2", "'20261224'"], "a way that Python would read"),
        ("date\n2026-02-30\n", ["line 2", "2026-02-30"], "no such day"),
        ("date,end\n,2026-01-01\n", ["line 2", "date is ''"], "no first day"),
        ("date,end\n2026-01-02,2026-01-01\n", ["line 2", "before"], "the wrong way round"),
        ("date,end\n2026-01-01,soon\n", ["line 2", "end is 'soon'"], "no last day"),
        ("date,end\n2026-01-01,9999-12-31\n", ["line 2", str(MAX_DAYS), "mistyped"], "eight thousand years"),
        ("date,name\n2026-01-01,a, b\n", ["line 2", "quotes"], "a comma that is not quoted"),
        ('date,name\n2026-01-01,"a\n', ["line 2"], "a quote that is not closed"),
        (
            "date,end\n2000-01-01,2005-12-31\n2010-01-01,2015-12-31\n",
            ["line 3", str(MAX_DAYS), "mistyped"],
            "too many in all",
        ),
    ],
)
def test_a_line_that_cannot_be_used_is_named(text, words, why):
    with pytest.raises(HolidaysError) as caught:
        parse_holidays(text)
    for word in words:
        assert word in str(caught.value), why
    assert "\n" not in str(caught.value)


@given(st.text() | st.text(alphabet='date,n\n"#2026-0110 '))
def test_any_text_is_read_or_refused(text):
    for whole in (text, "date,end,name\n" + text):
        refusal = ""
        try:
            days = parse_holidays(whole)
        except HolidaysError as error:
            days, refusal = frozenset(), str(error)
        assert len(days) <= MAX_DAYS
        assert refusal == "" or refusal.startswith("line ")


@given(st.lists(st.tuples(st.dates(date(1990, 1, 1), date(2200, 1, 1)), st.integers(0, 40)), max_size=20))
def test_what_is_written_is_read(stretches):
    rows, days = ["date,end,name"], set()
    for first, more in stretches:
        last = date.fromordinal(first.toordinal() + more)
        rows.append(f"{first},{last},x")
        days |= {date.fromordinal(first.toordinal() + index) for index in range(more + 1)}
    assert parse_holidays("\n".join(rows)) == days


@pytest.mark.parametrize(
    ("raw", "words", "why"),
    [
        (b"date\n2026-13-01", ["days.csv, line 2", "2026-13-01"], "the line is named with the file"),
        (b"date,name\n2026-01-01,a\n2026-01-02,\xff", ["days.csv, line 3", "UTF-8"], "another encoding"),
        (b"\n" * (MAX_BYTES + 1), ["days.csv", "KiB"], "another file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, raw, words, why):
    path = tmp_path / "days.csv"
    path.write_bytes(raw)
    with pytest.raises(HolidaysError) as caught:
        read_holidays(path)
    for word in words:
        assert word in str(caught.value), why


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(HolidaysError, match=f"cannot read {path}: "):
            read_holidays(path)


def test_a_spreadsheets_mark_of_its_encoding_is_no_part_of_the_header(tmp_path):
    path = tmp_path / "days.csv"
    path.write_bytes("date,name\n2026-01-06,Heilige Drei Könige\n".encode("utf-8-sig"))
    assert read_holidays(path) == {date(2026, 1, 6)}
