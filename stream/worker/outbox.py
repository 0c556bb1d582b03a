"""Alerts on their way out: marked as backlog where they are, and as CloudEvents on the alert topic."""

from __future__ import annotations

from collections.abc import Iterable

from stream.alerts import Alert, rfc3339
from stream.worker.journal import Record

_PAGES = frozenset({"high", "critical"})
BACKLOG_ACTION = "Found in a backlog: review in working hours whether the key's owner knows of it."


def as_found(alert: Alert, now: float, backlog_seconds: float) -> Alert:
    """The alert with its lag at `now` (epoch seconds), marked `historical` if that is more than the backlog allows.

    An incident that opened in the backlog and still goes on is not history: its later steps are judged by their own
    time, and may page.
    """
    lag = round(max(0.0, now - alert.updated_at), 3)
    quality = alert.data_quality.model_copy(update={"lag_seconds": lag})
    alert = alert.model_copy(update={"data_quality": quality})
    if now - max(alert.detected_at, alert.updated_at) <= backlog_seconds:
        return alert
    severity, reason = alert.severity, alert.severity_reason
    if severity in _PAGES:
        reason = f"{severity} but for the backlog: {reason}"
        severity = "warning"
    reason = f"found {_ago(now - alert.updated_at)} after it happened, so it pages nobody ({reason})"
    marks = {"historical": True, "severity": severity, "severity_reason": reason}
    return alert.model_copy(update=marks | {"suggested_action": BACKLOG_ACTION})


def _ago(seconds: float) -> str:
    """A stretch of time for people.

    >>> _ago(5400), _ago(200_000)
    ('1.5 h', '2.3 d')
    """
    return f"{seconds / 3600:.1f} h" if seconds < 86_400 else f"{seconds / 86_400:.1f} d"


def follow(incidents: dict[str, Alert], said: Iterable[Alert]) -> None:
    """Keep `incidents`, the latest alert of each that is open by its fingerprint, up to what is said now."""
    for alert in said:
        if alert.status == "resolved":
            incidents.pop(alert.fingerprint, None)
        else:
            incidents[alert.fingerprint] = alert


def alert_record(alert: Alert, app_id: str, partition: int | str) -> Record:
    """The record of an alert on the alert topic: a CloudEvent in binary mode, keyed by the fingerprint.

    partition: who says it, the shard's number or another name
    """
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{alert.alert_id}:{alert.sequence}".encode()),
        ("ce_type", f"overdraw.alert.{alert.status}".encode()),
        ("ce_source", f"/overdraw/{app_id}/{partition}".encode()),
        ("ce_time", rfc3339(alert.updated_at).encode()),
        ("content-type", b"application/json"),
    )
    return alert.fingerprint.encode(), alert.model_dump_json().encode(), headers
