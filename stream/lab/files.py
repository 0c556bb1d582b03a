"""Files as records: `.jsonl` and `.csv`, gzip or not, or stdin, in bounded memory, each record with its line number."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, cast

from stream.gateways import csv, gateway
from stream.gateways.errors import InputError
from stream.gateways.quick import MAX_RECORD_BYTES

__all__ = ["CHUNK_RECORDS", "InputError", "format_of", "read_chunks", "read_lines", "written"]

CHUNK_RECORDS = 5_000
"""Records of one chunk: what the worker fetches at once."""
BLOCK_BYTES = 1 << 20
GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
UNREADABLE = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"PAR1": "Parquet"}
"""First bytes of what people hand us and we do not read."""

Chunk = list[tuple[int, bytes]]


def format_of(path: str | Path, format: str | None = None) -> str:
    """The format of a file: as given, else `csv` by its name, else `overdraw`. Raises InputError on an unknown one.

    >>> format_of("a.csv.gz"), format_of("-"), format_of("a.txt", "csv")
    ('csv', 'overdraw', 'csv')
    """
    if format is None:
        return "csv" if str(path).lower().removesuffix(".gz").endswith(".csv") else "overdraw"
    gateway(format)
    return format


def read_chunks(
    path: str | Path,
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    *,
    zone: str = "UTC",
    row_prefix: str = "row",
) -> Iterator[Chunk]:
    """Records of a file by up to 5,000: (line number from 1, canonical JSON), blank lines left out.

    `path` `-` is stdin. Gzip is known by its content. `mapping`, `constants`, `zone` and `row_prefix` are the csv
    format's (see `stream.gateways.csv.rows`). A line longer than MAX_RECORD_BYTES is cut one byte above it, so that the
    parser refuses it, and never held whole.

    Raises InputError on what cannot be read (missing, a folder, no rights, damaged gzip, an unknown format, a header
    that lacks a column), after all records before the damage; its message names the file and says what to do.
    """
    with _told(path):
        chosen = format_of(path, format)
        if gateway(chosen).rows:
            lines = chain.from_iterable(_split(_blocks(path)))
            yield from _chunked(csv.rows(lines, mapping, constants, zone=zone, row_prefix=row_prefix))
            return
        if mapping or constants:
            raise InputError("--map and --const need --format csv: a JSON record names its own fields")
        for chunk in _split(_blocks(path)):
            if kept := [record for record in chunk if record[1].strip()]:
                yield kept


def read_lines(path: str | Path) -> Iterator[Chunk]:
    """All lines of a file or of stdin (`-`), numbered from 1, in chunks of what is there; gzip is known by its content.

    Raises InputError as `read_chunks` does.
    """
    with _told(path):
        yield from _split(_blocks(path))


@contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """Whatever cannot be read becomes an InputError that names the file and says what to do."""
    name = "stdin" if str(path) == "-" else str(path)
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error.__cause__
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder: name its files, such as {name.rstrip('/')}/*.jsonl") from None
    except PermissionError:
        raise InputError(f"{name}: you have no right to read it: see `ls -l`") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error


def _chunked(records: Iterator[tuple[int, bytes]]) -> Iterator[Chunk]:
    """Chunks of records; on an error, first what came before it."""
    chunk: Chunk = []
    try:
        for record in records:
            chunk.append(record)
            if len(chunk) == CHUNK_RECORDS:
                yield chunk
                chunk = []
    except (InputError, OSError):
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _split(blocks: Iterator[bytes]) -> Iterator[Chunk]:
    """Numbered lines of blocks of bytes, without their LF; an overlong one cut, a last one without LF included."""
    limit = MAX_RECORD_BYTES + 1
    number = 1
    carry = b""
    skipping = False  # inside a line that has been cut and handed out
    for block in blocks:
        lines = (carry + block).split(b"\n")
        carry = lines.pop()
        if lines:
            if skipping:
                del lines[0]
                number += 1
                skipping = False
            if lines and len(lines[0]) > limit:  # only the first can be: it alone spans blocks
                lines[0] = lines[0][:limit]
            for start in range(0, len(lines), CHUNK_RECORDS):
                part = lines[start : start + CHUNK_RECORDS]
                yield list(enumerate(part, number))
                number += len(part)
        if skipping:
            carry = b""
        elif len(carry) >= limit:
            yield [(number, carry[:limit])]
            carry = b""
            skipping = True
    if carry:
        yield [(number, carry)]


@contextmanager
def written(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write, packed if its name ends in .gz. Same bytes, same file: its header has neither time nor name."""
    with open(path, "wb") as file:
        if not _is_named_gz(path):
            yield file
            return
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            yield cast(IO[bytes], packed)


