"""The alert: what the detector says to the world, and how its ids are made."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Literal
from zlib import crc32

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

SCHEMA_VERSION = 1
MAX_SUMMARY_ID = 64

Status = Literal["opened", "updated", "resolved"]
Severity = Literal["info", "warning", "high", "critical"]
Kind = Literal["surge", "drift", "ramp", "newcomer", "quiet_hours", "shape", "campaign", "pivot", "respawn", "feed"]
EntityType = Literal["key", "org", "network", "asn", "client", "template", "model", "composite", "partition"]
"""A composite is what shares several traits at once."""


def rfc3339(seconds: float) -> str:
    """Epoch seconds as RFC 3339 in UTC, to the millisecond where there is a fraction.

    >>> rfc3339(1772323200.0)
    '2026-03-01T00:00:00Z'
    """
    moment = datetime.fromtimestamp(seconds, UTC)
    spec = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=spec).replace("+00:00", "Z")


def _seconds(value: object) -> object:
    """Epoch seconds of what `rfc3339` wrote; anything else is left to pydantic."""
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value


Moment = Annotated[
    float,
    BeforeValidator(_seconds, json_schema_input_type=float),
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
]
"""Epoch seconds inside, RFC 3339 in JSON; what was written is read back."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entity(_Frozen):
    """Who an alert is about."""

    type: EntityType
    id: str


