"""Raw record to `Call`: one module a format. Nothing here keeps state about a key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stream.events import Arrival, Reject
from stream.gateways import overdraw
from stream.gateways.errors import InputError
from stream.gateways.overdraw import Record


@dataclass(frozen=True, slots=True)
class Gateway:
    """A format: what it is, its parser, and whether its records are rows under a header (files only)."""

    summary: str
    parse: Callable[[Iterable[Record]], tuple[list[Arrival], list[Reject]]]
    rows: bool = False


GATEWAYS: dict[str, Gateway] = {
    "overdraw": Gateway("one JSON object per call, or an array of them, with the names of ApiCall", overdraw.parse),
    # a row becomes a canonical object first (stream/gateways/csv.py): there is one judge of what a call may say
    "csv": Gateway("a header with the names of ApiCall, or --map FIELD=COLUMN", overdraw.parse, rows=True),
}
"""Name of a format (`--format`) to its gateway."""


def gateway(name: str) -> Gateway:
    """The gateway of a format; raises InputError that names the known ones.

    >>> gateway("csv").rows
    True
    """
    if name not in GATEWAYS:
        near = difflib.get_close_matches(name.lower(), GATEWAYS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown format {name!r}: {hint}Known are {', '.join(GATEWAYS)}")
    return GATEWAYS[name]
