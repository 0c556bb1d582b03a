"""The dashboards: which rows each has, what may be chosen on it, and what is marked on its panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panels import CAMPAIGNS, DATASOURCE, ENGINE, KEY, OVERVIEW, Json, lay_out
from queries import HERE, INCIDENT_START, KEY_IS
from rows import alerts, groups, health, incidents, inside, keys, matter, moves, onekey, pace, quality, records, work

TAG = "overdraw"
"""What the dashboards are found by; their list at the top of each is made of it."""

Row = tuple[int, str, Sequence[Json]]


@dataclass(frozen=True)
class Board:
    """One dashboard: its lasting address, its words, and its parts; `rows` as `lay_out` takes them."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Json]
    annotations: Sequence[Json]

    def json(self) -> Json:
        """The whole dashboard, as Grafana's provisioning reads it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": 41,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "time": {"from": "now-1h", "to": "now"},
            "refresh": "10s",
            "timezone": "browser",
            "links": [LINKS],
            "templating": {"list": [SOURCE, *self.variables]},
            "annotations": {"list": [BUILT_IN, *self.annotations]},
            "panels": lay_out(self.rows),
        }


LINKS: Json = {
    "type": "dashboards",
    "title": "Overdraw",
    "tags": [TAG],
    "asDropdown": False,
    "icon": "external link",
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "tooltip": "",
    "url": "",
}

SOURCE: Json = {
    "name": "datasource",
    "label": "Prometheus",
    "description": "The Prometheus that scrapes the workers.",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
}


def variable(name: str, label: str, description: str, values: str, *, several: bool = True) -> Json:
    """A variable with the values of a label: `several` of them, or all, or just one."""
    chosen: Json = {
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "sort": 1,
        **(chosen if several else {"multi": False, "includeAll": False}),
    }


WORKER = variable("instance", "Worker", "Workers to show.", "label_values(overdraw_build_info, instance)")
KEYS = variable(
    "keys",
    "Keys",
    "Keys to show: those that are, or were in this time, among the top keys.",
    'label_values(overdraw_top_key_score{instance=~"$instance"}, key_id)',
)
ONE_KEY = variable(
    "key",
    "Key",
    "The key: one of those that are, or were in this time, among the top keys, or any other that is typed in.",
    "label_values(overdraw_top_key_score, key_id)",
    several=False,
)
TOP: Json = {
    "name": "top",
    "label": "Keys shown",
    "description": "How many of the strangest keys the rate panels draw.",
    "type": "custom",
    "query": "1,3,5,10",
    "options": [{"selected": n == "5", "text": n, "value": n} for n in ("1", "3", "5", "10")],
    "current": {"selected": True, "text": "5", "value": "5"},
}

BUILT_IN: Json = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}


def marks(
    name: str, expr: str, title: str, text: str, tags: str, *, color: str = "red", only: Sequence[int] = ()
) -> Json:
    """Stretches of time in which a query has series, on all panels or `only` on some."""
    mark = {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "step": "15s",
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": tags,
    }
    return {**mark, "filter": {"exclude": False, "ids": list(only)}} if only else mark


def open_incidents(*panels: int) -> Json:
    """Where incidents were open, by kind."""
    # A gauge, not a counter's increase: it marks the stretch, and the very first incident of a worker too.
    return marks(
        "Open incidents",
        f"sum by (kind, severity) (overdraw_alerts_open{HERE}) > 0",
        "{{kind}} · {{severity}}",
        "incidents of this kind were open",
        "kind,severity",
        only=panels,
    )


FIRING = marks(
    "Alerts of Prometheus",
    'max by (alertname, severity) (ALERTS{alertname=~"Overdraw.+", alertstate="firing"})',
    "{{alertname}} · {{severity}}",
    "this rule of deploy/prometheus fired",
    "alertname,severity",
    color="orange",
)

BOARDS = [
    Board(
        OVERVIEW,
        "Overdraw overview",
        "Is Overdraw healthy, what is open, who draws too much, is its input sound?",
        [
            (100, "Is it healthy?", [matter.STATE, *health.PANELS]),
            (106, "What is open?", incidents.PANELS),
            (101, "Who draws too much?", keys.PANELS),
            (102, "What has it found?", alerts.PANELS),
            (104, "Is the input sound?", records.PANELS),
        ],
        [WORKER, KEYS, TOP],
        [open_incidents(keys.RATE_PANEL, keys.BAND_PANEL), FIRING],
    ),
    Board(
        KEY,
        "Overdraw key",
        "One key: what it draws, what is usual for it, and what speaks against it.",
        [
            (100, "How does it stand?", [matter.KEY_STATE, *onekey.FIGURES]),
            (101, "What does it draw?", onekey.COURSE),
            (102, "What speaks against it?", onekey.REASONS),
        ],
        [ONE_KEY],
        [
            marks(
                "Its incidents",
                f"max by (kind, severity) ({INCIDENT_START}{KEY_IS}) > 0",
                "{{kind}} · {{severity}}",
                "the key's incident was open",
                "kind,severity",
            )
        ],
    ),
    Board(
        CAMPAIGNS,
        "Overdraw campaigns",
        "Do many keys move at once?",
        [
            (100, "Is there one?", [matter.GROUP_STATE, *groups.GROUP_ALERTS]),
            (101, "Do keys move together?", groups.TOGETHER),
            (103, "Are groups judged?", groups.KEEPING),
        ],
        [],
        [FIRING],
    ),
    Board(
        ENGINE,
        "Overdraw engine",
        "Does it keep up, can its data be trusted, what does it get done, does it stand still, how large is it?",
        [
            (100, "Is it healthy?", [matter.STATE]),
            (103, "Does it keep up?", pace.PANELS),
            (109, "Can its data be trusted?", quality.PANELS),
            (107, "What does it get done?", work.PANELS),
            (108, "Does it stand still?", moves.PANELS),
            (105, "How large is it?", inside.PANELS),
        ],
        [WORKER],
        [FIRING],
    ),
]
