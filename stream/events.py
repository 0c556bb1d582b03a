"""The event: `ApiCall`, the authority on what a record of API use may say; `Call`, its quick twin; `Reject`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_TOKENS = 10**12
"""Tokens of one record: a thousand times what the largest account uses in a day, and far from the end of an int64."""
MAX_CALLS = 10**9
MAX_PERIOD_SECONDS = 7 * 86_400.0
MAX_ASN = 4_294_967_295
EARLIEST_TIME = 946_684_800.0
"""2000-01-01: an earlier time is a clock that was never set, not a call to an LLM."""
LATEST_TIME = 4_102_444_800.0
"""2100-01-01: a later time is a unit mistaken (milliseconds), not a clock that is wrong."""


def epoch_seconds(value: Any) -> float:
    """Epoch seconds (UTC) of a number or of an RFC 3339 string with a zone.

    Raises a pydantic error whose type is a reason code: `wrong_type`, `bad_time`, `time_without_zone`,
    `time_out_of_range`.

    >>> epoch_seconds("2026-03-01T00:00:00+01:00")
    1772319600.0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PydanticCustomError("wrong_type", "time is neither a number nor a string: send RFC 3339 or epoch seconds")
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.upper())  # RFC 3339 also allows "t" and "z"
        except ValueError:
            raise PydanticCustomError("bad_time", "time is not RFC 3339: send it as 2026-01-31T12:00:00Z") from None
        if moment.tzinfo is None:
            raise PydanticCustomError("time_without_zone", "time has no zone: append Z or an offset such as +02:00")
        try:
            seconds = moment.timestamp()
        except (OverflowError, ValueError):
            seconds = float("inf")
    else:
        try:
            seconds = float(value)
        except OverflowError:
            seconds = float("inf")
    if not EARLIEST_TIME <= seconds < LATEST_TIME:
        unit = unit_of(seconds)
        hint = "it must lie between the years 2000 and 2100" if unit is None else f"it looks like {unit}"
        raise PydanticCustomError("time_out_of_range", "time is out of range: {hint}", {"hint": hint})
    return seconds


def unit_of(number: float) -> str | None:
    """What a number that is no time in seconds seems to count, and what to do; None if it is no time at all.

    >>> unit_of(1_772_323_200_000.0)
    'milliseconds: divide by 1,000'
    """
    for factor, name in ((1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")):
        if EARLIEST_TIME <= number / factor < LATEST_TIME:
            return f"{name}: divide by {factor:,.0f}"
    return None


Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]
Name = Annotated[str, Field(max_length=256)]
Time = Annotated[
    float,
    BeforeValidator(epoch_seconds),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}),
]


def _alias(name: str, *others: str) -> Any:
    return AliasChoices(name, *others)


