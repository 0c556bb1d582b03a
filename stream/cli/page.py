"""A file that a command writes at its end, whole or not at all, and whose place is tried before the work begins."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from stream.cli.common import BadInput


class Page:
    """Where a text goes. Raises BadInput at once if there is no writing it."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_file():
            raise BadInput(f"cannot write {path}: it is {'a folder' if self.path.is_dir() else 'no file'}")
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name[:100]}.", dir=self.path.parent)
            os.close(handle)
            os.unlink(name)
        except (OSError, ValueError) as error:
            raise self._refusal(error) from error

    def write(self, text: str) -> None:
        """Put the text in the file's place; whoever reads it sees the old one or the new one."""
        # a link stays one: what it names is replaced
        target = Path(os.path.realpath(self.path))
        name = None
        try:
            handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(handle)
            os.chmod(name, _mode())  # a temporary file is its owner's alone, and this one is to be passed on
            os.replace(name, target)
        except OSError as error:
            if name is not None:
                Path(name).unlink(missing_ok=True)
            raise self._refusal(error) from error

    def _refusal(self, error: OSError | ValueError) -> BadInput:
        return BadInput(f"cannot write {self.path}: {getattr(error, 'strerror', None) or error}")


def _mode() -> int:
    """The rights that a new file has here."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
