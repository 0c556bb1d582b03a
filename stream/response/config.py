"""The response file: what may be done, to whom, by whose leave, and through which gateways. TOML, without secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from stream.alerts import Severity
from stream.notify.config import NAME, Url
from stream.notify.secrets import read_secret
from stream.notify.tomlfile import read_toml
from stream.response.record import Action

MAX_GATEWAYS = 10


class ResponseFileError(ValueError):
    """A response file that cannot be used; the message names the place and says what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class LiteLLMConfig(_Part):
    """A LiteLLM proxy; its key is one that may update and block keys."""

    type: Literal["litellm"]
    url: Url
    key_file: str | None = None
    key_env: str | None = None
    timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = 10
    proxy: Url | None = None

    @model_validator(mode="after")
    def _has_a_key(self) -> LiteLLMConfig:
        if (self.key_file is None) == (self.key_env is None):
            raise ValueError("say key_file or key_env: where the key of LiteLLM's administrator is")
        return self


class FileConfig(_Part):
    """A file of what is denied, which is replaced as a whole: JSON, or the ids of blocked keys, one a line."""

    type: Literal["file"]
    path: Annotated[str, Field(min_length=1)]
    format: Literal["json", "lines"] = "json"


class TopicConfig(_Part):
    """The compacted topic `deny_list_topic`."""

    type: Literal["topic"]


GatewayConfig = Annotated[LiteLLMConfig | FileConfig | TopicConfig, Field(discriminator="type")]


class Hours(_Part):
    """How long an action lasts once it is applied."""

    throttle: Annotated[float, Field(gt=0, le=24 * 31)] = 6
    block: Annotated[float, Field(gt=0, le=24 * 31)] = 2


class Limits(_Part):
    """What is done by itself or by approval; an operator's own block is not counted out."""

    applied_per_hour: Annotated[int, Field(ge=0, le=10_000)] = 10
    active_at_once: Annotated[int, Field(ge=0, le=10_000)] = 50


class ResponseConfig(_Part):
    """The whole file. `recommend` says what by the severity of a key's alert; what is left out gets nothing."""

    mode: Literal["dry-run", "apply"] = "dry-run"
    approved: list[Literal["throttle", "block"]] = Field([], description="actions that need nobody's word")
    recommend: dict[Severity, Action] = {"warning": "review", "high": "throttle", "critical": "block"}
    never: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        [], description="patterns of key ids, as in a shell, that nothing is done to"
    )
    hours: Hours = Hours()
    limits: Limits = Limits()
    gateways: dict[Annotated[str, Field(pattern=NAME)], GatewayConfig] = {}

    @model_validator(mode="after")
    def _fits(self) -> ResponseConfig:
        if len(self.gateways) > MAX_GATEWAYS:
            raise ValueError(f"{len(self.gateways)} gateways: at most {MAX_GATEWAYS}")
        if self.mode == "apply" and not self.gateways:
            raise ValueError("mode is apply, and there is no gateway: add a table [gateways.NAME] with its type")
        return self


def read_response_file(path: str | Path) -> ResponseConfig:
    """The file as a whole, without its secrets. Raises ResponseFileError with one line per problem."""
    try:
        return read_toml(path, "response", ResponseConfig, unnamed=("litellm", "file", "topic"))
    except ValueError as error:
        raise ResponseFileError(str(error)) from None


def keys_of(config: ResponseConfig, environ: Mapping[str, str] | None = None) -> dict[str, SecretStr]:
    """The secret of each LiteLLM gateway by its name, read now. Raises ResponseFileError on one that cannot be read."""
    environ = os.environ if environ is None else environ
    found: dict[str, SecretStr] = {}
    for name, gateway in config.gateways.items():
        if isinstance(gateway, LiteLLMConfig):
            try:
                secret = read_secret("key", gateway.key_file, gateway.key_env, environ)
            except ValueError as error:
                raise ResponseFileError(f"gateway {name}: {error}") from None
            if secret is not None:
                found[name] = secret
    return found
