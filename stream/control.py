"""The operators' word: what people tell the detector and its notifiers, as it stands on the control topic.

Every message says who, when and why. `overdraw schema control` publishes the shapes; the commands write them. What is
here knows no Kafka and no clock.
"""

from __future__ import annotations

import re
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from stream.alerts import Entity, Severity, printable, rfc3339

SCHEMA_VERSION = 1
MAX_BYTES = 8 << 10
"""Of one message: the longest that the models allow has less."""
AHEAD_SECONDS = 300.0
"""A message may be dated so far ahead of its Kafka timestamp: clocks differ."""
MAX_MUTE_DAYS = 90
MAX_EVENT_DAYS = 31
DAY = 86_400.0


class ControlError(ValueError):
    """A message that cannot be taken: `reason` is one of the dead letters' codes, the text says what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def moment_of(value: object) -> object:
    """Epoch seconds of an RFC 3339 time with a zone; raises ValueError without one. A number is left as it is.

    >>> moment_of("2026-03-01T01:00:00+01:00")
    1772323200.0
    """
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("this is no time by RFC 3339") from None
    if moment.tzinfo is None:
        raise ValueError("the time has no zone: add Z or an offset such as +01:00")
    return moment.timestamp()


When = Annotated[
    float,
    # from 2000 to 2100
    Field(ge=946_684_800.0, lt=4_102_444_800.0, allow_inf_nan=False),
    BeforeValidator(moment_of, json_schema_input_type=str),
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
]
"""Epoch seconds inside, RFC 3339 with a zone in JSON."""
Id = Annotated[str, Field(min_length=1, max_length=256)]
ResponseId = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{16}$", description="what `overdraw responder` did by itself; null: an operator's word"),
]
RuleId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="unique; what removes it names it")]
AlertId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="the incident's `alert_id`")]
Verdict = Literal["expected", "wrong", "right"]
ScopeType = Literal["key", "org", "pattern", "all"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scope(_Frozen):
    """Whom a rule is about: a key, all keys of an organisation, keys whose ids fit a shell pattern, or all keys.

    >>> Scope(type="pattern", id="batch-*").fits("batch-7", None)
    True
    """

    type: ScopeType
    id: Id | None = Field(None, description="the key, the organisation or the pattern; null for all")

    @model_validator(mode="after")
    def _has_its_id(self) -> Scope:
        if (self.id is None) != (self.type == "all"):
            raise ValueError("a scope names whom it is about, unless it is all keys")
        return self

    def fits(self, key_id: str, org_id: str | None) -> bool:
        """Whether it is about this key."""
        return scope_fits(self.type, self.id, key_id, org_id)

    def __str__(self) -> str:
        """For people; the id is escaped."""
        return "all keys" if self.id is None else f"{self.type} {printable(self.id)}"


def scope_fits(kind: str, wanted: str | None, key_id: str, org_id: str | None) -> bool:
    """Whether a scope of this type and id is about a key."""
    if kind == "key":
        return wanted == key_id
    if kind == "org":
        return wanted == org_id
    return kind == "all" or (wanted is not None and fnmatchcase(key_id, wanted))


class _Word(_Frozen):
    """What every message holds."""

    id: RuleId
    at: When = Field(description="when it was said")
    by: Annotated[str, Field(min_length=1, max_length=128, description="who says it")]
    why: Annotated[str, Field(min_length=1, max_length=500, description="the reason, for whoever looks later")]
    schema_version: Literal[1] = 1

    @property
    def subject(self) -> str:
        """What the message is about: of several with one subject the last one holds. The Kafka key."""
        raise NotImplementedError


def _lasts(begin: float, end: float | None, most_days: float | None, what: str) -> None:
    if end is None:
        return
    if end <= begin:
        raise ValueError(f"{what} ends before it begins: give a later `until`")
    if most_days is not None and end - begin > most_days * DAY:
        raise ValueError(f"{what} lasts at most {most_days:g} days: give an earlier `until`")


class Acknowledge(_Word):
    """Somebody is at it: notifiers say no more of this incident, unless it gets worse than `severity`."""

    kind: Literal["acknowledge"] = "acknowledge"
    alert_id: AlertId
    entity: Entity
    severity: Severity

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return f"acknowledge {self.alert_id}"


class Mute(_Word):
    """Notifiers say nothing of an entity until then; detection goes on. Of an `org`: its keys as well."""

    kind: Literal["mute"] = "mute"
    entity: Entity
    until: When

    @model_validator(mode="after")
    def _ends(self) -> Mute:
        _lasts(self.at, self.until, MAX_MUTE_DAYS, "a mute")
        return self

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return f"mute {self.entity.type} {self.entity.id}"


class Unmute(_Word):
    """The end of a mute."""

    kind: Literal["unmute"] = "unmute"
    entity: Entity

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return f"mute {self.entity.type} {self.entity.id}"


class Feedback(_Word):
    """What an incident of a key was: expected (learn it), wrong (raise the key's bar), or right."""

    kind: Literal["feedback"] = "feedback"
    alert_id: AlertId
    key_id: Id
    verdict: Verdict

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return f"feedback {self.alert_id}"


class Maintenance(_Word):
    """A planned event: while it lasts alerts are `info`, nobody is paged, and nothing is learned of these keys."""

    kind: Literal["maintenance"] = "maintenance"
    scope: Scope
    begin: When = Field(description="event time from which on it holds")
    until: When = Field(description="event time at which it ends")

    @model_validator(mode="after")
    def _ends(self) -> Maintenance:
        _lasts(self.begin, self.until, MAX_EVENT_DAYS, "a planned event")
        return self

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return f"rule {self.id}"


class Allow(_Word):
    """Up to so many tokens in an hour of the clock are fine, for each key of the scope by itself."""

    kind: Literal["allow"] = "allow"
    scope: Scope
    tokens_per_hour: Annotated[int, Field(ge=1, le=10**15)]
    until: When | None = None

    @model_validator(mode="after")
    def _ends(self) -> Allow:
        _lasts(self.at, self.until, None, "an allow rule")
        if self.scope.type == "all":
            raise ValueError("an allow rule is about a key, an org or a pattern")
        return self

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return f"rule {self.id}"


class Remove(_Word):
    """The end of a planned event or of an allow rule, whatever it had said of its end."""

    kind: Literal["remove"] = "remove"
    rule: RuleId

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return f"rule {self.rule}"


class Block(_Word):
    """The gateway refuses this key, until then or for good: whoever goes on under another key is looked for."""

    kind: Literal["block"] = "block"
    key_id: Id
    until: When | None = None
    response_id: ResponseId | None = None

    @model_validator(mode="after")
    def _ends(self) -> Block:
        _lasts(self.at, self.until, None, "a block")
        return self

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return _of_block(self.key_id, self.response_id)


class Unblock(_Word):
    """The gateway takes this key again; said of a response, unless an operator has blocked it, too."""

    kind: Literal["unblock"] = "unblock"
    key_id: Id
    response_id: ResponseId | None = None

    @property
    def subject(self) -> str:
        """See `_Word`."""
        return _of_block(self.key_id, self.response_id)


def is_responders(message: object) -> TypeGuard[Block | Unblock]:
    """Whether it is a responder's word about a key, and no operator's."""
    return isinstance(message, Block | Unblock) and message.response_id is not None


def _of_block(key_id: str, response_id: str | None) -> str:
    """An operator and the responder have each a last word about a key; neither takes back the other's."""
    return f"block {key_id}" if response_id is None else f"response {key_id}"


Message = Annotated[
    Acknowledge | Mute | Unmute | Feedback | Maintenance | Allow | Remove | Block | Unblock,
    Field(discriminator="kind"),
]
MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
"""Reads and writes any of them."""
KINDS = ("acknowledge", "mute", "unmute", "feedback", "maintenance", "allow", "remove", "block", "unblock")


def read_message(value: bytes | None, written_at: float | None = None) -> Message:
    """The message of a record of the control topic; `written_at`: its Kafka timestamp, epoch seconds.

    Raises ControlError on what is no message, of an unknown kind, or dated ahead of its own writing.

    >>> read_message(b'{"kind": "shout"}')
    Traceback (most recent call last):
    stream.control.ControlError: 'shout' is no kind of control message: one of acknowledge, mute, unmute, feedback, \
maintenance, allow, remove, block, unblock
    """
    if not value:
        raise ControlError("control_malformed", "the record is empty: write control messages by `overdraw`'s commands")
    if len(value) > MAX_BYTES:
        raise ControlError("control_malformed", f"it has {len(value)} bytes, a control message at most {MAX_BYTES}")
    try:
        message = MESSAGE.validate_json(value)
    except ValidationError as error:
        raise _refusal(error) from None
    if written_at is not None and message.at > written_at + AHEAD_SECONDS:
        raise ControlError(
            "control_dated",
            f"it is dated {rfc3339(message.at)} and was written at {rfc3339(written_at)}: mend the clock of whoever "
            "wrote it",
        )
    return message


def _refusal(error: ValidationError) -> ControlError:
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        said = _kind_of(first.get("input"))
        return ControlError(
            "control_kind", f"{said} is no kind of control message: one of {', '.join(KINDS)}".replace("\n", " ")
        )
    # the place begins with the kind; what the message says of itself is not repeated, it is anybody's text
    place = ".".join(str(part) for part in first["loc"][1:])
    text = f"{place}: {first['msg'].removeprefix('Value error, ')}" if place else first["msg"]
    reason = (
        "control_dated" if re.search(r"(^|\.)(at|begin|until)$", place) or "`until`" in text else "control_malformed"
    )
    return ControlError(reason, printable(text.removeprefix("Value error, "), 300))


def _kind_of(content: Any) -> str:
    kind = content.get("kind") if isinstance(content, dict) else None
    return f"'{printable(kind, 40)}'" if isinstance(kind, str) else "what it says, or does not,"


def write_message(message: Message) -> bytes:
    """The value of its record."""
    return MESSAGE.dump_json(message, exclude_none=True)
