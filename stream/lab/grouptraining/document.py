"""A priors file of groups, and what stands in for what is not known yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stream.core.group import MEASURED, STATISTICS
from stream.core.grouppriors import VERSION, GroupPriors

GUESS = (0.1, 0.3)
"""Location and scale of what hardly ever speaks where nothing happens."""
GUESSED_LAWS = {name: list(GUESS) for name in MEASURED}
GUESSED_TAIL = ((1.0, 0.002), (8.0, 0.0001))
"""Tail of a statistic that never spoke: a decade of its own model counts for about as much."""
GUESSED_TAILS = dict.fromkeys(STATISTICS, GUESSED_TAIL)
FIRST_TAIL = ((3.5, 0.01), (4.5, 0.001))

Document = dict[str, Any]


def document_of(laws: Document, tails: Document, tail: Sequence[Sequence[float]]) -> Document:
    """A priors file of groups."""
    return {"version": VERSION, "laws": laws, "tails": tails, "tail": [list(row) for row in tail]}


def guessed_priors(*, laws: Document = GUESSED_LAWS, tails: Document = GUESSED_TAILS) -> GroupPriors:
    """Priors of which only some is known."""
    return GroupPriors.from_json(json.dumps(document_of(laws, tails, FIRST_TAIL)))
