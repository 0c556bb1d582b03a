"""What a key has in common with others: whose it is, where its calls come from, what makes them, and which model."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from stream.core.bucket import OpenBucket

MAX_TRAITS = 16
"""Sets of traits that are known of one key: few keys use more within days, and a caller can make them up."""
MAX_VALUES = 4
"""A key with more values of one trait within an hour belongs to no group of that trait: it changes them at will."""
USED, USUAL, USED_OUTPUT, SPENT = range(4)
REFUSED_SHARE = 0.9
LEAST_REFUSED = 3
"""A key is taken as blocked once at least so many calls of a bucket, and this share of all, were refused."""


class Traits(NamedTuple):
    """What one call shares with those of other keys; None where the gateway did not say. All of it is untrusted."""

    org: str | None = None
    network: str | None = None
    asn: int | None = None
    client: str | None = None
    template: str | None = None
    model: str | None = None


NO_TRAITS = Traits()
TRAITS = Traits._fields
"""The names of the traits, which are the types of the groups that they make."""

Group = tuple[str, str]
"""A group of keys: its type, one of TRAITS or several joined by `+`, and the value that its members share."""


class PackedLinks(msgspec.Struct, array_like=True):
    """What is packed of a key's links."""

    known: list[Traits]
    mask: Annotated[int, Meta(ge=0, lt=2**MAX_TRAITS)]
    turn: int
    refused: bool
    spoke: bool
    since: bytes


class Links:
    """The traits of one key, and what it used since it last gave evidence of itself.

    `known` holds up to MAX_TRAITS sets of traits, `last` the newest call's, `bit` its place there as a bit mask; `mask`
    tells those that were used since. `since` are sums over the closed buckets since: tokens, expected tokens, output
    tokens, dollars, in 32 bits.
    """

    __slots__ = ("bit", "due", "known", "last", "mask", "refused", "since", "spoke", "turn")

    def __init__(self) -> None:
        self.known: list[Traits] = []
        self.last: tuple[object, ...] = ()
        self.bit = 0
        self.mask = 0
        self.turn = 0
        """Where the next set of traits is put once all places are taken."""
        self.since = array("f", bytes(16))
        self.spoke = self.refused = self.due = False

    def use(self, traits: Traits, used: int) -> bool:
        """The newest call has these traits; True if they were not known so far.

        `used` tells which places may not be taken: they are named by buckets that are still open. Where no place is
        left, the call counts for no group.
        """
        known = self.known
        self.last = traits
        if traits in known:
            self.bit = 1 << known.index(traits)
            return False
        if len(known) < MAX_TRAITS:
            self.bit = 1 << len(known)
            known.append(traits)
            return True
        used |= self.mask
        for place in range(self.turn, self.turn + MAX_TRAITS):
            bit = 1 << place % MAX_TRAITS
            if not used & bit:
                known[place % MAX_TRAITS] = traits
                self.turn = (place + 1) % MAX_TRAITS
                self.bit = bit
                return True
        self.last, self.bit = (), 0  # the next call asks again: a place may be free by then
        return False

    def close(self, sums: OpenBucket) -> None:
        """A bucket with calls has closed. What looks like a block is to be told at once: silence may follow."""
        self.mask |= sums.links
        since = self.since
        since[USED_OUTPUT] += sums.output_tokens
        since[SPENT] += sums.cost_micros * 1e-6
        refused = sums.refused >= LEAST_REFUSED and sums.refused >= REFUSED_SHARE * sums.calls
        self.due = refused and not self.refused
        self.refused = refused

    def taken(self) -> tuple[Traits, ...]:
        """The sets of traits that were used since the last time; from here on nothing was."""
        mask, self.mask = self.mask, 0
        return tuple(traits for place, traits in enumerate(self.known) if mask >> place & 1)

    def pack(self) -> PackedLinks:
        """All that lasts."""
        return PackedLinks(self.known, self.mask, self.turn, self.refused, self.spoke, self.since.tobytes())

    def unpack(self, packed: PackedLinks) -> None:
        """Take up what `pack` gave; raises ValueError on damage."""
        if len(packed.known) > MAX_TRAITS or not 0 <= packed.turn < MAX_TRAITS or len(packed.since) != 16:
            raise ValueError("a key's links are damaged")
        self.known, self.mask, self.turn = packed.known, packed.mask, packed.turn
        self.refused, self.spoke = packed.refused, packed.spoke
        self.since = array("f", packed.since)
        self.last, self.bit = (), 0

    def forget(self) -> None:
        """What was used so far belongs to a past that is over."""
        self.mask = 0
        self.since = array("f", bytes(16))


@lru_cache(maxsize=20_000)
def groups_of(shared: Sequence[Traits], composites: tuple[tuple[str, ...], ...]) -> tuple[Group, ...]:
    """The groups that a key with these sets of traits belongs to, each once; `composites` are traits to be joined.

    >>> groups_of((Traits(org="o", network="192.0.2.0/24", client="c"),), (("network", "client"),))
    (('org', 'o'), ('network', '192.0.2.0/24'), ('client', 'c'), ('network+client', '192.0.2.0/24 c'))
    """
    groups: list[Group] = []
    for place, name in enumerate(TRAITS):
        groups += _few(name, [str(traits[place]) for traits in shared if traits[place] is not None])
    for names in composites:
        places = [TRAITS.index(name) for name in names]
        groups += _few(
            "+".join(names),
            [
                " ".join(str(traits[place]) for place in places)
                for traits in shared
                if all(traits[place] is not None for place in places)
            ],
        )
    return tuple(groups)


def _few(name: str, values: list[str]) -> list[Group]:
    own = dict.fromkeys(values)
    return [(name, value) for value in own] if len(own) <= MAX_VALUES else []
