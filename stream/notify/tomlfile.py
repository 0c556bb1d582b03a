"""A small TOML file of an operator's, checked as a whole: each problem names its place and never what stands there."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stream.alerts import printable

MAX_FILE_BYTES = 1 << 20
SECRETS = frozenset({"routing_key", "url", "secret", "bearer_token", "password", "token", "key", "api_key"})
"""What may have been meant to be a secret."""

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: str | Path, noun: str, model: type[Model], unnamed: Collection[str] = ()) -> Model:
    """The file as this model. `unnamed` are parts of a place that the file does not have, such as a union's tags.

    Raises ValueError with all problems.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read the {noun} file {path}: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: it is no {noun} file")
    try:
        return model.model_validate(tomllib.loads(raw.decode("utf-8")))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8: it is no {noun} file") from None
    except tomllib.TOMLDecodeError as error:  # it names a place, never what stands there
        raise ValueError(f"{path} is no TOML: {printable(str(error), 200)}") from None
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [f"{_place(problem['loc'], unnamed)}{_words(problem)}" for problem in problems]
        raise ValueError(f"{path}: " + "; ".join(lines)) from None


def _place(place: tuple[int | str, ...], unnamed: Collection[str]) -> str:
    words = [printable(str(word)) for word in place if word not in unnamed]
    return ".".join(words) + ": " if words else ""


def _words(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        noun = problem["loc"][-1]
        if noun in SECRETS:
            return f"a secret does not stand in this file: say {noun}_file or {noun}_env"
        return "there is no such key here: see the README"
    return str(problem["msg"]).removeprefix("Value error, ")
