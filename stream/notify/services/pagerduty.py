"""PagerDuty, Events API v2: trigger and resolve. The dedup key is the fingerprint, so a repeat pages nobody again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from stream.alerts import printable, rfc3339
from stream.notify.config import PagerDutyConfig, Secrets
from stream.notify.digest import Digest
from stream.notify.message import Message
from stream.notify.service import Request, cut, is_2xx

MAX_SUMMARY = 1024
MAX_KEY = 255
_NAMES_THE_KEY = re.compile(rb"(routing|service|integration)[ _]key", re.IGNORECASE)
SEVERITIES = {"critical": "critical", "high": "error", "warning": "warning", "info": "info"}


class PagerDuty:
    """See the module."""

    type: ClassVar[str] = "pagerduty"
    dedupes: ClassVar[bool] = True
    every_update: ClassVar[bool] = True
    resend_seconds: ClassVar[float | None] = None

    def __init__(self, config: PagerDutyConfig, secrets: Secrets) -> None:
        self._url = config.url
        self._key = secrets["routing_key"]

    def alert(self, message: Message, now: float) -> Request:
        """See `Notifier`."""
        alert = message.alert
        key = printable(alert.fingerprint, MAX_KEY)
        if alert.status == "resolved":
            return self._post("resolve", key)
        details = {fact.label: fact.text for fact in message.facts()}
        details |= {command.label: command.text for command in message.commands()}
        payload = {
            "summary": cut(message.title, MAX_SUMMARY),
            "source": message.who,
            "severity": SEVERITIES[alert.severity],
            "timestamp": rfc3339(alert.updated_at),
            "component": "overdraw",
            "group": printable(message.owner or "overdraw"),
            "class": alert.kind,
            "custom_details": details,
        }
        links = [{"href": link.url, "text": link.label} for link in message.links()]
        return self._post("trigger", key, payload=payload, links=links, client="Overdraw")

    def digest(self, digest: Digest, now: float) -> Request:
        """See `Notifier`."""
        if digest.open_count == 0:
            return self._post("resolve", cut(digest.key, MAX_KEY))
        payload = {
            "summary": cut(digest.title, MAX_SUMMARY),
            "source": "overdraw",
            "severity": SEVERITIES[digest.worst],
            "timestamp": rfc3339(digest.at),
            "component": "overdraw",
            "class": "digest",
            "custom_details": {"Incidents": digest.lines(), "Run": digest.command},
        }
        return self._post("trigger", cut(digest.key, MAX_KEY), payload=payload, client="Overdraw")

    def firing(self, messages: Sequence[Message], now: float) -> Request:
        """See `Notifier`."""
        raise NotImplementedError("PagerDuty keeps an incident until it is resolved")

    def accepted(self, status: int, body: bytes) -> bool:
        """See `Notifier`: 202 says that the event is taken."""
        return is_2xx(status)

    def misconfigured(self, status: int, body: bytes) -> bool:
        """See `Notifier`: a wrong routing key is a 400, as an event that is no event."""
        return status == 400 and _NAMES_THE_KEY.search(body) is not None

    def _post(self, action: str, key: str, **more: Any) -> Request:
        event = {"routing_key": self._key.get_secret_value(), "event_action": action, "dedup_key": key, **more}
        return Request(self._url, json.dumps(event).encode(), {"Content-Type": "application/json"})
