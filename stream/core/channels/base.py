"""What a channel of evidence is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from stream.core.calibration import DailyMaximum, Priors
from stream.core.residuals import Residuals


@dataclass(frozen=True, slots=True)
class Gate:
    """Evidence that is too small to matter to anybody is no evidence."""

    excess_tokens: float
    calls: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one channel sees in a closed bucket, at its strongest horizon.

    `z` is the standardised residual there, `score` the same on the scale of the tail law, before the key's maturity
    is taken into account.
    """

    channel: str
    z: float
    score: float
    horizon: int
    excess_tokens: float


class Channel(Protocol):
    """One kind of evidence about one key. Score first, then learn; bucket by bucket in event time."""

    name: ClassVar[str]
    horizons: ClassVar[tuple[int, ...]]
    laws: list[DailyMaximum]

    def __init__(self, priors: Priors, bucket_seconds: int) -> None: ...

    def score(self, residuals: Residuals, gate: Gate) -> Evidence | None:
        """Evidence that passes the gate, or None."""
        ...

    def learn(self, residuals: Residuals, bucket: int) -> None:
        """Take the bucket's residuals up into what is usual for this key."""
        ...

    def learn_day(self) -> None:
        """A UTC day has ended."""
        ...

    def forget_day(self) -> None:
        """An incident was open on this day: it must not teach what is usual."""
        ...

    def pack(self) -> bytes:
        """Everything that was learned."""
        ...

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave; returns the rest of `data`."""
        ...


def strongest(
    name: str, horizons: tuple[int, ...], laws: list[DailyMaximum], residuals: Residuals, gate: Gate
) -> Evidence | None:
    """The horizon with the highest standardised score among those that pass the gate."""
    best: Evidence | None = None
    for h, law in zip(horizons, laws, strict=True):
        z = residuals.z[h]
        if z <= 0.0 or residuals.calls[h] < gate.calls:
            continue
        excess = residuals.excess(h)
        if excess < gate.excess_tokens:
            continue
        score = law.standardise(z)
        if score > 0.0 and (best is None or score > best.score):
            best = Evidence(name, z, score, h, excess)
    return best
