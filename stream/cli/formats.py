"""How commands read recorded calls of any format: their options, and records as the canonical parser takes them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stream.cli.common import pairs

if TYPE_CHECKING:
    from stream.gateways import Gateway
    from stream.gateways.adapter import Options
    from stream.settings import Settings

Result = TypeVar("Result")
Chunk = list[tuple[int, bytes]]

AUTO = "auto"
CANONICAL = {
    "overdraw": "its records name key_id and org_id themselves",
    "csv": "say --map key_id=COLUMN, or org_id=COLUMN",
}
"""Formats whose records have our own fields, and where their ids come from."""
_DOCUMENT_STARTS = (b"[", b"{", b"[{")
"""First lines of JSON that was written over many lines; none of them is a record of its own."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the user wants recorded calls to be read; what is not given comes from the settings of the intake."""

    format: str | None
    columns: dict[str, str]
    constants: dict[str, str]
    zone: str | None = None
    key_from: tuple[str, ...] = ()
    org_from: tuple[str, ...] = ()
    mapping_file: str | None = None

    @property
    def given(self) -> dict[str, object]:
        """Options that were given, by name."""
        options = {
            "--format": self.format,
            "--map": self.columns,
            "--const": self.constants,
            "--zone": self.zone,
            "--key-from": self.key_from,
            "--org-from": self.org_from,
            "--mapping": self.mapping_file,
        }
        return {name: value for name, value in options.items() if value}

    def check(self, settings: Settings) -> None:
        """Raises InputError on a format that does not exist and on a mapping or a path that will not do."""
        from stream.gateways import gateway

        chosen = "mapping" if self.mapping_file is not None and self.format is None else self.format
        if chosen is not None and chosen != AUTO:
            gateway(chosen).parser(self._options(settings))

    def chunks(
        self, path: str, settings: Settings, *, row_prefix: str = "row", stored: bool = False
    ) -> Iterator[Chunk]:
        """Records of a file as `read_chunks` gives them, or of `kafka:TOPIC`, of any format, ids hidden if wanted.

        What another format's parser refuses stands there as `Refused`. Raises InputError, and of a topic Unreachable.

        stored: the records will be stored: what must not be is cut from those of the canonical format, too
        """
        from stream.gateways import pseudonyms_of
        from stream.gateways.canonical import cut, hidden

        chosen, gate, chunks = self._open(path, settings, row_prefix)
        pseudonyms = pseudonyms_of(settings)
        canonical = chosen in CANONICAL
        if canonical and pseudonyms is None:
            if stored:
                chunks = ([(number, cut(value)) for number, value in chunk] for chunk in chunks)
            yield from chunks
            return
        parse = gate.parser(self._options(settings))
        yield from _translated(chunks, parse if pseudonyms is None else hidden(parse, pseudonyms), stored)

    def _open(self, path: str, settings: Settings, row_prefix: str) -> tuple[str, Gateway, Iterator[Chunk]]:
        """The format of a file, and its records as they stand there."""
        from stream.cli.history import PREFIX
        from stream.gateways import gateway
        from stream.lab.files import InputError, format_of, read_chunks

        name = "stdin" if path == "-" else path
        chosen = self.format
        if self.mapping_file is not None and chosen in (None, AUTO):
            chosen = "mapping"
        if path.startswith(PREFIX):
            return self._of_topic(path.removeprefix(PREFIX), chosen, settings)
        if chosen == AUTO and (self.columns or self.constants):
            chosen = "csv"
        lines: Iterator[Chunk] | None = None
        if chosen == AUTO:
            lines = _documents(read_chunks(path, "overdraw"), name)
            chosen, lines = _recognised(lines, name)
        chosen = format_of(path, chosen)
        gate = gateway(chosen)
        if gate.rows:
            if lines is not None and path == "-":
                raise InputError("stdin: it is a csv: say so with --format csv, for it can be read only once")
            self._check_names(chosen)
            zone = self.zone or "UTC"
            table = read_chunks(path, chosen, self.columns, self.constants, zone=zone, row_prefix=row_prefix)
            return chosen, gate, table
        if lines is None:
            lines = _documents(read_chunks(path, "overdraw", self.columns, self.constants), name)
        self._check_zone()
        self._check_names(chosen)
        return chosen, gate, lines

    def _check_zone(self) -> None:
        from stream.gateways.errors import InputError

        if self.zone is not None:
            raise InputError("--zone needs --format csv: the times of other records say theirs")

    def _check_names(self, chosen: str) -> None:
        """Raises InputError on options that a format makes no use of."""
        from stream.gateways.errors import InputError

        for option, given in (("--key-from", self.key_from), ("--org-from", self.org_from)):
            if given and chosen in CANONICAL:
                raise InputError(f"{option} is for a gateway's format, not for {chosen}: {CANONICAL[chosen]}")
        if self.mapping_file is not None and chosen != "mapping":
            raise InputError(f"--mapping is a format of its own, and {chosen} is another one: leave one out")

    def _of_topic(self, topic: str, chosen: str | None, settings: Settings) -> tuple[str, Gateway, Iterator[Chunk]]:
        """The same of a topic: its records need no lines, and no names of files."""
        from stream.cli.history import read_topic
        from stream.gateways import gateway
        from stream.gateways.errors import InputError

        records = read_topic(settings, topic)
        if chosen == AUTO:
            chosen, records = _recognised(records, topic)
        chosen = chosen or "overdraw"
        gate = gateway(chosen)
        if gate.rows or self.columns or self.constants:
            raise InputError(f"{topic} is a topic, and csv (--map, --const) is for files: name its format, or none")
        self._check_zone()
        self._check_names(chosen)
        return chosen, gate, records

    def _options(self, settings: Settings) -> Options:
        from stream.gateways import options_of
        from stream.gateways.adapter import Options
        from stream.gateways.errors import InputError
        from stream.settings import text_of

        default = options_of(settings)
        mapping = default.mapping
        if self.mapping_file is not None:
            try:
                mapping = text_of(self.mapping_file, "mapping")
            except ValueError as error:
                raise InputError(f"--mapping: {error}") from None
        return Options(self.key_from or default.key_from, self.org_from or default.org_from, mapping)


