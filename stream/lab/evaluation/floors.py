"""What the detector must keep on the suite `ci`: a regression shows before it is shipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stream.lab.evaluation.rows import per_1000, rows_of
from stream.lab.evaluation.run import Result


def false_alerts(result: Result) -> float:
    """False alerts per 1,000 clean key-days."""
    scores = result.scores
    rate = per_1000(scores.clean.alerts, scores.clean.key_days)
    return rate[0] if rate else 0.0


def paging_lookalikes(result: Result) -> float:
    """Share of the look-alikes that page."""
    lookalikes = result.scores.lookalikes
    return sum(one.paged for one in lookalikes) / max(1, len(lookalikes))


def recall_of(name: str) -> Callable[[Result], float]:
    """Share found of the attacks in one of the scoreboard's rows."""
    return lambda result: next((row.recall for row in rows_of(result.scores.attacks) if row.name == name), 0.0)


def share_gone(result: Result) -> float:
    """Part of the attacks' tokens that was taken before the first alert."""
    rows = rows_of(result.scores.attacks)
    return rows[0].share_gone if rows else 1.0


def messages(result: Result) -> float:
    """Messages per incident of the notifier that makes the most, a channel without a pager too; the ends are apart."""
    return max((one.tally.per_incident or 0.0 for one in result.told), default=0.0)


MEASURES: dict[str, Callable[[Result], float]] = {
    "false alerts": false_alerts,
    "look-alikes that page": paging_lookalikes,
    "found": recall_of("all attacks"),
    "found, not mimic": recall_of("not mimic"),
    "surges found": recall_of("surge"),
    "gone": share_gone,
    "messages per incident": messages,
}
"""What a floor can be about."""


@dataclass(frozen=True, slots=True)
class Floor:
    """A bound for a world of the suite, which is named without its seed: at least, or with `most` at most."""

    world: str
    measure: str
    bound: float
    most: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value keeps it."""
        return value <= self.bound if self.most else value >= self.bound


FLOORS = (
    Floor("synthetic B", "false alerts", 2.0, most=True),
    Floor("synthetic B", "look-alikes that page", 0.1, most=True),
    Floor("synthetic B", "found", 0.72),
    Floor("synthetic B", "found, not mimic", 0.8),
    Floor("synthetic B", "surges found", 0.9),
    Floor("synthetic B", "gone", 0.1, most=True),
    Floor("synthetic B", "messages per incident", 1.3, most=True),
    Floor("synthetic D", "false alerts", 2.2, most=True),
    Floor("synthetic D", "look-alikes that page", 0.2, most=True),
    Floor("synthetic D", "found", 0.77),
    Floor("synthetic D", "found, not mimic", 0.85),
    Floor("synthetic D", "surges found", 0.9),
    Floor("synthetic D", "gone", 0.15, most=True),
    Floor("synthetic D", "messages per incident", 1.3, most=True),
)
"""The suite is always the same, so these are little below what the detector does: raise them when it does better. In
worlds as small as these the second dial lets nearly every large alert page, so look-alikes page more often here."""


@dataclass(frozen=True, slots=True)
class Held:
    """A floor on one world, and the value that was measured there."""

    world: str
    floor: Floor
    value: float

    @property
    def ok(self) -> bool:
        """The floor held."""
        return self.floor.holds(self.value)

    def __str__(self) -> str:
        sign = "at most" if self.floor.most else "at least"
        verdict = "holds" if self.ok else "MISSED"
        return f"{self.world}: {self.floor.measure} {self.value:.2f}, {sign} {self.floor.bound:g}: {verdict}"

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        bound = "at_most" if self.floor.most else "at_least"
        return {
            "world": self.world,
            "measure": self.floor.measure,
            "value": self.value,
            bound: self.floor.bound,
            "ok": self.ok,
        }


def held(results: Sequence[Result]) -> list[Held]:
    """Every floor on its world."""
    return [
        Held(result.world, floor, MEASURES[floor.measure](result))
        for result in results
        for floor in FLOORS
        if result.world.partition(",")[0] == floor.world
    ]
