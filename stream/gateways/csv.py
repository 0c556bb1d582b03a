"""The csv format: a row to the canonical JSON object, so that one parser judges every call. Nothing is refused here."""

from __future__ import annotations

import csv
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from stream.events import ApiCall
from stream.gateways.errors import InputError
from stream.gateways.overdraw import MAX_RECORD_BYTES

MAX_ROW_LINES = 1_000
"""Lines of one row, by quoted line breaks: more is a quote that was opened and never closed."""
INTEGERS = frozenset(
    (
        "calls",
        "input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cached_input_tokens",
        "max_output_tokens",
        "status",
        "asn",
    )
)
NUMBERS = frozenset(("period_seconds", "duration_ms", "cost_usd"))
MAX_DIGITS = 4_000
"""Digits of a whole number that Python and JSON readers still take (their limit is 4,300)."""
REQUIRED = {"key_id": "groupId", "time": "timestamp"}
"""Fields that a row cannot do without, with an example of a column for the message; a missing event_id is made."""

Line = tuple[int, bytes]
"""A line of the file without its line end, and its number from 1."""

_encode = msgspec.json.Encoder().encode


def rows(
    lines: Iterable[Line],
    mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    *,
    zone: str = "UTC",
    row_prefix: str = "row",
) -> Iterator[tuple[int, bytes]]:
    """Canonical JSON objects of the rows of a csv, each with the number of its first line.

    `lines` are all lines, blank ones too, the header first. `mapping` says which column a field comes from, `constants`
    give a field the same value in every row. An empty cell is an absent field; a number is read as one, and what is not
    a number stays text for the canonical parser to refuse. A time without a zone is taken in `zone`, which is UTC
    unless said otherwise, for a spreadsheet's column has none. Without an `event_id`, a row gets `<row_prefix>-<line>`:
    readers of several files give each its own prefix, for ids must differ. A row that is no row (too many cells, a
    quote never closed, a NUL byte, not UTF-8) is passed on as something that becomes a dead letter: never shifted.

    Raises InputError on a header that lacks what is needed, and on a field, column or zone that does not exist.

    >>> list(rows([(1, b"when,who,in"), (2, b"2026-03-01 00:00:00,k,1e3")],
    ...           {"time": "when", "key_id": "who", "input_tokens": "in"}))
    [(2, b'{"event_id":"row-2","time":1772323200.0,"key_id":"k","input_tokens":1000}')]
    """
    mapping, constants = dict(mapping or {}), dict(constants or {})
    _check_names(mapping, constants)
    times = _time_reader(zone)
    source = _Source(lines)
    header = _header(source)
    columns = _columns(header, mapping, constants)
    fixed = {field: _value(field, text, times) for field, text in constants.items()}
    order = [field for field in ApiCall.model_fields if field in columns or field in fixed or field == "event_id"]
    plan = [(field, columns.get(field, -1), _reader(field, times)) for field in order]
    width = len(header)
    for number, cells, raw in source.rows():
        if cells is None:
            yield number, raw
            continue
        if len(cells) > width:
            yield number, _encode(f"{len(cells)} cells under a header of {width}: " + raw.decode())
            continue
        call: dict[str, object] = {}
        for field, column, read in plan:
            if field in fixed:
                call[field] = fixed[field]
            elif column < 0:  # only event_id
                call[field] = f"{row_prefix}-{number}"
            elif column < len(cells) and cells[column]:
                value = read(cells[column])
                if value is not None:
                    call[field] = value
        yield number, _encode(call)


def _check_names(mapping: Mapping[str, str], constants: Mapping[str, str]) -> None:
    for option, names in (("--map", mapping), ("--const", constants)):
        for field, value in names.items():
            if field not in ApiCall.model_fields:
                known = ", ".join(ApiCall.model_fields)
                raise InputError(f"{option} {field}={value}: there is no field {field!r}. Fields are {known}")
            if not value:
                what = "column" if option == "--map" else "value"
                raise InputError(f"{option} {field}=: name a {what} after the =")
    for field in mapping.keys() & constants.keys():
        raise InputError(f"{field} is given by --map and by --const: leave one out")


def _columns(header: list[str], mapping: Mapping[str, str], constants: Mapping[str, str]) -> dict[str, int]:
    """Field to the index of its column."""
    there = ", ".join(header)
    wanted = {field: field for field in ApiCall.model_fields if field in header} | dict(mapping)
    columns = {}
    for field, column in wanted.items():
        if field in constants:
            continue
        if column not in header:
            raise InputError(f"--map {field}={column}: there is no column {column!r}. Columns are {there}")
        if header.count(column) > 1:
            raise InputError(f"the header has {header.count(column)} columns {column!r}: rename all but one")
        columns[field] = header.index(column)
    for field, example in REQUIRED.items():
        if field not in columns and field not in constants:
            option = f"--map {field}={example}"
            if field == "key_id":
                option += " (or --const key_id=NAME if all rows are one key's)"
            raise InputError(f"no column for {field}: say which with {option}. Columns are {there}{_separator(header)}")
    return columns


