"""Models by their names: a bucket counts calls by a short class of each, for names may be long and made up."""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

CLASS_MASK = 0xFFFF
"""A model is known by 16 bit of its name's CRC, for Python's own hash differs from process to process."""
NO_CLASS = 0
"""What the CRC of no name is."""
MAX_NAMES = 1024
"""Names of models whose class is at hand: each may be long, and anybody can make them up."""


@lru_cache(maxsize=MAX_NAMES)
def class_of(model: str | None) -> int:
    """The class under which calls to a model are counted."""
    return crc32(model.encode()) & CLASS_MASK if model else NO_CLASS
