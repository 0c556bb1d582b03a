"""River's Page-Hinkley test by itself: its package brings scipy.stats along, which is half of a worker's start."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import river

__all__ = ["PageHinkley"]

_NAME = "river.drift.page_hinkley"


def _page_hinkley() -> Any:
    """The class, from its own file; whoever imports `river.drift` afterwards finds this very one there."""
    if _NAME not in sys.modules:
        spec = spec_from_file_location(_NAME, Path(river.__file__).parent / "drift" / "page_hinkley.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[_NAME] = module
    return sys.modules[_NAME].PageHinkley


PageHinkley = _page_hinkley()
