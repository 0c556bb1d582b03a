"""A running mean whose pace each value may choose."""

from __future__ import annotations

from collections.abc import Callable

from river import stats


class AdaptiveMean:
    """River's EWMean with a rate for each value: quicker while young, slower while an incident is open.

    `learn(x, rate)` moves the mean by `rate` of the way to x: EWMean is shown the value that does so. It begins at
    `value`: a fresh EWMean takes its first value as it is, whatever the rate.

    >>> mean = AdaptiveMean(0.0, 0.01)
    >>> mean.learn(10.0, 1.0); mean.learn(20.0, 0.5); mean.get()
    15.0
    """

    __slots__ = ("_get", "_update", "fading_factor", "value")

    def __init__(self, value: float, fading_factor: float) -> None:
        self.fading_factor = fading_factor
        # what River's own `update` and `get` call: they are asked for three times a bucket
        inner = stats.EWMean(fading_factor)._ewmean
        self._update: Callable[[float], None] = inner.update
        self._get: Callable[[], float] = inner.get
        self._update(value)
        self.value: float = self._get()
        """The mean, at hand: to ask is a call into Rust and back."""

    def learn(self, value: float, rate: float) -> None:
        """Take `value` up with weight `rate` in (0, 1] instead of the fading factor."""
        mean = self.value
        self._update(mean + (value - mean) * (rate / self.fading_factor))
        self.value = self._get()

    def __reduce__(self) -> tuple[type[AdaptiveMean], tuple[float, float]]:
        """Copies have a mean of their own: River's methods are bound to ours."""
        return AdaptiveMean, (self.value, self.fading_factor)

    def get(self) -> float:
        """The mean."""
        return self.value
