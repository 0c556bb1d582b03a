"""One labelled world, evaluated: the detector at each dial, what chance and an oracle attain, and the rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from stream.core.quality import Quality
from stream.core.rules import Rules
from stream.lab.calibration.run import Calibration
from stream.lab.evaluation.attainable import attainable
from stream.lab.evaluation.bydays import seen_by_days
from stream.lab.evaluation.calibrated import HistoryError, calibrated, calibrations
from stream.lab.evaluation.detector import detect
from stream.lab.evaluation.keydays import Kind, key_days
from stream.lab.evaluation.notifications import Told, told
from stream.lab.evaluation.rivals import RIVALS, Match, match
from stream.lab.evaluation.rolling import Floats
from stream.lab.evaluation.rows import line_json, per_1000, scores_json
from stream.lab.evaluation.scoring import Line, Scores, line, score, with_attainable
from stream.lab.worlds.world import World
from stream.settings import Settings

Tell = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""


class Seen(StrEnum):
    """What tuning knew of a world: the less, the more its figures say of other traffic."""

    TUNED = "tuned on"
    NEW_SEED = "seen profile, new seed"
    NEW_CLIENTS = "unseen clients"
    NEVER = "unseen profile"


@dataclass(frozen=True, slots=True)
class Case:
    """A world of a suite: `make(attacks)` makes it, with its attacks or without.

    seen: what tuning knew of it
    twin: also run it without its attacks, for what chance and an oracle attain
    history: makes another world of its kind, without attacks, to set the dial by; None: there is none
    """

    name: str
    seen: Seen
    make: Callable[[bool], World]
    twin: bool = True
    history: Callable[[], World] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came out for one world at one setting of the dial (false alerts per 1,000 key-days).

    seen: what tuning knew of the world
    calm: clean key-days of the same keys without the attacks, and what was said on them; more of them than in
    `scores`, where the days around attacks do not count. None where that was not tried
    told: how often people would be told of its incidents, by notifier
    calibration: what set the dial, None: the shipped priors
    """

    world: str
    seen: Seen
    keys: int
    days: int
    dial: float
    scores: Scores
    rivals: tuple[Match, ...]
    calm: Line | None = None
    told: tuple[Told, ...] = ()
    calibration: Calibration | None = None

    def as_json(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "world": self.world,
            "seen": self.seen,
            "keys": self.keys,
            "days": self.days,
            "dial": self.dial,
            "calibration": None if self.calibration is None else self.calibration.as_json(),
            **scores_json(self.scores),
            "calm": None if self.calm is None else line_json(self.calm),
            "told": [one.as_json() for one in self.told],
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


def cautious(caution: float, settings: Settings) -> Rules:
    """The rules of a shard whose data are poor all the time: its bar is raised by `caution` decades."""
    rules = Rules(settings)
    rules.quality = Quality(settings.bucket_seconds, caution)
    return rules


def calibrations_of(case: Case, manner: Manner, tell: Tell) -> dict[float, Calibration]:
    """What sets each dial of a case by its history; raises HistoryError if that tells too little, or there is none."""
    if case.history is None:
        raise HistoryError(f"{case.name} has no history that nothing was tuned on, to set its dial by")
    what = f"{case.name}: keys of its history"
    return calibrations(case.history(), manner.settings, manner.dials, jobs=manner.jobs, progress=partial(tell, what))


def evaluate(case: Case, manner: Manner, tell: Tell, by: Mapping[float, Calibration] | None = None) -> Iterator[Result]:
    """The results of a case, dial by dial.

    by: what sets each dial, instead of the priors in force
    """
    tell(f"{case.name}: making it", 0, 1)
    world = case.make(True)
    twin = case.make(False) if case.twin else None
    tell(f"{case.name}: making it", 1, 1)
    rival_scores = {}
    for number, name in enumerate(manner.against, 1):
        rival_scores[name] = RIVALS[name].scores(world)
        tell(f"{case.name}: rivals", number, len(manner.against))
    for dial in manner.dials:
        if by is None:
            yield _at(dial, case, world, twin, rival_scores, manner, tell)
        else:
            its = replace(manner, rules=partial(calibrated, by[dial].text))
            yield replace(_at(dial, case, world, twin, rival_scores, its, tell), calibration=by[dial])


def _at(
    dial: float,
    case: Case,
    world: World,
    twin: World | None,
    rival_scores: Mapping[str, Floats],
    manner: Manner,
    tell: Tell,
) -> Result:
    """The result at one setting of the dial."""
    settings = manner.settings.model_copy(update={"false_alerts_per_1000_key_days": dial})
    run = partial(detect, make_rules=partial(manner.rules, settings), jobs=manner.jobs)
    alarms = run(world, progress=partial(tell, f"{case.name} at dial {dial:g}: keys"))
    calm: Line | None = None
    if twin is None:
        scores = score(world, alarms)
    else:
        attacked = sorted({episode.key for episode in world.attacks})
        what = f"{case.name} at dial {dial:g}: attacked keys without attacks"
        twin_alarms = run(twin, columns=attacked, progress=partial(tell, what))
        scores = score(world, alarms, twin_alarms)
        # the other keys are the same in both worlds
        others = [alarm for alarm in alarms if alarm.key not in attacked]
        calm = line(twin, key_days(twin), others + twin_alarms, Kind.CLEAN)
        realised = per_1000(scores.clean.alerts, scores.clean.key_days)
        # the oracle gets what the detector took, or what it was allowed if that is more
        budget = max(dial, realised[0]) if realised else dial
        scores = with_attainable(scores, attainable(world, twin, budget), seen_by_days(world, twin, budget))
    rivals = tuple(match(rival, world, scores.clean.alerts, of) for rival, of in rival_scores.items())
    days = -(-len(world.calls) // world.per_day)
    return Result(
        case.name, case.seen, len(world.key_ids), days, dial, scores, rivals, calm, told(world, alarms)
    )  # fmt: skip
