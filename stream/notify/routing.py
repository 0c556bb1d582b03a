"""Who is told of an alert: by its severity, its kind, and the owner of its key."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

from stream.alerts import Alert, Entity
from stream.notify.config import DEFAULT_SEVERITIES, NotifyConfig, Route


class Routing:
    """The routes of a notify file. All that match count; without any, each notifier gets what its type is made for."""

    def __init__(self, config: NotifyConfig) -> None:
        self._config = config
        self._pagers = config.pagers()
        self._routes = config.routes
        if self._routes is None:
            self._routes = [
                Route(notify=[name], severity=list(DEFAULT_SEVERITIES[notifier.type]))
                for name, notifier in config.notifiers.items()
            ]
        self.owner_of = lru_cache(maxsize=10_000)(self._owner_of)
        """The first owner whose patterns fit the id of an entity; None if nobody's do."""

    def _owner_of(self, entity: Entity) -> str | None:
        if entity.type not in ("key", "org"):
            return None
        for owner, patterns in self._config.owners.items():
            if any(fnmatchcase(entity.id, pattern) for pattern in patterns):
                return owner
        return None

    def names(self, alert: Alert) -> list[str]:
        """The notifiers that a new incident with this alert goes to, in the order of the file."""
        told = {name for route in self._routes or [] if self._fits(route, alert) for name in route.notify}
        return [name for name in self._config.notifiers if name in told]

    def is_pager_too(self, name: str, alert: Alert) -> bool:
        """Whether a notifier would be told of an incident again if it became a page, since no pager would be."""
        if alert.historical:
            return False
        paged = self.names(alert.model_copy(update={"severity": "high"}))
        return name in paged and self._pagers.isdisjoint(paged)

    def _fits(self, route: Route, alert: Alert) -> bool:
        return (
            alert.severity in route.severity
            and (route.historical or not alert.historical)
            and (route.kind is None or alert.kind in route.kind)
            and (route.owner is None or self.owner_of(alert.entity) in route.owner)
        )
