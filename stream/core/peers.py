"""What a newcomer is judged against: what new keys usually use, by the population's frozen priors.

Its own baseline has seen nothing but what it is judged for. So all that is told of a newcomer's incident, expected
tokens, ratio, excess and its interval, shape, is against its peers: the middle of the population's laws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream.alerts import Window as AlertWindow
from stream.core.channels.newcomer import COMPARED, Newcomer
from stream.core.explanation import PeersView
from stream.core.rules import LEAST_NEWCOMER_Z, NEWCOMER, NEWCOMER_FACTOR
from stream.core.taken import Taken

if TYPE_CHECKING:
    from stream.core.key import KeyState
    from stream.core.priors import Priors
    from stream.core.rules import Rules

KIND = "newcomer"
"""The kind of such an incident."""
QUANTILE = 1.645
"""5 % of new keys use more than so many standard deviations above the middle."""
STANDS_OUT = 1.0
"""Standard deviations from which on an aspect of a newcomer's calls is worth naming."""


def rate_at(priors: Priors, z: float) -> float:
    """Tokens per second of a new key whose level is `z` of the population's standard deviations above the middle."""
    law = priors.population["level"]
    return max(0.0, math.exp(law.mean + z * law.sd) - law.offset)


def usual_rate(priors: Priors) -> float:
    """Tokens per second that new keys use, in the middle."""
    return rate_at(priors, 0.0)


def differences(priors: Priors, aspects: Sequence[float] | None) -> dict[str, float]:
    """Factors by which the calls' shape is above that of other keys' calls; empty while too few calls are known."""
    if aspects is None:
        return {}
    found = {name: aspects[a] - priors.population[name].mean for name, a in COMPARED}
    return {name: math.exp(above) for name, above in found.items() if above > 0}


def deviations(priors: Priors, shape: Mapping[str, float]) -> dict[str, float]:
    """The same in the population's standard deviations.

    An incident of an earlier version has other aspects too, and factors below 1: they are passed over.
    """
    law = priors.population
    return {name: math.log(factor) / law[name].sd for name, factor in shape.items() if name in law and factor > 1}


def upper_rate(rules: Rules, shape: Mapping[str, float]) -> float:
    """Tokens per second at which a newcomer whose calls differ by these factors opens an incident."""
    share = NEWCOMER_FACTOR * rules.settings.false_alerts_per_1000_key_days / 1000
    needed = max(rules.newcomer_law.threshold(min(share, 1.0)), LEAST_NEWCOMER_Z)
    rest = needed**2 - sum(z * z for z in deviations(rules.priors, shape).values())
    return rate_at(rules.priors, math.sqrt(max(rest, 0.0)))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tokens that a newcomer used in the stretch of time that speaks most against it, and what its peers use in one.

    window: its last four hours, or its whole life; upper: where it alerts, if its tokens lie in the window as they do
    """

    window: AlertWindow
    observed: float
    expected: float
    upper: float

    @property
    def excess(self) -> float:
        """Tokens above what new keys usually use."""
        return max(0.0, self.observed - self.expected)


def compare(key: KeyState, shape: Mapping[str, float]) -> Comparison:
    """A key and new keys, as of its last closed bucket; `shape`: see `differences`."""
    channel, rules = key.channels[NEWCOMER], key.rules
    assert isinstance(channel, Newcomer)
    stretch = channel.stretch(key.residuals, key.baseline)
    end = float(key.next_bucket * rules.settings.bucket_seconds)
    upper = upper_rate(rules, shape)
    return Comparison(
        AlertWindow(start=end - stretch.seconds, end=end, horizon_seconds=stretch.seconds),
        stretch.tokens,
        usual_rate(rules.priors) * stretch.seconds,
        upper * stretch.tokens / stretch.rate if stretch.rate > 0 else upper * stretch.seconds,
    )


def view_of(key: KeyState) -> PeersView:
    """The same for people, with the shape of the key's calls as far as it is known."""
    rules, incident = key.rules, key.incident
    shape = differences(rules.priors, key.moment.aspects) or (incident.shape if incident is not None else {})
    against, apart = compare(key, shape), deviations(rules.priors, shape)
    return PeersView(
        horizon_seconds=against.window.horizon_seconds,
        observed=against.observed,
        expected=against.expected,
        ratio=against.observed / against.expected if against.expected > 0 else None,
        upper=against.upper,
        shape={name: (shape[name], z) for name, z in apart.items()},
    )


def excess_interval(priors: Priors, excess: float, seconds: float) -> tuple[float, float]:
    """The 90 % interval of an excess over `seconds`, in tokens: a new key may be a large one, or wholly an attacker's.

    One new key in twenty uses more than its peers' upper end by itself; at most all that was used is the attacker's.
    """
    usual = usual_rate(priors)
    return max(0.0, excess - (rate_at(priors, QUANTILE) - usual) * seconds), excess + usual * seconds


def new_taken(priors: Priors) -> Taken:
    """Nothing so far, with the parts that calls of other keys usually have."""
    total = priors.call_input_tokens + priors.call_output_tokens
    return Taken(priors.call_input_tokens / total if total > 0 else 0.0, 0.0)