class ApiCall(BaseModel):
    """One API call, or a sum of calls (`calls` > 1 over `period_seconds`). Unknown fields are ignored.

    Times are epoch seconds in UTC once validated; a record may spell them in RFC 3339 with a zone. `None` for a token
    count means that the gateway did not say: it is counted as missing usage and never read as zero.

    >>> ApiCall(event_id="r-1", time="2026-03-01T00:00:00Z", key_id="k", output_tokens=20).time
    1772323200.0
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", strict=True, allow_inf_nan=False, populate_by_name=True, hide_input_in_errors=True
    )

    event_id: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        validation_alias=_alias("event_id", "gen_ai.response.id"),
        description="the gateway's request id; the same id twice within the open buckets counts once",
    )
    time: Time = Field(description="when the call ended: RFC 3339 with a zone, or epoch seconds")
    key_id: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="opaque id of the API key, never the secret"
    )
    org_id: Name | None = Field(default=None, description="account, team or tenant")
    user_id: Name | None = Field(default=None, description="end user behind the key")
    model: Name | None = Field(
        default=None, validation_alias=_alias("model", "gen_ai.response.model"), description="model that answered"
    )
    requested_model: Name | None = Field(
        default=None,
        validation_alias=_alias("requested_model", "gen_ai.request.model"),
        description="model that was asked for",
    )
    operation: Name = Field(
        default="chat",
        validation_alias=_alias("operation", "gen_ai.operation.name"),
        description="chat, embeddings, …",
    )
    calls: Annotated[int, Field(ge=1, le=MAX_CALLS)] = Field(
        default=1, description="number of calls that this record sums up"
    )
    period_seconds: Annotated[float, Field(gt=0, le=MAX_PERIOD_SECONDS)] | None = Field(
        default=None, description="length of the period that the sum covers, ending at `time`"
    )
    input_tokens: Tokens | None = Field(
        default=None,
        validation_alias=_alias("input_tokens", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        description="tokens of the prompts; null: the gateway did not say",
    )
    output_tokens: Tokens | None = Field(
        default=None,
        validation_alias=_alias("output_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        description="tokens of the answers; null: the gateway did not say",
    )
    reasoning_tokens: Tokens | None = Field(
        default=None,
        validation_alias=_alias("reasoning_tokens", "gen_ai.usage.reasoning.output_tokens"),
        description="part of the output",
    )
    cached_input_tokens: Tokens | None = Field(
        default=None,
        validation_alias=_alias("cached_input_tokens", "gen_ai.usage.cache_read.input_tokens"),
        description="part of the input",
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = Field(
        default=None,
        validation_alias=_alias("max_output_tokens", "gen_ai.request.max_tokens"),
        description="limit that the caller set",
    )
    status: Annotated[int, Field(ge=0, le=999)] | None = Field(default=None, description="HTTP status")
    duration_ms: Annotated[float, Field(ge=0, le=1e12)] | None = Field(default=None, description="duration of the call")
    client_ip: Annotated[str, Field(max_length=64)] | None = Field(
        default=None,
        validation_alias=_alias("client_ip", "client.address"),
        description="cut to its network (/24, /48) on intake; the address is neither stored nor emitted",
    )
    asn: Annotated[int, Field(ge=0, le=MAX_ASN)] | None = Field(default=None, description="autonomous system")
    country: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="country of the client")
    user_agent: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None,
        validation_alias=_alias("user_agent", "user_agent.original"),
        description="reduced to a client fingerprint on intake",
    )
    prompt_fingerprint: Name | None = Field(
        default=None, description="the gateway's own hash of the prompt template; content is never read"
    )
    cost_usd: Annotated[float, Field(ge=0, le=1e9)] | None = Field(default=None, description="price of the call")
    gateway: Name | None = Field(
        default=None,
        description="instance of the gateway that wrote it, such as a host or a pod: whose clock and usage to trust",
    )


def _spellings() -> dict[str, str]:
    names = {}
    for name, field in ApiCall.model_fields.items():
        names[name] = name
        if isinstance(field.validation_alias, AliasChoices):
            names.update({choice: name for choice in field.validation_alias.choices if isinstance(choice, str)})
    return names


SPELLINGS = _spellings()
"""Every accepted spelling of a field of `ApiCall`, to the field."""

_Name = Annotated[str, Meta(max_length=256)]
_Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class Call(msgspec.Struct, gc=False, forbid_unknown_fields=False):
    """`ApiCall` as the hot path decodes it: the same fields, types and limits, an eighth of the cost.

    A differential property test holds the two together; where this one refuses, `ApiCall` decides. `time` is what the
    record says, a number or a string; `epoch_seconds` makes sense of it.
    """

    event_id: Annotated[str, Meta(min_length=1, max_length=128)]
    time: float | str
    key_id: Annotated[str, Meta(min_length=1, max_length=256)]
    org_id: _Name | None = None
    user_id: _Name | None = None
    model: _Name | None = None
    requested_model: _Name | None = None
    operation: _Name = "chat"
    calls: Annotated[int, Meta(ge=1, le=MAX_CALLS)] = 1
    period_seconds: Annotated[float, Meta(gt=0, le=MAX_PERIOD_SECONDS)] | None = None
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    reasoning_tokens: _Tokens | None = None
    cached_input_tokens: _Tokens | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    duration_ms: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    client_ip: Annotated[str, Meta(max_length=64)] | None = None
    asn: Annotated[int, Meta(ge=0, le=MAX_ASN)] | None = None
    country: Annotated[str, Meta(max_length=64)] | None = None
    user_agent: Annotated[str, Meta(max_length=4096)] | None = None
    prompt_fingerprint: _Name | None = None
    cost_usd: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    gateway: _Name | None = None


Arrival = tuple[int, float, Call]
"""A call as it reached a shard: its position in the log (offset or line), its event time in epoch seconds, itself."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record, or one element of its array, that could not be taken; `reason` is one of REASONS."""

    position: int
    reason: str
    message: str
    value: bytes = b""
    element: int | None = None


REASONS = {
    "broken_json": "the value is not JSON",
    "invalid_utf8": "the value is not UTF-8",
    "empty": "the value is empty",
    "not_a_call": "the record tells of no call to a model",
    "not_an_object": "the value is neither an object nor an array of objects",
    "too_large": "the value is longer than is read",
    "missing_field": "a required field is missing",
    "wrong_type": "a field has the wrong type",
    "too_long": "a string is longer than its limit",
    "out_of_range": "a number is outside its limits",
    "bad_time": "the time cannot be read",
    "time_without_zone": "the time has no zone",
    "time_out_of_range": "the time is before 2000 or after 2100, or in the wrong unit",
    "future": "the time is ahead of the clock",
    "misrouted": "the key belongs to another partition of the source topic",
    "too_many_keys": "the shard holds as many keys as it may",
    "bad_evidence": "what a shard told of its keys cannot be used",
    "control_malformed": "a control message that cannot be read",
    "control_kind": "a control message of an unknown kind",
    "control_dated": "a control message whose times cannot be right",
    "control_unknown": "feedback about a key that was never seen",
    "control_full": "a control message beyond what a shard holds of them",
}
"""Every reason code of a dead letter, with what it means."""
