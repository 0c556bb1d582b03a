"""Write the dashboard *Overdraw overview*: `python grafana/build.py`; with `--check` only say whether it is up to date.

The rows are the questions of somebody on call, most urgent first. Queries add up over workers; where the old and the
new owner of a partition both still report it, the larger watermark counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from panels import DATASOURCE, UID, Json, lay_out
from queries import HERE
from rows import alerts, health, inside, keys, pace, records

OUTPUT = Path(__file__).parent / "dashboards" / f"{UID}.json"

ROWS = [
    (100, "Is it healthy?", health.PANELS),
    (101, "Who draws too much?", keys.PANELS),
    (102, "What has it found?", alerts.PANELS),
    (103, "Does it keep up?", pace.PANELS),
    (104, "Is the input sound?", records.PANELS),
    (105, "Inside the workers", inside.PANELS),
]


def variable(name: str, label: str, description: str, values: str) -> Json:
    """A variable with the values of a label; several may be chosen, or all."""
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


VARIABLES: list[Json] = [
    {
        "name": "datasource",
        "label": "Prometheus",
        "description": "The Prometheus that scrapes the workers.",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    },
    variable("instance", "Worker", "Workers to show.", "label_values(overdraw_build_info, instance)"),
    variable(
        "key",
        "Key",
        "Keys to show: those that are, or were in this time, among the top keys.",
        'label_values(overdraw_top_key_score{instance=~"$instance"}, key_id)',
    ),
    {
        "name": "top",
        "label": "Keys shown",
        "description": "How many of the strangest keys the rate panels draw.",
        "type": "custom",
        "query": "1,3,5,10",
        "options": [{"selected": n == "5", "text": n, "value": n} for n in ("1", "3", "5", "10")],
        "current": {"selected": True, "text": "5", "value": "5"},
    },
]

ANNOTATIONS: list[Json] = [
    {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    },
    {
        "name": "Open incidents",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "filter": {"exclude": False, "ids": [keys.RATE_PANEL, keys.BAND_PANEL]},
        # A gauge, not a counter's increase: it marks the stretch, and the very first incident of a worker too.
        "expr": f"sum by (kind, severity) (overdraw_alerts_open{HERE}) > 0",
        "step": "15s",
        "titleFormat": "{{kind}} · {{severity}}",
        "textFormat": "incidents of this kind were open",
        "tagKeys": "kind,severity",
    },
]


def dashboard() -> Json:
    """The whole dashboard, as Grafana's provisioning reads it."""
    return {
        "uid": UID,
        "title": "Overdraw overview",
        "description": "Is Overdraw healthy, who draws too much, what has it found, does it keep up?",
        "tags": ["overdraw"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "timezone": "browser",
        "links": [],
        "templating": {"list": VARIABLES},
        "annotations": {"list": ANNOTATIONS},
        "panels": lay_out(ROWS),
    }


def as_text() -> str:
    """The JSON as it is checked in."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the file, or check it; 1: it differs from what this script makes."""
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: python grafana/build.py [--check]")
    if sys.argv[1:]:
        same = OUTPUT.is_file() and OUTPUT.read_text("utf-8") == as_text()
        if not same:
            sys.stderr.write(f"{OUTPUT.name} is not what grafana/build.py makes: run `make dashboards`\n")
        return 0 if same else 1
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(as_text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
