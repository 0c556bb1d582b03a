"""Every setting: its type, its default, and what it is for."""

from __future__ import annotations

from datetime import date, tzinfo
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from stream.holidays import read_holidays
from stream.settings.files import pseudonym_secret_of, text_named_by
from stream.settings.values import (
    Broker,
    BucketSeconds,
    Composites,
    IntakeFormat,
    KafkaProtocol,
    KafkaUser,
    LogLevel,
    OptionalFile,
    OptionalPaths,
    OptionalSecret,
    OptionalText,
    OptionalTopic,
    SaslMechanism,
    TimeZone,
    Topic,
    cache_dir,
    zone_of,
)

SASL_SETTINGS = ("kafka_username", "kafka_password", "kafka_password_file")
KEY_SETTINGS = ("kafka_key_file", "kafka_key_password", "kafka_key_password_file")
TLS_SETTINGS = ("kafka_ca_file", "kafka_cert_file", *KEY_SETTINGS)
DECIDING = (
    "partitions", "bucket_seconds", "allowed_lateness_seconds", "false_alerts_per_1000_key_days",
    "false_pages_per_week", "min_excess_tokens", "min_calls", "accept_days", "max_keys", "max_ids", "timezone",
    "false_alerts_per_1000_group_days", "group_composites", "max_groups",
)  # fmt: skip
"""The settings that decide what is found, besides the holidays and the priors."""


