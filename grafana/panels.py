"""Small builders of Grafana's dashboard JSON: a panel says what it shows, not how Grafana spells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

OVERVIEW, KEY, CAMPAIGNS, ENGINE = (f"overdraw-{name}" for name in ("overview", "key", "campaigns", "engine"))
"""The dashboards' addresses: `/d/overdraw-overview` and so on, for ever."""

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Columns of Grafana's grid; at 1440 px one is about 58 px."""

CALM = (("green", None),)
"""Thresholds of a figure that is neither good nor bad."""


def steps(*limits: tuple[str, float | None]) -> Json:
    """Thresholds: the colour from each value on, the first one from minus infinity."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in limits]}


def query(expr: str, legend: str = "__auto", *, ref: str = "A", instant: bool = False, table: bool = False) -> Json:
    """One PromQL query of a panel; `instant` asks for the end of the shown time only."""
    return {
        "datasource": DATASOURCE,
        "expr": expr,
        "legendFormat": legend,
        "refId": ref,
        "instant": instant,
        "range": not instant,
        "format": "table" if table else "time_series",
    }


def override(matcher: str, options: Any, **properties: Any) -> Json:
    """Other settings for the series that match; `custom_x` stands for Grafana's `custom.x`."""
    return {
        "matcher": {"id": matcher, "options": options},
        "properties": [
            {"id": name.replace("custom_", "custom.", 1), "value": value} for name, value in properties.items()
        ],
    }


def colored(pattern: str, color: str) -> Json:
    """One colour for the series whose name matches, so that it means the same in every panel."""
    return override("byRegexp", pattern, color={"mode": "fixed", "fixedColor": color})


def states(**texts: tuple[str, str]) -> list[Json]:
    """Words and a colour for each value of a figure that is a code: `states(_0=("Fine", "green"))`."""
    options = {
        value.removeprefix("_"): {"text": text, "color": color, "index": place}
        for place, (value, (text, color)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}]


def link(title: str, dashboard: str, *variables: str) -> Json:
    """A link to another dashboard at the same time, with the same data source; `variables` as `var-key=…`."""
    # Ids are untrusted text: percent-encoded, they cannot break out of the address.
    address = "&".join((f"/d/{dashboard}?${{datasource:queryparam}}", "${__url_time_range}", *variables))
    return {"title": title, "url": address}


def panel(
    kind: str,
    number: int,
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    size: tuple[int, int],
    unit: str,
    empty: str,
    options: Json,
    limits: Sequence[tuple[str, float | None]] = CALM,
    custom: Json | None = None,
    overrides: Sequence[Json] = (),
    **extra: Any,
) -> Json:
    """Any panel. `number` is its id for ever (links use it), `empty` what it says when there is nothing to show."""
    defaults: Json = {"unit": unit, "noValue": empty, "thresholds": steps(*limits), "color": {"mode": "thresholds"}}
    for name in ("min", "max", "decimals", "color", "links", "mappings", "displayName"):
        if name in extra:
            defaults[name] = extra.pop(name)
    if custom is not None:
        defaults["custom"] = custom
    return {
        "id": number,
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"h": size[1], "w": size[0], "x": 0, "y": 0},
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": list(queries),
        **extra,
    }


def stat(*args: Any, graph: str = "area", text: str = "auto", **kwargs: Any) -> Json:
    """One big number, coloured by its thresholds, with its course behind it, or on its colour where there is none."""
    options = {
        "colorMode": "background_solid" if graph == "none" and "color" not in kwargs else "value",
        "graphMode": graph,
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": text,
        "wideLayout": True,
    }
    return panel("stat", *args, options=options, **kwargs)


def series(
    *args: Any,
    stacked: bool = False,
    bars: bool = False,
    legend: str = "list",
    calcs: Sequence[str] = (),
    limit_line: bool = False,
    **kwargs: Any,
) -> Json:
    """Lines (or bars) over time, with a legend below; `limit_line` draws the thresholds."""
    options = {
        "legend": {"calcs": list(calcs), "displayMode": legend, "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 0 if bars else 2,
        "fillOpacity": 70 if bars else 25 if stacked else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "axisSoftMin": 0,
        "thresholdsStyle": {"mode": "dashed" if limit_line else "off"},
    }
    kwargs.setdefault("color", {"mode": "palette-classic-by-name"})
    return panel("timeseries", *args, options=options, custom=custom, **kwargs)


def bars(*args: Any, **kwargs: Any) -> Json:
    """Horizontal bars: one figure now for each name."""
    options = {
        "displayMode": "basic",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "maxVizHeight": 40,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    return panel("bargauge", *args, options=options, **kwargs)


def table(*args: Any, sort_by: str, rename: Json, drop: Sequence[str] = ("Time",), **kwargs: Any) -> Json:
    """A table that joins instant queries on their labels; `rename` orders the columns, `drop` hides some."""
    options = {
        "cellHeight": "sm",
        "showHeader": True,
        "sortBy": [{"desc": True, "displayName": sort_by}],
    }
    transformations = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": dict.fromkeys(drop, True),
                "indexByName": {name: place for place, name in enumerate(rename)},
                "renameByName": rename,
            },
        },
    ]
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}
    return panel("table", *args, options=options, custom=custom, transformations=transformations, **kwargs)


def note(number: int, title: str, text: str, *, size: tuple[int, int]) -> Json:
    """A panel of words, in Markdown."""
    return {
        "id": number,
        "type": "text",
        "title": title,
        "gridPos": {"h": size[1], "w": size[0], "x": 0, "y": 0},
        "options": {"mode": "markdown", "content": text},
    }


def lay_out(rows: Sequence[tuple[int, str, Sequence[Json]]]) -> list[Json]:
    """Rows of panels, placed from left to right and wrapped where the grid ends; raises ValueError on a misfit."""
    placed: list[Json] = []
    top = 0
    for number, title, panels in rows:
        placed.append(
            {
                "id": number,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
                "panels": [],
            }
        )
        top += 1
        left = height = 0
        for item in panels:
            size = item["gridPos"]
            if left + size["w"] > WIDTH:
                raise ValueError(f"{item['title']!r} does not fit into its line: {left} + {size['w']} columns")
            if height and size["h"] != height:
                raise ValueError(f"{item['title']!r} is not as high as its neighbours")
            placed.append({**item, "gridPos": {**size, "x": left, "y": top}})
            left, height = left + size["w"], size["h"]
            if left == WIDTH:
                left, top, height = 0, top + height, 0
        top += height
    return placed
