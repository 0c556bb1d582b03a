"""What is open? Every key with an incident, and what Prometheus makes of it and of the detector."""

from __future__ import annotations

from panels import ENGINE, KEY, Json, link, override, query, table
from queries import HERE, INCIDENT_START
from rows import NO_INCIDENT

KEY_LINK = link("Show this key", KEY, "var-key=${__value.raw:percentencode}")


def open_incidents(
    number: int, size: tuple[int, int], where: str = HERE, *, title: str = "Keys with an open incident"
) -> Json:
    """A table of the open incidents of keys, newest first."""
    return table(
        number,
        title,
        "When each began, in event time. Of each worker the 200 with the most tokens above their baseline; the alert "
        "topic has all. A click on a key opens its dashboard.",
        [query(f"1000 * max by (key_id, kind, severity) ({INCIDENT_START}{where})", instant=True, table=True)],
        size=size,
        unit="dateTimeAsLocal",
        empty=NO_INCIDENT,
        sort_by="Began",
        rename={"key_id": "Key", "kind": "Kind", "severity": "Severity", "Value": "Began"},
        overrides=[override("byName", "Key", links=[KEY_LINK])],
    )


FIRING = table(
    26,
    "Alerts of Prometheus",
    "What the rules of deploy/prometheus say, about incidents and about the detector itself. A click on a name shows "
    "the rule in Grafana's own list; on a state, the dashboard of the engine.",
    [
        query(
            'max by (alertname, severity, alertstate) (ALERTS{alertname=~"Overdraw.+"})',
            instant=True,
            table=True,
        )
    ],
    size=(12, 8),
    unit="none",
    empty="None fires or waits (or the rules are not loaded: see Prometheus, Status, Rules)",
    sort_by="State",
    rename={"alertname": "Alert", "severity": "Severity", "alertstate": "State"},
    drop=("Time", "Value"),
    overrides=[
        override(
            "byName",
            "Alert",
            links=[{"title": "Show its rule", "url": "/alerting/list?search=${__value.raw:percentencode}"}],
        ),
        override("byName", "State", links=[link("Look into the engine", ENGINE)]),
    ],
)

PANELS = [open_incidents(25, (12, 8)), FIRING]
