"""The board: what alerts, operators and earlier records come to, and what is due now. Pure: no clock, no I/O.

Everything on it comes from Kafka and may be read again: the same alert or word changes nothing a second time. So a
restart reads all of it, and only then acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from stream.alerts import SILENT_SECONDS, Alert, Entity, Severity, fingerprint_of, printable
from stream.response.config import ResponseConfig
from stream.response.record import MAX_WHY, Action, Before, Response, Step, Word, limit_of, response_id_of

HOUR = 3600.0
KEEP_SECONDS = 90 * 86_400.0
"""What is over is forgotten after this time."""
MAX_RESPONSES = 20_000
"""Some 30 MB; the oldest of those that are over give way, then the oldest proposals."""
MAX_INCIDENTS = 100_000
SYSTEM = "overdraw"
STRENGTH: dict[Action, int] = {"review": 0, "throttle": 1, "block": 2}


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest step of an incident that is open; `at`: when it was written."""

    alert: Alert
    at: float


@dataclass(frozen=True, slots=True)
class AllowRule:
    """Keys that nothing is done to: a key's id, all keys of an organisation, or a pattern of ids; until then."""

    rule_id: str
    type: str
    id: str
    until: float | None = None

    def covers(self, key_id: str, org_id: str | None, now: float) -> bool:
        """Whether the key is under it."""
        if self.until is not None and now >= self.until:
            return False
        if self.type == "key":
            return self.id == key_id
        return self.id == org_id if self.type == "org" else fnmatchcase(key_id, self.id)


@dataclass(frozen=True, slots=True)
class Ban:
    """An operator's last word about a key: blocked, until then or for good, or unblocked."""

    key_id: str
    word_id: str
    blocked: bool
    at: float
    by: str
    why: str
    until: float | None = None


