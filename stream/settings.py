"""Settings: defaults < overdraw.toml < OVERDRAW_* < flags; unknown names and bad values are errors."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, tzinfo
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from stream.holidays import read_holidays

PREFIX = "OVERDRAW_"
CONFIG_FILE = "overdraw.toml"
SASL_SETTINGS = ("kafka_username", "kafka_password", "kafka_password_file")
KEY_SETTINGS = ("kafka_key_file", "kafka_key_password", "kafka_key_password_file")
TLS_SETTINGS = ("kafka_ca_file", "kafka_cert_file", *KEY_SETTINGS)
MAX_PRIORS_BYTES = 4 << 20
"""A priors file has some 10 kB: a larger file is another one."""
LEAST_SECRET_BYTES = 16


class SettingsError(ValueError):
    """A setting that is unknown or has a bad value; the message names it and says what to do."""


def _cache_dir() -> str:
    return str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overdraw")


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


IntakeFormat = Literal["overdraw", "litellm", "otel", "apisix", "kong", "envoy", "openai-usage", "mapping"]
Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
# absolute: a process that is handed these settings may work in another folder
KafkaFile = Annotated[
    str | None, BeforeValidator(_none_if_empty), AfterValidator(lambda path: path and str(Path(path).absolute()))
]
KafkaSecret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]
KafkaUser = Annotated[
    Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,300}$")] | None, BeforeValidator(_none_if_empty)
]


class Settings(BaseModel):
    """Every setting, frozen and valid from birth. Each is `OVERDRAW_<NAME>` in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    broker: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, `host:port,host:port`")
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)
    ] = Field(
        "PLAINTEXT",
        description="how Kafka is spoken to: SSL is TLS, SASL is a user and a password, SASL_SSL is both",
    )
    kafka_sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_upper)] = (
        Field("SCRAM-SHA-512", description="how the password is shown to Kafka; PLAIN shows the password itself")
    )
    kafka_username: KafkaUser = Field(None, description="user for SASL")
    kafka_password: KafkaSecret = Field(
        None, exclude=True, description="its password: from the environment, never from the command line"
    )
    kafka_password_file: KafkaFile = Field(None, description="file that holds it, read when a client is made")
    kafka_ca_file: KafkaFile = Field(
        None,
        description="PEM file of the authorities that may have signed the brokers' certificates; without one, the "
        "system's",
    )
    kafka_cert_file: KafkaFile = Field(
        None, description="PEM file of our certificate and its chain, where the brokers ask for one (mutual TLS)"
    )
    kafka_key_file: KafkaFile = Field(
        None, description="PEM file of its private key; without one, it is in kafka_cert_file as well"
    )
    kafka_key_password: KafkaSecret = Field(
        None, exclude=True, description="password of an encrypted private key: from the environment"
    )
    kafka_key_password_file: KafkaFile = Field(None, description="file that holds it")
    app_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = Field(
        "overdraw", description="consumer group and prefix of the transactional ids"
    )
    source_topic: Topic = Field("api-calls", description="topic of API call events, keyed by key id")
    intake_topic: Topic | None = Field(
        None,
        description="topic of records that are not keyed by key id: the workers read it, check and key them, and write "
        "them into source_topic",
    )
    intake_format: IntakeFormat = Field(
        "overdraw",
        description="format of its records: overdraw (one JSON object per call), litellm, otel, apisix, kong, envoy, "
        "openai-usage, or mapping",
    )
    intake_key_from: Annotated[str, Field(max_length=2000)] | None = Field(
        None,
        description="where such a record says the key's id, instead of the format's usual places: JSON paths, or "
        "attributes (otel), separated by commas; the first that says something counts",
    )
    intake_org_from: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="the same for the organisation"
    )
    intake_mapping_file: str | None = Field(
        None, description="mapping: TOML file of the paths that the fields come from; read at the start"
    )
    pseudonym_key: SecretStr | None = Field(
        None,
        exclude=True,
        description="secret by which the intake, `feed` and `replay` put pseudonyms (HMAC-SHA-256) in the place of "
        "key, organisation and user ids: from the environment, never from the command line",
    )
    pseudonym_key_file: str | None = Field(
        None, description="file that holds this secret, 16 bytes or more; read at the start"
    )
    alert_topic: Topic = Field("overdraw-alerts", description="topic of alerts, written in transactions")
    dead_letter_topic: Topic = Field("overdraw-dead-letters", description="topic of records that were refused")
    state_topic: Topic = Field("overdraw-state", description="compacted topic of the detector's state")
    partitions: Annotated[int, Field(ge=1, le=4096)] = Field(
        8, description="partitions of the source, state and alert topics; fixed for life"
    )
    replication: Annotated[int, Field(ge=1, le=9)] = Field(1, description="replication factor of topics that we create")
    instance_id: str | None = Field(
        None, description="stable name of this worker (static membership): a restart then takes 2 s, not a session"
    )
    session_timeout_seconds: Annotated[float, Field(ge=6, le=300)] = Field(
        30, description="after this silence a worker's partitions go to another one"
    )
    flush_seconds: Annotated[float, Field(ge=0.05, le=60)] = Field(
        0.5, description="pace of the transactions that write state and alerts"
    )
    bucket_seconds: Annotated[int, Field(ge=10, le=3600)] = Field(
        300, description="length of an event-time bucket; must divide an hour"
    )
    allowed_lateness_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        60, description="how far an event may lag behind its shard's newest one before it is late"
    )
    timezone: str = Field(
        "UTC",
        description="IANA name of the time zone, such as `Europe/Berlin`, whose clock tells the hours and weekends of "
        "a key's season. Choose it before the first start: states outlive a change, but working hours are then learned "
        "again, within a week",
    )
    holidays_file: str | None = Field(
        None,
        description="CSV file (`date,end,name`; `end` and `name` may be empty) of days of that time zone on which a "
        "weekend is expected; read at the start",
    )
    priors_file: str | None = Field(
        None,
        description="priors file instead of the shipped one, such as `overdraw calibrate` writes; read at the start. "
        "States stay as they are when it changes",
    )
    backlog_seconds: Annotated[float, Field(ge=0)] = Field(
        3600, description="an incident older than this when found is historical and pages nobody"
    )
    false_alerts_per_1000_key_days: Annotated[float, Field(ge=0.01, le=1000)] = Field(
        1, description="the first dial: false alerts that are accepted, per 1,000 days of active keys"
    )
    false_pages_per_week: Annotated[float, Field(ge=0.001, le=10_000)] = Field(
        1, description="the second dial: false alerts that may be high or critical, per week and installation"
    )
    min_excess_tokens: Annotated[float, Field(ge=0)] = Field(
        100_000, description="evidence gate: tokens above the baseline below which nothing alerts"
    )
    accept_days: Annotated[float, Field(ge=0.25, le=365)] = Field(
        7, description="a change that has lasted this long is the new normal: it is learned at the usual pace"
    )
    min_calls: Annotated[int, Field(ge=1)] = Field(6, description="evidence gate: calls in the window")
    max_keys: Annotated[int, Field(ge=1)] = Field(
        4_000_000, description="keys of the installation; a new key beyond its shard's part is a dead letter"
    )
    max_ids: Annotated[int, Field(ge=0)] = Field(
        2_000_000, description="event ids a shard remembers per open bucket to find duplicates"
    )
    web_host: str = Field("127.0.0.1", description="address of the worker's HTTP server")
    web_port: Annotated[int, Field(ge=0, le=65535)] = Field(6066, description="its port; 0: any free one")
    web_token: SecretStr | None = Field(
        None, description="bearer token for the HTTP server; demanded as soon as it binds beyond loopback"
    )
    dashboard_url: str | None = Field(None, description="Grafana address that alerts link to")
    runbook_url: str | None = Field(
        None, description="runbook address that alerts link to; {kind} in it, or its end, becomes the kind"
    )
    notify_file: str | None = Field(
        None, description="TOML file of notifiers and routes for `overdraw notifier`; secrets stand elsewhere"
    )
    notifier_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        6067, description="port of the notifier's HTTP server, on web_host and with web_token; 0: any free one"
    )
    data_dir: str = Field(default_factory=_cache_dir, description="folder of the embedded Kafka and its caches")
    store: Literal["memory"] = Field("memory", description="where live state is held; the state topic is its journal")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    _holidays: frozenset[date] = PrivateAttr(frozenset())
    _priors_text: str | None = PrivateAttr(None)
    _mapping_text: str | None = PrivateAttr(None)
    _pseudonym_secret: bytes | None = PrivateAttr(None)

    @field_validator("bucket_seconds")
    @classmethod
    def _divides_an_hour(cls, value: int) -> int:
        if 3600 % value:
            raise ValueError("must divide 3600, such as 60, 300 or 600")
        return value

    @field_validator("broker")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError("must be host:port, or several separated by commas")
            if "@" in host:
                raise ValueError("must be host:port alone: the user is kafka_username, the password kafka_password")
        return ",".join(server.strip() for server in value.split(","))

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            _zone(value)
        except (KeyError, ValueError, OSError):  # not found, not a name, a folder of zones
            raise ValueError(_unknown_zone(value)) from None
        return value

    @field_validator("holidays_file", "priors_file", "intake_mapping_file", "pseudonym_key_file", "notify_file")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        # a process that is handed these settings may work in another folder
        return None if value is None else str(Path(value).absolute())

    @field_validator(
        "web_token", "instance_id", "intake_topic", "holidays_file", "priors_file", "intake_key_from",
        "intake_org_from", "intake_mapping_file", "pseudonym_key", "pseudonym_key_file", "notify_file",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _topics_differ(self) -> Settings:
        taken: dict[str, str] = {}
        for name in ("source_topic", "intake_topic", "alert_topic", "dead_letter_topic", "state_topic"):
            topic = getattr(self, name)
            if topic is not None and (other := taken.setdefault(topic, name)) != name:
                raise ValueError(f"{other} and {name} are both {topic!r}: each needs a topic of its own")
        return self

    @model_validator(mode="after")
    def _kafka_security_fits(self) -> Settings:
        protocol = self.kafka_security_protocol
        said = f"kafka_security_protocol is {protocol}"
        for names, used, others in (
            (SASL_SETTINGS, protocol.startswith("SASL"), "SASL_SSL"),
            (TLS_SETTINGS, protocol.endswith("SSL"), "SASL_SSL, or SSL"),
        ):
            useless = [name for name in names if getattr(self, name) is not None]
            if useless and not used:
                raise ValueError(f"{said}, which makes no use of {' and '.join(useless)}: set it to {others}")
        for name in ("kafka_password", "kafka_key_password"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"{name} and {name}_file are both set: leave one out")
        if protocol.startswith("SASL"):
            if self.kafka_username is None:
                raise ValueError(f"{said}: say as whom, with kafka_username")
            if self.kafka_password is None and self.kafka_password_file is None:
                raise ValueError(f"{said}: set OVERDRAW_KAFKA_PASSWORD, or name a file with kafka_password_file")
        if self.kafka_cert_file is None and any(getattr(self, name) is not None for name in KEY_SETTINGS):
            raise ValueError("there is a private key and no certificate: name its file with kafka_cert_file")
        return self

    @model_validator(mode="after")
    def _read_holidays(self) -> Settings:
        if self.holidays_file is not None:
            try:
                self._holidays = read_holidays(self.holidays_file)
            except ValueError as error:
                raise ValueError(f"holidays_file: {error}") from None
        return self

    @model_validator(mode="after")
    def _read_priors(self) -> Settings:
        if self.priors_file is not None:
            try:
                self._priors_text = text_of(self.priors_file, "priors")
            except ValueError as error:
                raise ValueError(f"priors_file: {error}") from None
        return self

    @model_validator(mode="after")
    def _read_mapping(self) -> Settings:
        if self.intake_mapping_file is not None:
            try:
                self._mapping_text = text_of(self.intake_mapping_file, "mapping")
            except ValueError as error:
                raise ValueError(f"intake_mapping_file: {error}") from None
        elif self.intake_format == "mapping":
            raise ValueError("intake_format is mapping: name the file that says the paths, with intake_mapping_file")
        return self

    @model_validator(mode="after")
    def _read_pseudonym_key(self) -> Settings:
        if self.pseudonym_key is not None and self.pseudonym_key_file is not None:
            raise ValueError("pseudonym_key and pseudonym_key_file are both set: leave one out")
        if self.pseudonym_key is not None:
            self._pseudonym_secret = self.pseudonym_key.get_secret_value().strip().encode()
        elif self.pseudonym_key_file is not None:
            try:
                self._pseudonym_secret = text_of(self.pseudonym_key_file, "key").strip().encode()
            except ValueError as error:
                raise ValueError(f"pseudonym_key_file: {error}") from None
        if self._pseudonym_secret is not None and len(self._pseudonym_secret) < LEAST_SECRET_BYTES:
            raise ValueError(
                f"the key of the pseudonyms has less than {LEAST_SECRET_BYTES} bytes: make one with "
                "`openssl rand -hex 32`"
            )
        return self

    @property
    def zone(self) -> tzinfo:
        """The time zone by whose clock seasons are learned."""
        return _zone(self.timezone)

    @property
    def holidays(self) -> frozenset[date]:
        """The days in `holidays_file`, as they were when these settings were made: at most 4,000."""
        return self._holidays

    @property
    def priors_text(self) -> str | None:
        """What `priors_file` held when these settings were made, None without one; `stream.core.priors` reads it."""
        return self._priors_text

    @property
    def mapping_text(self) -> str | None:
        """What `intake_mapping_file` held when these settings were made; `stream.gateways.mapping` reads it."""
        return self._mapping_text

    @property
    def pseudonym_secret(self) -> bytes | None:
        """The secret of the pseudonyms; None: ids stay as they are."""
        return self._pseudonym_secret

    @property
    def config_digest(self) -> str:
        """16 hex digits over the settings that decide what is found; an alert's digest covers the priors as well."""
        names = (
            "partitions", "bucket_seconds", "allowed_lateness_seconds", "false_alerts_per_1000_key_days",
            "false_pages_per_week", "min_excess_tokens", "min_calls", "accept_days", "max_keys", "max_ids", "timezone",
        )  # fmt: skip
        text = "\n".join(f"{name}={getattr(self, name)!r}" for name in names)
        text += "\nholidays=" + " ".join(sorted(map(str, self.holidays)))
        return sha256(text.encode()).hexdigest()[:16]

    @property
    def state_settings(self) -> dict[str, int]:
        """The settings that make stored states incomparable when they change.

        The time zone and the holidays are none of them: a season of another zone is one whose keys have moved by some
        hours, which is learned again, while all else in a state holds. To refuse it would lose that too. Nor are the
        priors: a state holds what a key has shown, and they say what to make of it.
        """
        return {"partitions": self.partitions, "bucket_seconds": self.bucket_seconds}

    @property
    def state_digest(self) -> str:
        """16 hex digits over `state_settings`."""
        return sha256(" ".join(map(str, self.state_settings.values())).encode()).hexdigest()[:16]


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


def _zone(name: str) -> tzinfo:
    """The zone of an IANA name. Raises KeyError, ValueError or OSError."""
    return UTC if name == "UTC" else ZoneInfo(name)


def _unknown_zone(name: str) -> str:
    names = {zone.lower(): zone for zone in available_timezones()}
    # the city alone is what people write first
    cities = {zone.rpartition("/")[2]: zone for zone in names}
    wanted = name.strip().lower().replace(" ", "_")
    near = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, n=3)
    near += [zone for city in difflib.get_close_matches(wanted, cities, n=3) if (zone := cities[city]) not in near]
    return f"there is no time zone {name[:80]!r}: " + (
        f"did you mean {' or '.join(names[zone] for zone in near[:3])}?" if near else "name one such as Europe/Berlin"
    )


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
        {k[len(PREFIX) :]: v for k, v in environ.items() if k.startswith(PREFIX) and k != PREFIX + "CONFIG"},
        "the environment",
    )
    for name in (name.lower() for name in flags or ()):
        if name in Settings.model_fields and Settings.model_fields[name].exclude:
            raise SettingsError(
                f"{name} from the command line: others can read it there; set {PREFIX}{name.upper()}, or name a file "
                f"with {name}_file"
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
