"""What the commands share that write files: none takes the place of what the command reads, and .gz is packed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING

from stream.cli.common import BadInput

if TYPE_CHECKING:
    from stream.settings import Settings


def keep_apart(option: str, path: str | None, others: Iterable[str | None]) -> None:
    """Raise BadInput if what an option writes is another file of the command, by whatever name.

    `-` among the others is standard input, which may come from a file; None is an option that was not given.
    """
    if path is None or path == "-":
        return
    for other in others:
        if other is not None and _same(path, other):
            raise BadInput(f"{option} {path} would take the place of another file of this command: name another one")


def files_of(settings: Settings, config: str | None) -> list[str]:
    """The files that settings were made of, and those that they name."""
    from stream.settings import CONFIG_FILE, PREFIX

    named = (getattr(settings, name) for name in type(settings).model_fields if name.endswith("_file"))
    return [config or os.environ.get(PREFIX + "CONFIG") or CONFIG_FILE, *filter(None, named)]


@contextmanager
def text_file(path: str) -> Iterator[IO[str]]:
    """A file to write text into, packed if its name ends in .gz; raises BadInput if there is no writing it."""
    from stream.lab.files import written

    try:
        with written(path) as raw, TextIOWrapper(raw, "utf-8", newline="") as text:
            yield text
    except BrokenPipeError:  # the reader of our output has gone
        raise
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error


def _same(path: str, other: str) -> bool:
    try:
        ours, theirs = os.stat(path), os.fstat(0) if other == "-" else os.stat(other)
    except (OSError, ValueError):  # one of them is not there yet
        return other != "-" and os.path.realpath(path) == os.path.realpath(other)
    # a device or a pipe loses nothing by being written to
    return stat.S_ISREG(ours.st_mode) and os.path.samestat(ours, theirs)
