"""Where settings come from: defaults < overdraw.toml < OVERDRAW_* < flags."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stream.native import PURE
from stream.settings.model import Settings

PREFIX = "OVERDRAW_"
CONFIG_FILE = "overdraw.toml"
NO_SETTINGS = (PREFIX + "CONFIG", PURE)
"""Variables that say where settings are, and which code runs."""


class SettingsError(ValueError):
    """A setting that is unknown or has a bad value; the message names it and says what to do."""


def _unknown(name: str, where: str) -> SettingsError:
    near = difflib.get_close_matches(name.lower(), Settings.model_fields, n=1)
    return SettingsError(
        f"unknown setting {name!r} in {where}"
        + (f": did you mean {near[0]!r}?" if near else ": see `overdraw schema settings`")
    )


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
) -> Settings:
    """Settings from all four sources; `config` None: `overdraw.toml` in the working directory, if it is there.

    Raises SettingsError with one line per problem.

    >>> load_settings({"bucket_seconds": "60"}, environ={}).bucket_seconds
    60
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}

    def take(source: Mapping[str, Any], where: str) -> None:
        for name, value in source.items():
            if name.lower() not in Settings.model_fields:
                raise _unknown(name, where)
            values[name.lower()] = value
            origin[name.lower()] = where

    path = Path(config or environ.get(PREFIX + "CONFIG") or CONFIG_FILE)
    if path.is_file():
        try:
            take(tomllib.loads(path.read_text("utf-8")), str(path))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise SettingsError(f"cannot read {path}: {error}") from error
    elif config or environ.get(PREFIX + "CONFIG"):
        raise SettingsError(f"there is no configuration file {path}")
    take(
        {k[len(PREFIX) :]: v for k, v in environ.items() if k.startswith(PREFIX) and k not in NO_SETTINGS},
        "the environment",
    )
    for name in (name.lower() for name in flags or ()):
        if name in Settings.model_fields and Settings.model_fields[name].exclude:
            or_file = f", or name a file with {name}_file" if f"{name}_file" in Settings.model_fields else ""
            raise SettingsError(
                f"{name} from the command line: others can read it there; set {PREFIX}{name.upper()}{or_file}"
            )
    take(dict(flags or {}), "the command line")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(problem["loc"][0]) if problem["loc"] else "settings"
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name} (from {origin.get(name, 'the defaults')}): {message}" if problem["loc"] else message)
        raise SettingsError("; ".join(lines)) from None
