"""What operators have told a shard: announced until a bucket boundary, in force from there on.

A message is announced with the first boundary that no bucket has been judged beyond, and written with the shard's
state; it takes effect when the watermark passes that boundary, before anything behind it is closed. So whoever owns the
shard, and whatever crashes, the same buckets are judged with it and without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from stream.control import (
    Acknowledge,
    Allow,
    Block,
    ControlError,
    Feedback,
    Maintenance,
    Message,
    Mute,
    Remove,
    Unblock,
    Unmute,
    read_message,
    scope_fits,
    write_message,
)
from stream.core.shardrecord import StateError
from stream.events import Reject

CONTROL_KEY = b"\x00control"
"""Name of its record on the state topic."""
VERSION = 1
RAISE = 0.3
"""Decades by which the bar of a key rises with each incident that was wrong: such an alert is then half as frequent."""
MOST_RAISE = 1.0
"""Together at most one decade: what is ten times rarer still alerts."""
HALF_LIFE_DAYS = 30.0
LEAST_RAISE = 0.01
"""What has faded to less is forgotten."""
EXPECTED_MARGIN = 1.25
"""Use that was expected may be so many times what it was in its highest hour, while it is being learned."""
MAX_BYTES = 256 << 10
"""Of the messages that a shard holds, announced and in force: its record must fit into a Kafka message."""
KEPT_DAYS = 28.0
"""A planned event that is over is remembered so long: the buckets of a silent key are closed when it is seen again."""
MAX_FITS = 50_000
"""Keys for which it is at hand which rules are about them."""
MAX_INCIDENTS = 8
"""Wrong incidents of a key that are remembered: each counts once."""
FIXED_BYTES = 64
DAY = 86_400.0


class Heard(NamedTuple):
    """What the control topic holds at an offset: a message, or why it is none."""

    offset: int
    message: Message | ControlError


class Rule(msgspec.Struct, array_like=True, frozen=True):
    """A planned event (`tokens_per_hour` 0) or an allow rule, in force for buckets [first, last); last None: no end.

    scope, scope_id: see `stream.control.Scope`; by, why: as the message said
    """

    id: str
    scope: str
    scope_id: str | None
    first: int
    last: int | None
    tokens_per_hour: int
    by: str
    why: str

    def holds(self, bucket: int) -> bool:
        """Whether it is in force in this bucket."""
        return self.first <= bucket and (self.last is None or bucket < self.last)

    @property
    def size(self) -> int:
        """Bytes that it takes in the record, about."""
        return FIXED_BYTES + _bytes(self.id, self.scope_id or "", self.by, self.why)


class Raised(msgspec.Struct, array_like=True, frozen=True):
    """By how many decades a key's bar is higher, as of a bucket, and the last incidents that were wrong."""

    decades: float
    bucket: int
    incidents: list[str]


class _Record(msgspec.Struct):
    """The state. `log`: the id of the control topic; `position`: the last offset of it that was taken up.

    announced: (first bucket, offset, message) in the order of offsets; blocked, responded: see `Control`; what was
    written before there was a responder's word has none
    """

    version: int
    log: str | None
    position: int
    announced: list[tuple[int, int, bytes]]
    rules: list[Rule]
    blocked: dict[str, tuple[int, int | None]]
    raised: dict[str, Raised]
    responded: dict[str, tuple[int, int | None]] = {}