def fingerprint_of(entity: Entity) -> str:
    """The dedupe key of an entity: 32 hex digits of SHA-256 over its type and id."""
    return sha256(f"{entity.type}\0{entity.id}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def alert_id_of(entity: Entity, started_at: float) -> str:
    """The id of an incident: 32 hex digits of SHA-256 over the entity and the start of its first anomalous bucket."""
    return sha256(f"{fingerprint_of(entity)}\0{started_at:.3f}".encode()).hexdigest()[:32]


CLASS_MASK = 0xFFFF
NO_MODEL = 0
"""The class of calls that name no model: what the CRC of no name is."""
MAX_MODEL_NAMES = 1024
"""Names of models whose class is at hand, for every call asks: each may be long, and anybody can make them up."""


@lru_cache(maxsize=MAX_MODEL_NAMES)
def model_class(model: str | None) -> int:
    """The class under which calls to a model are counted: 16 bit of its name's CRC.

    A number, for names are untrusted and of any length, and Python's own hash differs from process to process.
    """
    return crc32(model.encode("utf-8", "surrogatepass")) & CLASS_MASK if model else NO_MODEL


def model_id_of(model: str) -> str:
    """How an alert names a model: its class as four hex digits.

    >>> model_id_of("m-large")
    '3a10'
    """
    return f"{model_class(model):04x}"


def title_of(entity: Entity) -> str:
    r"""What an alert is about, for one line: a key's id alone, of a group what it shares as well.

    >>> title_of(Entity(type="key", id="k")), title_of(Entity(type="network", id="192.0.2.0/24"))
    ('k', 'network 192.0.2.0/24')
    """
    return printable(entity.id if entity.type in ("key", "composite") else f"{entity.type} {entity.id}")


def escaped(text: str) -> str:
    r"""Untrusted text with its control and bidirectional characters escaped.

    >>> escaped("a\n\x1b[31mb")
    'a\\n\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable(text: str, limit: int = MAX_SUMMARY_ID) -> str:
    r"""Untrusted text for one line of prose: control and bidirectional characters escaped, cut to `limit`.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    shown = escaped(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def printable_json(text: str) -> str:
    r"""JSON for a terminal: what `printable` escapes, as JSON escapes it, so that it still reads the same.

    JSON's own rules let C1 controls and bidirectional overrides stand raw in strings.

    >>> printable_json('{"id":"a\u202eb\x9b"}')
    '{"id":"a\\u202eb\\u009b"}'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


class Window(_Frozen):
    """The stretch of event time that the numbers of an alert are about."""

    start: Moment
    end: Moment
    horizon_seconds: float


class ChannelScore(_Frozen):
    """One channel of evidence: its name and its standardised value."""

    name: str
    z: float


class ModelShare(_Frozen):
    """One model's part of the tokens above the baseline.

    `id` is `model_id_of` its name; `none` stands for calls that name no model, `other` for all further ones.
    """

    id: str
    share: Annotated[float, Field(ge=0, le=1)]


class Member(_Frozen):
    """One key of a group alert."""

    key_id: str
    z: float = Field(
        description="mean over the hours in which it was looked at; that it is named may rest on its days instead"
    )
    excess_tokens: float = Field(description="above its baseline, which learns what lasts; below zero, if it uses less")
    excess_output_tokens: float | None = None


class Members(_Frozen):
    """The keys behind a group alert."""

    count: int
    top: list[Member] = []
    shared_traits: dict[str, str] = Field(default={}, description="the one that shows it most clearly first")
    alone: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="members that have an incident of their own, or would have alerted by themselves"
    )
    tokens_per_hour: float | None = Field(default=None, description="what all members use now")


class Baseline(_Frozen):
    """What the expectation rests on."""

    age_seconds: float
    active_days: int
    maturity: Annotated[float, Field(ge=0, le=1)]
    learning: Annotated[float, Field(ge=0, le=1)]


class DataQuality(_Frozen):
    """How far the data behind an alert can be trusted: shares of what its shard was sent in the last hour or so.

    Where they are poor, the bar was raised: an alert needed `caution` decades more of its score.
    """

    missing_usage: float = Field(description="of the calls: answered, and without token counts, so they are estimated")
    late: float = Field(description="of the records: too late to be counted")
    duplicates: float = Field(description="of the records: seen before, and counted once")
    lag_seconds: float = Field(description="from the event time of the alert to when it was found")
    out_of_order: float = Field(
        default=0.0, description="of the accepted records: more than a second older than the newest one before them"
    )
    zero_usage: float = Field(
        default=0.0, description="of the accepted records: answered by no tokens at all, by the gateway's word"
    )
    caution: float = Field(default=0.0, description="decades by which the bar for an alert was raised, 0 to 1")


def runbook_of(url: str | None, kind: str) -> str | None:
    """The page of a kind of alert: `url` with {kind} filled in, or with the kind at its end.

    >>> runbook_of("https://x.test/runbooks/{kind}.md", "surge"), runbook_of("https://x.test/runbooks/", "feed")
    ('https://x.test/runbooks/surge.md', 'https://x.test/runbooks/feed')
    """
    if url is None:
        return None
    return url.replace("{kind}", kind) if "{kind}" in url else f"{url.rstrip('/')}/{kind}"


class Links(_Frozen):
    """Where to go from here; a link that is not configured is null."""

    dashboard: str | None = None
    runbook: str | None = None
    silence: str | None = None


class Alert(_Frozen):
    """One step of an incident: opened, updated or resolved. All times are event time.

    `alert_id` + `sequence` is unique; at most one incident per `fingerprint` is open. Token figures are sums over the
    incident so far; `observed`, `expected` and `upper` are in `unit` over `window`.
    """

    alert_id: str
    fingerprint: str
    sequence: Annotated[int, Field(ge=0)]
    status: Status
    severity: Severity
    severity_reason: str
    kind: Kind
    entity: Entity
    started_at: Moment
    detected_at: Moment
    updated_at: Moment
    resolved_at: Moment | None = None
    window: Window
    observed: float
    expected: float = Field(
        description="by the entity's own baseline; of kind newcomer, which has none: what new keys usually use"
    )
    upper: float = Field(
        description="what the key by itself uses in the window at most, 19 times of 20; no less than is expected; of "
        "kind newcomer: where a new key with such calls alerts; of a group: what is expected"
    )
    usual_per_minute: float | None = Field(
        default=None,
        description="tokens that the key itself uses a minute at most, 19 times of 20, in ten minutes of the busiest "
        "hour of its day: what a throttle goes by; null where nobody knows",
    )
    ratio: float | None = Field(description="observed / expected; null where nothing was expected")
    unit: str = "tokens"
    z: float
    score: Annotated[float, Field(ge=0, le=1)]
    false_alarm_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        description="chance that a clean key, or group, shows a value as high within one day"
    )
    excess_tokens: float = Field(description="above what is expected, since excess_since")
    excess_output_tokens: float
    excess_input_tokens: float | None = Field(
        default=None,
        description="like the output's by itself: where one part fell as the other rose, they are more than the whole",
    )
    excess_cached_input_tokens: float | None = Field(default=None, description="part of excess_input_tokens")
    excess_reasoning_tokens: float | None = Field(default=None, description="part of excess_output_tokens")
    excess_low: float | None = Field(
        default=None,
        description="with excess_high the 90 % interval of excess_tokens, by how the key's own use has varied; "
        "of kind newcomer, by how that of new keys varies",
    )
    excess_high: float | None = None
    excess_since: Moment | None = Field(
        default=None, description="from when on the excess counts: a slow window gathers its own before it tips"
    )
    excess_per_hour: float
    excess_cost_usd: float | None = None
    calls: Annotated[int, Field(ge=0)] | None = Field(default=None, description="all calls since started_at")
    models: list[ModelShare] = []
    channels: list[ChannelScore] = []
    shape: dict[str, float] = {}
    members: Members | None = None
    baseline: Baseline | None = None
    historical: bool = False
    data_quality: DataQuality
    summary: str
    suggested_action: str
    links: Links = Links()
    config_digest: str
    schema_version: int = SCHEMA_VERSION
    status_reason: str = Field("", description="why this was said now: what opened, changed or ended the incident")
    org_id: str | None = Field(None, description="organisation of the key, where its calls name one")


def yardstick_of(kind: str) -> str:
    """What the expected tokens of an incident of this kind are, and its excess lies above.

    >>> yardstick_of("newcomer"), yardstick_of("surge")
    ('what new keys usually use', 'the baseline')
    """
    return "what new keys usually use" if kind == "newcomer" else "the baseline"


SILENT_SECONDS = 2 * 86_400.0
"""An open incident says something within twenty hours, and ends within a day of its last anomaly, or goes on saying
something: whoever has heard nothing of one for this long takes it for over."""
RANK: dict[Severity, int] = {"info": 0, "warning": 1, "high": 2, "critical": 3}


def worst_first(alert: Alert) -> tuple[int, float]:
    """What incidents are sorted by, to be dealt with: severity, then what is gone."""
    return -RANK[alert.severity], -alert.excess_tokens


def reading_order(alert: Alert) -> tuple[float, str, int]:
    """What alerts are sorted by, to be read: when they were found, then whom they are about, then their sequence."""
    return alert.updated_at, alert.fingerprint, alert.sequence
