"""Channels of evidence: one module a channel. To add one: a module, a line here; the contract suite takes it up."""

from __future__ import annotations

from stream.core.channels.base import Channel
from stream.core.channels.drift import Drift
from stream.core.channels.surge import Surge

__all__ = ["CHANNELS", "Channel"]

CHANNELS: dict[str, type[Channel]] = {"surge": Surge, "drift": Drift}
"""Every channel by name, in the order in which they are asked and packed."""
