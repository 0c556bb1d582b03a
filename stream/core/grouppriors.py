"""The frozen priors of groups: how often a clean group shows what, and the score that decides.

A versioned file with a digest, shipped with the package; `python -m stream.lab.grouptraining` makes it again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib import resources

from stream.core.calibration import EULER, SD_OF_GUMBEL, TailLaw
from stream.core.group import DAYS, ELEVATED, MEASURED, NEWCOMERS, PIVOT, RESPAWN, STATISTICS, SUSTAINED
from stream.core.priors import tail_of

VERSION = 3
"""1 did not know what lasts, 2 no days."""
FAMILIES = ((*range(ELEVATED + 1), DAYS, SUSTAINED), (NEWCOMERS,), (PIVOT,), (RESPAWN,))
"""Statistics that see the same thing: of each family the strongest counts."""
HANDICAPS = (*(2.0 for _ in range(ELEVATED + 1)), 1.5, 2.0, 1.0, 0.5, 0.2)
"""Decades that are taken off each of STATISTICS: the rarer a campaign shows itself by one first, or the further it then
stands out, the smaller a part of the false alarms it is given (weighted p-values: Genovese, Roeder and Wasserman, False
discovery control with p-value weighting, Biometrika 2006)."""
AGREEMENT = 0.5
"""What the second family adds, of its decades."""
LEAST_DECADES = 1.0
"""A statistic that one clean group-day in ten shows is no channel of an alert."""


@dataclass(frozen=True, slots=True)
class GroupPriors:
    """The file's contents.

    laws: mean and variance of the daily maximum of each of MEASURED, of its location and scale in the file
    tails: of each of STATISTICS, standardised, how often a clean group-day exceeds a value
    tail: of the score that they give together, how often it begins to exceed a value, per clean group-day
    """

    laws: tuple[tuple[float, float], ...]
    tails: tuple[TailLaw, ...]
    tail: TailLaw
    digest: str

    @classmethod
    def from_json(cls, text: str) -> GroupPriors:
        """Priors of a file's text; raises ValueError with what is wrong."""
        try:
            document = json.loads(text)
            if document["version"] != VERSION:
                raise ValueError(f"a priors file of groups of version {document['version']}, this reads {VERSION}")
            laws = tuple((float(document["laws"][name][0]), float(document["laws"][name][1])) for name in MEASURED)
            tails = tuple(TailLaw(tail_of(document["tails"][name])) for name in STATISTICS)
            tail = TailLaw(tail_of(document["tail"]))
        except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
            raise ValueError(f"not a priors file of groups: {error!r}") from error
        if not all(math.isfinite(location) and 0 < scale < math.inf for location, scale in laws):
            raise ValueError("a law of a priors file of groups must have a finite location and a scale above 0")
        moments = tuple((location + EULER * scale, (scale * SD_OF_GUMBEL) ** 2) for location, scale in laws)
        return cls(moments, tails, tail, sha256(text.encode()).hexdigest()[:16])

    def decades(self, standardised: Sequence[float]) -> list[float]:
        """How rare each statistic is on a clean group-day, in decades."""
        return [-math.log10(tail.share(value)) for tail, value in zip(self.tails, standardised, strict=True)]

    @staticmethod
    def weighed(decades: Sequence[float]) -> list[float]:
        """Decades less what is taken off."""
        return [value - handicap for value, handicap in zip(decades, HANDICAPS, strict=True)]

    @staticmethod
    def score(weighed: Sequence[float]) -> float:
        """One number of what `weighed` gives: the strongest family, and some of the next one."""
        strongest: list[float] = sorted((max(weighed[i] for i in family) for family in FAMILIES), reverse=True)
        return strongest[0] + AGREEMENT * max(strongest[1], 0.0)


@lru_cache(maxsize=1)
def shipped_group_priors() -> GroupPriors:
    """The priors in the package."""
    return GroupPriors.from_json(resources.files("stream.core").joinpath("group_priors.json").read_text("utf-8"))
