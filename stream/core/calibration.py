"""From scores to rates: each key's own daily maxima standardise it, a frozen tail law says how often that happens."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib import resources

from stream.core.residuals import HORIZONS

PRIOR_DAYS = 15.0
"""A key's own daily maxima outweigh the population's after about two weeks."""
HALF_LIFE_DAYS = 60.0
SCALE_FLOOR = 0.6
CLIP_SD = 3.5
_SD_OF_GUMBEL = math.pi / math.sqrt(6)
_EULER = 0.5772156649015329


class DailyMaximum:
    """A Gumbel law on one key's daily maxima of one standardised residual.

    Moments follow the days with an exponential forgetting; the population's law counts as PRIOR_DAYS days. After
    E. J. Gumbel, Statistics of Extremes (1958): mean = location + 0.5772 scale, sd = pi / sqrt(6) scale.

    >>> law = DailyMaximum(location=1.0, scale=0.5)
    >>> round(law.standardise(2.0), 6)
    2.0
    """

    __slots__ = ("days", "floor", "mean", "peak", "variance")

    def __init__(self, location: float, scale: float) -> None:
        self.mean = location + _EULER * scale
        self.variance = (scale * _SD_OF_GUMBEL) ** 2
        self.floor = (SCALE_FLOOR * scale * _SD_OF_GUMBEL) ** 2
        self.days = 0
        self.peak = -math.inf

    def standardise(self, z: float) -> float:
        """(z - location) / scale: P(a day's maximum exceeds it) is about exp(-value)."""
        scale = math.sqrt(self.variance) / _SD_OF_GUMBEL
        return (z - self.mean + _EULER * scale) / scale

    def raw(self, standardised: float) -> float:
        """The z whose `standardise` is the given value."""
        scale = math.sqrt(self.variance) / _SD_OF_GUMBEL
        return self.mean - _EULER * scale + scale * standardised

    def learn_day(self) -> None:
        """Take up the day's `peak` and begin a new day; a day without a peak teaches nothing."""
        peak, self.peak = self.peak, -math.inf
        if peak == -math.inf:
            return
        weight = max(1 / (PRIOR_DAYS + self.days + 1), 1 - 0.5 ** (1 / HALF_LIFE_DAYS))
        self.days += 1
        distance = min(peak, self.mean + CLIP_SD * math.sqrt(self.variance)) - self.mean
        self.mean += weight * distance
        self.variance = max(self.floor, (1 - weight) * (self.variance + weight * distance * distance))


@dataclass(frozen=True, slots=True)
class Priors:
    """The frozen population priors: what is known before a key has shown anything, and the tail law.

    `laws` holds (location, scale) of the daily maximum per horizon; `tail` holds (score, share of clean key-days whose
    highest score exceeds it), falling; `digest` names the file.
    """

    laws: tuple[tuple[float, float], ...]
    tail: tuple[tuple[float, float], ...]
    call_input_tokens: float
    call_output_tokens: float
    digest: str

    @classmethod
    def from_json(cls, text: str) -> Priors:
        """Priors of a file's text; raises ValueError with what is wrong."""
        try:
            document = json.loads(text)
            tail = tuple((float(score), float(share)) for score, share in document["tail"])
            priors = cls(
                laws=tuple((float(law["location"]), float(law["scale"])) for law in document["laws"]),
                tail=tail,
                call_input_tokens=float(document["call_input_tokens"]),
                call_output_tokens=float(document["call_output_tokens"]),
                digest=sha256(text.encode()).hexdigest()[:16],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a priors file: {error!r}") from error
        scores = [score for score, _ in tail]
        shares = [share for _, share in tail]
        if len(tail) < 2 or scores != sorted(set(scores)) or shares != sorted(set(shares), reverse=True):
            raise ValueError("the tail of a priors file must rise in score and fall in share")
        if not all(map(math.isfinite, scores)) or not 0 < shares[-1] <= shares[0] <= 1:
            raise ValueError("the tail of a priors file must hold finite scores, and shares above 0 and up to 1")
        if len(priors.laws) != len(HORIZONS):
            raise ValueError(f"a priors file has a law for each of {len(HORIZONS)} horizons, not {len(priors.laws)}")
        if not all(math.isfinite(location) and 0 < scale < math.inf for location, scale in priors.laws):
            raise ValueError("a law of a priors file must have a finite location and a scale above 0")
        if not all(0 <= usual < math.inf for usual in (priors.call_input_tokens, priors.call_output_tokens)):
            raise ValueError("the tokens per call of a priors file must be 0 or more")
        return priors


@lru_cache(maxsize=1)
def shipped_priors() -> Priors:
    """The priors in the package; `python -m stream.lab.priors` makes them again."""
    return Priors.from_json(resources.files("stream.core").joinpath("priors.json").read_text("utf-8"))


class TailLaw:
    """How often a clean key shows a score within a day, and the score that is exceeded at a given rate.

    Log-linear between the measured points and, with the slope of the last two, beyond them.

    >>> law = TailLaw([(1.0, 0.1), (2.0, 0.01)])
    >>> round(law.share(3.0), 6), round(law.threshold(0.001), 6)
    (0.001, 3.0)
    """

    __slots__ = ("logs", "scores")

    def __init__(self, tail: Sequence[tuple[float, float]]) -> None:
        self.scores = [score for score, _ in tail]
        self.logs = [math.log(share) for _, share in tail]

    def share(self, score: float) -> float:
        """Share of clean key-days whose highest score exceeds `score`, in (0, 1]."""
        scores, logs = self.scores, self.logs
        if score <= scores[0]:
            return 1.0 if score < scores[0] else math.exp(logs[0])
        i = min(bisect_left(scores, score), len(scores) - 1)
        slope = (logs[i] - logs[i - 1]) / (scores[i] - scores[i - 1])
        return math.exp(max(logs[i - 1] + slope * (score - scores[i - 1]), -700.0))

    def threshold(self, share: float) -> float:
        """The score that the given share of clean key-days exceeds."""
        wanted = math.log(min(share, math.exp(self.logs[0])))
        falling = [-log for log in self.logs]
        i = min(max(bisect_left(falling, -wanted), 1), len(falling) - 1)
        slope = (self.logs[i] - self.logs[i - 1]) / (self.scores[i] - self.scores[i - 1])
        return self.scores[i - 1] + (wanted - self.logs[i - 1]) / slope
