"""Every query of the dashboards shows something on a real Prometheus that scrapes real workers under attack."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from parts import BOARDS, KEY_KINDS, PARTITIONS, WORKERS, Stack, get, prometheus_config, until

pytestmark = pytest.mark.stack

QUERIES = [
    (f"{uid} {panel['title']} {target['refId']}", target)
    for uid, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel.get("targets", [])
]
NOTES = {
    note["expr"]: f"{uid} {note['name']}"
    for uid, board in BOARDS.items()
    for note in board["annotations"]["list"]
    if "expr" in note
}
VARIABLES = {
    item["query"]["query"]: item["name"]
    for board in BOARDS.values()
    for item in board["templating"]["list"]
    if item["type"] == "query"
}
SHOWN_SECONDS = 120.0
"""The attack and the wrong records have to reach Prometheus within this time."""


def samples(stack: Stack, expr: str, *, instant: bool) -> list[Any]:
    return stack.instant(expr) if instant else stack.course(expr, stack.since)


def test_promtool_accepts_the_prometheus_configuration(program: Callable[[str], str], tmp_path: Path) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "config", prometheus_config(tmp_path, [])],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reaches_the_workers_and_only_with_the_token(stack: Stack) -> None:
    assert [get(f"{worker}/metrics")[0] for worker in stack.workers] == [401] * WORKERS
    until("the targets are up", lambda: len(samples(stack, 'up{job="overdraw"} == 1', instant=True)) == WORKERS)


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_query_of_every_panel_shows_something(stack: Stack, title: str, target: Any) -> None:
    expr = stack.substituted(target["expr"])
    until(
        f"{title} is empty: {expr}",
        lambda: samples(stack, expr, instant=target["instant"]) != [],
        max(1.0, stack.since + SHOWN_SECONDS - time.time()),
    )


@pytest.mark.parametrize("expr", NOTES, ids=NOTES.values())
def test_what_is_wrong_is_marked(stack: Stack, expr: str) -> None:
    marks = {
        mark for result in samples(stack, stack.substituted(expr), instant=False) for mark in result["metric"].values()
    }
    assert marks & {*KEY_KINDS, "OverdrawIncidentTicket"}


@pytest.mark.parametrize("query", VARIABLES, ids=VARIABLES.values())
def test_every_variable_has_values_to_choose_from(stack: Stack, query: str) -> None:
    series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
    assert stack.ask(f"label/{label}/values", **{"match[]": stack.substituted(series)})


def test_every_partition_has_lag_and_watermark(stack: Stack) -> None:
    for metric in ("overdraw_consumer_lag_events", "overdraw_watermark_timestamp_seconds"):
        partitions = {result["metric"]["partition"] for result in samples(stack, metric, instant=True)}
        assert partitions == {str(number) for number in range(PARTITIONS)}
