"""Tickets that wait, where the page that many of them become would be another message. Pure.

Nobody is woken for a ticket, and it says itself to look in working hours. So it is told as soon as it becomes a page or
is over, in that one message, or when it has waited for long enough; a page never waits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stream.alerts import RANK, Alert

HOLD_HOURS = 12.0
"""How long a ticket waits: about half of what becomes a page does so sooner, and most of the rest takes days."""
MOST_TOKENS = 2_000_000.0
"""A ticket above so many tokens, the size of a page, does not wait: so much may be gone at most before it is told."""
MOST_HELD = 40
"""Of a partition: with each of them goes a range of offsets in a commit's metadata. What is more is told at once."""
PAGE = RANK["high"]
"""From here on somebody may be woken."""


def may_wait(alert: Alert) -> bool:
    """Whether an alert is a ticket that may wait: open, small, no page, and not about a detector that is blind."""
    small = RANK[alert.severity] < PAGE and alert.excess_tokens < MOST_TOKENS
    return small and alert.kind != "feed" and alert.status != "resolved"


@dataclass(frozen=True, slots=True)
class Held:
    """A ticket that waits until `due` (epoch seconds): the record that opened it, and its newest alert."""

    partition: int
    offset: int
    source: str
    due: float
    alert: Alert


class Holds:
    """The tickets of one notifier that wait, by incident; `seconds`: for how long, 0: none does."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, alert: Alert) -> bool:
        return alert.alert_id in self._held

    def has_room(self, partition: int) -> bool:
        """Whether one more ticket of a partition may wait."""
        return self._seconds > 0 and sum(held.partition == partition for held in self._held.values()) < MOST_HELD

    def keep(self, alert: Alert, source: str, partition: int, offset: int, at: float) -> None:
        """Keep a ticket from when it was written, `at`; of one that is kept already only its newest alert."""
        held = self._held.get(alert.alert_id)
        self._held[alert.alert_id] = (
            Held(partition, offset, source, at + self._seconds, alert) if held is None else replace(held, alert=alert)
        )

    def release(self, alert: Alert) -> Held | None:
        """What waits no longer, since it is told by this alert or never; None if nothing of its incident waited."""
        return self._held.pop(alert.alert_id, None)

    def due(self, now: float) -> list[Held]:
        """Those that have waited for long enough; they wait no longer."""
        found = [held for held in self._held.values() if held.due <= now]
        for held in found:
            del self._held[held.alert.alert_id]
        return found
