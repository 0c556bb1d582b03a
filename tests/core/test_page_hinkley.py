"""River's Page-Hinkley test without the rest of its package."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (
            "import stream.core.channels.drift, stream.worker.app; assert 'scipy.stats' not in sys.modules",
            "a worker's start has no use for it",
        ),
        (
            "from stream.core.page_hinkley import PageHinkley; from river import drift\n"
            "assert drift.PageHinkley is PageHinkley",
            "River's own, and the only one",
        ),
        (
            "from river import drift; from stream.core.page_hinkley import PageHinkley\n"
            "assert drift.PageHinkley is PageHinkley",
            "whoever comes first",
        ),
    ],
)
def test_it_is_rivers_own_class_and_brings_nothing_along(program: str, why: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import sys\n{program}"], capture_output=True, text=True)
    assert done.returncode == 0, (why, done.stderr)
