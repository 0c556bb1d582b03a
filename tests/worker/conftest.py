"""What the tests of the worker share: nobody waits for a broker that is in memory."""

from __future__ import annotations

import pytest

from stream.worker import partitions


@pytest.fixture(autouse=True)
def _taken_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that was dropped is wanted again without the half second in which a real group would settle."""
    monkeypatch.setattr(partitions, "AFTER_DROP_SECONDS", 0.01)
