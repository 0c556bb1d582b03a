"""How many keys a set has, from the smallest hashes of their ids: sets can be joined, and nothing counts twice.

After K. Beyer et al., On Synopses for Distinct-Value Estimation Under Multiset Operations (SIGMOD 2007). River has no
sketch that counts distinct values.
"""

from __future__ import annotations

from collections.abc import Iterable

KEPT = 64
"""Smallest hashes of a set that are kept: up to so many members it is exact, beyond it is right to an eighth."""
SPACE = float(2**63)
"""Number of different hashes (`evidence.leaf_of`)."""


def joined(leaves: list[int], others: Iterable[int], kept: int = KEPT) -> list[int]:
    """The smallest hashes of two sets together, in order.

    >>> joined([1, 5], [3, 5], kept=2)
    [1, 3]
    """
    return sorted({*leaves, *others})[:kept]


def count_of(leaves: list[int], kept: int = KEPT) -> int:
    """How many members the set has: the k-th smallest of n hashes lies at about k / n of the space.

    >>> count_of([4, 9, 2**62])
    3
    """
    if len(leaves) < kept:
        return len(leaves)
    return max(len(leaves), round((len(leaves) - 1) * SPACE / leaves[-1]))
