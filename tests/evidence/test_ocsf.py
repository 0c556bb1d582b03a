"""A finding has what OCSF 1.5 asks of class 2004: the attributes that are required, their types, and their values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from services import ALERTS, EVIL, T0, made_alert

from stream.alerts import Links
from stream.evidence.ocsf import finding_of

Kind = type | dict[int, str] | list[Any] | str
"""A type, a closed set of numbers with their captions, a list of objects, or the name of an object."""

OBJECTS: dict[str, tuple[set[str], dict[str, Kind]]] = {
    "detection_finding": (
        {
            "activity_id", "category_uid", "class_uid", "finding_info", "metadata", "severity_id", "time", "type_uid",
        },
        {
            "activity_id": {0: "Unknown", 1: "Create", 2: "Update", 3: "Close", 99: "Other"},
            "activity_name": str, "category_uid": {2: "Findings"}, "category_name": str,
            "class_uid": {2004: "Detection Finding"}, "class_name": str, "type_uid": int, "type_name": str,
            "time": int, "start_time": int, "end_time": int, "message": str, "is_alert": bool,
            "severity_id": {0: "Unknown", 1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical",
                            6: "Fatal", 99: "Other"},
            "severity": str,
            "status_id": {0: "Unknown", 1: "New", 2: "In Progress", 3: "Suppressed", 4: "Resolved", 5: "Archived",
                          6: "Deleted", 99: "Other"},
            "status": str,
            "confidence_id": {0: "Unknown", 1: "Low", 2: "Medium", 3: "High", 99: "Other"},
            "confidence": str, "confidence_score": int, "metadata": "metadata", "finding_info": "finding_info",
            "resources": ["resource_details"], "observables": ["observable"], "evidences": ["evidences"],
            "anomaly_analyses": ["anomaly_analysis"], "remediation": "remediation",
        },
    ),
    "metadata": (
        {"product", "version"},
        {"version": str, "product": "product", "uid": str, "correlation_uid": str, "sequence": int, "event_code": str},
    ),
    "product": (set(), {"name": str, "vendor_name": str, "version": str}),
    "finding_info": (
        {"uid"},
        {
            "uid": str, "title": str, "desc": str, "types": [str], "created_time": int, "modified_time": int,
            "first_seen_time": int, "last_seen_time": int, "analytic": "analytic", "related_analytics": ["analytic"],
            "src_url": str,
        },
    ),
    "analytic": (
        {"type_id"},
        {
            "name": str, "uid": str, "type": str,
            "type_id": {0: "Unknown", 1: "Rule", 2: "Behavioral", 3: "Statistical", 4: "Learning (ML/DL)",
                        99: "Other"},
        },
    ),
    "resource_details": (set(), {"uid": str, "name": str, "type": str}),
    "observable": ({"type_id"}, {"name": str, "type": str, "value": str, "type_id": {10: "Resource UID"}}),
    "evidences": (set(), {"name": str, "data": dict}),
    "anomaly_analysis": (
        {"analysis_targets", "anomalies"},
        {"analysis_targets": ["analysis_target"], "anomalies": ["anomaly"], "baselines": ["anomaly"]},
    ),
    "analysis_target": ({"name"}, {"name": str, "type": str}),
    "anomaly": (
        {"observation_parameter", "observations"},
        {"observation_parameter": str, "observations": ["observation"], "observed_pattern": str},
    ),
    "observation": ({"value"}, {"value": str, "count": int}),
    "remediation": ({"desc"}, {"desc": str, "references": [str]}),
}  # fmt: skip
"""By name: what is required, and what there may be. Of each `X_id` with a closed set, `X` is the caption."""


def check(name: str, content: dict[str, Any], place: str = "") -> None:
    required, known = OBJECTS[name]
    place = f"{place}.{name}"
    assert required <= set(content), f"{place} lacks {required - set(content)}"
    assert set(content) <= set(known), f"{place} has {set(content) - set(known)}, which is not in the schema"
    for attribute, value in content.items():
        kind = known[attribute]
        where = f"{place}.{attribute}"
        if isinstance(kind, dict):
            assert value in kind, f"{where} is {value}"
            sibling = {"category_uid": "category_name", "class_uid": "class_name", "activity_id": "activity_name"}.get(
                attribute, attribute.removesuffix("_id")
            )
            if sibling in content:
                assert content[sibling] == kind[value], f"{where}: {sibling} is another caption"
        elif isinstance(kind, list):
            assert isinstance(value, list), where
            assert value, f"{where} is empty: leave it out"
            for one in value:
                check(kind[0], one, where) if isinstance(kind[0], str) else isinstance(one, kind[0])
        elif isinstance(kind, str):
            check(kind, value, where)
        else:
            assert type(value) is kind, f"{where} is {value!r}"


@pytest.mark.parametrize("what", ALERTS)
def test_a_finding_is_what_the_schema_says(what: str) -> None:
    finding = json.loads(json.dumps(finding_of(ALERTS[what])))
    check("detection_finding", finding)
    assert finding["type_uid"] == finding["class_uid"] * 100 + finding["activity_id"]
    assert finding["type_name"] == f"{finding['class_name']}: {finding['activity_name']}"
    assert 0 <= finding.get("confidence_score", 0) <= 100


def test_the_steps_of_an_incident_are_one_finding() -> None:
    steps = [made_alert(), made_alert(status="updated", severity="critical"), made_alert(status="resolved")]
    findings = [finding_of(alert) for alert in steps]
    assert len({finding["finding_info"]["uid"] for finding in findings}) == 1
    assert [finding["activity_id"] for finding in findings] == [1, 2, 3]
    assert [finding["status_id"] for finding in findings] == [1, 2, 4]
    assert [finding["is_alert"] for finding in findings] == [True, True, False]
    assert findings[0]["metadata"]["uid"] != findings[1]["metadata"]["uid"]


def test_times_are_epoch_milliseconds() -> None:
    finding = finding_of(made_alert())
    assert (finding["time"], finding["start_time"]) == (int(T0 * 1000), int((T0 - 600) * 1000))


def test_what_a_program_reads_has_the_ids_as_they_are() -> None:
    key = EVIL[:256]
    finding = json.loads(json.dumps(finding_of(made_alert(key=key))))
    assert finding["resources"][0]["uid"] == finding["observables"][0]["value"] == key


def test_what_was_found_and_what_is_usual_stand_side_by_side() -> None:
    (analysis,) = finding_of(made_alert())["anomaly_analyses"]
    assert analysis["anomalies"][0]["observations"] == [{"value": "105180"}]
    assert analysis["baselines"][0]["observations"] == [{"value": "2319"}]
    assert analysis["baselines"][0]["observed_pattern"] == "up to 9000"


def test_without_links_there_is_no_address() -> None:
    text = json.dumps(finding_of(made_alert(links=Links())))
    assert "http" not in text
