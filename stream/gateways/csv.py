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
from stream.gateways.quick import MAX_RECORD_BYTES

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
    fixed: dict[str, object] = {}
    for field, text in constants.items():
        read = _reader(field, times)
        fixed[field] = read(text) if read else text
    plan = [(field, column, _reader(field, times)) for field, column in columns.items()]
    no_id = "event_id" not in columns and "event_id" not in constants
    width = len(header)
    for number, cells in source.rows():
        if cells is None:
            yield number, source.spoilt()
            continue
        there = len(cells)
        if there > width:
            yield number, _encode(f"{there} cells under a header of {width}: " + source.raw().decode())
            continue
        call = fixed.copy()
        if no_id:
            call["event_id"] = f"{row_prefix}-{number}"
        for field, column, read in plan:
            if column < there and (text := cells[column]):
                value = read(text) if read else text
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
        number, cells = next(source.rows())
    except StopIteration:
        raise InputError("the file is empty: a csv needs a header with the names of its columns") from None
    if cells is None:
        looks = "UTF-16" if source.raw()[:2] in (b"\xff\xfe", b"\xfe\xff") else "not plain UTF-8 csv"
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

    def rows(self) -> Iterator[tuple[int, list[str] | None]]:
        """First line number and cells of each row; cells None: `spoilt` has what to pass on."""
        limit = csv.field_size_limit(MAX_RECORD_BYTES + 1)  # the module's own limit is 128 KiB; ours is on the row
        try:
            reader = csv.reader(self, strict=True)
            while True:
                self._row, self._row_bytes, self._odd = [], 0, False
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except (_LongRow, csv.Error):
                    # the quotes do not match: give up the first line, read the others again as rows of their own
                    self._again.extendleft(reversed(self._row[1:]))
                    del self._row[1:]
                    yield self._row[0][0], None
                    continue
                if self._odd:
                    yield self._row[0][0], None
                elif len(cells) > 1 or (cells and cells[0].strip()):
                    yield self._row[0][0], cells
        finally:
            csv.field_size_limit(limit)

    def raw(self) -> bytes:
        """The lines of the row as they stand in the file."""
        return b"\n".join(line for _, line in self._row)

    def spoilt(self) -> bytes:
        """A row without cells as something that the canonical parser refuses for the right reason."""
        raw = self.raw()
        if len(raw) > MAX_RECORD_BYTES:
            return raw
        if b"\0" not in raw:
            try:
                return _encode("a row whose quotes do not match: " + raw.decode())
            except UnicodeDecodeError:
                pass
        # a decoder passes over bad bytes in what it ignores: a row that looks like JSON must not slip through
        return b"csv: " + raw if raw.lstrip()[:1] in (b"{", b"[") else raw


def _reader(field: str, times: Callable[[str], object]) -> Callable[[str], object] | None:
    """What makes a value of a cell's text; None: it stays text."""
    if field == "time":
        return times
    if field in INTEGERS:
        return _integer
    return _number if field in NUMBERS else None


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
        number = _number(text) if text[4:5] != "-" else text
        if not isinstance(number, str):
            return number
        try:
            moment = datetime.fromisoformat(number)
            return number if moment.tzinfo else moment.replace(tzinfo=place).timestamp()
        except (ValueError, OverflowError):
            return number

    return read
