"""Campaign worlds: a history that is the same for all, and branches in which something happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stream.events import Call
from stream.lab.worlds.campaigns.accounts import Background, Book, background
from stream.lab.worlds.campaigns.labels import Campaign, Link
from stream.lab.worlds.campaigns.records import Records, joined
from stream.lab.worlds.campaigns.scene import Family, Scene, background_day
from stream.lab.worlds.campaigns.sharing import NONE, SHARINGS, Names
from stream.lab.worlds.draws import generator
from stream.lab.worlds.profiles import PROFILES
from stream.lab.worlds.tally import BUCKET_SECONDS, PER_DAY
from stream.lab.worlds.world import Sums

HISTORY_DAYS = 21
"""Three weeks, as in the worlds of single keys: what a baseline and a group's own law need."""
KEYS = 400
BUSY_SHARE = 0.3
"""No more of the established keys are in campaigns of one branch: a population that is attacked is another one."""


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day's records."""

    number: int
    records: Records
    book: Book
    names: Names
    tag: str

    def calls(self, of: NDArray[np.bool_] | None = None) -> list[Call]:
        """As calls in order of time, their traits reduced; of some of the keys, or of all."""
        records = self.records if of is None else self.records.where(of[self.records.key])
        return records.calls_of(self.book, self.names, self.tag)

    def members(self, composites: Sequence[tuple[str, ...]] = ()) -> dict[Link, frozenset[str]]:
        """Groups of the day, type and value, to the keys that were active in it; composites join types by `+`."""
        records, names = self.records, self.names
        orgs = sorted(set(self.book.org_ids))
        org_index = {org: number for number, org in enumerate(orgs)}
        org_of = np.array([org_index[org] for org in self.book.org_ids])
        asns = sorted(set(names.network_asns))
        asn_of = np.searchsorted(asns, names.network_asns)
        columns: dict[str, tuple[Sums, Sequence[str]]] = {
            "org": (org_of[records.key], orgs),
            "network": (records.network, names.networks),
            "asn": (np.where(records.network == NONE, NONE, asn_of[records.network]), [str(asn) for asn in asns]),
            "client": (records.client, names.clients),
            "template": (records.template, names.templates),
            "model": (records.model, names.models),
        }
        found: dict[Link, set[str]] = {}
        for parts in [(kind,) for kind in columns] + list(composites):
            of_parts = [columns[kind] for kind in parts]
            said = np.all([values != NONE for values, _ in of_parts], axis=0)
            # one number for each cell: rows of several are sorted much more slowly
            shape = (*(max(1, len(called)) for _, called in of_parts), len(self.book))
            cells = np.unravel_index(
                np.unique(np.ravel_multi_index([*(v[said] for v, _ in of_parts), records.key[said]], shape)), shape
            )
            for *values, key in zip(*(part.tolist() for part in cells), strict=True):
                value = " ".join(called[number] for (_, called), number in zip(of_parts, values, strict=True))
                found.setdefault(("+".join(parts), value), set()).add(self.book.key_ids[key])
        return {group: frozenset(keys) for group, keys in found.items()}


@dataclass(frozen=True, slots=True)
class Branch:
    """How the world goes on after its history: days from `start` (epoch seconds) on, and what is true of them."""

    start: float
    days: tuple[Day, ...]
    campaigns: tuple[Campaign, ...]

    @property
    def first_day(self) -> int:
        """The number of its first day."""
        return self.days[0].number

    def differing(self, calm: Branch) -> NDArray[np.bool_]:
        """Keys that call, on some day, otherwise than in another branch that is at least as long; element k is key k's.

        By sums of hashes of each key's records: their order does not count.
        """
        keys = len(self.days[-1].book)
        differs = np.zeros(keys, np.bool_)
        for mine, other in zip(self.days, calm.days, strict=False):
            differs |= mine.records.digests(keys) != other.records.digests(keys)
        return differs

    @property
    def end(self) -> float:
        """Epoch seconds of its end."""
        return self.start + len(self.days) * 86_400


class CampaignWorld:
    """A population, its history, and branches from there; the same arguments give the same calls.

    profile: "B", "C" or "D" (see `worlds.profiles` and `sharing.SHARINGS`); keys: established ones
    days: length of the longest branch

    Buckets are of 300 s and count from `start`, a Monday 00:00 UTC. Raises ValueError for an unknown profile.
    """

    def __init__(self, seed: int, profile: str = "B", *, keys: int = KEYS, days: int = 8) -> None:
        if profile not in SHARINGS:
            raise ValueError(f"no profile {profile!r} of campaign worlds: there are {', '.join(SHARINGS)}")
        self.name = f"campaigns-{profile}-{seed}"
        self.seed = seed * 256 + ord(profile)
        self.keys = keys
        self.branch_days = days
        self._law, self._sharing = PROFILES[profile], SHARINGS[profile]
        self.start = self._law.start
        self._held: dict[int, Records] = {}

    @property
    def days(self) -> int:
        """How many days it has: its history, and a branch."""
        return HISTORY_DAYS + self.branch_days

    @cached_property
    def background(self) -> Background:
        """The population."""
        return background(self._law, self._sharing, self.seed, self.keys, self.days, HISTORY_DAYS)

    @property
    def branch_start(self) -> float:
        """Epoch seconds at which branches begin."""
        return self.start + HISTORY_DAYS * PER_DAY * BUCKET_SECONDS

    def day(self, number: int) -> Records:
        """The background's records of a day: those of branches are held, for each of them begins with these."""
        if number < HISTORY_DAYS:
            return background_day(self.background, self.seed, self.start, number)
        if number not in self._held:
            self._held[number] = background_day(self.background, self.seed, self.start, number)
        return self._held[number]

    def history(self) -> Iterator[Day]:
        """The days before any branch."""
        for day in range(HISTORY_DAYS):
            yield Day(day, self.day(day), self.background.book, self.background.names, f"{day}-")

    def branch(self, number: int, families: Sequence[Family], days: int | None = None) -> Branch:
        """The world with some campaigns in it, in the order given; who finds no victims is left out.

        number: which numbers they draw from, so that two branches with the same families differ
        """
        world = self.background
        last = HISTORY_DAYS + min(days or self.branch_days, self.branch_days)
        scene = Scene(
            world=world,
            seed=self.seed,
            start=self.start,
            first_day=HISTORY_DAYS,
            last_day=last,
            rng=generator(self.seed, "campaign branch", number),
            book=world.book.copy(),
            names=world.names.copy(),
            days={day: [self.day(day)] for day in range(HISTORY_DAYS, last)},
            taken=np.zeros(self.keys, np.bool_),
        )  # fmt: skip
        campaigns = []
        for family in families:
            campaign = family(scene) if scene.taken.mean() < BUSY_SHARE else None
            if campaign is not None:
                campaigns.append(campaign)
        made = tuple(
            Day(day, joined(parts), scene.book, scene.names, f"{number}.{day}-") for day, parts in scene.days.items()
        )
        return Branch(self.branch_start, made, tuple(campaigns))
