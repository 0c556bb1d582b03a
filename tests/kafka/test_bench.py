"""The bench on a real broker, too short to say how quick anything is: all is measured, nothing is left."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import psutil
import pytest

from stream.lab.bench import Bench, Plan
from stream.settings import load_settings

EVENTS = 2_000


def test_everything_is_measured_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    told: list[str] = []
    plan = Plan(EVENTS, keys=20, history_days=0.25, repeats=1, recovered=(500,))
    report = asyncio.run(Bench(load_settings({"partitions": 2}), plan, told.append).run())
    rows = {row.what: row for row in report.rows}
    for kind in ("short", "full"):
        raw, worker = rows[f"raw loop, {kind} events"], rows[f"worker, {kind} events"]
        assert raw.value > 0
        assert 0 < (worker.ratio or 0) == worker.value / raw.value
        assert rows[f"worker's memory, {kind} events"].value > 20
        assert rows[f"replay, {kind} events"].value > 0
        assert rows[f"replay's peak memory, {kind} events"].value > 0.5
    for what in ("closed bucket, median", "packed key state, mean", "recovery of 500 keys"):
        assert rows[what].value > 0
    assert {row.what for row in report.rows if row.bar is None} == {
        "raw loop, short events", "raw loop, full events", "bare loop, states of 500 keys",
        "worker's memory, short events", "worker's memory, full events",
    }  # fmt: skip
    assert report.traffic.startswith("2,000 events of ")
    assert len(told) >= 6
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert list(tmp_path.iterdir()) == []
