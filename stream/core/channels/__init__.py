"""Channels of evidence: one module a channel. To add one: a module, a line here; the contract suite takes it up."""

from __future__ import annotations

from stream.core.channels.base import Channel
from stream.core.channels.calls import Calls
from stream.core.channels.drift import Drift
from stream.core.channels.jump import Jump
from stream.core.channels.newcomer import Newcomer
from stream.core.channels.quiet import Quiet
from stream.core.channels.ramp import Ramp
from stream.core.channels.records import Records
from stream.core.channels.shape import Shape
from stream.core.channels.surge import Surge

__all__ = ["CHANNELS", "STANDARDISED", "STATISTICS", "Channel"]

CHANNELS: dict[str, type[Channel]] = {
    "surge": Surge,
    "drift": Drift,
    "jump": Jump,
    "ramp": Ramp,
    "quiet": Quiet,
    "records": Records,
    "shape": Shape,
    "calls": Calls,
    "newcomer": Newcomer,
}
"""Every channel by name, in the order in which they are asked and packed: some look at what others have found."""

STATISTICS: tuple[str, ...] = tuple(name for channel in CHANNELS.values() for name in channel.statistics)
"""All numbers that the decision is made of, in order."""

STANDARDISED: tuple[str, ...] = tuple(name for channel in CHANNELS.values() for name in channel.standardised)
"""Those that need a law of daily maxima in the priors."""
