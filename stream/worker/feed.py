"""The detector's own blindness: silence where there should be calls, poor records, a log that lost its beginning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stream.alerts import (
    Alert,
    ChannelScore,
    DataQuality,
    Entity,
    Links,
    Severity,
    Window,
    alert_id_of,
    fingerprint_of,
    runbook_of,
)
from stream.settings import Settings

UNKNOWN_QUALITY = DataQuality(missing_usage=0.0, late=0.0, duplicates=0.0, lag_seconds=0.0)
_ORDER: tuple[Severity, ...] = ("info", "warning", "high", "critical")


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which a shard is blind; `observed` and `expected` are in `unit`.

    `seconds`: how long it had lasted when it was found, for what shows only in time.
    """

    name: str
    text: str
    action: str
    severity: Severity
    observed: float
    expected: float
    unit: str
    seconds: float = 0.0


def silence(seconds: float, expected_calls: float) -> Finding:
    """No partition of the source has moved, though calls are expected."""
    return Finding(
        "silence",
        f"no record on any partition for {seconds:.0f} s, where {expected_calls:.0f} calls are usual: the feed is down",
        "check the gateways' producers and the source topic; detection is frozen until records arrive",
        "high",
        0.0,
        expected_calls,
        "calls",
        seconds,
    )


def lost(records: int) -> Finding:
    """The source no longer holds what came after the shard's last checkpoint.

    An upper bound where transactions are written to the source: their markers take offsets and are no records, and
    what is gone cannot be asked.
    """
    return Finding(
        "gap",
        f"{records} offsets were deleted from the source before they were read: sums lack what they held",
        "raise the source topic's retention above the longest stop of the workers",
        "warning",
        float(records),
        0.0,
        "offsets",
    )


def intake_lost(offsets: int) -> Finding:
    """The intake topic no longer holds what came after a partition's place."""
    return Finding(
        "intake_gap",
        f"{offsets} offsets were deleted from the intake topic before they were read: sums lack what they held",
        "raise the intake topic's retention above the longest stop of the workers",
        "warning",
        float(offsets),
        0.0,
        "offsets",
    )


def hanging(offsets: int, seconds: float) -> Finding:
    """Somebody's transaction does not end, and hides what was written behind its beginning."""
    return Finding(
        "open_transaction",
        f"a producer's transaction has been open for more than {seconds:.0f} s and hides {offsets} offsets behind it",
        "look for a gateway that died or hangs inside a transaction; the broker ends it after the producer's "
        "transaction.timeout.ms (kafka-transactions.sh find-hanging, abort)",
        "warning",
        float(offsets),
        0.0,
        "offsets",
    )


def anew(topic: str, before: str, unread: int) -> Finding:
    """The source is another log than the one that was applied; `unread`: records of that one known to be lost."""
    what = f"{topic} is not the topic that was read before ({before}): it is read from its beginning"
    missing = f"; {unread} records of the old one had not been read" if unread else ""
    return Finding(
        "anew",
        f"{what}, the states of the keys are kept{missing}",
        "if it holds the old topic's calls again, they count twice: then begin with another state_topic and app_id",
        "warning",
        float(unread),
        0.0,
        "records",
    )


def cut(end: int, applied: int, unread: int) -> Finding:
    """The source ends before what was applied: a leader without the newest records took over, or its disk lost them."""
    missing = f", and {unread} more had not been read" if unread else ""
    return Finding(
        "cut",
        f"the source was cut at offset {end}: {applied + 1 - end} records that were counted are gone from it{missing}",
        "look at the brokers (unclean leader election, lost disks); what gateways send again counts again",
        "warning",
        float(applied + 1 - end + unread),
        0.0,
        "records",
    )


def gone(topic: str, unread: int) -> Finding:
    """A topic that the detector needs was deleted."""
    return Finding(
        "gone",
        f"the topic {topic} was deleted" + (f": {unread} records had not been read" if unread else ""),
        "make it again (`overdraw topics create`), then start the worker: it goes on with what it knows of the keys",
        "high",
        float(unread),
        0.0,
        "records",
    )


