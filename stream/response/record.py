"""A response: one action about one key, from its recommendation to its end. Its record is its state and its audit."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from stream.alerts import Alert, Entity, Kind, Moment, Severity, printable

SCHEMA_VERSION = 1
MAX_STEPS = 40
"""Of a response; the oldest but the first give way."""
MAX_WHY = 300

Action = Literal["review", "throttle", "block"]
State = Literal["proposed", "approved", "active", "ending", "ended", "declined", "withdrawn", "failed"]
Happening = Literal["approve", "decline", "undo", "over", "apply", "refuse", "end"]
Unit = Literal["tokens", "calls"]

TRANSITIONS: dict[tuple[State, Happening], State] = {
    ("proposed", "approve"): "approved",
    ("proposed", "decline"): "declined",
    ("proposed", "undo"): "declined",
    ("proposed", "over"): "withdrawn",
    ("approved", "decline"): "declined",
    ("approved", "undo"): "declined",
    ("approved", "over"): "withdrawn",
    ("approved", "apply"): "active",
    ("approved", "refuse"): "failed",
    ("active", "undo"): "ending",
    ("active", "over"): "ending",
    ("ending", "end"): "ended",
    ("ending", "approve"): "approved",
    ("ended", "approve"): "approved",
    ("declined", "approve"): "approved",
    ("failed", "approve"): "approved",
}
"""What becomes of a response; whatever is not here changes nothing."""
OPEN: frozenset[State] = frozenset({"proposed", "approved", "active", "ending"})
"""Of these something may come yet without anybody's word."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Step(_Frozen):
    """One step of the audit: when, to which state, by whom, and why."""

    at: Moment
    state: State
    by: str
    why: str


class Before(_Frozen):
    """What a gateway had said of a key before we touched it: what an undo restores."""

    limit: int | None = None
    blocked: bool = False
    touched: bool = Field(True, description="false: it was as strict already, so there is nothing to undo")


class Word(_Frozen):
    """What an operator says of a response, as it stands on the response topic."""

    word: Literal["approve", "decline", "undo"]
    word_id: Annotated[str, Field(min_length=1, max_length=64)]
    response_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    at: Moment
    by: Annotated[str, Field(min_length=1, max_length=128)]
    why: Annotated[str, Field(max_length=MAX_WHY)] = ""
    schema_version: int = SCHEMA_VERSION


class Response(_Frozen):
    """What there is to know of a response. `per_minute` is the limit of a throttle, in `unit`.

    `alert_id` is null where an operator asked for it without an alert. `before` is by the name of the gateway, and
    there before that gateway is touched, so that an undo restores what was there whatever is killed.
    """

    response_id: str
    action: Action
    entity: Entity
    state: State
    alert_id: str | None = None
    fingerprint: str
    kind: Kind | None = None
    severity: Severity | None = None
    per_minute: int | None = None
    unit: Unit = "tokens"
    dry_run: bool
    created_at: Moment
    for_seconds: float | None = Field(description="how long it lasts once it is applied; null: until it is undone")
    applied_at: Moment | None = None
    until: Moment | None = None
    before: dict[str, Before] = {}
    heard: str = Field("", description="the last word of an operator that was taken up")
    trouble: str = Field("", description="what a gateway says that does not take it yet")
    steps: list[Step]
    schema_version: int = SCHEMA_VERSION

    @property
    def open(self) -> bool:
        """Whether something may come of it yet."""
        return self.state in OPEN

    @property
    def what(self) -> str:
        """The action and whom it is about, printable."""
        limit = f" to {self.per_minute} {self.unit} a minute" if self.per_minute is not None else ""
        return f"{self.action} {self.entity.type} {printable(self.entity.id, 128)}{limit}"

    def after(self, happening: Happening, at: float, by: str, why: str, **more: object) -> Response:
        """The response after this has happened; itself if that changes nothing."""
        state = TRANSITIONS.get((self.state, happening))
        if state is None:
            return self.model_copy(update=more) if more else self
        step = Step(at=at, state=state, by=printable(by, 128), why=printable(why, MAX_WHY))
        steps = [*self.steps, step]
        if len(steps) > MAX_STEPS:
            del steps[1]
        return self.model_copy(update={"state": state, "steps": steps, "trouble": "", **more})


def response_id_of(action: Action, cause: str) -> str:
    """16 hex digits: the same alert or word of an operator gives the same response, however often it is read."""
    return sha256(f"{action}\0{cause}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def limit_of(alert: Alert) -> tuple[int, Unit] | None:
    """The upper end of what is usual, a minute, at least 1; None where the alert counts neither tokens nor calls.

    In the key's busiest hour, where the alert says that: in its window it is less the longer that is.
    """
    if alert.unit not in ("tokens", "calls") or alert.window.horizon_seconds <= 0:
        return None
    per_minute = alert.upper * 60 / alert.window.horizon_seconds
    if alert.unit == "tokens" and alert.usual_per_minute is not None:
        per_minute = alert.usual_per_minute
    return max(1, round(per_minute)), "calls" if alert.unit == "calls" else "tokens"
