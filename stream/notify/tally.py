"""How often people would be told: the messages that each notifier of a file makes of alerts. Pure; nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stream.alerts import Alert
from stream.notify.config import NotifyConfig
from stream.notify.desk import Decision, Desk
from stream.notify.digest import Burst
from stream.notify.routing import Routing
from stream.notify.services import NOTIFIERS


@dataclass(slots=True)
class Tally:
    """Of one notifier: incidents that it tells of, and messages that are news to a person.

    opened: an incident, one by one; worsened: it has become a page, the service cannot show that at the message that is
    there, and no pager tells it; ended: it is over; digested: incidents that a digest tells of. Other updates are shown
    at that message, or are for programs: no news.
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


def tally(config: NotifyConfig, alerts: Iterable[Alert]) -> dict[str, Tally]:
    """By notifier what these alerts come to, read in their order, each as if it were told when it was found."""
    routing = Routing(config)
    told = {name: Tally() for name in config.notifiers}
    dedupes = {name: NOTIFIERS[chosen.type].dedupes for name, chosen in config.notifiers.items()}
    desks = {name: Desk(dedupes=dedupes[name], every_update=False, keeps=False) for name in told}
    bursts: dict[str, Burst] = {}
    pagers = config.pagers()
    for alert in alerts:
        matched, at = routing.names(alert), alert.updated_at
        paged = not pagers.isdisjoint(matched)
        for name, one in told.items():
            chosen, desk = config.notifiers[name], desks[name]
            known, matches = desk.knows(alert), name in matched
            leave = not desk.needs_leave(alert, matches, paged=paged)
            if not leave:
                burst = bursts.setdefault(name, Burst(chosen.burst, chosen.burst_seconds, at))
                leave = burst.take(at)
            decision = desk.judge(alert, matches, leave, source="", partition=0, at=at, paged=paged)
            if decision is Decision.SILENT or (alert.status == "resolved" and not known):
                continue
            if alert.status == "resolved":
                one.ended += decision is Decision.SEND
                continue
            one.incidents += not known
            if decision is Decision.DIGEST:
                one.digested += not known
            elif known:
                one.worsened += not dedupes[name]
            else:
                one.opened += 1
    return told
