"""What a key has in common with others: whose it is, where its calls come from, what makes them, and which model."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from stream.alerts import model_class
from stream.core.linksrecord import PackedLinks, Traits
from stream.events import MAX_ASN

if TYPE_CHECKING:
    from stream.core.bucket import OpenBucket

MAX_TRAITS: Final = 16
"""Sets of traits that are known of one key: few keys use more within days, and a caller can make them up."""
MAX_VALUES: Final = 6
"""A key with more values of one trait within a day belongs to no group of that trait: it changes them at will."""
MAX_MODELS: Final = 8
USED: Final = 0
USUAL: Final = 1
USED_OUTPUT: Final = 2
SPENT: Final = 3
CALLS: Final = 4
BLANK = bytes(20)
FORMER_BYTES: Final = 24
"""Of `since` as it was packed when it held one sum more."""
REFUSED_SHARE: Final = 0.9
LEAST_REFUSED: Final = 3
"""A key is taken as blocked once at least so many calls of a bucket, and this share of all, were refused."""


HASHED: Final = "template-"
"""What the names of prompt templates begin with, see `stream.gateways.traits`."""
NEVER_SEEN: Final = 2**62
"""A bucket that never comes."""

NO_TRAITS = Traits()
"""Of whom nothing is known: a key of no group."""
TRAITS = Traits._fields
"""The names of the traits, which are the types of the groups that they make."""

Group = tuple[str, str]
"""A group of keys: its type, one of TRAITS or several joined by `+`, and the value that its members share."""


class Links:
    """The traits of one key, and what it used since it last gave evidence of itself.

    `known` holds up to MAX_TRAITS sets of traits, `seen` the closed bucket in which each was used last, -1: none;
    `bits` has the place there, as a bit mask, of each that a call was seen with since the key woke. `used` tells
    whether there were calls since, `models` how many to each, by the name of the model, and `since` sums over the
    closed buckets: tokens, expected tokens, output tokens, dollars and calls, in 32 bits. `refused`: the last bucket
    with calls looks as if the key was blocked, which is `due` to be told; `spoke`: it has given evidence before.
    """

    __slots__ = (
        "_names",
        "bits",
        "due",
        "known",
        "last",
        "last_bit",
        "models",
        "refused",
        "seen",
        "since",
        "spoke",
        "turn",
        "used",
    )

    def __init__(self) -> None:
        self.known: list[Traits] = []
        self.seen: list[int] = []
        self.bits: dict[tuple[object, ...], int] = {}
        self.last: tuple[object, ...] = ()
        self.last_bit = 0
        """The set of traits that was asked for last, and its bit."""
        self.used = False
        self.models: dict[str, int] = {}
        self._names: dict[int, str] = {}
        """Of the classes of models that were asked for, their names by `known`."""
        self.turn = 0
        """Where the next set of traits is put once all places are taken."""
        self.since = array("f", BLANK)
        self.spoke = self.refused = self.due = False

    def use(self, traits: Traits, used: int) -> bool:
        """A call has these traits, which are not in `bits` yet; True if they were not known at all.

        `used` tells which places may not be taken: they are named by buckets that are still open. Where no place is
        left, the call counts for no group, and the next one asks again: a place may be free by then.
        """
        known = self.known
        if traits in known:
            self.bits[traits] = 1 << known.index(traits)
            return False
        if len(known) < MAX_TRAITS:
            self.bits[traits] = 1 << len(known)
            self._names.clear()
            known.append(traits)
            self.seen.append(-1)
            return True
        for place in range(self.turn, self.turn + MAX_TRAITS):
            bit = 1 << place % MAX_TRAITS
            if not used & bit:
                self.bits.pop(known[place % MAX_TRAITS], None)
                self.bits[traits] = bit
                self.last = ()
                self._names.clear()
                known[place % MAX_TRAITS] = traits
                self.seen[place % MAX_TRAITS] = -1
                self.turn = (place + 1) % MAX_TRAITS
                return True
        return False

    def close(self, sums: OpenBucket) -> None:
        """A bucket with calls has closed. What looks like a block is to be told at once: silence may follow."""
        self.used = True
        mask, seen, known = sums.links, self.seen, self.known
        for place in range(len(known)):
            if mask >> place & 1:
                seen[place] = sums.index
        self._count(sums)
        since = self.since
        since[USED_OUTPUT] += sums.output_tokens
        since[SPENT] += sums.cost_micros * 1e-6
        since[CALLS] += sums.calls - sums.refused
        refused = sums.refused >= LEAST_REFUSED and sums.refused >= REFUSED_SHARE * sums.calls
        self.due = refused and not self.refused
        self.refused = refused

    def _count(self, sums: OpenBucket) -> None:
        """Count the calls to each model, by the names that are known of it."""
        models = self.models
        for kind, calls in sums.models.items():
            name = self._names.get(kind)
            if name is None:
                if len(self._names) >= MAX_TRAITS:
                    self._names.clear()
                name = self._names[kind] = self._name_of(kind)
            if name in models or len(models) < MAX_MODELS:
                models[name] = models.get(name, 0) + calls

    def _name_of(self, kind: int) -> str:
        """The name of a model by its class, as far as a known set of traits says it; empty: none does."""
        for traits in self.known:
            if traits.model and model_class(traits.model) == kind:
                return traits.model
        return ""

    def since_bucket(self, bucket: int) -> tuple[Traits, ...]:
        """The sets of traits that were used in or after `bucket`.

        A day of them says who a key belongs to: of an hour's, busy hours would have more than others.
        """
        return tuple(traits for traits, seen in zip(self.known, self.seen, strict=True) if seen >= bucket)

    def latest(self, buckets: int) -> tuple[Traits, ...]:
        """The sets of traits of the last so many buckets of its use, as far as those have closed."""
        newest = self.newest
        return self.since_bucket(newest - buckets) if newest >= 0 else ()

    @property
    def newest(self) -> int:
        """The last bucket that has closed and had traits, -1: none."""
        return max(self.seen, default=-1)

    def spoken(self) -> None:
        """It has given evidence; from here on nothing was used."""
        self.spoke = True
        self.forget()

    def pack(self) -> PackedLinks:
        """All that lasts."""
        places: dict[str | int | None, int] = {None: 0}
        known = [bytes([places.setdefault(value, len(places)) for value in traits]) for traits in self.known]
        values = [_short(value) for value in places if value is not None]
        newest = max(self.seen, default=-1)
        # how long before the newest each was used last takes a byte or two, the bucket itself five
        ages = [newest - seen for seen in self.seen]
        models: dict[str | int, int] = {places.get(name, name): calls for name, calls in self.models.items()}
        return PackedLinks(
            values, b"".join(known), [newest, *ages], self.used, self.turn, self.refused, self.spoke,
            self.since.tobytes(), models,
        )  # fmt: skip

    def unpack(self, packed: PackedLinks) -> None:
        """Take up what `pack` gave; raises ValueError on damage."""
        sets, seen = packed.known, packed.seen
        if isinstance(sets, bytes):
            width = len(TRAITS)
            if not seen or len(sets) % width:
                raise ValueError("a key's links are damaged")
            sets = [sets[first : first + width] for first in range(0, len(sets), width)]
            newest = seen[0]
            seen = [newest - age for age in seen[1:]]
            if newest >= NEVER_SEEN or not all(-1 <= bucket <= newest for bucket in seen):
                raise ValueError("a key's links are damaged")
        if (
            len(sets) > MAX_TRAITS
            or len(seen) != len(sets)
            or not 0 <= packed.turn < MAX_TRAITS
            or len(packed.since) not in (len(BLANK), FORMER_BYTES)
        ):
            raise ValueError("a key's links are damaged")
        values: list[Any] = [None, *map(_long, packed.values)]
        try:
            self.known = [Traits(*[values[place] for place in known]) for known in sets]
            names = [(values[name] if isinstance(name, int) else name, calls) for name, calls in packed.models.items()]
        except (IndexError, TypeError) as error:
            raise ValueError("a key's links are damaged") from error
        if not all(isinstance(name, str) for name, _ in names):
            raise ValueError("a key's links are damaged")
        self.seen, self.used, self.turn = seen, packed.used, packed.turn
        self.models = dict(names)
        self.refused, self.spoke = packed.refused, packed.spoke
        self.since = array("f", packed.since[: len(BLANK)])
        self.bits = {}
        self.last = ()
        self._names = {}

    def forget(self) -> None:
        """What was used so far belongs to a past that is over."""
        self.used = False
        self.models = {}
        self.since = array("f", BLANK)


def _short(value: str | int) -> str | int:
    """A value as it is packed: the name of a template is a hash in hexadecimal, and keys have many."""
    if isinstance(value, str) and value.startswith(HASHED):
        digits = value[len(HASHED) :]
        try:
            number = int(digits, 16)
        except ValueError:
            return value
        if MAX_ASN < number < 2**64 and f"{number:016x}" == digits:
            return number
    return value


def _long(value: str | int) -> str | int:
    """What `_short` made shorter, as it was."""
    return f"{HASHED}{value:016x}" if isinstance(value, int) and value > MAX_ASN else value


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
