"""The collector of garbage: calm for a while, and then as it was."""

from __future__ import annotations

import gc
from contextlib import suppress

from stream import collector


def test_it_is_calm_for_a_while_and_then_as_it_was_whatever_happened() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with suppress(KeyError), collector.calmed():
        assert gc.get_threshold() == collector.THRESHOLDS
        assert gc.get_freeze_count() > frozen
        raise KeyError
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
