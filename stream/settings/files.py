"""The small files that a setting names: read once, when the settings are made."""

from __future__ import annotations

from pydantic import SecretStr

MAX_PRIORS_BYTES = 4 << 20
"""A priors file has some 10 kB: a larger file is another one."""
LEAST_SECRET_BYTES = 16


def text_of(path: str, noun: str) -> str:
    """The text of a small file. Raises ValueError with what is wrong."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_PRIORS_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > MAX_PRIORS_BYTES:
        raise ValueError(f"{path} is larger than {MAX_PRIORS_BYTES >> 20} MiB: it is no {noun} file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: it is no {noun} file") from error


def text_named_by(setting: str, path: str | None, noun: str) -> str | None:
    """The text of the file that a setting names, None without one. Raises ValueError that names the setting."""
    if path is None:
        return None
    try:
        return text_of(path, noun)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None


def pseudonym_secret_of(key: SecretStr | None, path: str | None) -> bytes | None:
    """The secret of the pseudonyms, given or in a file; None without one. Raises ValueError with what is wrong."""
    if key is not None and path is not None:
        raise ValueError("pseudonym_key and pseudonym_key_file are both set: leave one out")
    text = key.get_secret_value() if key is not None else text_named_by("pseudonym_key_file", path, "key")
    if text is None:
        return None
    secret = text.strip().encode()
    if len(secret) < LEAST_SECRET_BYTES:
        raise ValueError(
            f"the key of the pseudonyms has less than {LEAST_SECRET_BYTES} bytes: make one with `openssl rand -hex 32`"
        )
    return secret
