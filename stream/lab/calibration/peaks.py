"""The highest score of every key-day of a history: one number each, in bounded memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.core.bucket import Verdict
from stream.core.channels.shape import NEWCOMER_DAYS
from stream.core.key import KeyState
from stream.core.rules import NEWCOMER

AFTER_INCIDENT_DAYS = 2
"""So long after an incident what it left in the baseline may still speak: these days are not clean either."""
DAY_SECONDS = 86_400.0
RECENT_DAYS = 7

Spans = Mapping[str, Sequence[tuple[float, float]]]
"""Stretches of event time, [start, end) in epoch seconds, by key."""


@dataclass(frozen=True, slots=True)
class KeyDays:
    """One row a key-day, in no particular order.

    key: a number that stands for the key; day: UTC days since 1970; peak: the day's highest score, 0 if there was none
    """

    key: NDArray[np.int32]
    day: NDArray[np.int32]
    peak: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.peak)

    def where(self, chosen: NDArray[np.bool_]) -> KeyDays:
        """Some of the rows."""
        return KeyDays(self.key[chosen], self.day[chosen], self.peak[chosen])


class Peaks:
    """Hears what a detector judges (`Rules.listen`) and keeps what is highest on each day of each key.

    A key-day is a UTC day with at least one accepted call after the key's first seven days; its number is the score. On
    the days of the first week it is the newcomer's number. A key that was begun anew after a long silence is new again.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        """By key: the row of its newest day."""
        self._key, self._day, self._young, self._peak = array("i"), array("i"), array("b"), array("f")

    def see(self, key: KeyState, verdict: Verdict) -> None:
        """Take up a closed bucket of a key; a key's buckets come in order."""
        per_day = key.rules.calendar.per_day
        bucket, age = verdict.bucket, key.baseline.age
        day = bucket // per_day
        young = day - (bucket - age) // per_day < NEWCOMER_DAYS
        value = key.channels[NEWCOMER].values[0] if young else verdict.score
        if not young and age <= NEWCOMER_DAYS * per_day:
            value = 0.0  # on the eighth day the newcomer may still speak: it has a tail of its own
        row = self._last.get(key.key_id)
        if row is None or self._day[row] != day:
            number = len(self._last) if row is None else self._key[row]
            self._last[key.key_id] = len(self._day)
            self._key.append(number)
            self._day.append(day)
            self._young.append(young)
            self._peak.append(value)
        elif value > self._peak[row]:
            self._peak[row] = value

    def add(self, other: Peaks) -> None:
        """Take up what was heard of other keys; raises ValueError if one of them is known."""
        if not self._last.keys().isdisjoint(other._last):
            raise ValueError("days of the same key were heard apart")
        keys, rows = len(self._last), len(self._day)
        self._last.update((key_id, rows + row) for key_id, row in other._last.items())
        self._key.extend(keys + number for number in other._key)
        self._day.extend(other._day)
        self._young.extend(other._young)
        self._peak.extend(other._peak)

    @property
    def keys(self) -> int:
        """Keys that were heard of."""
        return len(self._last)

    def rows(self, *, young: bool, first: int = 0, without: Spans | None = None) -> KeyDays:
        """Days after the first week, or (`young`) of it, from day `first` on.

        Those that an incident of `without` touches are left out, and the AFTER_INCIDENT_DAYS after it.
        """
        every = self._every()
        chosen = ((np.array(self._young, np.int8) != 0) == young) & (every.day >= first)
        for key_id, spans in (without or {}).items():
            newest = self._last.get(key_id)
            if newest is None:
                continue
            mine = every.key == self._key[newest]
            for start, end in spans:
                last = math.ceil(end / DAY_SECONDS) + AFTER_INCIDENT_DAYS if math.isfinite(end) else math.inf
                chosen &= ~(mine & (every.day >= start // DAY_SECONDS) & (every.day < last))
        return every.where(chosen)

    def span(self) -> tuple[int, int]:
        """The first and the last day, counted from 1970; raises ValueError if there was none."""
        return min(self._day), max(self._day)

    def active_keys(self) -> float:
        """Keys in use on a day, as a mean over the last RECENT_DAYS whole days; 0 if there was no day."""
        day = self._every().day
        if not len(day):
            return 0.0
        newest, oldest = int(day.max()), int(day.min())
        if newest == oldest:
            return float(len(day))
        first = max(oldest, newest - RECENT_DAYS)
        # the newest day may have only begun
        return float(np.count_nonzero((day >= first) & (day < newest)) / (newest - first))

    def _every(self) -> KeyDays:
        return KeyDays(np.array(self._key, np.int32), np.array(self._day, np.int32), np.array(self._peak, np.float32))
