"""The collector of garbage: calm for a while, and then as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from stream import collector


@pytest.fixture(autouse=True)
def _usual() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_it_is_calm_for_a_while_and_then_as_it_was_whatever_happened() -> None:
    with suppress(KeyError), collector.calmed():
        assert gc.get_threshold() == collector.THRESHOLDS
        assert gc.get_freeze_count() > 0
        raise KeyError
    assert (gc.get_threshold(), gc.get_freeze_count()) == ((700, 10, 10), 0)


def test_where_it_is_calm_it_stays_calm() -> None:
    collector.calm()
    frozen = gc.get_freeze_count()
    with collector.calmed():
        pass
    assert gc.get_threshold() == collector.THRESHOLDS
    assert gc.get_freeze_count() >= frozen > 0
