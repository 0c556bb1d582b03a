"""Surge: far more tokens than expected within minutes."""

from __future__ import annotations

import struct
from typing import ClassVar

from stream.core.calibration import DailyMaximum, Priors
from stream.core.channels.base import Evidence, Gate, strongest
from stream.core.residuals import Residuals

_LAW = struct.Struct("<2dHd")


class Surge:
    """The windows of 10 and 40 minutes, each against the key's own daily maxima."""

    name: ClassVar[str] = "surge"
    horizons: ClassVar[tuple[int, ...]] = (0, 1)
    __slots__ = ("laws",)

    def __init__(self, priors: Priors, bucket_seconds: int) -> None:
        self.laws = [DailyMaximum(*priors.laws[h]) for h in self.horizons]

    def score(self, residuals: Residuals, gate: Gate) -> Evidence | None:
        """The stronger of the two windows, if it passes the gate."""
        return strongest(self.name, self.horizons, self.laws, residuals, gate)

    def learn(self, residuals: Residuals, bucket: int) -> None:
        """Note the day's highest residuals."""
        for h, law in zip(self.horizons, self.laws, strict=True):
            z = residuals.z[h]
            if z > law.peak:
                law.peak = z

    def learn_day(self) -> None:
        """Take the day's maxima up."""
        for law in self.laws:
            law.learn_day()

    def forget_day(self) -> None:
        """Leave the day's maxima out."""
        for law in self.laws:
            law.peak = float("-inf")

    def pack(self) -> bytes:
        """26 bytes a window."""
        return b"".join(_LAW.pack(law.mean, law.variance, law.days, law.peak) for law in self.laws)

    def unpack(self, data: memoryview) -> memoryview:
        """Take up what `pack` gave."""
        for law in self.laws:
            law.mean, law.variance, law.days, law.peak = _LAW.unpack_from(data)
            data = data[_LAW.size :]
        return data
