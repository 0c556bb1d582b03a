"""What an operator says of an incident, and what it does to the key."""

from __future__ import annotations

from stream.alerts import Alert, DataQuality, Entity, alert_id_of, printable
from stream.control import Feedback
from stream.core.incidents import Incident
from stream.core.key import KeyState
from stream.core.outlook import raise_bar
from stream.core.reporting import resolve

MAX_WHY = 200


def follow(key: KeyState, message: Feedback, bucket: int, quality: DataQuality) -> Alert | None:
    """Follow feedback at the boundary before `bucket`; returns the alert that ends its incident, if that is open.

    expected: the level is learned from here on as in a young key, which may meanwhile use what it has used
    wrong: the key's bar rises, and the incident ends if it is below the new one
    right: the bar is the usual one again
    """
    control = key.rules.control
    incident = key.incident
    open_one = incident if incident is not None and _id_of(key, incident) == message.alert_id else None
    said = f"{message.verdict}, says {printable(message.by)}: {printable(message.why, MAX_WHY)}"
    if message.verdict == "right":
        control.was_right(message.key_id)
    elif message.verdict == "wrong":
        control.was_wrong(message, bucket)
    if open_one is None or message.verdict == "right":
        return None
    if message.verdict == "wrong":
        raise_bar(key)
        key.stale = True
        if open_one.score >= key.rules.open_score + key.raised(bucket):
            return None
        return resolve(key, open_one, bucket - 1, quality, said)
    calendar = key.rules.calendar
    level = max(float(open_one.peak), open_one.observed / max(1, bucket - open_one.started) * calendar.per_hour)
    control.expect(message, level, bucket, bucket + key.rules.accept_buckets)
    key.accept()
    return resolve(key, open_one, bucket - 1, quality, said)


def _id_of(key: KeyState, incident: Incident) -> str:
    started_at = float(incident.started * key.rules.settings.bucket_seconds)
    return alert_id_of(Entity(type="key", id=key.key_id), started_at)
