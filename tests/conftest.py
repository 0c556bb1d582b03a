"""What all tests share: Hypothesis profiles, and the helpers that lie beside the tests."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

# tests replace parts of modules, which those that are compiled do not allow; workers that tests start as processes run
# what was compiled
os.environ.setdefault("OVERDRAW_PURE", "1")

import pytest
from hypothesis import HealthCheck, settings

for folder in (".", "core", "lab"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

# derandomised, so that a red build can be repeated; `explore` looks further, by hand
settings.register_profile(
    "ci", derandomize=True, max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that at the end no process is left alone with one."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


class Failures:
    """Names each failure when it happens: a run that is cut off never comes to its summary."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One line, and what the test ended with."""
        if report.failed:
            lines = report.longreprtext.splitlines() or [""]
            reason = next((line for line in lines if line.startswith("E ")), lines[-1])
            self._terminal.write_line(f"\n{report.when} of {report.nodeid} failed: {reason[:300]}")


@pytest.hookimpl(trylast=True)  # pytest's own terminal registers itself in this very hook
def pytest_configure(config: pytest.Config) -> None:
    """Where there is a terminal, which the processes of xdist have not."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(Failures(terminal))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own OVERDRAW_* must not decide a test."""
    for name in list(os.environ):
        if name.startswith("OVERDRAW_"):
            monkeypatch.delenv(name)
