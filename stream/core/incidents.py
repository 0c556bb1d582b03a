"""Incidents: a finding becomes opened, updated, resolved, by one table, with hysteresis."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, Protocol

import msgspec

from stream.core.taken import Taken

UPDATE_SECONDS = 20 * 3600
"""An incident of which nothing material has changed for this long is told again: whoever has not heard of it for two
days takes it for over."""
DOUBLED = 2.0
"""An excess so many times what was told last is news."""
CALM_SECONDS = 3600
"""A surge is over after this long without an anomalous bucket."""
SLOW_CALM_SECONDS = 12 * 3600
"""Any other incident: a night without use is no end of a drift."""
FLAP_SECONDS = 6 * 3600
"""An incident that begins so soon after the end of another flaps: it has to be calm for twice as long as that one."""
MOST_FLAPS = 3
MOST_CALM_SECONDS = 24 * 3600
HOLD = 0.6
"""Hysteresis: an open incident stays anomalous above this share of the score that opens one."""


class Phase(IntEnum):
    """Where an entity stands."""

    QUIET = 0
    OPEN = 1
    COOLING = 2


class Signal(IntEnum):
    """What a closed bucket says: anomalous, normal, or normal for CALM_SECONDS."""

    ANOMALOUS = 0
    NORMAL = 1
    CALM = 2


Transition = Literal["opened", "continued", "resolved"]

TRANSITIONS: dict[tuple[Phase, Signal], tuple[Phase, Transition | None]] = {
    (Phase.QUIET, Signal.ANOMALOUS): (Phase.OPEN, "opened"),
    (Phase.QUIET, Signal.NORMAL): (Phase.QUIET, None),
    (Phase.QUIET, Signal.CALM): (Phase.QUIET, None),
    (Phase.OPEN, Signal.ANOMALOUS): (Phase.OPEN, "continued"),
    (Phase.OPEN, Signal.NORMAL): (Phase.COOLING, None),
    (Phase.OPEN, Signal.CALM): (Phase.QUIET, "resolved"),
    (Phase.COOLING, Signal.ANOMALOUS): (Phase.OPEN, "continued"),
    (Phase.COOLING, Signal.NORMAL): (Phase.COOLING, None),
    (Phase.COOLING, Signal.CALM): (Phase.QUIET, "resolved"),
}


class Excess(Protocol):
    """Tokens above what is due: `net`, less those below it, and the most that this has been, the excess.

    What is gone does not come back with less use; but what a bucket lacks counts against what comes later, else the
    noise of a long incident adds up to millions. net: None while it is the excess
    """

    excess: float
    net: float | None


def net_of(one: Excess) -> float:
    """The net sum, now."""
    return one.excess if one.net is None else one.net


def rise(one: Excess, used: float, due: float) -> float:
    """Take up what was used and what was due; returns by how much the excess has grown."""
    one.net = max(0.0, net_of(one) + used - due)
    more = max(0.0, one.net - one.excess)
    one.excess += more
    return more


class Incident(msgspec.Struct, array_like=True):
    """One open incident of one key. Buckets are indices, tokens are sums over the incident so far.

    `channels` holds the highest z that each channel showed; `score` is the highest on the scale of the tail law. The
    excess counts from event time `since`: a slow window had gathered its own before the bucket that tipped it. It is
    the most that `net` has been (None: what it is now), what lies above the baseline less what lies below it: what is
    gone does not come back with less use. `upper` is what other keys use at most, of a newcomer alone. `shape` holds
    the factors by which the calls differed from the key's usual ones when their shape last spoke, or of a newcomer
    from those of other keys, as of the last bucket. `taken` has the excess part by part; None: the incident was
    opened by a version that did not keep them. `told` is the excess that was told last, `reason` why it was; `peak`
    the most tokens in an hour of the clock; `event` the planned event in which it began, if it did; `flaps` how many
    incidents in a row began soon after another; `grown` the bucket in which the excess grew last, -1: unknown.
    """

    kind: str
    started: int
    detected_at: float
    last_anomalous: int
    phase: Phase = Phase.OPEN
    sequence: int = 0
    severity: int = 1
    severity_reason: str = ""
    updated: int = 0
    end: int = 0
    score: float = 0.0
    z: float = 0.0
    horizon: float = 0.0
    observed: float = 0.0
    expected: float = 0.0
    upper: float = 0.0
    excess: float = 0.0
    excess_output: float = 0.0
    excess_cost: float | None = None
    channels: dict[str, float] = {}
    since: float = 0.0
    shape: dict[str, float] = {}
    taken: Taken | None = None
    told: float = 0.0
    reason: str = ""
    peak: int = 0
    event: str = ""
    flaps: int = 0
    net: float | None = None
    grown: int = -1

    def signal(self, anomalous: bool, bucket: int, calm_buckets: int) -> Signal:
        """What `bucket`, just closed, says to this incident."""
        if anomalous:
            return Signal.ANOMALOUS
        return Signal.CALM if bucket - self.last_anomalous >= calm_buckets else Signal.NORMAL

    def move(self, signal: Signal) -> Transition | None:
        """Take the step that the table gives; returns what is to be reported."""
        self.phase, transition = TRANSITIONS[self.phase, signal]
        return transition
