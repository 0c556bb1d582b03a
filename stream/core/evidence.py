"""What a shard tells of its keys, so that those that move together can be found across all shards.

Once in each hour in which it was used, a key gives evidence of itself when a bucket of it closes: how far it is above
what is usual for it, over windows of hours and days, and what it took since the last time. Keys with the same traits in
the same bucket make one cell; cells are what travels. A bucket's cells depend on nothing but the shard's log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from stream.core.days import COUNT as OF_DAYS
from stream.core.linksrecord import Traits

HOT_Z = 1.5
"""What counts as elevated, of the day's level; one in fifteen clean keys is."""
LEAVES = 16
"""Smallest hashes of members that a cell carries, from which their number is estimated."""
MOST_MEMBERS = 32
"""Members that a cell names: the strongest, and those that are new."""
RECENT_HOURS = 8.0
"""Memory of what members say of themselves: how often a key speaks within it is what its weight is divided by."""

# the sums of a cell
(
    KEYS, Z_40M, Z_4H, WEIGHT, WEIGHTED_HOT, USED, USUAL, USED_OUTPUT, SPENT, ALARMED, YOUNG, FIRST, YOUNG_TOKENS,
    YOUNG_USUAL, LEVEL, LEVEL_SQUARES, SHAPED, LENGTH, LENGTH_SQUARES, ALL, REFUSALS,
) = range(21)  # fmt: skip
PACE = 21
DEPARTURES = 1 + OF_DAYS
"""From PACE on, for the departure of their pace and for each of their days, the weight of keys by the inverse of their
variance, and their weighted departures."""
COUNT = PACE + 2 * DEPARTURES

NEVER = 2**62
"""Instead of a bucket: the shard has had no record so far, so that there is nothing to wait for."""
NEW, IS_YOUNG, REFUSED, HAS_INCIDENT = 1, 2, 4, 8
"""What is noted of a member: its first evidence; in its first week; refused by the gateway, or said to be
blocked; an incident of its own."""


class Member(NamedTuple):
    """One key of a cell, as far as it is named.

    z: of the day's level, or of yesterday's tokens, what is higher; excess: tokens above its expectation since it last
    spoke; level: ln of tokens per second; length: mean of ln(1 + output tokens) of its calls, -1 if unknown; notes: a
    mask; departure: of yesterday's tokens (see `days`); precision: the inverse of the variance of that, 0: unknown
    """

    key_id: str
    z: float
    excess: float
    level: float
    length: float
    notes: int
    departure: float = 0.0
    precision: float = 0.0


class Cell(msgspec.Struct, array_like=True):
    """Keys of one shard with the same traits in one bucket: sums over them (COUNT of them), and who they are.

    number: its place among the cells of the bucket
    models: how their calls are shared out among models, each key as one
    leaves: the smallest hashes of their ids
    """

    number: int
    traits: list[Traits]
    sums: list[float]
    models: dict[str, float]
    leaves: list[int]
    members: list[Member]


class Evidence(msgspec.Struct, array_like=True):
    """The cells of one bucket of a shard, or a part of them; `complete`: no more will come up to this bucket.

    A shard without any record tells NEVER, and once it has one that it is complete up to the bucket before that.
    """

    shard: int
    bucket: int
    cells: list[Cell]
    complete: bool = False


class Word(NamedTuple):
    """What one key says in one hour; `sums` are those of a cell that holds it alone."""

    key_id: str
    traits: tuple[Traits, ...]
    sums: list[float]
    models: dict[str, float]
    member: Member


def leaf_of(key_id: str) -> int:
    """A key's place among all, the same everywhere: 63 bits of a hash of its id."""
    return int.from_bytes(blake2b(key_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def by_group(evidence: Iterable[Evidence]) -> Iterator[tuple[str, Evidence]]:
    """Evidence in parts, each with what it is keyed by on its topic: the organisation's group, or another one."""
    for whole in evidence:
        parts: dict[str, list[Cell]] = {}
        for cell in whole.cells:
            parts.setdefault(_topic_key(cell.traits[0]), []).append(cell)
        for name in sorted(parts):
            yield name, Evidence(whole.shard, whole.bucket, parts[name])
        if whole.complete:
            yield f"shard:{whole.shard}", Evidence(whole.shard, whole.bucket, [], complete=True)


def _topic_key(traits: Traits) -> str:
    for name, value in zip(Traits._fields, traits, strict=True):
        if value is not None:
            return f"{name}:{value}"
    return "none:"