class Control:
    """The operators' word to one shard, in buckets of `bucket_seconds`.

    position: the last offset of the control topic that was taken up, -1 before the first
    blocked: first bucket in which each key is blocked, and the first one in which it no longer is (None: for good);
    responded: the same of those that the responder has blocked by itself
    """

    __slots__ = (
        "_announced", "_fits", "_seconds", "active", "blocked", "changed", "log", "position", "raised", "responded",
        "rules",
    )  # fmt: skip

    def __init__(self, bucket_seconds: int) -> None:
        self._seconds = bucket_seconds
        self.log: str | None = None
        self.position = -1
        self._announced: list[tuple[int, int, Message]] = []
        """First bucket, offset and message."""
        self.rules: list[Rule] = []
        self.blocked: dict[str, tuple[int, int | None]] = {}
        self.responded: dict[str, tuple[int, int | None]] = {}
        self.raised: dict[str, Raised] = {}
        self._fits: dict[tuple[str, str | None], list[Rule]] = {}
        self.active = False
        """Whether any rule or raised bar is there: most shards have none, and their keys need not ask."""
        self.changed = False
        """Whether it has to be written."""

    # ------------------------------------------------------------------ what is announced

    def instruct(
        self,
        heard: Sequence[Heard],
        log: str | None,
        boundary: int,
        *,
        mine: Callable[[str], bool],
        known: Callable[[str], bool],
        tells: bool = False,
    ) -> list[Reject]:
        """Announce what is new among these messages, in the order of their offsets, for bucket `boundary`.

        `log` is the id of their topic: offsets of another one begin anew. `mine`: whether a key belongs to the shard;
        `known`: whether it was ever seen there, which only feedback asks for. Returns those that cannot be followed,
        by their offsets; with `tells` also what is no message, which one shard tells for all.
        """
        if log != self.log:
            self.log, self.position = log, -1
        rejects: list[Reject] = []
        size = self.size
        for offset, message in heard:
            if offset <= self.position:
                continue
            self.position = offset
            if isinstance(message, ControlError):
                if tells:
                    self.changed = True
                    rejects.append(Reject(offset, message.reason, str(message)))
                continue
            if isinstance(message, Acknowledge | Mute | Unmute):  # for the notifiers
                continue
            key_id = _key_of(message)
            if key_id is not None and not mine(key_id):
                continue
            self.changed = True
            # whatever else is said holds for keys to come as well: one that has leaked is blocked before its first call
            if isinstance(message, Feedback) and not known(message.key_id):
                text = "the key was never seen here: give feedback on an alert that there was, in this installation"
                rejects.append(Reject(offset, "control_unknown", text))
                continue
            more = len(write_message(message))
            if size + more > MAX_BYTES and not isinstance(message, Remove | Unblock):
                text = (
                    f"this shard holds {size:,} bytes of rules, raised bars and blocked keys, of {MAX_BYTES:,}: remove "
                    "some, or say with a pattern what many rules say"
                )
                rejects.append(Reject(offset, "control_full", text))
                continue
            size += more
            self._announced.append((boundary, offset, message))
        return rejects

    def boundaries(self, limit: int) -> list[int]:
        """The boundaries up to `limit` at which something was announced, the first one first."""
        return sorted({bucket for bucket, _, _ in self._announced if bucket <= limit})

    def take(self, boundary: int) -> list[Feedback | Block]:
        """Take out what was announced up to this boundary, and is in force from here on.

        Returns what concerns a single key at once: feedback, and the first block of a key that is blocked now.
        """
        due = [message for bucket, _, message in self._announced if bucket <= boundary]
        self._announced = [one for one in self._announced if one[0] > boundary]
        blocks = {
            message.key_id: message
            for message in due
            if isinstance(message, Block) and not self.is_blocked(message.key_id, boundary)
        }
        for message in due:
            self._follow(message, boundary)
        self._look_again()
        feedback = [message for message in due if isinstance(message, Feedback)]
        return [*feedback, *(block for key_id, block in blocks.items() if self.is_blocked(key_id, boundary))]

    @property
    def announced(self) -> list[tuple[int, Message]]:
        """What waits for its boundary: first bucket and message."""
        return [(bucket, message) for bucket, _, message in self._announced]

    def _follow(self, message: Message, bucket: int) -> None:
        if isinstance(message, Maintenance | Allow):
            self._remove(message.id, bucket)
            self._add(message, bucket)
        elif isinstance(message, Remove):
            self._remove(message.rule, bucket)
        elif isinstance(message, Block):
            last = self._end(message.until)
            blocks = self._blocks(message)
            if last is None or last > bucket:
                blocks[message.key_id] = (bucket, last)
            else:  # it is over already, and with it what was said before
                blocks.pop(message.key_id, None)
        elif isinstance(message, Unblock):
            self._blocks(message).pop(message.key_id, None)

    def _blocks(self, message: Block | Unblock) -> dict[str, tuple[int, int | None]]:
        return self.blocked if message.response_id is None else self.responded

    def _add(self, message: Maintenance | Allow, bucket: int) -> None:
        first, last, tokens = bucket, self._end(message.until), 0
        if isinstance(message, Maintenance):
            first = max(bucket, int(message.begin // self._seconds))
        else:
            tokens = message.tokens_per_hour
        if last is None or last > first:
            scope = message.scope
            self.rules.append(Rule(message.id, scope.type, scope.id, first, last, tokens, message.by, message.why))

    def _remove(self, rule_id: str, bucket: int) -> None:
        kept = []
        for rule in self.rules:
            if rule.id != rule_id:
                kept.append(rule)
            elif rule.first < bucket:
                # for the buckets of silent keys that are closed later it was in force all the same
                kept.append(msgspec.structs.replace(rule, last=min(bucket, rule.last or bucket)))
        self.rules = kept

    def _end(self, until: float | None) -> int | None:
        return None if until is None else math.ceil(until / self._seconds)

    # ------------------------------------------------------------------ what is in force

    def event(self, key_id: str, org_id: str | None, bucket: int) -> Rule | None:
        """The planned event that a key is in, if any."""
        if not self.active:
            return None
        return next(
            (rule for rule in self._about(key_id, org_id) if not rule.tokens_per_hour and rule.holds(bucket)), None
        )

    def allowance(self, key_id: str, org_id: str | None, bucket: int) -> int:
        """The most tokens in an hour that a key is allowed; 0 where no rule is about it."""
        if not self.active:
            return 0
        held = (rule.tokens_per_hour for rule in self._about(key_id, org_id) if rule.holds(bucket))
        return max(held, default=0)

    def raise_of(self, key_id: str, bucket: int) -> float:
        """By how many decades a key's bar is higher in this bucket, for incidents that were wrong."""
        raised = self.raised.get(key_id)
        if raised is None or bucket < raised.bucket:
            return 0.0
        days = (bucket - raised.bucket) * self._seconds / DAY
        return float(raised.decades * 0.5 ** (days / HALF_LIFE_DAYS))

    def is_blocked(self, key_id: str, bucket: int) -> bool:
        """Whether an operator, or the responder, has said that the gateway refuses this key."""
        for blocks in (self.blocked, self.responded):
            first, last = blocks.get(key_id, (bucket + 1, None))
            if first <= bucket and (last is None or bucket < last):
                return True
        return False

    def _about(self, key_id: str, org_id: str | None) -> list[Rule]:
        found = self._fits.get((key_id, org_id))
        if found is None:
            if len(self._fits) >= MAX_FITS:
                self._fits.clear()
            found = [rule for rule in self.rules if scope_fits(rule.scope, rule.scope_id, key_id, org_id)]
            self._fits[key_id, org_id] = found
        return found

    # ------------------------------------------------------------------ feedback

    def expect(self, message: Feedback, tokens_per_hour: float, bucket: int, last: int) -> None:
        """Allow a key what it has used, and some more, in buckets [bucket, last): it is being learned."""
        tokens = max(1, math.ceil(EXPECTED_MARGIN * tokens_per_hour))
        rule = Rule(message.id, "key", message.key_id, bucket, last, tokens, message.by, message.why)
        self.rules = [*(one for one in self.rules if one.id != message.id), rule]
        self._look_again()

    def was_wrong(self, message: Feedback, bucket: int) -> None:
        """Raise a key's bar, once for each of its incidents."""
        known = self.raised.get(message.key_id)
        incidents = [] if known is None else known.incidents
        if message.alert_id in incidents:
            return
        decades = min(MOST_RAISE, self.raise_of(message.key_id, bucket) + RAISE)
        self.raised[message.key_id] = Raised(decades, bucket, [*incidents, message.alert_id][-MAX_INCIDENTS:])
        self._look_again()

    def was_right(self, key_id: str) -> None:
        """The key's bar is the usual one again."""
        self.raised.pop(key_id, None)
        self._look_again()

    # ------------------------------------------------------------------ memory and state

    def forget(self, bucket: int) -> None:
        """Forget what is over before `bucket`, the first open one."""
        if not (self.rules or self.raised or self.blocked or self.responded):
            return
        old = bucket - int(KEPT_DAYS * DAY) // self._seconds
        rules = [r for r in self.rules if r.last is None or r.last > (bucket if r.tokens_per_hour else old)]
        raised = {key: value for key, value in self.raised.items() if self.raise_of(key, bucket) >= LEAST_RAISE}
        blocked, responded = (
            {key: value for key, value in blocks.items() if value[1] is None or value[1] > bucket}
            for blocks in (self.blocked, self.responded)
        )
        left, held = (rules, raised, blocked, responded), (self.rules, self.raised, self.blocked, self.responded)
        if list(map(len, left)) != list(map(len, held)):
            self.rules, self.raised, self.blocked, self.responded = left
            self._look_again()

    @property
    def size(self) -> int:
        """Bytes of what is announced and in force, about."""
        announced = sum(len(write_message(message)) for _, _, message in self._announced)
        raised = sum(FIXED_BYTES + _bytes(key, *value.incidents) for key, value in self.raised.items())
        blocked = sum(FIXED_BYTES + _bytes(key) for key in (*self.blocked, *self.responded))
        return announced + raised + blocked + sum(rule.size for rule in self.rules)

    def _look_again(self) -> None:
        self._fits.clear()
        self.active = bool(self.rules or self.raised)
        self.changed = True

    def pack(self) -> bytes:
        """Everything, as MessagePack."""
        announced = [(bucket, offset, write_message(message)) for bucket, offset, message in self._announced]
        record = _Record(
            VERSION, self.log, self.position, announced, self.rules, self.blocked, self.raised, self.responded
        )
        return msgspec.msgpack.encode(record)

    def unpack(self, data: bytes) -> None:
        """Take up what `pack` gave; raises StateError on a newer version, or on damage."""
        try:
            version = msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw])["version"]
            if msgspec.msgpack.decode(version, type=int) > VERSION:
                raise StateError("what operators have said was written by a newer Overdraw: run the newer version")
            record = msgspec.msgpack.decode(data, type=_Record)
            announced = [(bucket, offset, read_message(raw)) for bucket, offset, raw in record.announced]
        except StateError:
            raise
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            raise StateError(f"the record of what operators have said is damaged: {error}") from error
        self.log, self.position, self._announced = record.log, record.position, announced
        self.rules, self.blocked, self.raised = record.rules, record.blocked, record.raised
        self.responded = record.responded
        self._look_again()
        self.changed = False


def _key_of(message: Message) -> str | None:
    """The key that a message is about, if it is one."""
    if isinstance(message, Feedback | Block | Unblock):
        return message.key_id
    if isinstance(message, Maintenance | Allow) and message.scope.type == "key":
        return message.scope.id
    return None


def _bytes(*texts: str) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
