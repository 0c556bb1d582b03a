"""The records of one world as flat arrays, and which of their rows belong to clean key-days."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.lab.evaluation.keydays import KeyDays, Kind, key_days
from stream.lab.training.record import KeyRecord
from stream.lab.worlds.world import World

Numbers = NDArray[np.float32]
Places = NDArray[np.int64]
MOST_DAYS = 100_000
"""Of a world: a key-day is numbered key x MOST_DAYS + day."""
AFTER_ROWS = 12
"""An attack is still found in the hour after its end: the windows hold it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of all keys, key by key: what was said at each, and in which context.

    keys, rows: columns and rows of the world; values: rows x statistics; flags: LARGE | SHAPED
    clean: the row lies on a clean key-day
    """

    keys: NDArray[np.int32]
    rows: NDArray[np.int32]
    values: Numbers
    context: Numbers
    flags: NDArray[np.uint8]
    clean: NDArray[np.bool_]
    per_day: int

    def peaks(self, scores: Numbers, among: NDArray[np.bool_]) -> Places:
        """The places of each key-day's highest score among some rows."""
        places = np.flatnonzero(among)
        days = self.days(places)
        order = np.lexsort((scores[places], days))
        places, days = places[order], days[order]
        if not len(places):
            return places
        last: Places = places[np.append(days[1:] != days[:-1], True)]
        return last

    def days(self, places: Places) -> NDArray[np.int64]:
        """The number of the key-day of each place."""
        return self.keys[places].astype(np.int64) * MOST_DAYS + self.rows[places] // self.per_day

    def part(self, keys: NDArray[np.bool_]) -> Rows:
        """The rows of some keys."""
        kept = keys[self.keys]
        return replace(
            self, keys=self.keys[kept], rows=self.rows[kept], values=self.values[kept], context=self.context[kept],
            flags=self.flags[kept], clean=self.clean[kept],
        )  # fmt: skip

    def within(self, key: int, first: int, last: int) -> slice:
        """The places of one key's rows in [first, last)."""
        begin, end = np.searchsorted(self.keys, [key, key + 1])
        part = self.rows[begin:end]
        low, high = np.searchsorted(part, [first, last])
        return slice(int(begin + low), int(begin + high))


@dataclass(frozen=True, slots=True)
class Sample:
    """A world, and what the channels said of it: at steps and, by minutes alone, in between.

    newcomers: the highest number of each young key-day; young_days: how many there are
    days: clean key-days of each key
    """

    world: World
    steps: Rows
    quick: Rows
    days: NDArray[np.int64]
    young_days: int
    newcomers: Numbers

    @property
    def key_days(self) -> int:
        """Clean key-days of all keys."""
        return int(self.days.sum())

    def part(self, keys: NDArray[np.bool_]) -> Sample:
        """What belongs to some keys, with the attacks on them; newcomers stay as they are."""
        attacks = tuple(episode for episode in self.world.attacks if keys[episode.key])
        return replace(
            self, world=replace(self.world, attacks=attacks), steps=self.steps.part(keys), quick=self.quick.part(keys),
            days=np.where(keys, self.days, 0),
        )  # fmt: skip


def sample_of(world: World, records: Sequence[KeyRecord]) -> Sample:
    """The records of a world, flattened."""
    days = key_days(world)
    steps = _rows(records, days, world, lambda r: (r.rows, r.values, r.context, r.flags))
    quick = _rows(
        records, days, world,
        lambda r: (r.quick_rows, r.quick_values, r.quick_context, np.zeros(len(r.quick_rows), np.uint8)),
    )  # fmt: skip
    newcomers: list[float] = []
    for record in records:
        best: dict[int, float] = {}
        for row, value in zip(record.young_rows.tolist(), record.young.tolist(), strict=True):
            if days.kind(row, record.key) == Kind.YOUNG:
                best[row // world.per_day] = max(best.get(row // world.per_day, 0.0), value)
        newcomers += best.values()
    return Sample(
        world, steps, quick, days.of_keys(Kind.CLEAN), days.count(Kind.YOUNG), np.array(newcomers, np.float32)
    )


def _rows(
    records: Sequence[KeyRecord], days: KeyDays, world: World, parts: Callable[[KeyRecord], tuple[Any, Any, Any, Any]]
) -> Rows:
    columns = [parts(record) for record in records]
    rows, values, context, flags = (np.concatenate(column) for column in zip(*columns, strict=True))
    keys = np.concatenate(
        [np.full(len(part[0]), record.key, np.int32) for record, part in zip(records, columns, strict=True)]
    )
    clean = days.kinds[rows // world.per_day, keys] == Kind.CLEAN
    return Rows(keys, rows, values, context, flags, clean, world.per_day)
