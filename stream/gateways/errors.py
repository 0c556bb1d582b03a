"""`InputError`: input that cannot be read at all, as against a single bad record."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A file, a header or a format that cannot be read; the message says what to do (the command line: exit 2)."""


def guess(name: str, known: Iterable[str]) -> str:
    """What somebody may have meant by a name that is not known, as the beginning of a sentence's rest.

    >>> guess("surg", ["surge", "drift"]), guess("x", ["surge", "drift"])
    ("did you mean 'surge'? ", '')
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
