"""Secrets of the notify file: read from files or the environment, and taken out of whatever is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, unquote_plus, urlsplit

from pydantic import SecretStr

MAX_SECRET_BYTES = 64 << 10
"""A key or an address has some hundred bytes: a larger file is another one."""
SHORTEST_HIDDEN = 4
"""Taking shorter texts out of a message would leave holes everywhere and hide nothing."""
SHORTEST_PART = 8
"""The same for a part of an address's path, which may be a word such as `hooks`."""


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

    Of an address its path, the longer parts of the path and the values of its query are hidden by themselves as well:
    servers name the path that they do not know. So is what is escaped as addresses, JSON or HTML do.

    >>> hidden("no such key: k-12345", [SecretStr("k-12345")])
    'no such key: ***'
    >>> hidden("Cannot POST /hooks/Zm9vYmFy", [SecretStr("https://example.org/hooks/Zm9vYmFy")])
    'Cannot POST ***'
    """
    forms = {form for secret in secrets for form in _forms(secret.get_secret_value())}
    if not forms:
        return text
    pattern = "|".join(_spelt(form) for form in sorted(forms, key=len, reverse=True))
    return re.sub(pattern, "***", text, flags=re.IGNORECASE)


def _forms(secret: str) -> Iterator[str]:
    parts = [secret]
    if secret.lower().startswith(("http://", "https://")):
        address = urlsplit(secret)
        parts += [f"{address.path}?{address.query}", address.path, address.query]
        parts += [part for part in address.path.split("/") if len(part) >= SHORTEST_PART]
        parts += [value for pair in address.query.split("&") for value in (pair, pair.partition("=")[2])]
    for part in parts:
        yield from (form for form in (part, unquote(part), unquote_plus(part)) if len(form) >= SHORTEST_HIDDEN)


def _spelt(text: str) -> str:
    """A pattern for text in which each character stands for itself or is escaped."""
    return "".join(map(_spelt_character, text))


@lru_cache(maxsize=256)
def _spelt_character(character: str) -> str:
    ways = [re.escape(character), "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))]
    if not character.isalnum():
        ways += [rf"\\u{ord(character):04x}", rf"&\#0*{ord(character)};", rf"&\#x0*{ord(character):x};"]
    if character == "/":
        ways.append(r"\\/")
    if character == "&":
        ways.insert(0, "&amp;")
    return f"(?:{'|'.join(ways)})"
