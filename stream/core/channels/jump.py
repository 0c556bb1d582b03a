"""Jump: a level that the slower window does not yet explain; what is left of a key's own wandering."""

from __future__ import annotations

from typing import ClassVar, Final

from stream.core.channels.base import Moment
from stream.core.channels.level import Level
from stream.core.priors import Priors
from stream.core.residuals import Horizons
from stream.core.scales import Scales

PERSISTENCE: Final = 0.7
"""Of a window's log ratio, the next shorter one usually shows so much."""
LEAST_SHARE: Final = 0.35


class Jump(Level):
    """The 4-hour level less 0.7 of the day's, and the day's less 0.7 of the five days'."""

    name: ClassVar[str] = "jump"
    windows: ClassVar[tuple[int, ...]] = (2, 3)
    statistics: ClassVar[tuple[str, ...]] = ("jump_4h", "jump_1d")
    standardised: ClassVar[tuple[str, ...]] = statistics
    kinds: ClassVar[tuple[str, ...]] = ("surge", "drift")
    horizons: ClassVar[tuple[int, ...]] = (2, 3)
    prior_scales: ClassVar[tuple[float, ...]] = (0.4, 0.2)
    __slots__ = ()

    def __init__(self, priors: Priors, horizons: Horizons) -> None:
        super().__init__(priors, horizons)
        self.scales = Scales(self.prior_scales, LEAST_SHARE)

    def residual(self, i: int, moment: Moment) -> float:
        """What the slower window leaves unexplained."""
        h = self.windows[i]
        return moment.ratios[h] - PERSISTENCE * moment.ratios[h + 1]
