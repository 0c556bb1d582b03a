"""The frozen population priors: what is known before a key has shown anything, and how the decision is made.

A versioned file with a digest, shipped with the package and rewritten by `overdraw calibrate`; never what one worker
happens to see.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from typing import Any, Final

from stream.core.rule import CONTEXT, TAIL_FEATURES, Head, Rule, Tail
from stream.settings import Settings, SettingsError

VERSION: Final = 2
HEADS = ("quick", "volume", "joint")
POPULATION = ("level", "at_limit", "output_ratio", "uniformity")


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal law over the keys of the population; `offset` stands inside the logarithm that it is the law of."""

    mean: float
    sd: float
    offset: float = 0.0

    def above(self, value: float) -> float:
        """How many standard deviations `value` is above the mean, 0 if it is below."""
        return max((value - self.mean) / self.sd, 0.0)


@dataclass(frozen=True, slots=True)
class Priors:
    """The file's contents.

    laws: (location, scale) of the daily maximum of each standardised statistic
    rule: the decision rule over STATISTICS
    tail: (score, share of clean key-days whose highest score exceeds it), falling; a score of d decades should be
    exceeded by 10^-d, `overdraw calibrate` says by how many it is where it was run
    newcomer_tail: the same for the newcomer's number, over the days of a key's first week
    population: laws over the keys: ln of tokens per second, and the shape of their calls
    digest: names the file
    """

    laws: Mapping[str, tuple[float, float]]
    rule: Rule
    tail: tuple[tuple[float, float], ...]
    newcomer_tail: tuple[tuple[float, float], ...]
    population: Mapping[str, Normal]
    call_input_tokens: float
    call_output_tokens: float
    digest: str

    def law(self, statistic: str) -> tuple[float, float]:
        """Location and scale of a statistic's daily maximum."""
        return self.laws[statistic]

    @classmethod
    def from_json(cls, text: str) -> Priors:
        """Priors of a file's text; raises ValueError with what is wrong."""
        from stream.core.channels import STANDARDISED, STATISTICS

        try:
            document = json.loads(text)
            version = document["version"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a priors file: {_damage(error)}") from error
        if version != VERSION:
            raise ValueError(f"a priors file of version {version}, this program reads {VERSION}: make it again")
        try:
            priors = cls(
                laws={name: (float(law[0]), float(law[1])) for name, law in document["laws"].items()},
                rule=Rule(*(_head(name, document["rule"][name], STATISTICS) for name in HEADS)),
                tail=tail_of(document["tail"]),
                newcomer_tail=tail_of(document["newcomer_tail"]),
                population={name: Normal(*map(float, document["population"][name])) for name in POPULATION},
                call_input_tokens=float(document["call_input_tokens"]),
                call_output_tokens=float(document["call_output_tokens"]),
                digest=sha256(text.encode()).hexdigest()[:16],
            )
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise ValueError(f"not a priors file: {_damage(error)}") from error
        if missing := set(STANDARDISED) - set(priors.laws):
            raise ValueError(f"a priors file must have a law for {', '.join(sorted(missing))}")
        if not all(math.isfinite(location) and 0 < scale < math.inf for location, scale in priors.laws.values()):
            raise ValueError("a law of a priors file must have a finite location and a scale above 0")
        if not all(0 <= usual < math.inf for usual in (priors.call_input_tokens, priors.call_output_tokens)):
            raise ValueError("the tokens per call of a priors file must be 0 or more")
        if not all(math.isfinite(law.mean) and 0 < law.sd < math.inf for law in priors.population.values()):
            raise ValueError("a population law of a priors file must have a finite mean and an sd above 0")
        return priors


def tail_of(rows: Any) -> tuple[tuple[float, float], ...]:
    """The rows of a tail, as a priors file has them. Raises ValueError, TypeError."""
    tail = tuple((float(score), float(share)) for score, share in rows)
    scores = [score for score, _ in tail]
    shares = [share for _, share in tail]
    if len(tail) < 2 or scores != sorted(set(scores)) or shares != sorted(set(shares), reverse=True):
        raise ValueError("its tail must rise in score and fall in share")
    if not all(map(math.isfinite, scores)) or not 0 < shares[-1] <= shares[0] <= 1:
        raise ValueError("its tail must hold finite scores, and shares above 0 and up to 1")
    return tail


def _damage(error: Exception) -> str:
    """What a priors file lacks, in plain words where the error's own name Python's."""
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]!r} in it; `overdraw calibrate` writes a whole one"
    if isinstance(error, TypeError | AttributeError | IndexError):
        return "a part of it is of another shape than `overdraw calibrate` writes it"
    return f"it is not JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)


def _head(name: str, document: Any, statistics: tuple[str, ...]) -> Head:
    weights, steady = (
        {statistic: float(weight) for statistic, weight in document[key].items()} for key in ("weights", "steady")
    )
    unknown = (set(weights) | set(steady)) - set(statistics)
    if unknown:
        raise ValueError(f"it weighs {', '.join(sorted(unknown))}, which this program does not measure")
    if not all(0 <= weight < math.inf for weight in (*weights.values(), *steady.values())):
        raise ValueError("the weights of evidence must be finite and 0 or more")
    law = document["tail"]
    exceedance, excess = (
        tuple(float(law[part].get(feature, 0.0)) for feature in TAIL_FEATURES) for part in ("exceedance", "excess")
    )
    head = Head(
        name=name,
        bias=float(document["bias"]),
        weights=tuple(
            (i, weights.get(s, 0.0), steady.get(s, 0.0))
            for i, s in enumerate(statistics)
            if weights.get(s, 0.0) > 0 or steady.get(s, 0.0) > 0
        ),
        context=tuple(float(document["context"].get(part, 0.0)) for part in CONTEXT),
        tail=Tail(float(law["threshold"]), exceedance, excess),
    )
    if not all(map(math.isfinite, (head.bias, head.tail.threshold, *head.context, *exceedance, *excess))):
        raise ValueError(f"the head {name} must have finite coefficients")
    return head


@lru_cache(maxsize=1)
def shipped_text() -> str:
    """The priors file in the package; `python -m stream.lab.training` makes it again."""
    return resources.files("stream.core").joinpath("priors.json").read_text("utf-8")


@lru_cache(maxsize=4)
def _parsed(text: str) -> Priors:
    return Priors.from_json(text)


def shipped_priors() -> Priors:
    """The priors in the package."""
    return _parsed(shipped_text())


def priors_of(settings: Settings) -> Priors:
    """The priors that the settings name, else the shipped ones. Raises SettingsError on a file that cannot be used."""
    if settings.priors_text is None:
        return shipped_priors()
    try:
        return _parsed(settings.priors_text)
    except ValueError as error:
        raise SettingsError(f"priors_file: {settings.priors_file}: {error}") from error
