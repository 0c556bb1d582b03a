"""What kind of day each UTC day of each key is: only clean ones can have false alerts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from stream.lab.worlds.world import Episode, World

YOUNG_DAYS = 7
"""A key's first week has false alerts of its own kind: it is on a line of its own."""
AFTER_ATTACK_DAYS = 2
"""So long after an attack what it left in the baseline may still speak."""
AFTER_LOOKALIKE_DAYS = 1


class Kind(IntEnum):
    """What a key-day counts as; the higher one wins."""

    WARM_UP = 0
    CLEAN = 1
    YOUNG = 2
    LOOKALIKE = 3
    ATTACK = 4


@dataclass(frozen=True, slots=True)
class KeyDays:
    """Days x keys. `active`: at least one accepted call; only such days count, but an alert may fall on any."""

    kinds: NDArray[np.int8]
    active: NDArray[np.bool_]
    per_day: int

    def count(self, kind: Kind) -> int:
        """Key-days of a kind."""
        return int(self.of_keys(kind).sum())

    def of_keys(self, kind: Kind) -> NDArray[np.int64]:
        """Days of a kind of each key."""
        days: NDArray[np.int64] = ((self.kinds == kind) & self.active).sum(axis=0)
        return days

    def kind(self, row: int, key: int) -> Kind:
        """What the day of a row counts as for a key."""
        return Kind(int(self.kinds[row // self.per_day, key]))


def key_days(world: World) -> KeyDays:
    """The kinds of a world's days; days before the world's first day that counts are warm-up, attacks or not."""
    per_day = world.per_day
    rows, keys = world.calls.shape
    days = -(-rows // per_day)
    starts = np.arange(0, rows, per_day)
    active = np.add.reduceat(world.calls, starts, axis=0) > 0
    age = np.arange(days)[:, None] - np.where(active.any(0), active.argmax(0), days)[None, :]
    kinds = np.full((days, keys), Kind.CLEAN, np.int8)
    kinds[age < YOUNG_DAYS] = Kind.YOUNG
    for episodes, kind, after in (
        (world.lookalikes, Kind.LOOKALIKE, AFTER_LOOKALIKE_DAYS),
        (world.attacks, Kind.ATTACK, AFTER_ATTACK_DAYS),
    ):
        for episode in episodes:
            first, last = days_of(episode, after, per_day)
            kinds[first:last, episode.key] = kind
    kinds[: world.first_day] = Kind.WARM_UP
    return KeyDays(kinds, active, per_day)


def days_of(episode: Episode, after: int, per_day: int) -> tuple[int, int]:
    """The days [first, last) that an episode touches, or the time up to `after` days behind it."""
    return episode.first // per_day, -(-(episode.last + after * per_day) // per_day)
