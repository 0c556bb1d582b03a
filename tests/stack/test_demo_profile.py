"""What the profile `demo` of deploy/compose.yaml writes into Kafka is worth looking at."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from parts import OVERDRAW, ROOT, clean_environment

pytestmark = pytest.mark.stack

SECONDS = 120


def overdraw(*arguments: str) -> str:
    done = subprocess.run(
        [*OVERDRAW, *arguments], env=clean_environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_leak_in_the_demos_history_is_found(tmp_path: Path) -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
    arguments = shlex.split(services["history"]["command"])
    calls, labels = tmp_path / "calls.jsonl", tmp_path / "labels.jsonl"
    arguments[arguments.index("kafka")] = str(calls)
    arguments[arguments.index("--labels") + 1] = str(labels)
    overdraw(*arguments)
    alerts = tmp_path / "alerts.jsonl"
    overdraw("replay", str(calls), "--alerts", str(alerts))
    leaked = {json.loads(line)["key_id"] for line in labels.read_text("utf-8").splitlines()}
    found = {json.loads(line)["entity"]["id"] for line in alerts.read_text("utf-8").splitlines()}
    assert len(leaked) == 1
    assert leaked <= found
