"""`InputError`: input that cannot be read at all, as against a single bad record."""


class InputError(ValueError):
    """A file, a header or a format that cannot be read; the message says what to do (the command line: exit 2)."""
