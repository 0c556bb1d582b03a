"""Every query of the dashboard shows something on a real Prometheus that scrapes a real worker under attack."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from parts import PARTITIONS, ROOT, Stack, get, prometheus_config, until

pytestmark = pytest.mark.stack

DASHBOARD = json.loads((ROOT / "grafana/dashboards/overdraw-overview.json").read_text("utf-8"))
QUERIES = [
    (f"{panel['title']} {target['refId']}", target)
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]
NOTES = [(note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"] if "expr" in note]
VARIABLES = [item for item in DASHBOARD["templating"]["list"] if item["type"] == "query"]
STEP_SECONDS = 1
SHOWN_SECONDS = 120.0
"""The attack and the wrong records have to reach Prometheus within this time."""
VALUES = {"__rate_interval": "15s", "__range": "10m", "instance": ".*", "key": ".*", "top": "5"}


def substituted(expr: str) -> str:
    """The expression as Grafana sends it, with all workers and keys chosen."""
    return re.sub(r"\$(\w+)", lambda found: VALUES[found.group(1)], expr)


def samples(stack: Stack, expr: str, *, instant: bool) -> list[Any]:
    if instant:
        return list(stack.ask("query", query=expr, time=time.time())["result"])
    window = {"start": stack.since, "end": time.time(), "step": STEP_SECONDS}
    return list(stack.ask("query_range", query=expr, **window)["result"])


def test_promtool_accepts_the_prometheus_configuration(program: Callable[[str], str], tmp_path: Path) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "config", prometheus_config(tmp_path, [])],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reaches_the_worker_and_only_with_the_token(stack: Stack) -> None:
    assert get(f"{stack.worker}/metrics")[0] == 401
    until("the target is up", lambda: samples(stack, 'up{job="overdraw"} == 1', instant=True) != [])


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_query_of_every_panel_shows_something(stack: Stack, title: str, target: Any) -> None:
    expr = substituted(target["expr"])
    until(
        f"{title} is empty: {expr}",
        lambda: samples(stack, expr, instant=target["instant"]) != [],
        max(1.0, stack.since + SHOWN_SECONDS - time.time()),
    )


@pytest.mark.parametrize(("name", "expr"), NOTES, ids=[name for name, _ in NOTES])
def test_the_attack_is_marked(stack: Stack, name: str, expr: str) -> None:
    kinds = {result["metric"]["kind"] for result in samples(stack, substituted(expr), instant=False)}
    assert "surge" in kinds


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda item: item["name"])
def test_every_variable_has_values_to_choose_from(stack: Stack, variable: Any) -> None:
    series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
    assert stack.ask(f"label/{label}/values", **{"match[]": substituted(series)})


def test_every_partition_has_lag_and_watermark(stack: Stack) -> None:
    for metric in ("overdraw_consumer_lag_events", "overdraw_watermark_timestamp_seconds"):
        partitions = {result["metric"]["partition"] for result in samples(stack, metric, instant=True)}
        assert partitions == {str(number) for number in range(PARTITIONS)}
