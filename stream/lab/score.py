"""A table with one series in it, scored row by row: which columns they are, what a cell means, what a row becomes."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from stream.core.series import Judgement, Series
from stream.events import unit_of
from stream.gateways.errors import InputError
from stream.lab.files import read_lines

COLUMNS = ("timestamp", "value", "expected", "lower", "upper", "score", "alert")
TIME_NAMES = ("timestamp", "time", "ds")
VALUE_NAMES = ("value", "y")
MISSING = frozenset(("", "nan", "na", "n/a", "null", "none", "-"))
"""Cells that say that there is no value, in any case; an infinite one is none either."""
LEAST_ROWS = 3
"""Fewer values are no series."""
EPOCH_FROM = 1e8
"""Epoch seconds of 1973: a smaller number is taken for a time only where no column looks more like one."""
LARGEST_TIME = 1e11

Line = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Row:
    """A scored row: the two cells as they stand in the file, and the judgement; None before any value is known."""

    timestamp: str
    value: str
    said: Judgement | None

    def cells(self) -> list[str]:
        """The cells under COLUMNS; numbers to ten digits, the score to six decimals."""
        said = self.said
        if said is None:
            return [self.timestamp, self.value, "", "", "", f"{0:.6f}", "0"]
        numbers = (f"{number:.10g}" for number in (said.expected, said.lower, said.upper))
        return [self.timestamp, self.value, *numbers, f"{said.score:.6f}", str(int(said.alert))]

    def as_json(self) -> dict[str, object]:
        """The same as a JSON object; a missing value or expectation is null."""
        said = self.said
        numbers = (None, None, None, 0.0) if said is None else (said.expected, said.lower, said.upper, said.score)
        alert = int(said is not None and said.alert)
        values = (self.timestamp, read_value(self.value), *numbers, alert)
        return dict(zip(COLUMNS, values, strict=True))


@dataclass(slots=True)
class Summary:
    """What was read: the columns' names, rows, how many of them had no value, alerts, and the highest score."""

    time: str = ""
    value: str = ""
    rows: int = 0
    missing: int = 0
    alerts: int = 0
    highest_score: float = 0.0

    def as_json(self) -> dict[str, object]:
        """The summary as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def read_time(cell: str) -> float:
    """Epoch seconds of RFC 3339, `YYYY-MM-DD HH:MM:SS` (UTC) or epoch seconds; raises ValueError on anything else.

    >>> read_time("1970-01-01T01:00:00+01:00"), read_time("1970-01-02 00:00:00"), read_time("86400.5")
    (0.0, 86400.0, 86400.5)
    """
    number = _number(cell)
    if number is None:
        try:
            moment = datetime.fromisoformat(cell.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except OverflowError as error:
            raise ValueError(f"{cell!r} is out of range") from error
    if not abs(number) <= LARGEST_TIME:
        raise ValueError(f"{cell!r} is no time in epoch seconds")
    return number


def read_value(cell: str) -> float | None:
    """The number in a cell; None where there is none; raises ValueError on text.

    >>> read_value(" 1e3 "), read_value("NaN"), read_value("")
    (1000.0, None, None)
    """
    if cell.strip().lower() in MISSING:
        return None
    number = _number(cell)
    if number is None:
        raise ValueError(f"{cell!r} is no number")
    return number if math.isfinite(number) else None


@dataclass(slots=True)
class Scorer:
    """Reads a table and scores it: iterate over `rows`; `summary` counts along."""

    time: str | None = None
    value: str | None = None
    summary: Summary = field(default_factory=Summary)

    def chunks(self, path: str | Path) -> Iterator[list[Row]]:
        """Scored rows of a .csv, gzip or not, or of stdin (`-`), in chunks as they come.

        Raises InputError, whose message names the file, the line and what is wrong, after the rows before it.
        """
        name = "stdin" if str(path) == "-" else str(path)
        try:
            yield from self._scored(read_lines(path))
        except InputError as error:
            text = str(error)
            raise InputError(text if text.startswith(name) else f"{name}: {text}") from error.__cause__

    def rows(self, lines: Iterable[Line]) -> Iterator[Row]:
        """Scored rows of numbered lines, the header first; raises InputError."""
        for chunk in self._scored([list(lines)]):
            yield from chunk

    def _scored(self, chunks: Iterable[Sequence[Line]]) -> Iterator[list[Row]]:
        table = _Table(self.time, self.value, self.summary)
        first: list[Row] = []
        for chunk in chunks:
            done: list[Row] = []
            try:
                for number, line in chunk:
                    done += table.take(number, line)
            except InputError:
                if table.values >= LEAST_ROWS:
                    yield first + done
                raise
            first += done
            if table.values >= LEAST_ROWS and first:
                yield first
                first = []
        table.end()


class _Table:
    """Lines in, scored rows out; nothing that a later line could change."""

    def __init__(self, time: str | None, value: str | None, summary: Summary) -> None:
        self.named = (time, value)
        self.summary = summary
        self.values = 0
        self._series = Series()
        self._header: list[str] = []
        self._delimiter = ","
        self._columns: tuple[int, int] | None = None
        self._waiting: list[tuple[int, list[str]]] = []
        self._last = -math.inf

    def take(self, number: int, line: bytes) -> list[Row]:
        """The rows that can be scored now that this line is known: usually one."""
        try:
            text = line.decode().strip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"line {number}: it is not UTF-8: save the file as csv in UTF-8") from None
        if not text.strip():
            return []
        if "\0" in text:
            raise InputError(f"line {number}: it holds a NUL byte: this is not a csv file")
        if not self._header:
            self._read_header(text)
            return []
        cells = next(csv.reader([text], delimiter=self._delimiter))
        if self._columns is None:
            # columns that are not named are known with the first row that has a number beside its time
            self._waiting.append((number, cells))
            self._columns = self._find_columns(cells)
            if self._columns is None:
                return []
            time, value = self._columns
            self.summary.time, self.summary.value = self._header[time], self._header[value]
            waiting, self._waiting = self._waiting, []
            return [self._row(number, cells, self._columns) for number, cells in waiting]
        return [self._row(number, cells, self._columns)]

    def end(self) -> None:
        """Raise InputError if this was no series."""
        there = ", ".join(self._header)
        if not self._header:
            raise InputError("the file is empty: it needs a header and rows of a time and a value")
        if self._columns is None and not self._waiting:
            raise InputError("there are no rows below the header")
        if self._columns is None:
            unit = next(filter(None, map(_unit, self._waiting[0][1])), "")
            raise InputError(
                f"no column holds a time and another one numbers: name them with --time and --value ({there}){unit}"
            )
        if not self.values:
            raise InputError(f"column {self.summary.value!r} has no numeric value: name another with --value ({there})")
        if self.values < LEAST_ROWS:
            raise InputError(f"{self.values} values are too few: a series needs at least {LEAST_ROWS}")

    def _read_header(self, text: str) -> None:
        self._delimiter = max(",;\t", key=text.count)
        self._header = [cell.strip() for cell in next(csv.reader([text], delimiter=self._delimiter))]
        for option, name in zip(("--time", "--value"), self.named, strict=True):
            if name is not None and self._header.count(name) != 1:
                many = "no" if name not in self._header else "more than one"
                raise InputError(f"there is {many} column {name!r} for {option}; columns are {', '.join(self._header)}")
        if any(_is_time(cell) for cell in self._header) and any(map(_is_number, self._header)):
            raise InputError("the first line looks like data: put a header such as timestamp,value above it")

    def _find_columns(self, cells: list[str]) -> tuple[int, int] | None:
        """Indices of time and value; None while a column that is not named cannot be told."""
        width = min(len(cells), len(self._header))
        names = [name.lower() for name in self._header]
        time, value = (None if name is None else self._header.index(name) for name in self.named)
        if time is None:
            time = next(
                (names.index(name) for name in TIME_NAMES if name in names and names.index(name) != value), None
            )
        if time is None:
            likely = (i for i in range(width) if i != value and _is_time(cells[i]) and _looks_like_time(cells[i]))
            time = next(likely, next((i for i in range(width) if i != value and _is_time(cells[i])), None))
        if value is None:
            value = next(
                (names.index(name) for name in VALUE_NAMES if name in names and names.index(name) != time), None
            )
        if value is None and time is not None:
            value = next((i for i in range(width) if i != time and _is_number(cells[i])), None)
        return None if time is None or value is None else (time, value)

    def _row(self, number: int, cells: list[str], columns: tuple[int, int]) -> Row:
        time_column, value_column = columns
        if len(cells) > len(self._header):
            raise InputError(f"line {number}: {len(cells)} cells under a header of {len(self._header)}")
        cells = cells + [""] * (len(self._header) - len(cells))
        stamp, text = cells[time_column].strip(), cells[value_column].strip()
        try:
            time = read_time(stamp)
        except ValueError:
            hint = "RFC 3339, YYYY-MM-DD HH:MM:SS or epoch seconds" + _unit(stamp)
            name = self._header[time_column]
            raise InputError(f"line {number}: {stamp!r} in column {name!r} is no time: it has to be {hint}") from None
        if time < self._last:
            raise InputError(f"line {number}: {stamp} is before the row above it: sort the file by time")
        self._last = time
        try:
            value = read_value(text)
        except ValueError:
            name = self._header[value_column]
            raise InputError(
                f"line {number}: {text!r} in column {name!r} is no number: name another with --value"
            ) from None
        said = self._series.judge(time, value)
        self.values += value is not None
        summary = self.summary
        summary.rows += 1
        summary.missing += value is None
        if said is not None:
            summary.alerts += said.alert
            summary.highest_score = max(summary.highest_score, said.score)
        return Row(stamp, text, said)


def _number(cell: str) -> float | None:
    text = cell.strip()
    # float() also takes "1_000" and digits of any script: neither is a number in a table
    if not text.isascii() or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _unit(cell: str) -> str:
    """What a number seems to count, if it would be a time of today by another unit than seconds."""
    unit = unit_of(_number(cell) or 0.0)
    return "" if unit is None else f"; {cell} looks like {unit}"


def _is_number(cell: str) -> bool:
    number = _number(cell)
    return number is not None and math.isfinite(number)


def _is_time(cell: str) -> bool:
    try:
        read_time(cell)
    except ValueError:
        return False
    return True


def _looks_like_time(cell: str) -> bool:
    number = _number(cell)
    return number is None or number >= EPOCH_FROM
