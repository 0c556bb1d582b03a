"""grafana/: the dashboard is what its script makes, asks only for metrics that exist, and explains itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from stream.worker.metrics import metric_table
from stream.worker.table import MetricRow

GRAFANA = Path(__file__).parent.parent / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
BUILT_IN_VARIABLES = {"__rate_interval", "__range", "__url_time_range", "__value.raw"}
METRICS = {row.name: row for row in metric_table()}
NOT_OURS = {"up"}
"""Series that Prometheus itself makes for every target."""
SINCE_THE_START = {"overdraw_recovery_seconds_bucket"}
"""Read as they stand: what they count is over before Prometheus has seen the worker once."""
TARGET_LABELS = {"instance", "job"}
UNITS = {"none", "short", "s", "bytes", "percentunit"}
"""Grafana's own units that we use; `count:x/s` is its way to write one of our own that scales."""


def dashboard() -> Any:
    return json.loads(FILES[0].read_text("utf-8"))


def all_panels() -> list[Any]:
    return list(dashboard()["panels"])


PANELS = [panel for panel in all_panels() if panel["type"] != "row"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [(title, target["expr"]) for title, target in QUERIES] + [
    (note["name"], note["expr"]) for note in dashboard()["annotations"]["list"] if "expr" in note
]
each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
each_expression = pytest.mark.parametrize(
    "expr", [expr for _, expr in EXPRESSIONS], ids=[f"{title}-{i}" for i, (title, _) in enumerate(EXPRESSIONS)]
)


def base_name(series: str) -> tuple[str, MetricRow | None]:
    """The metric behind a series name: a histogram's `_bucket`, `_sum` and `_count` are series of its own."""
    for suffix in ("", "_bucket", "_sum", "_count"):
        name = series.removesuffix(suffix) if suffix else series
        if name in METRICS and (not suffix or METRICS[name].type == "histogram"):
            return name, METRICS[name]
    return series, None


def test_there_is_one_dashboard_at_its_lasting_address() -> None:
    assert [path.name for path in FILES] == ["overdraw-overview.json"]
    assert dashboard()["uid"] == "overdraw-overview"
    assert dashboard()["title"] == "Overdraw overview"


def test_the_json_is_what_its_script_makes() -> None:
    done = subprocess.run(
        [sys.executable, GRAFANA / "build.py", "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_panel_ids_are_unique() -> None:
    repeated = [number for number, times in Counter(panel["id"] for panel in all_panels()).items() if times > 1]
    assert repeated == []


def test_panels_lie_on_the_grid_and_nowhere_overlap() -> None:
    places = {panel["title"]: panel["gridPos"] for panel in all_panels()}
    assert len(places) == len(all_panels()), "titles tell panels apart"
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 for p in places.values())
    overlapping = [
        (one, other)
        for (one, a), (other, b) in combinations(places.items(), 2)
        if a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    ]
    assert overlapping == []


@each_panel
def test_every_panel_is_wide_enough_to_read_at_1440_pixels(panel: Any) -> None:
    pixels = panel["gridPos"]["w"] * (1440 - 32) / 24
    assert pixels >= 230
    assert len(panel["title"]) * 8 <= pixels, "the title would be cut"


@each_panel
def test_every_panel_says_what_it_shows_in_which_unit_and_what_an_empty_one_means(panel: Any) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert len(panel["description"]) > 40
    assert panel["description"].endswith(".")
    assert defaults["noValue"].strip()
    assert defaults["unit"] in UNITS or re.fullmatch(r"count:[a-z]+/[sh]", defaults["unit"])
    if panel["type"] == "timeseries":
        assert len(defaults["noValue"]) > 15, "there is room to say what is the matter"


@each_panel
def test_thresholds_begin_at_minus_infinity_and_rise(panel: Any) -> None:
    fields = [panel["fieldConfig"]["defaults"]["thresholds"]]
    fields += [
        item["value"]
        for change in panel["fieldConfig"]["overrides"]
        for item in change["properties"]
        if item["id"] == "thresholds"
    ]
    for field in fields:
        first, *others = [step["value"] for step in field["steps"]]
        assert first is None
        assert others == sorted(set(others))


@each_panel
def test_every_query_goes_to_the_chosen_data_source_under_its_own_letter(panel: Any) -> None:
    assert panel["datasource"] == DATASOURCE
    assert [target["datasource"] for target in panel["targets"]] == [DATASOURCE] * len(panel["targets"])
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == [chr(ord("A") + place) for place in range(len(letters))]


@each_panel
def test_overrides_speak_of_series_that_the_panel_has(panel: Any) -> None:
    legends = {target["legendFormat"] for target in panel["targets"]}
    columns = {
        name for step in panel.get("transformations", []) for name in step["options"].get("renameByName", {}).values()
    }
    for change in panel["fieldConfig"]["overrides"]:
        matcher, options = change["matcher"]["id"], change["matcher"]["options"]
        if matcher == "byName":
            assert options in legends | columns
        elif matcher == "byFrameRefID":
            assert options in {target["refId"] for target in panel["targets"]}
        else:
            assert matcher == "byRegexp"
            re.compile(options)


def test_variables_and_annotations_use_the_chosen_data_source_too() -> None:
    asked = [item for item in dashboard()["templating"]["list"] if item["type"] == "query"]
    asked += [note for note in dashboard()["annotations"]["list"] if not note.get("builtIn")]
    assert [item["datasource"] for item in asked] == [DATASOURCE] * 3


def test_incidents_are_marked_on_the_panels_of_key_rates() -> None:
    (note,) = [note for note in dashboard()["annotations"]["list"] if not note.get("builtIn")]
    titles = {panel["id"]: panel["title"] for panel in PANELS}
    assert {titles[number] for number in note["filter"]["ids"]} == {
        "Token rate of the strangest keys, against what is expected",
        "Rate, as part of the key's upper limit",
    }


def test_no_variable_is_left_undefined_and_none_is_idle() -> None:
    defined = {item["name"] for item in dashboard()["templating"]["list"]}
    used = {name or other for name, other in re.findall(r"\$(?:\{([\w.]+)(?::\w+)?\}|(\w+))", json.dumps(dashboard()))}
    used -= {"__all"}  # the value that stands for all of them
    assert used - defined - BUILT_IN_VARIABLES == set()
    assert defined - used == set()


@each_expression
def test_every_metric_in_an_expression_exists_and_is_used_as_what_it_is(expr: str) -> None:
    plain = re.sub(r'"[^"]*"', '""', expr)
    names = set(re.findall(r"\b(?:overdraw_\w+|up)\b", plain))
    assert names, "an expression without a metric shows nothing"
    for name in names - NOT_OURS:
        metric = base_name(name)[1]
        assert metric is not None, f"{name} is not in the metric table"
        differentiated = re.search(rf"\b(?:rate|increase)\({name}\b", plain) is not None
        assert differentiated == (metric.type != "gauge" and name not in SINCE_THE_START), f"{name} is a {metric.type}"
        assert name.endswith("_bucket") == (metric.type == "histogram")


@each_expression
def test_every_label_in_an_expression_belongs_to_its_metrics(expr: str) -> None:
    known = set(TARGET_LABELS) | {"le"}
    for name in re.findall(r"\boverdraw_\w+", expr):
        metric = base_name(name)[1]
        assert metric is not None
        known |= set(metric.labels)
        for labels in re.findall(rf"\b{name}\{{([^}}]*)\}}", expr):
            matched = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)"', labels))
            assert matched <= set(metric.labels) | TARGET_LABELS
    grouped = {label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr) for label in group.split(",")}
    assert grouped <= known


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=[title + t["refId"] for title, t in QUERIES])
def test_every_legend_names_labels_that_the_query_keeps(title: str, target: Any) -> None:
    kept = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for label in group.split(",")}
    named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    assert named <= kept
    if target["legendFormat"] == "__auto":
        assert target["format"] == "table"


def test_no_key_id_is_anywhere_but_in_the_top_key_families() -> None:
    leaking = {name for name, metric in METRICS.items() if "key_id" in metric.labels and "_top_key_" not in name}
    assert leaking == set()


def test_the_dashboard_shows_every_metric_of_the_worker() -> None:
    shown = {base_name(name)[0] for _, expr in EXPRESSIONS for name in re.findall(r"\boverdraw_\w+", expr)}
    assert set(METRICS) - shown == set()


def walk(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)
    elif isinstance(node, str):
        yield node


def test_no_address_of_another_machine_is_in_it() -> None:
    addresses = [text for text in walk(dashboard()) if re.search(r"https?://", text)]
    assert addresses == []
