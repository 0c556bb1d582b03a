"""Prometheus Alertmanager, API v2: `POST /api/v2/alerts` with an array of alerts.

Its identity of an alert is the label set, so labels hold only what never changes within an incident: severity and kind
are annotations. It takes an alert whose end has passed as resolved; what is firing is said again and again, with an
end that lies ahead, so that incidents do not stay for ever where nobody tells of their end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

from stream.alerts import printable, rfc3339
from stream.notify.config import AlertmanagerConfig, Secrets
from stream.notify.digest import Digest
from stream.notify.message import MAX_ID, Message
from stream.notify.service import Request, is_2xx

VALID_SECONDS = 900.0
"""What was not said again for this long is over for Alertmanager: longer than a restart, shorter than a night."""
MAX_ANNOTATION = 2000


class Alertmanager:
    """See the module."""

    type: ClassVar[str] = "alertmanager"
    dedupes: ClassVar[bool] = True
    every_update: ClassVar[bool] = True
    resend_seconds: ClassVar[float | None] = 60.0

    def __init__(self, config: AlertmanagerConfig, secrets: Secrets) -> None:
        self._url = config.url.rstrip("/") + "/api/v2/alerts"
        self._labels = config.labels
        self._headers = {"Content-Type": "application/json"}
        if "bearer_token" in secrets:
            self._headers["Authorization"] = f"Bearer {secrets['bearer_token'].get_secret_value()}"

    def alert(self, message: Message, now: float) -> Request:
        """See `Notifier`."""
        return self._post([self._alert(message, now)])

    def firing(self, messages: Sequence[Message], now: float) -> Request:
        """See `Notifier`."""
        return self._post([self._alert(message, now) for message in messages])

    def digest(self, digest: Digest, now: float) -> Request:
        """See `Notifier`."""
        labels = {"alertname": "OverdrawDigest", "service": "overdraw", "digest": digest.key, **self._labels}
        over = digest.open_count == 0
        notes = {"summary": digest.title, "description": "\n".join(digest.lines()), "severity": digest.worst}
        return self._post(
            [
                {
                    "labels": labels,
                    "annotations": notes,
                    "startsAt": rfc3339(digest.at),
                    "endsAt": rfc3339(now if over else now + VALID_SECONDS),
                }
            ]
        )

    def accepted(self, status: int, body: bytes) -> bool:
        """See `Notifier`."""
        return is_2xx(status)

    def misconfigured(self, status: int, body: bytes) -> bool:
        """See `Notifier`: it has other statuses for that."""
        return False

    def _alert(self, message: Message, now: float) -> dict[str, object]:
        alert = message.alert
        starts = alert.started_at
        if alert.status == "resolved":
            # an end that lies ahead, by a clock that is fast, would leave it firing until then
            ends = min(now, max(alert.resolved_at or now, starts))
            starts = min(starts, ends)
        else:
            ends = max(now, starts) + VALID_SECONDS
        labels = {
            "alertname": "OverdrawIncident",
            "service": "overdraw",
            "fingerprint": printable(alert.fingerprint),
            "entity_type": alert.entity.type,
            "entity": printable(alert.entity.id, MAX_ID),
            **self._labels,
        }
        links = {link.label: link.url for link in message.links()}
        commands = {command.label.partition(" ")[0]: command.text for command in message.commands()}
        notes = {
            "summary": printable(alert.summary, MAX_ANNOTATION),
            "description": "\n".join(f"{fact.label}: {fact.text}" for fact in message.facts()),
            "severity": alert.severity,
            "kind": alert.kind,
            "owner": printable(message.owner or "", MAX_ID),
            "alert_id": printable(alert.alert_id),
            "command": commands.get("Look", ""),
            "block_command": commands.get("Block", ""),
            "undo_command": commands.get("Undo", ""),
            "dashboard_url": links.get("Dashboard", ""),
            "runbook_url": links.get("Runbook", ""),
        }
        return {
            "labels": labels,
            "annotations": {name: text for name, text in notes.items() if text},
            "startsAt": rfc3339(starts),
            "endsAt": rfc3339(ends),
            **({"generatorURL": links["Dashboard"]} if "Dashboard" in links else {}),
        }

    def _post(self, alerts: list[dict[str, object]]) -> Request:
        return Request(self._url, json.dumps(alerts).encode(), self._headers)
