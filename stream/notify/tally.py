"""How often people would be told: the messages that each notifier of a file makes of alerts. Pure; nothing is sent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from stream.alerts import Alert
from stream.notify.config import NotifyConfig
from stream.notify.desk import Decision, Desk
from stream.notify.digest import Burst
from stream.notify.hold import Held, Holds
from stream.notify.routing import Routing
from stream.notify.services import NOTIFIERS


@dataclass(slots=True)
class Tally:
    """Of one notifier: incidents that it tells of, and messages that are news to a person.

    opened: an incident, told one by one, be it when it is over; worsened: it has become a page, the service cannot show
    that at the message that is there, and no pager tells it; ended: it is over, and was told before; digested:
    incidents that a digest tells of. Other updates are shown at that message, or are for programs: no news.
    """

    incidents: int = 0
    opened: int = 0
    worsened: int = 0
    ended: int = 0
    digested: int = 0

    @property
    def per_incident(self) -> float | None:
        """Notifications per incident that is told one by one, its end not counted; None without an incident."""
        return (self.opened + self.worsened) / self.opened if self.opened else None

    def count(self, act: Act) -> None:
        """Count what was made of an alert."""
        self.incidents += act in (Act.OPENED, Act.HELD, Act.DIGESTED)
        self.opened += act in (Act.OPENED, Act.AT_LAST)
        self.worsened += act is Act.WORSENED
        self.ended += act is Act.ENDED
        self.digested += act in (Act.DIGESTED, Act.DIGESTED_AT_LAST)


class Act(Enum):
    """What a notifier makes of an alert, in words."""

    OPENED = "a message"
    HELD = "waits"
    AT_LAST = "a message, after waiting"
    WORSENED = "another message"
    SHOWN = "an update"
    ENDED = "a message of the end"
    JUST_ENDED = "its end, in case that it was told of the beginning"
    DIGESTED = "in a digest"
    DIGESTED_AT_LAST = "in a digest, after waiting"
    DIGEST_NEWS = "in the next digest"
    SILENT = "nothing"


_AT_LAST = {Decision.SEND: Act.AT_LAST, Decision.DIGEST: Act.DIGESTED_AT_LAST}
"""What is made of a ticket that waited."""


class Rehearsal:
    """The notifiers of a file, told of alerts in their order, each as if it were told when it was found."""

    def __init__(self, config: NotifyConfig) -> None:
        self._routing = Routing(config)
        self._pagers = config.pagers()
        self._parts = [_Part(name, config) for name in config.notifiers]

    def due(self, now: float = math.inf) -> Iterator[tuple[str, Held, Act]]:
        """What has waited for long enough at event time `now`, and what each notifier makes of it; without a time all
        that waits still.
        """  # noqa: D205
        for part in self._parts:
            yield from ((part.name, held, act) for held, act in part.due(now))

    def hear(self, alert: Alert) -> dict[str, Act]:
        """What each notifier makes of the next alert."""
        names = self._routing.names(alert)
        paged = not self._pagers.isdisjoint(names)
        return {
            part.name: part.hear(
                alert, part.name in names, paged=paged, hold=self._routing.is_pager_too(part.name, alert)
            )
            for part in self._parts
        }


class _Part:
    """One notifier."""

    def __init__(self, name: str, config: NotifyConfig) -> None:
        self.name = name
        self._chosen = config.notifiers[name]
        service = NOTIFIERS[self._chosen.type]
        self._dedupes, self._every_update = service.dedupes, service.every_update
        self._desk = Desk(dedupes=self._dedupes, every_update=False, keeps=False)
        self._holds = Holds(config.hold_seconds(name))
        self._burst: Burst | None = None

    def due(self, now: float) -> Iterator[tuple[Held, Act]]:
        for held in self._holds.due(now):
            decision = self._desk.is_time(held.alert, partial(self._leave, held.due))
            if decision in _AT_LAST:
                yield held, _AT_LAST[decision]

    def _leave(self, at: float) -> bool:
        self._burst = self._burst or Burst(self._chosen.burst, self._chosen.burst_seconds, at)
        return self._burst.take(at)

    def hear(self, alert: Alert, matched: bool, *, paged: bool, hold: bool) -> Act:
        at, desk, over = alert.updated_at, self._desk, alert.status == "resolved"
        known = desk.knows(alert)
        hold = hold and self._holds.has_room(0)
        leave = not desk.needs_leave(alert, matched, paged=paged, hold=hold) or self._leave(at)
        decision = desk.judge(alert, matched, leave, source="", partition=0, at=at, paged=paged, hold=hold)
        if decision is Decision.HOLD:
            self._holds.keep(alert, "", 0, 0, at)
            return Act.SILENT if known else Act.HELD
        if decision in _AT_LAST or over:
            waited = self._holds.release(alert) is not None
            if waited and decision in _AT_LAST:
                return _AT_LAST[decision]
        if decision is Decision.SILENT:
            return Act.SHOWN if self._every_update and known and not over else Act.SILENT
        if over and not known:
            return Act.JUST_ENDED
        if decision is Decision.DIGEST:
            return Act.DIGEST_NEWS if known else Act.DIGESTED
        if over:
            return Act.ENDED
        if not known:
            return Act.OPENED
        return Act.SHOWN if self._dedupes else Act.WORSENED


def tally(config: NotifyConfig, alerts: Iterable[Alert]) -> dict[str, Tally]:
    """By notifier what these alerts come to."""
    told = {name: Tally() for name in config.notifiers}
    rehearsal = Rehearsal(config)
    for alert in alerts:
        for name, _, act in rehearsal.due(alert.updated_at):
            told[name].count(act)
        for name, act in rehearsal.hear(alert).items():
            told[name].count(act)
    for name, _, act in rehearsal.due():
        told[name].count(act)
    return told
