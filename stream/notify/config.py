"""The notify file: notifiers by name, routes, and who owns which keys. TOML; secrets stand in files or variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from stream.alerts import Kind, Severity
from stream.notify.hold import HOLD_HOURS
from stream.notify.secrets import read_secret
from stream.notify.tomlfile import read_toml

MAX_NOTIFIERS = 20
"""Each has a consumer of its own."""
PAGER: tuple[Severity, ...] = ("high", "critical")
CHANNEL: tuple[Severity, ...] = ("warning", "high", "critical")
NAME = r"^[a-z0-9][a-z0-9_-]{0,39}$"
RESERVED_LABELS = frozenset({"alertname", "service", "fingerprint", "entity_type", "entity"})


class NotifyFileError(ValueError):
    """A notify file that cannot be used; the message names the place and says what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


def url_problem(text: str) -> str | None:
    """What is wrong with an address, None if nothing is; it never repeats the address, which may be a secret.

    >>> url_problem("https://example.org/hook"), url_problem("example.org")
    (None, 'must be an address such as https://host/path')
    """
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        return "must be an address such as https://host/path"
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
        return "must be an address such as https://host/path"
    if not re.fullmatch(r"[\x21-\x7e]+", text) or parts.fragment:
        return "must be an address without blanks, other than ASCII, or a #fragment"
    if parts.username is not None or parts.password is not None:
        return "must have no user or password in it: credentials come from files or the environment"
    return None


def _url(text: str) -> str:
    if problem := url_problem(text):
        raise ValueError(problem)
    return text


Url = Annotated[str, AfterValidator(_url)]


class _Common(_Part):
    """What every notifier has; `burst` 0 is no limit."""

    burst: Annotated[int, Field(ge=0, le=10_000)] = 0
    burst_seconds: Annotated[float, Field(ge=1, le=86_400)] = 600
    timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = 10
    give_up_hours: Annotated[float, Field(gt=0, le=720)] = 24
    proxy: Url | None = None

    def secret_fields(self) -> list[str]:
        """The nouns that may be given as NOUN_file or NOUN_env."""
        return [name.removesuffix("_file") for name in type(self).model_fields if name.endswith("_file")]

    @model_validator(mode="after")
    def _one_source(self) -> _Common:
        for noun in self.secret_fields():
            if getattr(self, f"{noun}_file") is not None and getattr(self, f"{noun}_env") is not None:
                raise ValueError(f"say {noun}_file or {noun}_env, not both")
        return self


