"""`overdraw score`: which columns it takes, what it makes of cells, what it says to bad input, what it writes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from stream.__main__ import cli
from stream.lab import score
from stream.lab.score import COLUMNS, InputError, Scorer, read_time

PLAIN = "timestamp,value\n" + "".join(f"2026-03-01 {i // 60:02}:{i % 60:02}:00,{i % 7}\n" for i in range(600))


def run(*words, stdin=None):
    return CliRunner().invoke(cli, ["score", *map(str, words)], input=stdin)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def scored(text: str, **columns) -> list[list[str]]:
    lines = list(enumerate(text.encode().split(b"\n"), 1))
    return [row.cells() for row in Scorer(**columns).rows(lines)]


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes, name: str = "series.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_every_row_comes_back_with_its_own_cells_and_the_columns_of_the_contract(write) -> None:
    done = run(write(PLAIN))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == ",".join(COLUMNS)
    rows = table(done.stdout)
    assert [f"{row['timestamp']},{row['value']}" for row in rows] == PLAIN.splitlines()[1:]
    assert {row["alert"] for row in rows} == {"0"}
    assert "600 rows of 'value' over 'timestamp': 0 alerts" in done.stderr


def test_a_jump_alerts_and_is_counted(write) -> None:
    path = write(PLAIN + "2026-03-01 10:00:00,60\n")
    last = table(run(path).stdout)[-1]
    assert (last["alert"], float(last["score"]) >= 0.5, float(last["upper"]) < 60) == ("1", True, True)
    summary = json.loads(run(path, "--json").stdout.splitlines()[-1])
    assert (summary["rows"], summary["missing"], summary["alerts"]) == (601, 0, 1)
    assert (summary["time"], summary["value"]) == ("timestamp", "value")
    assert summary["highest_score"] == float(last["score"])


def test_file_pipe_gzip_and_a_named_output_give_the_same_bytes(write, tmp_path) -> None:
    path = write(PLAIN)
    expected = run(path).stdout
    assert run("-", stdin=PLAIN).stdout == expected
    assert run(write(gzip.compress(PLAIN.encode()), "packed.csv.gz")).stdout == expected
    assert run("-", stdin=b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode()).stdout == expected
    out = tmp_path / "scores.csv"
    done = run(path, "--out", out)
    assert (done.exit_code, out.read_text()) == (0, expected)
    assert "0 alerts" in done.stdout


def test_json_rows_say_what_the_csv_says(write) -> None:
    path = write(PLAIN + "2026-03-01 10:00:00,\n2026-03-01 10:01:00,60\n")
    rows = table(run(path).stdout)
    objects = [json.loads(line) for line in run(path, "--json").stdout.splitlines()[:-1]]
    assert len(objects) == len(rows) == 602
    for one, row in zip(objects, rows, strict=True):
        assert tuple(one) == COLUMNS
        assert one["timestamp"] == row["timestamp"]
        assert one["value"] == (float(row["value"]) if row["value"] else None)
        assert one["expected"] == pytest.approx(float(row["expected"]))
        assert (one["score"], one["alert"]) == (float(row["score"]), int(row["alert"]))


@given(st.lists(st.sampled_from(["", "nan", "0", "1", "-5", "1e9", "3.5", "inf"]), min_size=5, max_size=300), st.data())
def test_a_prefix_gives_the_same_bytes(cells, data) -> None:
    """Even where the columns are found by themselves."""
    cells = ["1", "2", "3", *cells]
    lines = [f"x,2026-03-0{1 + i // 1000} {i // 60:02}:{i % 60:02}:00,{cell}" for i, cell in enumerate(cells)]
    cut = data.draw(st.integers(3, len(lines)))
    whole = scored("\n".join(["name,when,what", *lines]))
    assert scored("\n".join(["name,when,what", *lines[:cut]])) == whole[:cut]


@pytest.mark.parametrize(
    ("header", "row", "found"),
    [
        ("timestamp,value", "2026-03-01 00:00:00,{}", ("timestamp", "value")),
        ("value,timestamp", "{},2026-03-01T00:00:00Z", ("timestamp", "value")),
        ("y,ds", "{},2026-03-01", ("ds", "y")),
        ("Time,Y", "1772323200,{}", ("Time", "Y")),
        ("host,when,load", "a,2026-03-01T00:00:00+02:00,{}", ("when", "load")),
        ("n,epoch,load", "5,1772323200.5,{}", ("epoch", "n")),
        ("index,load", "0,{}", ("index", "load")),
        ("when;load", "2026-03-01 00:00:00;{}", ("when", "load")),
        ("when\tload", "2026-03-01 00:00:00\t{}", ("when", "load")),
        ('"a, b",value,time', '"x, y",{},2026-03-01 00:00:00', ("time", "value")),
    ],
)
def test_columns_are_found_by_themselves(header, row, found) -> None:
    scorer = Scorer()
    text = "\n".join([header, *(row.format(value) for value in (1, 2, 3, 4))])
    assert len(list(scorer.rows(list(enumerate(text.encode().split(b"\n"), 1))))) == 4
    assert (scorer.summary.time, scorer.summary.value) == found


def test_a_value_column_whose_first_cells_are_empty_is_found_all_the_same() -> None:
    rows = scored("when,note,load\n1772323200,,\n1772323260,,\n1772323320,,5\n1772323380,,6\n1772323440,,7\n")
    assert [row[1] for row in rows] == ["", "", "5", "6", "7"]
    assert [row[2] for row in rows] == ["", "", "5", "5", "5.5"]


def test_named_columns_are_taken_whatever_others_there_are() -> None:
    text = "timestamp,value,when,load\n" + "".join(f"x,9,{1_772_323_200 + 60 * i},{i}\n" for i in range(5))
    rows = scored(text, time="when", value="load")
    assert [row[1] for row in rows] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "null", "None", "NA", "-", "inf", "-Infinity", "1e400"])
def test_a_cell_without_a_number_is_a_missing_value(cell) -> None:
    rows = scored(PLAIN + f"2026-03-01 10:00:00,{cell}\n2026-03-01 10:01:00,60\n")
    assert (rows[-2][1], rows[-2][5:]) == (cell.strip(), ["0.000000", "0"])
    assert rows[-2][2:5] != ["", "", ""]
    assert rows[-1][6] == "1"


def test_irregular_steps_and_repeated_times_are_taken() -> None:
    draw = random.Random(1)
    time, lines = 1_772_323_200.0, []
    for i in range(1_000):
        time += draw.choice([0, 1, 60, 3_600, 90_000])
        lines.append(f"{time},{i % 5}")
    rows = scored("time,value\n" + "\n".join(lines))
    assert len(rows) == 1_000
    assert not [row for row in rows if row[6] == "1"]


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (PLAIN, ["--value", "load"], "no column 'load' for --value; columns are timestamp, value"),
        (PLAIN, ["--time", "when"], "no column 'when' for --time"),
        ("timestamp,value,value\n1,2,3\n", ["--value", "value"], "more than one column 'value'"),
        ("timestamp,value\n1,nan\n2,\n3,NaN\n", [], "column 'value' has no numeric value"),
        ("timestamp,name\n1,a\n2,b\n3,c\n", [], "no column holds a time and another one numbers"),
        ("timestamp,name\n1,a\n2,b\n3,c\n", ["--value", "name"], "line 2: 'a' in column 'name' is no number"),
        ("timestamp,value\n1,1\n2,2\n3,3\n4,x\n", [], "line 5: 'x' in column 'value' is no number"),
        ("timestamp,value\n1,1\n2,2\n3,3\n2,4\n", [], "line 5: 2 is before the row above it: sort the file by time"),
        ("timestamp,value\n1,1\n2,2\n3,3\nsoon,4\n", [], "line 5: 'soon' in column 'timestamp' is no time"),
        ("time,value\n1700000000000,4\n", [], "seconds; 1700000000000 looks like milliseconds: divide by 1,000"),
        ("when,load\n1700000000000,a\n", [], "1700000000000 looks like milliseconds: divide by 1,000"),
        ("timestamp,value\n1,1\n2,2\n3,3\n,4\n", [], "line 5: '' in column 'timestamp' is no time"),
        ("timestamp,value\n1,1\n2,2\n", [], "2 values are too few: a series needs at least 3"),
        ("timestamp,value\n1,1\n2,2\n3,3,3\n", [], "line 4: 3 cells under a header of 2"),
        ("timestamp,value\n", [], "no rows below the header"),
        ("", [], "the file is empty"),
        ("2026-03-01 00:00:00,20.0\n2026-03-01 00:05:00,21.0\n", [], "the first line looks like data"),
        (b"timestamp,value\n1,1\n2,\xff\n", [], "line 3: it is not UTF-8"),
        (b"timestamp,value\n1,1\n2,\0\n", [], "line 3: it holds a NUL byte"),
        (gzip.compress(PLAIN.encode())[:200], [], "the gzip data ends too early"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(write, tmp_path, text, words, message) -> None:
    path = write(text, "bad.csv")
    done = run(path, *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "bad.csv: " in done.stderr
    assert done.stderr.count("bad.csv") == len(done.stderr.splitlines()) == 1


def test_an_output_is_not_touched_before_there_is_a_series(write, tmp_path) -> None:
    out = write("precious", "scores.csv")
    assert run(tmp_path / "absent.csv", "--out", out).exit_code == 2
    assert run(write("timestamp,value\n1,1\n"), "--out", out).exit_code == 2
    assert out.read_text() == "precious"
    path = write(PLAIN)
    done = run(path, "--out", path)
    assert (done.exit_code, path.read_text()) == (2, PLAIN)
    assert "would take the place of another file" in done.stderr
    assert run(path, "--out", tmp_path / "no" / "such.csv").exit_code == 2


def test_what_was_scored_before_a_bad_line_is_written(write) -> None:
    done = run(write(PLAIN + "2026-03-01 09:00:00,1\n"))
    assert done.exit_code == 2
    assert len(table(done.stdout)) == 600


def test_a_live_series_is_answered_row_by_row(monkeypatch) -> None:
    """What a pipe has given so far is scored before more of it is waited for."""
    given = 0

    def lines(_):
        nonlocal given
        for number, line in enumerate(PLAIN.encode().splitlines(), 1):
            given = number
            yield [(number, line)]

    monkeypatch.setattr(score, "read_lines", lines)
    answered = 0
    for chunk in Scorer().chunks("-"):
        answered += len(chunk)
        assert answered == given - 1  # all but the header
    assert answered == 600


@pytest.mark.parametrize("cell", ["yesterday", "", "1e30", "nan", "2026-13-01", "0000-00-00 00:00:00"])
def test_what_is_no_time_is_refused(cell) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_time(cell)


def test_the_readers_error_is_the_projects() -> None:
    with pytest.raises(InputError, match="empty"):
        list(Scorer().rows([]))
