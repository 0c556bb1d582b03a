"""A branch while it is made: the background's records of some days, and how something is added to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.lab.worlds.campaigns.accounts import Background, Book
from stream.lab.worlds.campaigns.labels import Campaign, Extra, Link
from stream.lab.worlds.campaigns.records import OWN, Guise, Records, draw, joined
from stream.lab.worlds.campaigns.sharing import NONE, Names
from stream.lab.worlds.draws import Floats, generator
from stream.lab.worlds.tally import BUCKET_SECONDS, PER_DAY
from stream.lab.worlds.world import Sums

HOUR = PER_DAY // 24
KINDS = ("org", "network", "asn", "client", "template")
"""What members can have in common; a pivot's target is no such thing, a model is everybody's."""
REFUSED = 429


@dataclass(frozen=True, slots=True)
class Group:
    """Established keys that share a trait, and those of them that are fit for an attack and not taken yet."""

    link: Link
    keys: Sums
    fit: Sums


def background_day(world: Background, seed: int, start: float, day: int) -> Records:
    """The background's records of a day; the same for every branch."""
    rng = generator(seed, "campaign day", day)
    level = world.level[:, day * PER_DAY : (day + 1) * PER_DAY]
    counts = rng.poisson(level * rng.gamma(world.burst, 1 / world.burst, level.shape))
    key, bucket = np.nonzero(counts)
    records = draw(rng, world.book, (key, bucket + day * PER_DAY, counts[key, bucket]), start, day, OWN)
    failed = (records.calls == 1) & (rng.random(len(records)) < world.errors[records.key])
    records.status[failed] = REFUSED
    for tokens in (records.input_tokens, records.output_tokens, records.reasoning_tokens):
        tokens[failed] = 0
    return records


@dataclass
class Scene:
    """The days [first_day, last_day) of a world, to which campaigns and twins add; buckets count from `start`."""

    world: Background
    seed: int
    start: float
    first_day: int
    last_day: int
    rng: np.random.Generator
    book: Book
    names: Names
    days: dict[int, list[Records]]
    taken: NDArray[np.bool_]
    links: set[Link] = field(default_factory=set)

    @property
    def end(self) -> int:
        """The first bucket behind the branch."""
        return self.last_day * PER_DAY

    def time(self, bucket: int) -> float:
        """Epoch seconds of a bucket's start."""
        return self.start + bucket * BUCKET_SECONDS

    # ------------------------------------------------------------------ who

    def groups(self, kind: str) -> list[Group]:
        """Groups of established keys by their usual trait of a kind, in order of their ids; none that is used."""
        of_key = self.traits(kind)
        free = self.world.fit & ~self.taken
        found = []
        for value in sorted(set(of_key.tolist()) - {""}):
            keys = np.flatnonzero((of_key == value) & (self.world.born == 0))
            if (kind, value) not in self.links:
                found.append(Group((kind, value), keys, keys[free[keys]]))
        return found

    def traits(self, kind: str) -> NDArray[np.str_]:
        """Every established key's usual trait of a kind, as an alert names it; empty where it is not said."""
        book, names = self.world.book, self.names
        if kind == "org":
            return np.array(book.org_ids)
        column = {"network": book.networks, "asn": book.networks, "client": book.clients, "template": book.templates}
        called = {
            "network": names.networks,
            "asn": [str(asn) for asn in names.network_asns],
            "client": names.clients,
            "template": names.templates,
        }[kind]
        return np.array(["" if value == NONE else called[value] for value in column[kind][:, 0].tolist()])

    def strangers(self, count: int) -> Sums:
        """Keys fit for an attack that have nothing particular in common."""
        free = np.flatnonzero(self.world.fit & ~self.taken)
        return self.rng.permutation(free)[:count]

    def take(self, keys: Sums, *links: Link) -> None:
        """Keep keys and links for one campaign of this branch."""
        self.taken[keys[keys < len(self.taken)]] = True
        self.links.update(links)

    def heavy(self, keys: Sums) -> bool:
        """Whether one of the keys used more than the others together; new ones had used nothing."""
        usual = self.world.usual[keys[keys < len(self.world.usual)]]
        return len(usual) > 1 and bool(2 * usual.max() > usual.sum())

    def key_names(self, keys: Sums) -> tuple[str, ...]:
        """Their ids."""
        return tuple(self.book.key_ids[key] for key in keys.tolist())

    def network(self, asn: int) -> tuple[int, Link]:
        """A network that nobody had."""
        number = self.names.add_network(asn)
        return number, ("network", self.names.networks[number])

    def client(self, text: str) -> tuple[int, Link]:
        """A client that nobody had."""
        number = self.names.add_client(text)
        return number, ("client", self.names.clients[number])

    def template(self) -> tuple[int, Link]:
        """A prompt template that nobody had."""
        number = self.names.add_template()
        return number, ("template", self.names.templates[number])

    # ------------------------------------------------------------------ what

    def overlay(self, keys: Sums, first: int, expected: Floats, guise: Guise | Callable[[int], Guise]) -> list[Records]:
        """Add `expected` calls (keys x buckets from `first` on) and return them; a guise may be made for each day.

        What lies outside the branch is left out.
        """
        added = []
        for day in range(max(first // PER_DAY, self.first_day), self.last_day):
            begin, end = max(first, day * PER_DAY), min(first + expected.shape[1], (day + 1) * PER_DAY)
            if begin >= end:
                continue
            counts = self.rng.poisson(np.maximum(expected[:, begin - first : end - first], 0.0))
            row, bucket = np.nonzero(counts)
            cells = keys[row], bucket + begin, counts[row, bucket]
            made = guise(day) if callable(guise) else guise
            records = draw(self.rng, self.book, cells, self.start, day, made)
            self.days[day].append(records)
            added.append(records)
        return added

    def change(self, first: int, edit: Callable[[Records], None]) -> None:
        """Let `edit` change all records of the days from bucket `first` on in place; those before it pass unseen."""
        for day in range(max(first // PER_DAY, self.first_day), self.last_day):
            joint = joined(self.days[day])
            edit(joint)
            self.days[day] = [joint]

    def drop(self, chosen: Callable[[Records], NDArray[np.bool_]]) -> list[Records]:
        """Take records out; returns them."""
        gone = []
        for day, parts in self.days.items():
            joint = joined(parts)
            out = chosen(joint)
            gone.append(joint.where(out))
            self.days[day] = [joint.where(~out)]
        return gone

    def level(self, keys: Sums, first: int, last: int) -> Floats:
        """Expected calls of established keys, keys x buckets."""
        return np.asarray(self.world.level[keys, first:last], np.float64)

    def extra(self, members: Sums, parts: list[Records], tokens: Callable[[Records], Sums] | None = None) -> Extra:
        """Sums by member and bucket of some records' tokens."""
        if not parts or not sum(map(len, parts)):
            nothing = np.zeros(0, np.int64)
            return Extra(nothing, nothing, nothing)
        joint = joined(parts)
        place = np.full(len(self.book), NONE)
        place[members] = np.arange(len(members))
        cell = place[joint.key] * self.end + joint.bucket
        cells, where = np.unique(cell, return_inverse=True)
        taken = joint.tokens if tokens is None else tokens(joint)
        sums = np.bincount(where, taken.astype(np.float64), len(cells))
        return Extra(cells // self.end, cells % self.end, np.rint(sums).astype(np.int64))


Family = Callable[[Scene], Campaign | None]
"""Adds a campaign or a twin to a scene; None if the scene has nobody who is fit for it."""
