"""One labelled world, evaluated: the detector at each dial, what chance and an oracle attain, and the rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from stream.core.rules import Rules
from stream.lab.evaluation.attainable import attainable
from stream.lab.evaluation.detector import detect
from stream.lab.evaluation.rivals import RIVALS, Match, match
from stream.lab.evaluation.rows import per_1000, scores_json
from stream.lab.evaluation.scoring import Scores, score, with_attainable
from stream.lab.worlds.world import World
from stream.settings import Settings

Tell = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Case:
    """A world of a suite: `make(attacks)` makes it, with its attacks or without.

    twin: also run it without its attacks, for what chance and an oracle attain
    """

    name: str
    make: Callable[[bool], World]
    twin: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What came out for one world at one setting of the dial (false alerts per 1,000 key-days)."""

    world: str
    keys: int
    days: int
    dial: float
    scores: Scores
    rivals: tuple[Match, ...]

    def as_json(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "world": self.world,
            "keys": self.keys,
            "days": self.days,
            "dial": self.dial,
            **scores_json(self.scores),
            "against": [
                {"name": rival.name, "threshold": rival.threshold, **scores_json(rival.scores)} for rival in self.rivals
            ],
        }


@dataclass(frozen=True, slots=True)
class Manner:
    """How to evaluate: the dials, who else is to be tried, on how many processes, and what decides."""

    settings: Settings
    dials: Sequence[float]
    against: Sequence[str] = ()
    jobs: int = 1
    rules: Callable[[Settings], Rules] = Rules


def evaluate(case: Case, manner: Manner, tell: Tell) -> Iterator[Result]:
    """The results of a case, dial by dial."""
    tell(f"{case.name}: making it", 0, 1)
    world = case.make(True)
    twin = case.make(False) if case.twin else None
    tell(f"{case.name}: making it", 1, 1)
    attacked = sorted({episode.key for episode in world.attacks})
    rival_scores = {}
    for number, name in enumerate(manner.against):
        tell(f"{case.name}: rivals", number, len(manner.against))
        rival_scores[name] = RIVALS[name].scores(world)
    for dial in manner.dials:
        settings = manner.settings.model_copy(update={"false_alerts_per_1000_key_days": dial})
        run = partial(detect, make_rules=partial(manner.rules, settings), jobs=manner.jobs)
        what = f"{case.name} at dial {dial:g}"
        alarms = run(world, progress=partial(tell, f"{what}: keys"))
        chance = None
        if twin is not None:
            chance = run(twin, columns=attacked, progress=partial(tell, f"{what}: attacked keys without attacks"))
        scores = score(world, alarms, chance)
        if twin is not None:
            realised = per_1000(scores.clean.alerts, scores.clean.key_days)
            # the oracle gets what the detector took, or what it was allowed if that is more
            budget = max(dial, realised[0]) if realised else dial
            scores = with_attainable(scores, attainable(world, twin, budget))
        rivals = (match(name, world, scores.clean.alerts, of) for name, of in rival_scores.items())
        days = -(-len(world.calls) // world.per_day)
        yield Result(case.name, len(world.key_ids), days, dial, scores, tuple(rivals))
