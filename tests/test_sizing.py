"""deploy/sizing.py: what it measures is what the sizing in deploy/README.md says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from stream.settings import Settings

DEPLOY = Path(__file__).parent.parent / "deploy"
sys.path.insert(0, str(DEPLOY))

import sizing  # noqa: E402  it is a script beside what it is about

KEYS, RATE, DAYS = 12, 0.3, 3.0
"""A small installation; states of older keys are a little larger."""
NEAR = 0.15


@pytest.fixture(scope="module")
def volume() -> sizing.Volume:
    return sizing.volume_of(Settings(), KEYS, RATE, DAYS)[0]


@pytest.mark.parametrize(("kind", "words"), sizing.KINDS.items(), ids=sizing.KINDS.values())
def test_the_figures_of_the_readme_hold(volume: sizing.Volume, kind: bytes, words: str) -> None:
    text = (DEPLOY / "README.md").read_text("utf-8")
    (figure,) = re.findall(rf"^\| written there: {re.escape(words)} \| ([\d,]+) bytes \|", text, re.M)
    assert volume.each(kind) == pytest.approx(float(figure.replace(",", "")), rel=NEAR)


def test_sums_are_written_once_a_flush_and_models_once_a_bucket_at_most(volume: sizing.Volume) -> None:
    sums, model, shard = (volume.records[kind] for kind in sizing.KINDS)
    assert 0 < sums <= volume.calls + model
    assert 0 < model <= KEYS * (sizing.LIVE_SECONDS / Settings().bucket_seconds + 1)
    assert shard <= 2 * sums


@pytest.mark.slow
def test_keys_in_use_are_awake_and_take_far_more_memory_than_packed_ones() -> None:
    _, installation = sizing.volume_of(Settings(), 4, RATE, 0.5)
    idle, used = sizing.memory_of(Settings(), installation, 2_000)
    assert used > idle + 5_000