def _is_named_gz(path: str | Path) -> bool:
    return str(path).lower().endswith(".gz")


def _blocks(path: str | Path) -> Iterator[bytes]:
    """The text of a file in blocks, unpacked, without a byte order mark."""
    if str(path) == "-":
        yield from _text(sys.stdin.buffer, packed_name=False)
        return
    with Path(path).open("rb", buffering=0) as file:
        yield from _text(file, packed_name=_is_named_gz(path))


def _text(file: IO[bytes], packed_name: bool) -> Iterator[bytes]:
    head = b""
    while len(head) < 4:
        more = _read(file)
        if not more:
            break
        head += more
    raw = chain([head], iter(lambda: _read(file), b""))
    for magic, kind in UNREADABLE.items():
        if head.startswith(magic):
            raise InputError(f"it is {kind}, which is not read here: unpack it into .jsonl, .csv or .gz")
    if head.startswith(GZIP):
        blocks = _unpack(raw)
    elif packed_name and (not head or b"\0" in head[:64]):
        raise InputError("it is named .gz and is not gzip: fetch or pack it again")
    else:
        blocks = raw
    first = b""
    for block in blocks:
        first += block
        if len(first) >= len(BOM):
            break
    yield first.removeprefix(BOM)
    yield from blocks


def _read(file: IO[bytes]) -> bytes:
    # what is there, not a full block: a pipe's records must not wait for the ones behind them
    read1 = getattr(file, "read1", file.read)
    block: bytes = read1(BLOCK_BYTES)
    return block


def _unpack(raw: Iterator[bytes]) -> Iterator[bytes]:
    """Gzip members to their bytes, at most a block at a time; everything before a damage comes out before the error."""
    unpacker = zlib.decompressobj(wbits=31)
    begun = False
    for data in raw:
        while data:
            if unpacker.eof:
                data = data.lstrip(b"\0")  # tapes and some tools pad members with zeros
                if not data:
                    break
                unpacker, begun = zlib.decompressobj(wbits=31), False
            before = unpacker.copy()
            try:
                block = unpacker.decompress(data, BLOCK_BYTES)
            except zlib.error as error:
                yield _rescue(before, data)
                raise InputError(f"the gzip data is damaged ({error}): fetch or pack the file again") from None
            begun = True
            data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if block:
                yield block
            if not data and not unpacker.eof and len(block) == BLOCK_BYTES:
                # output was cut at the limit with the input used up: the rest sits in the unpacker
                while tail := unpacker.decompress(b"", BLOCK_BYTES):
                    yield tail
    if not begun or not unpacker.eof:
        raise InputError("the gzip data ends too early: fetch or pack the file again")


def _rescue(unpacker: zlib._Decompress, data: bytes) -> bytes:
    """What can be unpacked of data whose unpacking fails somewhere."""
    whole, step = b"", BLOCK_BYTES
    while step:
        attempt = unpacker.copy()
        try:
            more = attempt.decompress(data, step)
        except zlib.error:
            step //= 2
            continue
        if not more:
            break
        whole, unpacker, data = whole + more, attempt, attempt.unconsumed_tail
    return whole
