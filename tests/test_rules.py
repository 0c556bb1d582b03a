"""deploy/prometheus/: rules ask for what exists, lead to a dashboard and a runbook, and each is put to the test."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.settings import Settings
from stream.worker.metrics import metric_table

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy/prometheus"
CASES = ROOT / "tests/stack/rules"
GROUPS = [
    group
    for path in sorted(PROMETHEUS.glob("rules-*.yml"))
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
METRICS = {row.name: row for row in metric_table()}
NOT_OURS = {"up", "process_start_time_seconds"}
each_alert = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])


def metrics_in(expr: str) -> set[str]:
    """Names of series; strings, comments and the labels behind `by` and `on` are no names."""
    plain = re.sub(r"#[^\n]*|\"[^\"]*\"|\b(?:by|on) \([^)]*\)", "", expr)
    return set(re.findall(r"\b[a-z]\w*:[\w:]+|\b(?:overdraw|process)_\w+|\bup\b", plain))


@each_rule
def test_a_rule_asks_only_for_metrics_that_exist(rule: Any) -> None:
    names = metrics_in(rule["expr"])
    assert names
    assert names - RECORDED - NOT_OURS - set(METRICS) == set()


@each_rule
def test_counters_are_asked_for_their_rise_and_gauges_for_their_value(rule: Any) -> None:
    for name in metrics_in(rule["expr"]) & set(METRICS):
        rises = re.search(rf"\b(?:rate|increase)\(\s*{name}\b", rule["expr"]) is not None
        assert rises == (METRICS[name].type == "counter"), name


@each_rule
def test_labels_of_a_rule_belong_to_its_metrics(rule: Any) -> None:
    for name in metrics_in(rule["expr"]) & set(METRICS):
        for labels in re.findall(rf"\b{name}\{{([^}}]*)\}}", rule["expr"]):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\"", labels)) <= set(METRICS[name].labels)


def test_every_recorded_series_is_used() -> None:
    used = {name for rule in RULES for name in metrics_in(rule["expr"])}
    assert RECORDED - used == set()


@each_alert
def test_an_alert_says_what_it_means_and_where_to_look(alert: Any) -> None:
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "dashboard_url", "runbook_url"}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert len(notes["summary"]) < 100
    assert len(notes["description"].split()) > 10


@each_alert
def test_an_alert_leads_to_a_panel_that_is_there(alert: Any) -> None:
    address = alert["annotations"]["dashboard_url"]
    uid, number = re.fullmatch(
        r"\{\{ \$externalLabels\.overdraw_grafana \}\}/d/([\w-]+)\?.*viewPanel=(\d+)", address
    ).groups()
    board = json.loads((ROOT / f"grafana/dashboards/{uid}.json").read_text("utf-8"))
    assert int(number) in {panel["id"] for panel in board["panels"] if panel["type"] not in ("row", "text")}
    variables = {item["name"] for item in board["templating"]["list"]}
    assert set(re.findall(r"var-(\w+)=", address)) <= variables
    for value in re.findall(r"var-\w+=\{\{([^}]*)\}\}", address):
        assert value.rstrip().endswith("| urlquery"), "ids are untrusted text"


@each_alert
def test_an_alert_has_a_runbook(alert: Any) -> None:
    address = alert["annotations"]["runbook_url"]
    assert address == "{{ $externalLabels.overdraw_runbooks }}/prometheus.md#" + alert["alert"].lower()
    text = (ROOT / "deploy/runbooks/prometheus.md").read_text("utf-8")
    section = re.search(rf"^## {alert['alert']}$(.+?)(?=^## |\Z)", text, re.M | re.S)
    assert section is not None
    assert "**Means.**" in section.group(1)
    assert "**Do.**" in section.group(1)


def test_the_runbooks_are_about_alerts_that_exist() -> None:
    text = (ROOT / "deploy/runbooks/prometheus.md").read_text("utf-8")
    assert re.findall(r"^## (\w+)$", text, re.M) == list(ALERTS)


@each_alert
def test_an_alert_is_put_to_the_test_where_it_fires_and_where_it_must_not(alert: Any) -> None:
    cases = [
        case
        for path in CASES.glob("*.yml")
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == alert["alert"]
    ]
    assert any(case["exp_alerts"] for case in cases)
    quiet = (CASES / "detector.yml").read_text("utf-8")
    assert "exp_samples: []" in quiet, "a healthy installation raises none at all"
    if alert.get("for") is None:
        assert any(not case["exp_alerts"] for case in cases)


def test_the_two_addresses_are_set_and_no_alert_carries_them_as_labels() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    named = {name for alert in ALERTS.values() for name in re.findall(r"externalLabels\.(\w+)", json.dumps(alert))}
    assert named == set(config["global"]["external_labels"])
    (relabel,) = config["alerting"]["alert_relabel_configs"]
    assert relabel["action"] == "labeldrop"
    assert all(re.fullmatch(relabel["regex"], name) for name in named)
    assert config["rule_files"] == ["rules-*.yml"]


def test_exit_codes_and_settings_that_are_named_exist() -> None:
    text = (ROOT / "deploy/runbooks/prometheus.md").read_text("utf-8")
    settings = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", text)) - {"broken_json"}
    assert settings
    assert settings <= set(Settings.model_fields)


def test_alertmanager_inhibits_only_alerts_that_exist() -> None:
    config = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text("utf-8"))
    named = set(re.findall(r"\bOverdraw\w+", json.dumps(config["inhibit_rules"])))
    assert named
    assert named <= {*ALERTS, "OverdrawIncident"}, "the last one is a notifier's"
    receivers = {receiver["name"] for receiver in config["receivers"]}
    assert {config["route"]["receiver"], *(route["receiver"] for route in config["route"]["routes"])} == receivers


# ---------------------------------------------------------------- the same rules for a Grafana that evaluates them


GRAFANA_RULES = {
    rule["title"]: rule
    for group in yaml.safe_load((ROOT / "grafana/alerting/overdraw.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
}


def test_grafana_gets_every_rule_under_a_lasting_uid() -> None:
    assert list(GRAFANA_RULES) == list(ALERTS)
    uids = [rule["uid"] for rule in GRAFANA_RULES.values()]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in uids)


@each_alert
def test_grafanas_rule_is_prometheuss_in_grafanas_words(alert: Any) -> None:
    rule = GRAFANA_RULES[alert["alert"]]
    query, condition = rule["data"]
    assert rule["condition"] == condition["refId"]
    assert condition["model"]["type"] == "math"
    expr = query["model"]["expr"]
    assert not metrics_in(expr) & RECORDED, "no recording rules run there"
    assert "#" not in expr
    assert rule["for"] == alert.get("for", "0s")
    assert rule.get("keepFiringFor") == alert.get("keep_firing_for")
    text = json.dumps(rule)
    assert "externalLabels" not in text
    assert not re.search(r"\$value\b", text)
    address = alert["annotations"]["dashboard_url"]
    notes = rule["annotations"]
    assert f"/d/{notes['__dashboardUid__']}?" in address
    assert address.endswith(f"viewPanel={notes['__panelId__']}")


def test_grafanas_rules_ask_the_data_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))[
        "datasources"
    ]
    by_uid = {source["uid"]: source for source in sources}
    asked = {query["datasourceUid"] for rule in GRAFANA_RULES.values() for query in rule["data"]} - {"__expr__"}
    assert asked == {"prometheus"}
    assert by_uid["prometheus"]["jsonData"]["alertmanagerUid"] in by_uid
