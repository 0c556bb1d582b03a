"""The file of holidays: days on which working people do not work, as a CSV that a spreadsheet or an editor can write.

```csv
date,end,name
2026-01-01,,New Year
2026-12-24,2027-01-01,the office is closed
```

`date` is the first day, `end` the last one (empty: the same day), `name` is for the reader and for errors. `end` and
`name` may be left out of the header; blank lines and lines that begin with # count as nothing.
"""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path

COLUMNS = ("date", "end", "name")
MAX_DAYS = 4_000
"""Ten years of days off: more is a mistyped year."""
MAX_BYTES = 1 << 20
"""250 bytes a day: a larger file is another one."""


class HolidaysError(ValueError):
    """A file of holidays that cannot be used; the message names the file, the line and what to write there."""


def read_holidays(path: str | Path) -> frozenset[date]:
    """The days in the file at `path`. Raises HolidaysError."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise HolidaysError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise HolidaysError(f"{path} is larger than {MAX_BYTES >> 10} KiB: it is no list of at most {MAX_DAYS} days")
    try:
        return parse_holidays(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise HolidaysError(f"{path}, line {line}: not UTF-8: save the file in that encoding") from None
    except HolidaysError as error:
        raise HolidaysError(f"{path}, {error}") from None


def parse_holidays(text: str) -> frozenset[date]:
    r"""The days that a CSV text lists. Raises HolidaysError, which names the line.

    >>> sorted(str(day) for day in parse_holidays("date,end,name\n2026-12-24,2026-12-26,Christmas"))
    ['2026-12-24', '2026-12-25', '2026-12-26']
    """
    days: set[date] = set()
    header: list[str] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], strict=True, skipinitialspace=True))]
            if header is None:
                header = _header(cells)
            else:
                days.update(_days(dict(zip(header, cells, strict=False)), len(cells) - len(header)))
            if len(days) > MAX_DAYS:
                raise HolidaysError(f"more than {MAX_DAYS} days up to here: is a year mistyped?")
        except (HolidaysError, csv.Error) as error:
            raise HolidaysError(f"line {number}: {error}") from None
    if header is None:
        raise HolidaysError("line 1: there is nothing in the file: begin with the header date,end,name")
    return frozenset(days)


def _header(cells: list[str]) -> list[str]:
    if "date" not in cells or not set(cells) <= set(COLUMNS) or len(set(cells)) < len(cells):
        raise HolidaysError(f"the header is {','.join(cells)!r}: write date,end,name (end and name may be left out)")
    return cells


def _days(row: dict[str, str], surplus: int) -> list[date]:
    """Every day of a row, both ends included."""
    if surplus > 0:
        raise HolidaysError('more cells than the header has: put a name with a comma in quotes, "like, this"')
    first = _day("date", row.get("date", ""))
    last = _day("end", row["end"]) if row.get("end") else first
    count = (last - first).days + 1
    if count < 1:
        raise HolidaysError(f"end {last} is before date {first}")
    if count > MAX_DAYS:
        raise HolidaysError(f"{first} to {last} are more than {MAX_DAYS} days: is a year mistyped?")
    return [first + timedelta(days=index) for index in range(count)]


def _day(column: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise HolidaysError(f"{column} is {text[:40]!r}: write a day as 2026-12-24")
    return day
