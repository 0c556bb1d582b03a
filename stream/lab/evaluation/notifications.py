"""How often people would be told of a world's incidents, counted as the notifiers themselves decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stream.lab.evaluation.detector import Alarm
from stream.lab.worlds.world import World
from stream.notify.config import NotifyConfig
from stream.notify.tally import Tally, tally

_PAGERDUTY = {"type": "pagerduty", "routing_key_env": "PAGERDUTY"}
_ALERTMANAGER = {"type": "alertmanager", "url": "http://127.0.0.1:9093"}
_SLACK = {"type": "slack", "url_env": "SLACK"}
TOGETHER = NotifyConfig.model_validate(
    {"notifiers": {"pagerduty": _PAGERDUTY, "alertmanager": _ALERTMANAGER, "slack": _SLACK}}
)
"""What the README begins with: pagers and a channel, at default settings and without routes."""
ALONE = NotifyConfig.model_validate({"notifiers": {"slack": _SLACK}})
"""A channel that has to be the pager as well."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one notifier made of a world's incidents."""

    notifier: str
    tally: Tally

    def as_json(self) -> dict[str, object]:
        """The same as plain data."""
        one = self.tally
        return {
            "notifier": self.notifier,
            "incidents": one.incidents,
            "opened": one.opened,
            "worsened": one.worsened,
            "ended": one.ended,
            "digested": one.digested,
            "per_incident": one.per_incident,
        }


def told(world: World, alarms: Iterable[Alarm]) -> tuple[Told, ...]:
    """By notifier, of the incidents found after the world's warm-up."""
    first = world.first_day * world.per_day
    alerts = [alert for alarm in alarms if alarm.detected >= first for alert in alarm.steps]
    alerts.sort(key=lambda alert: alert.updated_at)  # stable: the steps of one incident stay in their order
    found = [Told(name, one) for name, one in tally(TOGETHER, alerts).items()]
    return (*found, *(Told(f"{name} alone", one) for name, one in tally(ALONE, alerts).items()))


def told_words(found: Iterable[Told]) -> str:
    """For people: what one line has room for.

    >>> told_words([Told("slack", Tally(incidents=5, opened=4, worsened=1, digested=1)), Told("pagerduty", Tally())])
    'slack 1.25 of 4 (and 1 in digests), pagerduty of none'
    """
    return ", ".join(f"{one.notifier} {_words(one.tally)}" for one in found)


def _words(one: Tally) -> str:
    if one.per_incident is None:
        return "of none"
    digested = f" (and {one.digested} in digests)" if one.digested else ""
    return f"{one.per_incident:.2f} of {one.opened}{digested}"
