"""Which alerts are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from stream.alerts import Alert


@dataclass(frozen=True, slots=True)
class Choice:
    """Conditions that all have to hold; one that is not given always does.

    `since` and `until` are epoch seconds: an alert is wanted if it was said (`updated_at`) from then on, and before.
    `entity` is an id or a pattern of ids, as in a shell.
    """

    since: float | None = None
    until: float | None = None
    entity: str | None = None
    entity_types: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    severities: frozenset[str] = frozenset()
    alert_id: str | None = None

    def wants(self, alert: Alert) -> bool:
        """Whether the alert is wanted."""
        return (
            (self.since is None or alert.updated_at >= self.since)
            and (self.until is None or alert.updated_at < self.until)
            and (self.entity is None or alert.entity.id == self.entity or fnmatchcase(alert.entity.id, self.entity))
            and (not self.entity_types or alert.entity.type in self.entity_types)
            and (not self.kinds or alert.kind in self.kinds)
            and (not self.severities or alert.severity in self.severities)
            and (self.alert_id is None or alert.alert_id == self.alert_id)
        )
