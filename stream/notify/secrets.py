"""Secrets of the notify file: read from files or the environment, and taken out of whatever is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import SecretStr

MAX_SECRET_BYTES = 64 << 10
"""A key or an address has some hundred bytes: a larger file is another one."""
SHORTEST_HIDDEN = 4
"""Taking shorter texts out of a message would leave holes everywhere and hide nothing."""


def read_secret(noun: str, file: str | None, variable: str | None, environ: Mapping[str, str]) -> SecretStr | None:
    """The secret of `noun` from a file or from a variable of the environment; None if neither is named.

    Raises ValueError that says what is wrong and never what was read.

    >>> read_secret("url", None, "HOOK", {"HOOK": "https://example.org/x "}).get_secret_value()
    'https://example.org/x'
    """
    if file is not None and variable is not None:
        raise ValueError(f"say {noun}_file or {noun}_env, not both")
    if file is not None:
        text, where = _of_file(file), f"{noun}_file {file}"
    elif variable is not None:
        if variable not in environ:
            raise ValueError(f"{noun}_env: there is no variable {variable} in the environment: set it")
        text, where = environ[variable], f"{noun}_env {variable}"
    else:
        return None
    text = text.strip()
    if not text:
        raise ValueError(f"{where} is empty: put the secret into it")
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError(f"{where} holds blanks, line breaks or other than ASCII: it is no key and no address")
    return SecretStr(text)


def _of_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise ValueError(f"{path} is larger than {MAX_SECRET_BYTES >> 10} KiB: it holds no secret")
    return raw.decode("utf-8", "replace")


def hidden(text: str, secrets: Iterable[SecretStr]) -> str:
    """Text without the secrets that somebody may have sent back to us.

    >>> hidden("no such key: k-12345", [SecretStr("k-12345")])
    'no such key: ***'
    """
    for secret in sorted((secret.get_secret_value() for secret in secrets), key=len, reverse=True):
        if len(secret) >= SHORTEST_HIDDEN:
            text = text.replace(secret, "***")
    return text
