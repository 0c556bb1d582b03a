"""What operators want to hear no more of: entities that are muted, and incidents that somebody is at."""

from __future__ import annotations

from collections.abc import Sequence

from stream.alerts import RANK, Alert, Entity, fingerprint_of
from stream.control import Acknowledge, Message, Mute, Unmute

MAX_MUTES = 10_000
"""Entities that are muted, and likewise incidents that were acknowledged: beyond it the oldest are forgotten."""
MAX_SPELLS = 20
"""Times for which one entity was muted that are remembered."""


def names_of(alert: Alert) -> tuple[str, ...]:
    """The fingerprints under which an alert may be muted: its entity's, and that of a key's organisation."""
    if alert.entity.type != "key" or alert.org_id is None:
        return (alert.fingerprint,)
    return alert.fingerprint, fingerprint_of(Entity(type="org", id=alert.org_id))


class Hush:
    """Told by the control topic, from its beginning; the same for all notifiers of a process."""

    def __init__(self) -> None:
        self._mutes: dict[str, list[tuple[float, float]]] = {}
        """When each entity is, and was, muted, by its fingerprint: beginnings and ends, in epoch seconds."""
        self._acknowledged: dict[str, int] = {}
        """Worst severity that somebody is at, by incident."""

    def become(self, other: Hush) -> None:
        """Know what another one knows, which has heard all of the topic again."""
        self._mutes, self._acknowledged = other._mutes, other._acknowledged

    def take(self, message: Message) -> None:
        """Take up the next message."""
        if isinstance(message, Acknowledge):
            self._acknowledged.pop(message.alert_id, None)
            self._acknowledged[message.alert_id] = RANK[message.severity]
            if len(self._acknowledged) > MAX_MUTES:
                del self._acknowledged[next(iter(self._acknowledged))]
        elif isinstance(message, Mute | Unmute):
            name = fingerprint_of(message.entity)
            spells = self._mutes.pop(name, [])
            if spells and spells[-1][1] > message.at:
                spells[-1] = (spells[-1][0], message.at)
            if isinstance(message, Mute):
                spells.append((message.at, message.until))
            if spells:
                self._mutes[name] = spells[-MAX_SPELLS:]
            if len(self._mutes) > MAX_MUTES:
                del self._mutes[next(iter(self._mutes))]

    def is_quiet(self, alert_id: str, rank: int, names: Sequence[str], *moments: float) -> bool:
        """Whether nobody wants to hear of an incident of severity `rank`.

        names: see `names_of`; moments: epoch seconds at any of which a mute counts
        """
        if rank <= self._acknowledged.get(alert_id, -1):
            return True
        if not self._mutes:
            return False
        spells = [spell for name in names for spell in self._mutes.get(name, ())]
        return any(begin <= moment < end for begin, end in spells for moment in moments)