def format_options(command: Callable[..., Result], *, prefix: str = "") -> Callable[..., Result]:
    """Add `--format` and what goes with it; the command gets them as one argument, `reading`."""

    @functools.wraps(command)
    def gathered(
        format_: str | None,
        mapping: tuple[str, ...],
        constants: tuple[str, ...],
        zone: str | None,
        key_from: tuple[str, ...],
        org_from: tuple[str, ...],
        mapping_file: str | None,
        **others: Any,
    ) -> Result:
        columns, values = pairs(mapping, "--map"), pairs(constants, "--const")
        reading = Reading(format_, columns, values, zone, key_from, org_from, mapping_file)
        return command(reading=reading, **others)

    for option in (
        click.option(
            "--mapping", "mapping_file", metavar="FILE", help="Any other JSON: TOML file of the fields' paths."
        ),
        click.option(
            "--org-from",
            multiple=True,
            metavar="PATH",
            help="The same for the organisation, such as request.headers.x-team.",
        ),
        click.option(
            "--key-from",
            multiple=True,
            metavar="PATH",
            help="Where a gateway's record says the key's id, if not in the usual place; otel: an attribute.",
        ),
        click.option("--zone", help="csv: time zone of times that have none; UTC."),
        click.option("--const", "constants", multiple=True, metavar="FIELD=VALUE", help="csv: the same in every row."),
        click.option("--map", "mapping", multiple=True, metavar="FIELD=COLUMN", help="csv: take FIELD from there."),
        click.option(
            "--format",
            "format_",
            help=f"{prefix}overdraw (JSON lines), csv, litellm, otel, apisix, kong, envoy, openai-usage, mapping, or "
            "auto: by its content; else by the file's name.",
        ),
    ):
        gathered = option(gathered)
    return gathered


def _translated(chunks: Iterator[Chunk], parse: Any, stored: bool) -> Iterator[Chunk]:
    from stream.gateways.canonical import UNREADABLE, records_of

    for chunk in chunks:
        found = list(records_of(chunk, parse))
        # a refusal that has nothing to show still has to be refused by whoever reads it
        yield [(number, value or UNREADABLE) for number, value in found] if stored else found


def _recognised(chunks: Iterator[Chunk], name: str) -> tuple[str, Iterator[Chunk]]:
    """The format of what is in some chunks, told to the user, and the chunks."""
    from stream.gateways.errors import InputError
    from stream.gateways.recognise import recognise

    first = next(chunks, [])
    try:
        seen = recognise([value for _, value in first])
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    click.echo(f"{name}: {seen.format} (its records have {seen.sign})", err=True)
    return seen.format, chain([first], chunks)


def _documents(chunks: Iterator[Chunk], name: str) -> Iterator[Chunk]:
    """Lines as records; a file that is one JSON document, written over many lines, as one record."""
    from stream.gateways.errors import InputError
    from stream.gateways.quick import MAX_RECORD_BYTES

    first = next(chunks, [])
    if not first or first[0][1].strip() not in _DOCUMENT_STARTS:
        yield from chain([first] if first else [], chunks)
        return
    parts, size = [], 0
    for chunk in chain([first], chunks):
        for _, line in chunk:
            size += len(line) + 1
            if size > MAX_RECORD_BYTES:
                raise InputError(
                    f"{name}: it is one JSON document of more than {MAX_RECORD_BYTES >> 20} MiB: write its elements "
                    "one a line, such as by `jq -c '.[]'`"
                )
            parts.append(line)
    yield [(first[0][0], b"\n".join(parts))]