def _separator(header: list[str]) -> str:
    for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and mark in header[0]:
            return f" (the cells seem to be parted by {name}: save the file with commas)"
    return ""


def _header(source: _Source) -> list[str]:
    try:
        number, cells, raw = next(source.rows())
    except StopIteration:
        raise InputError("the file is empty: a csv needs a header with the names of its columns") from None
    if cells is None:
        looks = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "not plain UTF-8 csv"
        raise InputError(f"the header (line {number}) cannot be read, it is {looks}: save the file as csv in UTF-8")
    return [cell.strip() for cell in cells]


class _LongRow(Exception):
    """The row under way is longer than a row may be."""


class _Source:
    """Lines as the csv module wants them, and memory of the lines that make up the row under way."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._again: deque[Line] = deque()
        self._row: list[Line] = []
        self._row_bytes = 0
        self._odd = False

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> str:
        number, line = self._again.popleft() if self._again else next(self._lines)
        self._row.append((number, line))
        self._row_bytes += len(line)
        if self._row_bytes > MAX_RECORD_BYTES or len(self._row) > MAX_ROW_LINES:
            raise _LongRow
        if b"\0" in line:
            self._odd = True
        try:
            return line.decode() + "\n"
        except UnicodeDecodeError:
            self._odd = True
            return line.decode("utf-8", "replace") + "\n"

    def rows(self) -> Iterator[tuple[int, list[str] | None, bytes]]:
        """First line number, cells, raw bytes of each row; cells None: the bytes will be refused as they are."""
        limit = csv.field_size_limit(MAX_RECORD_BYTES + 1)  # the module's own limit is 128 KiB; ours is on the row
        try:
            reader = csv.reader(self, strict=True)
            while True:
                self._row, self._row_bytes, self._odd = [], 0, False
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except _LongRow:
                    yield self._spoilt()
                    continue
                except csv.Error:
                    yield self._spoilt()
                    continue
                number = self._row[0][0]
                if self._odd:
                    yield number, None, self._raw()
                elif len(cells) > 1 or (cells and cells[0].strip()):
                    yield number, cells, self._raw()
        finally:
            csv.field_size_limit(limit)

    def _raw(self) -> bytes:
        return self._row[0][1] if len(self._row) == 1 else b"\n".join(line for _, line in self._row)

    def _spoilt(self) -> tuple[int, None, bytes]:
        """The first line of a row whose quotes do not match; its other lines are read again as rows of their own."""
        number, first = self._row[0]
        self._again.extendleft(reversed(self._row[1:]))
        try:
            text = first.decode()
        except UnicodeDecodeError:
            return number, None, first
        if len(first) > MAX_RECORD_BYTES or "\0" in text:
            return number, None, first
        return number, None, _encode("a row whose quotes do not match: " + text)


def _reader(field: str, times: Callable[[str], object]) -> Callable[[str], object]:
    if field == "time":
        return times
    if field in INTEGERS:
        return _integer
    return _number if field in NUMBERS else str


def _value(field: str, text: str, times: Callable[[str], object]) -> object:
    return _reader(field, times)(text)


def _integer(text: str) -> object:
    """A number as JSON has it, an integral one without its point; None if there is only space.

    >>> _integer("54.0"), _integer("5.5"), _integer("x")
    (54, 5.5, 'x')
    """
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return int(text)
    value = _number(text)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e18:
        return int(value)
    return value


def _number(text: str) -> object:
    text = text.strip()
    if not text:
        return None
    # float() also takes "1_000", "nan" and digits of any script: none is a number in a table of ours
    if not text.isascii() or "_" in text:
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _time_reader(zone: str) -> Callable[[str], object]:
    try:
        place = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # not found, not a name, a folder of zones
        text = f"--zone {zone}: there is no such time zone. Name one such as UTC or Europe/Berlin"
        raise InputError(text) from None

    def read(text: str) -> object:
        number = _number(text)
        if not isinstance(number, str):
            return number
        try:
            moment = datetime.fromisoformat(number)
            return number if moment.tzinfo else moment.replace(tzinfo=place).timestamp()
        except (ValueError, OverflowError):
            return number

    return read
