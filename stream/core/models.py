"""Classes of models, at hand for every call."""

from __future__ import annotations

from functools import lru_cache

from stream.alerts import model_class

MAX_NAMES = 1024
"""Names of models whose class is at hand: each may be long, and anybody can make them up."""


@lru_cache(maxsize=MAX_NAMES)
def class_of(model: str | None) -> int:
    """The class under which calls to a model are counted."""
    return model_class(model)
