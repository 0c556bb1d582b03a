"""A running mean whose pace each value may choose."""

from __future__ import annotations

from river import stats


class AdaptiveMean(stats.EWMean):  # type: ignore[misc]
    """River's EWMean with a rate for each value: quicker while young, slower while an incident is open.

    `learn(x, rate)` moves the mean by `rate` of the way to x: EWMean is shown the value that does so. Make one by
    `at`: a fresh EWMean takes its first value as it is, whatever the rate.

    >>> mean = AdaptiveMean.at(0.0, 0.01)
    >>> mean.learn(10.0, 1.0); mean.learn(20.0, 0.5); mean.get()
    15.0
    """

    value: float
    """The mean, at hand: River's `get` is a call into Rust and back."""

    def learn(self, value: float, rate: float) -> None:
        """Take `value` up with weight `rate` in (0, 1] instead of the fading factor."""
        mean = self.value
        inner = self._ewmean  # what `update` and `get` call: two calls less, three times a bucket
        inner.update(mean + (value - mean) * (rate / self.fading_factor))
        self.value = inner.get()

    @classmethod
    def at(cls, value: float, fading_factor: float) -> AdaptiveMean:
        """One whose mean is `value`."""
        mean = cls(fading_factor)
        mean.update(value)
        mean.value = mean.get()
        return mean
