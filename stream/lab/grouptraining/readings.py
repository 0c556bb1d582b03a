"""What groups show of what was told, hour by hour, while they know nothing of how rare it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream.core.arrivals import WEEK_HOURS
from stream.core.course import CALM_HOURS
from stream.core.group import STATISTICS, GroupState
from stream.core.groups import Groups
from stream.core.hours import Hour
from stream.lab.grouptraining.document import Document, guessed_priors
from stream.lab.grouptraining.records import Record
from stream.settings import Settings

MOST_DAYS = 1_000
"""No world is longer."""

Values = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Readings:
    """What groups showed, hour by hour: columns of equal length, and MEASURED, or STATISTICS, of each hour.

    group: which one it is, from 0 on; learns: the hour counts for the group's own laws; counts: and for the priors
    """

    group: Numbers
    hour: Numbers
    learns: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    values: Values

    def peaks(self, column: Values) -> Values:
        """The highest of each group-day that counts."""
        days = self.group[self.counts] * MOST_DAYS + self.hour[self.counts] // 24 % MOST_DAYS
        _, place = np.unique(days, return_inverse=True)
        found = np.full(int(place.max()) + 1, -np.inf)
        np.maximum.at(found, place, column[self.counts])
        return found

    def openings(self, column: Values, value: float) -> int:
        """How often a group begins to exceed a value: hours that do count once until it has not for CALM_HOURS.

        Runs declustering: Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, 5.3.2.
        """
        over = self.counts & (column > value)
        group, hour = self.group[over], self.hour[over]
        order = np.lexsort((hour, group))
        group, hour = group[order], hour[order]
        goes_on = (np.diff(group) == 0) & (np.diff(hour) <= CALM_HOURS)
        return len(group) - int(goes_on.sum())

    def standardised(self, laws: Document) -> Readings:
        """By each group's own daily maxima, as a group does it, where nothing is open: STATISTICS."""
        moments = guessed_priors(laws=laws).laws
        states: dict[int, GroupState] = {}
        found = np.empty((len(self.values), len(STATISTICS)))
        columns = (self.group.tolist(), self.hour.tolist(), self.learns.tolist(), self.values.tolist())
        for row, (group, hour, learns, values) in enumerate(zip(*columns, strict=True)):
            state = states.get(group)
            if state is None:
                state = states[group] = GroupState("", "", 0, 0)
                state.begin(moments)
            found[row] = state.standardised(values, hour, moments, learns)
        return replace(self, values=found)


def read(told: Record) -> Readings:
    """Put what was told before groups that know nothing of how rare it is."""
    numbers: dict[tuple[str, str], int] = {}
    group: list[int] = []
    hours: list[int] = []
    rows: list[Sequence[float]] = []

    def watch(
        state: GroupState, hour: int, _said: Hour, values: Sequence[float], _std: Sequence[float], _score: float
    ) -> None:
        group.append(numbers.setdefault(state.group, len(numbers)))
        hours.append(hour)
        rows.append(tuple(values))

    groups = Groups(Settings(partitions=1), guessed_priors(), watch=watch)
    for _ in told.put_before(groups):
        pass
    hour = np.array(hours)
    learns = hour >= groups.first_hour + WEEK_HOURS
    return Readings(np.array(group), hour, learns, hour >= told.first_hour, np.array(rows))
