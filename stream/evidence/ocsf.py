"""An alert as an OCSF Detection Finding (class 2004), by the schema's version 1.5.

`finding_info.uid` is the incident, `metadata.uid` this step of it; times are epoch milliseconds, in event time. The
value of an observation is text, as the schema has it.
"""

from __future__ import annotations

from typing import Any

from stream import __version__
from stream.alerts import Alert, Severity, Status

VERSION = "1.5.0"
"""The first that has `anomaly_analyses`."""
CATEGORY, CLASS = 2, 2004
ACTIVITIES: dict[Status, tuple[int, str]] = {
    "opened": (1, "Create"),
    "updated": (2, "Update"),
    "resolved": (3, "Close"),
}
STATUSES: dict[Status, tuple[int, str]] = {
    "opened": (1, "New"), "updated": (2, "In Progress"), "resolved": (4, "Resolved"),
}  # fmt: skip
SEVERITIES: dict[Severity, tuple[int, str]] = {
    "info": (1, "Informational"), "warning": (3, "Medium"), "high": (4, "High"), "critical": (5, "Critical"),
}  # fmt: skip
CONFIDENCES = ((0.001, 3, "High"), (0.01, 2, "Medium"), (1.0, 1, "Low"))
"""By the chance that a clean key shows it within a day."""
STATISTICAL = (3, "Statistical")
RESOURCE_UID = 10
"""The type of an observable that names a resource."""
TYPES = {
    "key": "API Key", "org": "Organization", "network": "Network", "asn": "Autonomous System", "client": "Client",
    "template": "Prompt Template", "model": "Model", "partition": "Partition",
}  # fmt: skip


def finding_of(alert: Alert) -> dict[str, Any]:
    """The finding as JSON; ids stand in it as they are, for programs."""
    activity, activity_name = ACTIVITIES[alert.status]
    status, status_name = STATUSES[alert.status]
    severity, severity_name = SEVERITIES[alert.severity]
    resources = [{"uid": alert.entity.id, "name": alert.entity.id, "type": TYPES[alert.entity.type]}]
    members = [] if alert.members is None else alert.members.top
    resources += [{"uid": one.key_id, "name": one.key_id, "type": TYPES["key"]} for one in members]
    finding: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": CATEGORY,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + activity,
        "type_name": f"Detection Finding: {activity_name}",
        "time": _ms(alert.updated_at),
        "start_time": _ms(alert.started_at),
        "end_time": _ms(alert.window.end if alert.resolved_at is None else alert.resolved_at),
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "message": alert.summary,
        "is_alert": alert.status != "resolved" and not alert.historical,
        "metadata": {
            "version": VERSION,
            "product": {"name": "Overdraw", "vendor_name": "Overdraw", "version": __version__},
            "uid": f"{alert.alert_id}:{alert.sequence}",
            "correlation_uid": alert.fingerprint,
            "sequence": alert.sequence,
            "event_code": alert.kind,
        },
        "finding_info": _info(alert),
        "resources": resources,
        "observables": [
            {"name": f"resources[{place}].uid", "type_id": RESOURCE_UID, "type": "Resource UID", "value": one["uid"]}
            for place, one in enumerate(resources)
        ],
        "evidences": [{"name": "numbers of the alert", "data": _numbers(alert)}],
        "remediation": {"desc": alert.suggested_action, **_references(alert)},
    }
    if alert.kind != "feed":  # of a blind detector there is no chance and nothing usual
        chance = alert.false_alarm_probability
        confidence, name = next((number, name) for limit, number, name in CONFIDENCES if chance <= limit)
        score = round(100 * (1 - chance))
        finding |= {"confidence_id": confidence, "confidence": name, "confidence_score": score}
        finding["anomaly_analyses"] = [_analysis(alert)]
    return finding


def _info(alert: Alert) -> dict[str, Any]:
    analytic, name = STATISTICAL
    channels = [{"name": channel.name, "type_id": analytic, "type": name} for channel in alert.channels]
    info: dict[str, Any] = {
        "uid": alert.alert_id,
        "title": f"{alert.kind}: {alert.entity.type} {alert.entity.id}",
        "desc": alert.severity_reason,
        "types": [alert.kind],
        "created_time": _ms(alert.detected_at),
        "modified_time": _ms(alert.updated_at),
        "first_seen_time": _ms(alert.started_at),
        "last_seen_time": _ms(alert.window.end),
        "analytic": {"name": f"overdraw.{alert.kind}", "uid": alert.config_digest, "type_id": analytic, "type": name},
    }
    if channels:
        info["related_analytics"] = channels
    if alert.links.dashboard is not None:
        info["src_url"] = alert.links.dashboard
    return info


def _analysis(alert: Alert) -> dict[str, Any]:
    parameter = f"{alert.unit} in {alert.window.horizon_seconds:.0f} s"
    pattern = f"z {alert.z:.2f}, score {alert.score:.4f}" + (
        f", {alert.ratio:.3g} x" if alert.ratio is not None else ""
    )
    return {
        "analysis_targets": [{"name": alert.entity.id, "type": TYPES[alert.entity.type]}],
        "anomalies": [
            {
                "observation_parameter": parameter,
                "observations": [{"value": _number(alert.observed)}],
                "observed_pattern": pattern,
            }
        ],
        "baselines": [
            {
                "observation_parameter": parameter,
                "observations": [{"value": _number(alert.expected)}],
                "observed_pattern": f"up to {_number(alert.upper)}",
            }
        ],
    }


def _numbers(alert: Alert) -> dict[str, Any]:
    said = alert.model_dump(mode="json")
    names = (
        "observed", "expected", "upper", "ratio", "unit", "z", "score", "false_alarm_probability", "excess_tokens",
        "excess_output_tokens", "excess_per_hour", "excess_cost_usd", "channels", "shape", "baseline", "data_quality",
        "window", "historical", "schema_version",
    )  # fmt: skip
    return {name: said[name] for name in names}


def _references(alert: Alert) -> dict[str, list[str]]:
    return {} if alert.links.runbook is None else {"references": [alert.links.runbook]}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _number(value: float) -> str:
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"
