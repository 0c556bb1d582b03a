"""The alerting rules of deploy/prometheus for a Grafana that evaluates them itself, where there is no Alertmanager.

They are made from those very rules, so that there is one place to change them: recorded series are written out, words
are put as Grafana puts them, and the panel that a rule leads to shows its state.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from panels import Json

PROMETHEUS = Path(__file__).parent.parent / "deploy/prometheus"
RUNBOOKS = "deploy/runbooks"
"""Stands for the address of the runbooks, which Grafana has no place to set once for all."""
DATASOURCE_UID = "prometheus"
"""Of the data source in provisioning/datasources: rules know no variables."""
LOOKBACK_SECONDS = 600
INTERVAL = "1m"
PREFACE = """\
# Made by `make dashboards` from deploy/prometheus/rules-*.yml, for a Grafana that evaluates the rules itself: put it in
# provisioning/alerting/. Not where Prometheus evaluates them, as in deploy/compose.yaml: all would be told twice.
"""


def _groups(name: str) -> list[Json]:
    groups: list[Json] = yaml.safe_load((PROMETHEUS / name).read_text("utf-8"))["groups"]
    return groups


def recorded() -> dict[str, str]:
    """Every recorded series with its expression, in which other recorded series are written out."""
    written: dict[str, str] = {}
    for group in _groups("rules-recording.yml"):
        for rule in group["rules"]:
            written[rule["record"]] = written_out(rule["expr"], written)
    return written


def written_out(expr: str, series: dict[str, str]) -> str:
    """The expression without comments, and with recorded series replaced by what they record.

    A range of a recorded series becomes a subquery, at the pace at which the rule would have been evaluated.
    """
    text = re.sub(r"#[^\n]*", "", expr)
    for name, body in series.items():
        text = re.sub(rf"\b{re.escape(name)}\[(\w+)\]", rf"({body})[\1:{INTERVAL}]", text)
        text = re.sub(rf"\b{re.escape(name)}(?![\w:\[])", f"({body})", text)
    return " ".join(text.split())


def _words(text: str) -> str:
    """An annotation as Grafana's templates take it: they have no external labels, and a value for each query."""
    return text.replace("{{ $externalLabels.overdraw_runbooks }}", RUNBOOKS).replace("$value", "$values.A.Value")


def _rule(rule: Json, series: dict[str, str]) -> Json:
    notes = dict(rule["annotations"])
    address = notes.pop("dashboard_url")
    place = re.search(r"/d/([\w-]+)\?.*?viewPanel=(\d+)", address)
    if place is None:
        raise ValueError(f"{rule['alert']}: dashboard_url names no panel: {address}")
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", rule["alert"]).lower()
    return {
        "uid": name,
        "title": rule["alert"],
        "condition": "B",
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": LOOKBACK_SECONDS, "to": 0},
                "datasourceUid": DATASOURCE_UID,
                "model": {
                    "refId": "A",
                    "expr": written_out(rule["expr"], series),
                    "instant": True,
                    "range": False,
                    "editorMode": "code",
                },
            },
            {
                # The expression has a series only where something is wrong, whatever its value, nought included.
                "refId": "B",
                "relativeTimeRange": {"from": 0, "to": 0},
                "datasourceUid": "__expr__",
                "model": {"refId": "B", "type": "math", "expression": "is_number($A) || is_inf($A)"},
            },
        ],
        "noDataState": "OK",
        "execErrState": "Error",
        "for": rule.get("for", "0s"),
        **({"keepFiringFor": rule["keep_firing_for"]} if "keep_firing_for" in rule else {}),
        "labels": rule["labels"],
        "annotations": {
            **{key: _words(text) for key, text in notes.items()},
            "__dashboardUid__": place.group(1),
            "__panelId__": place.group(2),
        },
        "isPaused": False,
    }


def alerting() -> str:
    """The file, as Grafana's provisioning of alerting reads it."""
    series = recorded()
    groups = [
        {
            "orgId": 1,
            "name": group["name"],
            "folder": "Overdraw",
            "interval": INTERVAL,
            "rules": [_rule(rule, series) for rule in group["rules"]],
        }
        for group in _groups("rules-alerts.yml")
    ]
    text = yaml.safe_dump({"apiVersion": 1, "groups": groups}, sort_keys=False, allow_unicode=True, width=120)
    return PREFACE + text