LOG_FINDINGS = ("gap", "anew", "cut", "gone")
"""What is over once the shard has caught up with its log."""


class Feed:
    """The `feed` incident of one partition: what is wrong now, against what was said last, is the next alert.

    `last` is the partition's last feed alert, from the state topic: one incident at most is open, and survives a
    restart.
    """

    def __init__(self, partition: int, settings: Settings, last: Alert | None = None) -> None:
        self.entity = Entity(type="partition", id=str(partition))
        self.last = last
        self._settings = settings

    @property
    def open(self) -> Alert | None:
        """The open incident's last alert."""
        return self.last if self.last is not None and self.last.status != "resolved" else None

    def says(self, name: str) -> bool:
        """Whether the open incident names this finding."""
        return self.open is not None and any(channel.name == name for channel in self.open.channels)

    def still(self) -> dict[str, Finding]:
        """What the open incident names: it holds until it is looked at again."""
        last = self.open
        if last is None:
            return {}
        rest = (last.summary, last.suggested_action, last.severity, last.observed, last.expected, last.unit)
        return {channel.name: Finding(channel.name, *rest) for channel in last.channels}

    def judge(
        self, findings: Mapping[str, Finding], moment: float, quality: DataQuality = UNKNOWN_QUALITY
    ) -> Alert | None:
        """The alert that follows from all that is wrong now; None if nothing new is to be said.

        `moment` is the shard's newest event time, `quality` what its records are like.
        """
        current = self.open
        if not findings:
            if current is None:
                return None
            self.last = current.model_copy(
                update={
                    "sequence": current.sequence + 1,
                    "status": "resolved",
                    "updated_at": max(moment, current.updated_at),
                    "resolved_at": max(moment, current.started_at),
                    "historical": False,
                    "data_quality": quality,
                    "summary": f"partition {self.entity.id}: the feed is whole again",
                    "suggested_action": "none",
                }
            )
            return self.last
        if current is not None and {channel.name for channel in current.channels} == set(findings):
            return None
        self.last = self._alert(findings, moment, current, quality)
        return self.last

    def _alert(
        self, findings: Mapping[str, Finding], moment: float, current: Alert | None, quality: DataQuality
    ) -> Alert:
        worst = max(findings.values(), key=lambda finding: _ORDER.index(finding.severity))
        if current is not None:
            started = current.started_at
        else:  # alert_id is a hash of it: two incidents of a frozen clock must not share one
            started = moment if self.last is None else max(moment, self.last.started_at + 0.001)
        moment = max(moment, started) + max(finding.seconds for finding in findings.values())
        z = (worst.observed - worst.expected) / math.sqrt(max(worst.expected, 1.0))
        return Alert(
            alert_id=alert_id_of(self.entity, started),
            fingerprint=fingerprint_of(self.entity),
            sequence=0 if current is None else current.sequence + 1,
            status="opened" if current is None else "updated",
            severity=worst.severity,
            severity_reason=worst.text,
            kind="feed",
            entity=self.entity,
            started_at=started,
            detected_at=moment if current is None else current.detected_at,
            updated_at=moment,
            window=Window(start=started, end=moment, horizon_seconds=moment - started),
            observed=worst.observed,
            expected=worst.expected,
            upper=worst.expected,
            ratio=worst.observed / worst.expected if worst.expected else None,
            unit=worst.unit,
            z=z,
            score=1.0,
            false_alarm_probability=math.exp(-min(worst.expected, 700.0)) if worst.observed == 0 else 0.0,
            excess_tokens=0.0,
            excess_output_tokens=0.0,
            excess_per_hour=0.0,
            channels=[ChannelScore(name=finding.name, z=z) for finding in findings.values()],
            data_quality=quality,
            summary=f"partition {self.entity.id}: " + "; ".join(finding.text for finding in findings.values()),
            suggested_action="; ".join(finding.action for finding in findings.values()),
            links=Links(dashboard=self._settings.dashboard_url, runbook=runbook_of(self._settings.runbook_url, "feed")),
            config_digest=self._settings.config_digest,
        )