class Board:
    """Responses by their id, the open incidents, and the rules that hold."""

    def __init__(self, config: ResponseConfig) -> None:
        self._config = config
        self.responses: dict[str, Response] = {}
        self._incidents: dict[str, Seen] = {}
        self._over: dict[str, None] = {}
        self._rules: dict[str, AllowRule] = {}
        self._words: dict[str, Word] = {}
        self._bans: dict[str, Ban] = {}

    # ------------------------------------------------------------------ what is read

    def keep(self, response: Response) -> None:
        """Take up a record of the response topic."""
        self.responses[response.response_id] = response

    def forget(self, response_id: str) -> None:
        """Its record was deleted."""
        self.responses.pop(response_id, None)
        self._words.pop(response_id, None)

    def hear(self, word: Word) -> None:
        """Take up an operator's word about a response: the last one counts."""
        self._words[word.response_id] = word

    def ban(self, ban: Ban) -> None:
        """Take up an operator's word about a key: the last one counts."""
        self._bans[ban.key_id] = ban

    def take(self, alert: Alert, written_at: float) -> None:
        """Take up a step of an incident."""
        known = self._incidents.get(alert.fingerprint)
        if known is not None and known.alert.alert_id == alert.alert_id and known.alert.sequence >= alert.sequence:
            return
        self._incidents.pop(alert.fingerprint, None)
        if alert.status == "resolved":
            self._over[alert.alert_id] = None
            if len(self._over) > MAX_INCIDENTS:
                del self._over[next(iter(self._over))]
        elif not alert.historical:
            self._incidents[alert.fingerprint] = Seen(alert, written_at)
            if len(self._incidents) > MAX_INCIDENTS:
                del self._incidents[next(iter(self._incidents))]

    def allow(self, rule: AllowRule) -> None:
        """Nothing is done to the keys of this rule."""
        self._rules[rule.rule_id] = rule

    def disallow(self, rule_id: str) -> None:
        """The end of a rule."""
        self._rules.pop(rule_id, None)

    def follow(self, bans: dict[str, Ban], rules: dict[str, AllowRule]) -> None:
        """Take up all that operators have said of keys."""
        self._bans, self._rules = bans, rules

    # ------------------------------------------------------------------ what is due

    def due(self, now: float) -> Iterator[Response]:
        """Records that have changed by themselves since: to be written, each before what it leads to is done."""
        for fingerprint in [one for one, seen in self._incidents.items() if now - seen.at > SILENT_SECONDS]:
            del self._incidents[fingerprint]
        for seen in list(self._incidents.values()):
            proposal = self._proposal(seen.alert, now)
            if proposal is not None:
                yield proposal
        for ban in self._bans.values():
            yield from self._of_ban(ban, now)
        for response in list(self.responses.values()):
            changed = self._of_itself(self._of_word(response), now)
            if changed is not response:
                yield changed

    def _of_word(self, response: Response) -> Response:
        word = self._words.get(response.response_id)
        if word is None or response.heard == word.word_id:
            return response
        if word.word == "approve" and response.action == "review":
            return response.model_copy(update={"heard": word.word_id})
        more: dict[str, object] = {"heard": word.word_id}
        if word.word == "approve" and response.alert_id is not None:
            more["until"] = None  # it begins again
        return response.after(word.word, word.at, word.by, word.why or f"{word.word}, without a reason", **more)

    def _of_ban(self, ban: Ban, now: float) -> Iterator[Response]:
        response_id = response_id_of("block", f"{ban.word_id}\0{ban.key_id}")
        if ban.blocked:
            if response_id in self.responses or (ban.until is not None and ban.until <= now):
                return
            entity = Entity(type="key", id=ban.key_id)
            yield Response(
                response_id=response_id, action="block", entity=entity, state="approved",
                fingerprint=fingerprint_of(entity), dry_run=self._config.mode == "dry-run", created_at=now,
                for_seconds=None if ban.until is None else ban.until - ban.at, until=ban.until,
                steps=[Step(at=ban.at, state="approved", by=printable(ban.by, 128), why=printable(ban.why, MAX_WHY))],
            )  # fmt: skip
            return
        for response in list(self.responses.values()):
            if response.action == "block" and response.entity.id == ban.key_id and response.steps[0].at <= ban.at:
                after = response.after("undo", ban.at, ban.by, ban.why)
                if after is not response:
                    yield after

    def _proposal(self, alert: Alert, now: float) -> Response | None:
        action = self._config.recommend.get(alert.severity)
        if action is None or alert.kind == "feed":
            return None
        limit = limit_of(alert)
        if alert.entity.type != "key" or (action == "throttle" and limit is None):
            action = "review"
        if self._forbidden(alert.entity, alert_org(alert), now) is not None:
            return None
        response_id = response_id_of(action, alert.alert_id)
        if response_id in self.responses:
            return None
        hours = {"throttle": self._config.hours.throttle, "block": self._config.hours.block}.get(action)
        approved = action in self._config.approved
        steps = [Step(at=now, state="proposed", by=SYSTEM, why=_reason(alert.kind, alert.severity, alert.alert_id))]
        response = Response(
            response_id=response_id, action=action, entity=alert.entity, state="proposed", alert_id=alert.alert_id,
            fingerprint=alert.fingerprint, kind=alert.kind, severity=alert.severity,
            per_minute=limit[0] if limit is not None and action == "throttle" else None,
            unit=limit[1] if limit is not None else "tokens", dry_run=self._config.mode == "dry-run", created_at=now,
            for_seconds=None if hours is None else hours * HOUR, steps=steps,
        )  # fmt: skip
        return response.after("approve", now, SYSTEM, "the response file approves of it") if approved else response

    def _of_itself(self, response: Response, now: float) -> Response:
        if response.state == "active" and response.until is not None and now >= response.until:
            return response.after("over", now, SYSTEM, "its time is over")
        if response.alert_id is None or response.state not in ("proposed", "approved", "active"):
            return response
        seen = self._incidents.get(response.fingerprint)
        if seen is None or seen.alert.alert_id != response.alert_id:
            return response.after("over", now, SYSTEM, "the incident is over")
        if (why := self._forbidden(response.entity, alert_org(seen.alert), now)) is not None:
            return response.after("over", now, SYSTEM, why)
        if response.state != "active" and self._is_outdone(response):
            return response.after("over", now, SYSTEM, "a stronger action is recommended")
        return response

    def _is_outdone(self, response: Response) -> bool:
        return any(
            STRENGTH[other] > STRENGTH[response.action]
            and response_id_of(other, response.alert_id or "") in self.responses
            for other in STRENGTH
        )

    def _forbidden(self, entity: Entity, org_id: str | None, now: float) -> str | None:
        """Why nothing may be done to a key; None if something may."""
        if entity.type != "key":
            return None
        if any(fnmatchcase(entity.id, pattern) for pattern in self._config.never):
            return "the response file says never"
        for rule in self._rules.values():
            if rule.covers(entity.id, org_id, now):
                return f"the allow rule {rule.rule_id}"
        return None

    def ready(self, now: float) -> list[Response]:
        """The responses to apply, the oldest first, as many as the limits leave room for."""
        waiting = sorted(
            (one for one in self.responses.values() if one.state == "approved"), key=lambda one: one.created_at
        )
        applied = [one for one in self.responses.values() if one.applied_at is not None and one.alert_id is not None]
        lately = sum(now - (one.applied_at or 0.0) < HOUR for one in applied)
        active = sum(one.state in ("active", "ending") for one in applied)
        limits = self._config.limits
        room = max(0, min(limits.applied_per_hour - lately, limits.active_at_once - active))
        by_hand = [one for one in waiting if one.alert_id is None]
        return by_hand + [one for one in waiting if one.alert_id is not None][:room]

    def ending(self) -> list[Response]:
        """The responses to undo, also what was begun of those that were never applied as a whole."""
        return [
            one
            for one in self.responses.values()
            if one.state == "ending" or (one.before and one.state in ("declined", "withdrawn", "failed"))
        ]

    def active(self) -> list[Response]:
        """What holds at the gateways, or may: not what is only rehearsed."""
        return [one for one in self.responses.values() if not one.dry_run and (one.before or one.state == "active")]

    def blocks(self) -> dict[str, Response]:
        """By key, what blocks it at the gateways because of an alert: of several the one that lasts longest."""
        found: dict[str, Response] = {}
        for one in sorted(self.active(), key=lambda one: (one.until is None, one.until or 0.0, one.response_id)):
            if one.action == "block" and one.state == "active" and one.alert_id is not None:
                found[one.entity.id] = one
        return found

    def old(self, now: float) -> list[str]:
        """Records to delete."""
        over = sorted((one.steps[-1].at, one.response_id) for one in self.responses.values() if not one.open)
        many = max(0, len(self.responses) - MAX_RESPONSES)
        return [key for place, (at, key) in enumerate(over) if place < many or now - at > KEEP_SECONDS]

    def restored(self, response: Response) -> dict[str, Before]:
        """What an undo restores, where a response to the same key holds already: what was there before that one."""
        for other in self.active():
            if other.entity == response.entity and other.action == response.action and other is not response:
                return {name: before for name, before in other.before.items() if before.touched}
        return {}


def alert_org(alert: Alert) -> str | None:
    """The organisation of a key's alert, where it is known."""
    return alert.org_id


def _reason(kind: str, severity: Severity, alert_id: str) -> str:
    return f"{kind} of severity {severity}, alert {alert_id}"
