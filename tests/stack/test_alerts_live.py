"""Rules and routes are accepted by the tools that run them, and an attack comes through to whoever must know."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from parts import KEY_KINDS, ROOT, Stack, until

pytestmark = pytest.mark.stack

PROMETHEUS = ROOT / "deploy/prometheus"
RULES = sorted(PROMETHEUS.glob("rules-*.yml"))
CASES = sorted((ROOT / "tests/stack/rules").glob("*.yml"))
GRAFANA_RULES = [
    rule
    for group in yaml.safe_load((ROOT / "grafana/alerting/overdraw.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
ARRIVES_SECONDS = 90.0


def finish(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules(program: Callable[[str], str]) -> None:
    assert finish(program("promtool"), "check", "rules", *RULES).count("SUCCESS") == len(RULES) == 2


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_rules_do_what_their_cases_say(program: Callable[[str], str], case: Path) -> None:
    assert "SUCCESS" in finish(program("promtool"), "test", "rules", case)


def test_amtool_accepts_the_alertmanager_configuration(program: Callable[[str], str]) -> None:
    assert "SUCCESS" in finish(program("amtool"), "check-config", PROMETHEUS / "alertmanager.yml")


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "page"), ("warning", "ticket")])
def test_who_is_told_depends_on_the_severity(program: Callable[[str], str], severity: str, receiver: str) -> None:
    config = f"--config.file={PROMETHEUS / 'alertmanager.yml'}"
    told = finish(program("amtool"), "config", "routes", "test", config, f"severity={severity}", "job=overdraw")
    assert told.split() == [receiver]


def test_prometheus_evaluates_every_rule_without_an_error(stack: Stack) -> None:
    def all_healthy() -> bool:
        rules = [rule for group in stack.ask("rules")["groups"] for rule in group["rules"]]
        wrong = [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] == "err"]
        assert wrong == []
        return len(rules) > 20 and all(rule["health"] == "ok" for rule in rules)

    until("every rule was evaluated", all_healthy)


def test_the_attack_comes_through_to_the_webhook_with_its_key_and_where_to_look(stack: Stack) -> None:
    def about_the_attack() -> list[tuple[str, dict]]:
        return [
            (receiver, alert)
            for receiver, alert in list(stack.webhook.alerts)
            if alert["labels"].get("key_id") == stack.attacked and alert["labels"]["kind"] in KEY_KINDS
        ]

    until("the attack is at the webhook", lambda: about_the_attack() != [], ARRIVES_SECONDS)
    receiver, alert = about_the_attack()[0]
    labels, notes = alert["labels"], alert["annotations"]
    assert alert["status"] == "firing"
    assert (receiver, labels["alertname"]) in {("ticket", "OverdrawIncidentTicket"), ("page", "OverdrawIncidentPage")}
    assert labels["job"] == "overdraw"
    assert not [name for name in labels if name.startswith("overdraw_")], "the two addresses are no labels of it"
    assert stack.attacked in notes["summary"]
    assert notes["dashboard_url"].startswith(f"http://127.0.0.1:3000/d/overdraw-key?var-key={stack.attacked}")
    assert notes["runbook_url"].startswith("deploy/runbooks/prometheus.md#")


@pytest.mark.parametrize("rule", GRAFANA_RULES, ids=lambda rule: rule["title"])
def test_prometheus_understands_what_grafanas_rules_ask(stack: Stack, rule: dict) -> None:
    expression = rule["data"][0]["model"]["expr"]
    assert stack.ask("query", query=expression)["resultType"] == "vector"
    if rule["title"] == "OverdrawIncidentTicket":
        until(
            "the attacked key is in the answer",
            lambda: (
                stack.attacked
                in {result["metric"]["key_id"] for result in stack.ask("query", query=expression)["result"]}
            ),
            ARRIVES_SECONDS,
        )
