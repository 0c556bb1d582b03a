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
from stream.worker.table import NOTIFIER_TABLE, RESPONDER_TABLE, MetricRow

GRAFANA = Path(__file__).parent.parent / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
BUILT_IN_VARIABLES = {"__rate_interval", "__range", "__url_time_range", "__value.raw"}
METRICS = {row.name: row for row in metric_table()}
NOT_OURS = {
    "up": set(),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
}
"""Series that Prometheus itself makes, or that every process has, with their labels."""
SINCE_THE_START = {"overdraw_recovery_seconds_bucket"}
"""Read as they stand: what they count is over before Prometheus has seen the worker once."""
TARGET_LABELS = {"instance", "job"}
UNITS = {"none", "short", "s", "bytes", "percentunit", "dateTimeAsLocal"}
"""Grafana's own units that we use; `count:x/s` is its way to write one of our own that scales."""
NAMES = re.compile(r"\b(?:overdraw_\w+|process_\w+|up|ALERTS)\b")

BOARDS: dict[str, Any] = {path.stem: json.loads(path.read_text("utf-8")) for path in FILES}
DRAWN = [(uid, panel) for uid, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
PANELS = [(uid, panel) for uid, panel in DRAWN if panel["type"] != "text"]
QUERIES = [(f"{uid}-{panel['title']}", target) for uid, panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [(title, target["expr"]) for title, target in QUERIES] + [
    (f"{uid}-{note['name']}", note["expr"])
    for uid, board in BOARDS.items()
    for note in board["annotations"]["list"]
    if "expr" in note
]
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
each_panel = pytest.mark.parametrize(
    "panel", [panel for _, panel in PANELS], ids=[f"{uid}-{panel['title']}" for uid, panel in PANELS]
)
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


def test_the_dashboards_are_at_their_lasting_addresses() -> None:
    assert {uid: board["title"] for uid, board in BOARDS.items()} == {
        "overdraw-overview": "Overdraw overview",
        "overdraw-key": "Overdraw key",
        "overdraw-campaigns": "Overdraw campaigns",
        "overdraw-engine": "Overdraw engine",
    }
    assert [board["uid"] for board in BOARDS.values()] == list(BOARDS)


def test_the_json_is_what_its_script_makes() -> None:
    done = subprocess.run(
        [sys.executable, GRAFANA / "build.py", "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@each_board
def test_panel_ids_are_unique(board: Any) -> None:
    repeated = [number for number, times in Counter(panel["id"] for panel in board["panels"]).items() if times > 1]
    assert repeated == []


@each_board
def test_panels_lie_on_the_grid_and_nowhere_overlap(board: Any) -> None:
    places = {panel["title"]: panel["gridPos"] for panel in board["panels"]}
    assert len(places) == len(board["panels"]), "titles tell panels apart"
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


@each_board
def test_every_dashboard_begins_with_a_line_that_says_what_is_the_matter(board: Any) -> None:
    _, first, *_ = board["panels"]
    defaults = first["fieldConfig"]["defaults"]
    assert first["title"].startswith("What is the matter")
    assert first["gridPos"]["w"] == 24
    assert "Prometheus does not answer" in defaults["noValue"]
    codes = set(re.findall(r"vector\((\d)\)", first["targets"][0]["expr"]))
    said = [state for mapping in defaults["mappings"] for state in mapping["options"].values()]
    assert codes == {code for mapping in defaults["mappings"] for code in mapping["options"]}
    assert all(len(state["text"]) <= 100 for state in said), "one line at 1440 pixels"


@each_board
def test_every_dashboard_links_to_the_others_and_keeps_the_time(board: Any) -> None:
    (links,) = board["links"]
    assert set(links["tags"]) <= set(board["tags"])
    assert links["type"] == "dashboards"
    assert links["includeVars"] is links["keepTime"] is True


def test_links_between_dashboards_lead_somewhere_and_set_variables_that_are_there() -> None:
    addresses = {text for board in BOARDS.values() for text in walk(board["panels"]) if text.startswith("/d/")}
    for address in addresses:
        uid = re.match(r"/d/([\w-]+)\?", address).group(1)
        defined = {item["name"] for item in BOARDS[uid]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", address)) <= defined
    assert any(address.startswith("/d/overdraw-key?") for address in addresses)
    assert any(address.startswith("/d/overdraw-engine?") for address in addresses)


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


@each_board
def test_variables_and_annotations_use_the_chosen_data_source_too(board: Any) -> None:
    asked = [item for item in board["templating"]["list"] if item["type"] == "query"]
    asked += [note for note in board["annotations"]["list"] if not note.get("builtIn")]
    assert asked
    assert [item for item in asked if item["datasource"] != DATASOURCE] == []


@pytest.mark.parametrize(
    ("uid", "name", "titles"),
    [
        (
            "overdraw-overview",
            "Open incidents",
            {
                "Token rate of the strangest keys, against what is expected",
                "Rate, as part of the key's upper limit",
            },
        ),
        ("overdraw-overview", "Alerts of Prometheus", None),
        ("overdraw-key", "Its incidents", None),
        ("overdraw-campaigns", "Alerts of Prometheus", None),
        ("overdraw-engine", "Alerts of Prometheus", None),
    ],
)
def test_what_was_wrong_is_marked_on_the_panels(uid: str, name: str, titles: set[str] | None) -> None:
    board = BOARDS[uid]
    (note,) = [note for note in board["annotations"]["list"] if note["name"] == name]
    assert note["enable"]
    by_number = {panel["id"]: panel["title"] for panel in board["panels"]}
    marked = {by_number[number] for number in note["filter"]["ids"]} if "filter" in note else None
    assert marked == titles, "None: all panels"


@each_board
def test_no_variable_is_left_undefined_and_none_is_idle(board: Any) -> None:
    defined = {item["name"] for item in board["templating"]["list"]}
    used = {name or other for name, other in re.findall(r"\$(?:\{([\w.]+)(?::\w+)?\}|(\w+))", json.dumps(board))}
    used -= {"__all"}  # the value that stands for all of them
    assert used - defined - BUILT_IN_VARIABLES == set()
    assert defined - used == set()


@each_expression
def test_every_metric_in_an_expression_exists_and_is_used_as_what_it_is(expr: str) -> None:
    plain = re.sub(r'"[^"]*"', '""', expr)
    names = set(NAMES.findall(plain))
    assert names, "an expression without a metric shows nothing"
    for name in names - set(NOT_OURS):
        metric = base_name(name)[1]
        assert metric is not None, f"{name} is not in the metric table"
        differentiated = re.search(rf"\b(?:rate|increase)\({name}\b", plain) is not None
        assert differentiated == (metric.type != "gauge" and name not in SINCE_THE_START), f"{name} is a {metric.type}"
        assert name.endswith(("_bucket", "_count")) == (metric.type == "histogram")


@each_expression
def test_every_label_in_an_expression_belongs_to_its_metrics(expr: str) -> None:
    known = set(TARGET_LABELS) | {"le"}
    for name in NAMES.findall(re.sub(r'"[^"]*"', '""', expr)):
        metric = base_name(name)[1]
        allowed = set(metric.labels) if metric is not None else NOT_OURS[name]
        known |= allowed
        for labels in re.findall(rf"\b{name}\{{([^}}]*)\}}", expr):
            matched = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)"', labels))
            assert matched <= allowed | TARGET_LABELS
    grouped = {label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr) for label in group.split(",")}
    assert grouped - {""} <= known


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


def test_the_dashboards_show_every_metric_of_the_worker() -> None:
    in_rules_only = {"overdraw_false_page_budget_per_week"}
    of_others = {row.name for row in (*NOTIFIER_TABLE, *RESPONDER_TABLE)}
    shown = {base_name(name)[0] for _, expr in EXPRESSIONS for name in re.findall(r"\boverdraw_\w+", expr)}
    assert set(METRICS) - shown - of_others == in_rules_only


def walk(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)
    elif isinstance(node, str):
        yield node


@each_board
def test_no_address_of_another_machine_is_in_it(board: Any) -> None:
    addresses = [text for text in walk(board) if re.search(r"https?://", text)]
    assert addresses == []
