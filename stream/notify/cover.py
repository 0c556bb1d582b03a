"""Incidents that speak for others: campaigns for members, organisations for their keys, the feed for its faults."""

from __future__ import annotations

from stream.alerts import Alert


def subjects_of(alert: Alert) -> list[str]:
    """What another incident may speak for, instead of this one."""
    if alert.kind == "feed":
        return sorted(covered_by(alert))[:1]
    if alert.entity.type != "key":
        return []
    subjects = [f"key {alert.entity.id}"]
    return subjects if alert.org_id is None else [*subjects, f"org {alert.org_id}"]


def covered_by(alert: Alert) -> frozenset[str]:
    """What an incident speaks for: the keys that it names, the organisation that it is about, the feed's faults."""
    if alert.kind == "feed":
        return frozenset(f"feed {channel.name}" for channel in alert.channels)
    if alert.entity.type == "key":
        return frozenset()
    members = () if alert.members is None else alert.members.top
    covered = {f"key {member.key_id}" for member in members}
    return frozenset(covered | {f"org {alert.entity.id}"}) if alert.entity.type == "org" else frozenset(covered)