class Settings(BaseModel):
    """Every setting, frozen and valid from birth. Each is `OVERDRAW_<NAME>` in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    broker: Broker = Field("127.0.0.1:9092", description="Kafka bootstrap servers, `host:port,host:port`")
    kafka_security_protocol: KafkaProtocol = Field(
        "PLAINTEXT",
        description="how Kafka is spoken to: SSL is TLS, SASL is a user and a password, SASL_SSL is both",
    )
    kafka_sasl_mechanism: SaslMechanism = Field(
        "SCRAM-SHA-512", description="how the password is shown to Kafka; PLAIN shows the password itself"
    )
    kafka_username: KafkaUser = Field(None, description="user for SASL")
    kafka_password: OptionalSecret = Field(
        None, exclude=True, description="its password: from the environment, never from the command line"
    )
    kafka_password_file: OptionalFile = Field(None, description="file that holds it, read when a client is made")
    kafka_ca_file: OptionalFile = Field(
        None,
        description="PEM file of the authorities that may have signed the brokers' certificates; without one, the "
        "system's",
    )
    kafka_cert_file: OptionalFile = Field(
        None, description="PEM file of our certificate and its chain, where the brokers ask for one (mutual TLS)"
    )
    kafka_key_file: OptionalFile = Field(
        None, description="PEM file of its private key; without one, it is in kafka_cert_file as well"
    )
    kafka_key_password: OptionalSecret = Field(
        None, exclude=True, description="password of an encrypted private key: from the environment"
    )
    kafka_key_password_file: OptionalFile = Field(None, description="file that holds it")
    app_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = Field(
        "overdraw", description="consumer group and prefix of the transactional ids"
    )
    source_topic: Topic = Field("api-calls", description="topic of API call events, keyed by key id")
    intake_topic: OptionalTopic = Field(
        None,
        description="topic of records that are not keyed by key id: the workers read it, check and key them, and write "
        "them into source_topic",
    )
    intake_format: IntakeFormat = Field(
        "overdraw",
        description="format of its records: overdraw (one JSON object per call), litellm, otel, apisix, kong, envoy, "
        "openai-usage, or mapping",
    )
    intake_key_from: OptionalPaths = Field(
        None,
        description="where such a record says the key's id, instead of the format's usual places: JSON paths, or "
        "attributes (otel), separated by commas; the first that says something counts",
    )
    intake_org_from: OptionalPaths = Field(None, description="the same for the organisation")
    intake_mapping_file: OptionalFile = Field(
        None, description="mapping: TOML file of the paths that the fields come from; read at the start"
    )
    pseudonym_key: OptionalSecret = Field(
        None,
        exclude=True,
        description="secret by which the intake, `feed` and `replay` put pseudonyms (HMAC-SHA-256) in the place of "
        "key, organisation and user ids: from the environment, never from the command line",
    )
    pseudonym_key_file: OptionalFile = Field(
        None, description="file that holds this secret, 16 bytes or more; read at the start"
    )
    alert_topic: Topic = Field("overdraw-alerts", description="topic of alerts, written in transactions")
    dead_letter_topic: Topic = Field("overdraw-dead-letters", description="topic of records that were refused")
    state_topic: Topic = Field("overdraw-state", description="compacted topic of the detector's state")
    group_evidence_topic: Topic = Field(
        "overdraw-group-evidence",
        description="topic, of one partition, of what shards tell of their keys once an hour, so that campaigns are "
        "found across all of them",
    )
    group_state_topic: Topic = Field(
        "overdraw-group-state", description="compacted topic, of one partition, of what is known of groups"
    )
    control_topic: Topic = Field(
        "overdraw-control", description="topic of what operators say: one partition, kept for ever"
    )
    partitions: Annotated[int, Field(ge=1, le=4096)] = Field(
        8, description="partitions of the source, state and alert topics; fixed for life"
    )
    replication: Annotated[int, Field(ge=1, le=9)] = Field(1, description="replication factor of topics that we create")
    instance_id: OptionalText = Field(
        None, description="stable name of this worker (static membership): a restart then takes 2 s, not a session"
    )
    session_timeout_seconds: Annotated[float, Field(ge=6, le=300)] = Field(
        30, description="after this silence a worker's partitions go to another one"
    )
    flush_seconds: Annotated[float, Field(ge=0.05, le=60)] = Field(
        0.5, description="pace of the transactions that write state and alerts"
    )
    bucket_seconds: BucketSeconds = Field(300, description="length of an event-time bucket; must divide an hour")
    allowed_lateness_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        60, description="how far an event may lag behind its shard's newest one before it is late"
    )
    timezone: TimeZone = Field(
        "UTC",
        description="IANA name of the time zone, such as `Europe/Berlin`, whose clock tells the hours and weekends of "
        "a key's season. Choose it before the first start: states outlive a change, but working hours are then learned "
        "again, within a week",
    )
    holidays_file: OptionalFile = Field(
        None,
        description="CSV file (`date,end,name`; `end` and `name` may be empty) of days of that time zone on which a "
        "weekend is expected; read at the start",
    )
    priors_file: OptionalFile = Field(
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
    false_alerts_per_1000_group_days: Annotated[float, Field(ge=0.01, le=100)] = Field(
        1, description="the dial of groups: false alerts that are accepted, per 1,000 days of active groups"
    )
    group_composites: Composites = Field(
        "network+client",
        description="what makes a group besides the single traits: traits joined by `+`, several separated by commas; "
        "of org, network, asn, client, template, model",
    )
    max_groups: Annotated[int, Field(ge=100)] = Field(
        100_000, description="groups that are known; beyond them those with the fewest members are forgotten"
    )
    group_patience_seconds: Annotated[float, Field(ge=10, le=86_400)] = Field(
        600, description="an hour of groups waits so long for a partition that tells nothing while others go on"
    )
    min_excess_tokens: Annotated[float, Field(ge=0)] = Field(
        100_000,
        description="evidence gate: tokens above the baseline, or of a new key all that it used, below which nothing "
        "alerts",
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
    web_token: OptionalSecret = Field(
        None,
        exclude=True,
        description="bearer token for the HTTP server; demanded as soon as it binds beyond loopback: from the "
        "environment, never from the command line",
    )
    dashboard_url: str | None = Field(None, description="Grafana address that alerts link to")
    runbook_url: str | None = Field(
        None, description="runbook address that alerts link to; {kind} in it, or its end, becomes the kind"
    )
    notify_file: OptionalFile = Field(
        None, description="TOML file of notifiers and routes for `overdraw notifier`; secrets stand elsewhere"
    )
    notifier_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        6067, description="port of the notifier's HTTP server, on web_host and with web_token; 0: any free one"
    )
    response_file: OptionalFile = Field(
        None, description="TOML file of what may be done about an incident, for `overdraw responder`"
    )
    response_topic: Topic = Field(
        "overdraw-responses", description="compacted topic of recommended actions and what came of them; one partition"
    )
    deny_list_topic: Topic = Field(
        "overdraw-deny-list", description="compacted topic of denied keys, for gateways that read Kafka"
    )
    responder_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        6068, description="port of the responder's HTTP server, on web_host and with web_token; 0: any free one"
    )
    data_dir: str = Field(default_factory=cache_dir, description="folder of the embedded Kafka and its caches")
    store: Literal["memory"] = Field("memory", description="where live state is held; the state topic is its journal")
    log_level: LogLevel = Field("info", description="least level that is logged")
    _holidays: frozenset[date] = PrivateAttr(frozenset())
    _priors_text: str | None = PrivateAttr(None)
    _mapping_text: str | None = PrivateAttr(None)
    _pseudonym_secret: bytes | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _topics_differ(self) -> Settings:
        taken: dict[str, str] = {}
        for name in (
            "source_topic", "intake_topic", "alert_topic", "dead_letter_topic", "state_topic", "control_topic",
            "group_evidence_topic", "group_state_topic", "response_topic", "deny_list_topic",
        ):  # fmt: skip
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
        self._priors_text = text_named_by("priors_file", self.priors_file, "priors")
        return self

    @model_validator(mode="after")
    def _read_mapping(self) -> Settings:
        if self.intake_format == "mapping" and self.intake_mapping_file is None:
            raise ValueError("intake_format is mapping: name the file that says the paths, with intake_mapping_file")
        self._mapping_text = text_named_by("intake_mapping_file", self.intake_mapping_file, "mapping")
        return self

    @model_validator(mode="after")
    def _read_pseudonym_key(self) -> Settings:
        self._pseudonym_secret = pseudonym_secret_of(self.pseudonym_key, self.pseudonym_key_file)
        return self

    @property
    def zone(self) -> tzinfo:
        """The time zone by whose clock seasons are learned."""
        return zone_of(self.timezone)

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
        text = "\n".join(f"{name}={getattr(self, name)!r}" for name in DECIDING)
        text += "\nholidays=" + " ".join(sorted(map(str, self.holidays)))
        return sha256(text.encode()).hexdigest()[:16]

    @property
    def composites(self) -> tuple[tuple[str, ...], ...]:
        """The traits that each of `group_composites` joins."""
        return tuple(tuple(names.split("+")) for names in self.group_composites.split(",") if names)

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
