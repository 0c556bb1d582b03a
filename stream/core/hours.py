"""What all keys said in one hour, summed by group."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stream.core.evidence import COUNT, Cell, Evidence, Member
from stream.core.links import Group, groups_of


class Hour:
    """All that one group's keys said in one hour: the sums of its cells (`evidence.COUNT` of them), and those."""

    __slots__ = ("cells", "sums")

    def __init__(self, sums: list[float], cells: list[Cell]) -> None:
        self.sums = sums
        self.cells = cells

    @property
    def members(self) -> list[Member]:
        """The keys that are named."""
        return [member for cell in self.cells for member in cell.members]

    @property
    def leaves(self) -> list[int]:
        """Hashes of keys."""
        return [leaf for cell in self.cells for leaf in cell.leaves]

    @property
    def orgs(self) -> set[str]:
        """Organisations of the keys."""
        return {traits.org for cell in self.cells for traits in cell.traits if traits.org is not None}

    @property
    def models(self) -> dict[str, float]:
        """How the calls are shared out among models, each key as one."""
        models: dict[str, float] = {}
        for cell in self.cells:
            for name, share in cell.models.items():
                models[name] = models.get(name, 0.0) + share
        return models


class Said:
    """An hour: what everybody said, what each group did, and each cell with its groups."""

    __slots__ = ("everybody", "groups", "spoken")

    def __init__(self, parts: Iterable[Evidence], composites: tuple[tuple[str, ...], ...]) -> None:
        cells = _in_order(parts)
        self.spoken: list[tuple[Cell, tuple[Group, ...]]] = [
            (cell, groups_of(tuple(cell.traits), composites)) for cell in cells
        ]
        places: dict[Group, int] = {}
        of_group: list[list[Cell]] = []
        rows: list[int] = []
        columns: list[int] = []
        for row, (cell, groups) in enumerate(self.spoken):
            for group in groups:
                place = places.get(group)
                if place is None:
                    place = places[group] = len(of_group)
                    of_group.append([])
                of_group[place].append(cell)
                rows.append(row)
                columns.append(place)
        values = np.array([cell.sums for cell in cells], np.float64).reshape(len(cells), COUNT)
        sums = np.zeros((len(of_group), COUNT))
        # one after the other: sums of floats depend on their order, which is that of the cells
        np.add.at(sums, np.array(columns, np.intp), values[np.array(rows, np.intp)])
        self.groups = {
            group: Hour(own, of_group[place]) for (group, place), own in zip(places.items(), sums.tolist(), strict=True)
        }
        total = np.zeros((1, COUNT))
        np.add.at(total, np.zeros(len(cells), np.intp), values)
        self.everybody = Hour(total[0].tolist(), cells)


def _in_order(parts: Iterable[Evidence]) -> list[Cell]:
    """The cells of an hour in the one order in which they are summed; what is told again takes the former's place."""
    numbered = {(part.bucket, part.shard, cell.number): cell for part in parts for cell in part.cells}
    return [numbered[place] for place in sorted(numbered)]
