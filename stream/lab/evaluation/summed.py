"""A bucket with its sums alone. It lies by itself, for it is compiled: it is a kind of a class that is."""

from __future__ import annotations

from stream.core.bucket import OpenBucket


class Summed(OpenBucket):
    """A bucket whose records nobody has seen: of its models only `same_model` is known."""

    __slots__ = ("pairs",)

    pairs: int

    def same_model(self) -> int:
        """Sum over models of n (n - 1), as the world has it."""
        return self.pairs