class AlertmanagerConfig(_Common):
    """Prometheus Alertmanager, API v2; `labels` are added to those that make an alert's identity."""

    type: Literal["alertmanager"]
    url: Url
    external_url: Url | None = None
    labels: dict[Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")], str] = {}
    bearer_token_file: str | None = None
    bearer_token_env: str | None = None

    @field_validator("labels")
    @classmethod
    def _free_labels(cls, value: dict[str, str]) -> dict[str, str]:
        if taken := sorted(RESERVED_LABELS & set(value)):
            raise ValueError(f"the label {taken[0]} is ours: name another one")
        return value


class PagerDutyConfig(_Common):
    """PagerDuty, Events API v2."""

    type: Literal["pagerduty"]
    url: Url = "https://events.pagerduty.com/v2/enqueue"
    routing_key_file: str | None = None
    routing_key_env: str | None = None
    burst: Annotated[int, Field(ge=0, le=10_000)] = 20


class SlackConfig(_Common):
    """Slack, by an incoming webhook, whose address is the secret; `hold_hours` see `NotifyConfig.hold_seconds`."""

    type: Literal["slack"]
    url_file: str | None = None
    url_env: str | None = None
    hold_hours: Annotated[float, Field(ge=0, le=24)] | None = None
    burst: Annotated[int, Field(ge=0, le=10_000)] = 20


class WebhookConfig(_Common):
    """Any HTTP receiver of CloudEvents; signed where a secret is given."""

    type: Literal["webhook"]
    url: Url | None = None
    url_file: str | None = None
    url_env: str | None = None
    secret_file: str | None = None
    secret_env: str | None = None
    bearer_token_file: str | None = None
    bearer_token_env: str | None = None


NotifierConfig = Annotated[
    AlertmanagerConfig | PagerDutyConfig | SlackConfig | WebhookConfig, Field(discriminator="type")
]
NEEDED = {"pagerduty": ("routing_key",), "slack": ("url",), "webhook": ("url",), "alertmanager": ()}
DEFAULT_SEVERITIES = {"pagerduty": PAGER, "alertmanager": PAGER, "slack": CHANNEL, "webhook": CHANNEL}
"""Who is told what where the file has no routes: a pager what may wake somebody, a channel tickets as well."""


class Route(_Part):
    """Alerts that meet every condition go to every name in `notify`; a condition that is left out is always met."""

    notify: Annotated[list[str], Field(min_length=1)]
    severity: Annotated[list[Severity], Field(min_length=1)] = list(PAGER)
    kind: Annotated[list[Kind], Field(min_length=1)] | None = None
    owner: Annotated[list[str], Field(min_length=1)] | None = None
    historical: bool = False


class NotifyConfig(_Part):
    """The whole file. `owners` has patterns of key ids, as in a shell (`*`, `?`), by the name of who owns them."""

    notifiers: Annotated[dict[Annotated[str, Field(pattern=NAME)], NotifierConfig], Field(min_length=1)]
    routes: list[Route] | None = None
    owners: dict[str, list[str]] = {}
    silence_url: Url | None = Field(None, description="address of the Alertmanager whose page silences an incident")

    @model_validator(mode="after")
    def _names_are_known(self) -> NotifyConfig:
        if len(self.notifiers) > MAX_NOTIFIERS:
            raise ValueError(f"{len(self.notifiers)} notifiers: at most {MAX_NOTIFIERS}, each reads the topic itself")
        for place, route in enumerate(self.routes or [], 1):
            for name in route.notify:
                if name not in self.notifiers:
                    raise ValueError(f"route {place}: there is no notifier {name!r}: known are {_named(self)}")
            for owner in route.owner or []:
                if owner not in self.owners:
                    raise ValueError(f"route {place}: there is no owner {owner!r} in [owners]: add it")
        return self

    def silence_base(self) -> str | None:
        """Where incidents are silenced: `silence_url`, else the page of the first Alertmanager; None without one."""
        if self.silence_url is not None:
            return self.silence_url.rstrip("/")
        for notifier in self.notifiers.values():
            if isinstance(notifier, AlertmanagerConfig):
                return (notifier.external_url or notifier.url).rstrip("/")
        return None

    def pagers(self) -> frozenset[str]:
        """The notifiers that wake somebody, by their type."""
        return frozenset(name for name, one in self.notifiers.items() if DEFAULT_SEVERITIES[one.type] == PAGER)

    def hold_seconds(self, name: str) -> float:
        """How long a ticket waits at a notifier that would be told of it a second time as a page; 0: not at all.

        By itself only where nothing in the file says who is told what: there a channel without a pager is one as well.
        """
        hours = getattr(self.notifiers[name], "hold_hours", 0.0)
        if hours is None:
            hours = HOLD_HOURS if self.routes is None and not self.pagers() else 0.0
        return float(hours) * 3600


Secrets = Mapping[str, SecretStr]
"""The secrets of one notifier by their noun, such as `routing_key`."""


def _named(config: NotifyConfig) -> str:
    return ", ".join(sorted(config.notifiers))


def read_notify_file(path: str | Path) -> NotifyConfig:
    """The file as a whole, without its secrets. Raises NotifyFileError with one line per problem."""
    try:
        return read_toml(path, "notify", NotifyConfig, unnamed=tuple(DEFAULT_SEVERITIES))
    except ValueError as error:
        raise NotifyFileError(str(error)) from None


def secrets_of(config: NotifyConfig, name: str, environ: Mapping[str, str] | None = None) -> Secrets:
    """The secrets of a notifier, read now. Raises NotifyFileError on one that is missing or cannot be read."""
    environ = os.environ if environ is None else environ
    notifier = config.notifiers[name]
    found: dict[str, SecretStr] = {}
    for noun in notifier.secret_fields():
        try:
            secret = read_secret(noun, getattr(notifier, f"{noun}_file"), getattr(notifier, f"{noun}_env"), environ)
        except ValueError as error:
            raise NotifyFileError(f"notifier {name}: {error}") from None
        if secret is not None:
            found[noun] = secret
    for noun in NEEDED[notifier.type]:
        if noun not in found and getattr(notifier, noun, None) is None:
            raise NotifyFileError(f"notifier {name}: it has no {noun}: say {noun}_file or {noun}_env")
    if "url" in found and (problem := url_problem(found["url"].get_secret_value())):
        raise NotifyFileError(f"notifier {name}: the url {problem}")
    return found
