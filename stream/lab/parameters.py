"""Figures of real LLM traffic that the simulator follows, each with its source, and the profiles made of them.

Sources, measured over the public traces: *ServeGen* (Alibaba, Apache-2.0; per-client rates, inter-arrival CV, lengths
of m-large, m-mid, m-small and deepseek-r1 in 600 s windows over 14 days), *Azure 2023* (Microsoft's LLM inference
trace, CC-BY-4.0), *GenTD26* (Alibaba's GenAI trace of 2026: events per user group), *BurstGPT* (aggregates).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WINDOW_SECONDS = 600
"""ServeGen's window: within one, a client's rate is steady and its arrivals are a renewal process."""
RATE_SIGMA = 2.2
"""Sd of ln(mean calls per second) over clients: recommended from ServeGen (m-large 2.15, m-mid 2.36, m-small 2.74,
deepseek-r1 1.84). Their location (ln mean -2.0, 0.14 calls/s) is replaced by `--rate`: at it, 100 keys make 13 million
calls a day."""
LEVEL_LAG1 = 0.94
"""Lag-1 autocorrelation of a client's log rate between 10-minute windows (ServeGen)."""
RENEWAL_GAMMA_SHARE = 0.77
"""Of ServeGen's windows, those that a Gamma renewal fits; the others are Weibull."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution by some of its quantiles; between them the logarithm is linear in the probability."""

    points: tuple[tuple[float, float], ...]

    def at(self, probability: Floats) -> Floats:
        """The values at probabilities.

        >>> Quantiles(((0.0, 1.0), (1.0, 100.0))).at(np.array([0.5])).round(6).tolist()
        [10.0]
        """
        levels, values = zip(*self.points, strict=True)
        return np.exp(np.interp(probability, levels, np.log(values)))


@dataclass(frozen=True, slots=True)
class Profile:
    """A population of keys in numbers: what differs from key to key is a distribution.

    cv: coefficient of variation of the gaps between calls inside a window
    on_share: part of the windows in which a key is in use at all
    on_hours: median length of a stretch of use
    amplitude: daily swing of a key, (max - min) / (max + min)
    weekend: lowest and highest weekend level, as a part of a weekday's
    peak_hour, peak_hour_sd: UTC hour of the daily peak
    fast_sd, slow_sd: sd of the log level, that of the AR(1) over windows and that from day to day
    input_mu, output_mu: mean and sd, over keys, of the mean log tokens of a call; input_sd, output_sd: sd within a key
    batch_share: keys that run once a day or week; late_share: keys that are first seen during the run
    missing_usage: share of calls for which the gateway does not say the tokens
    """

    rate_sigma: float
    cv: Quantiles
    on_share: Quantiles
    on_hours: float
    amplitude: Quantiles
    weekend: tuple[float, float]
    peak_hour: float
    peak_hour_sd: float
    fast_sd: Quantiles
    slow_sd: Quantiles
    input_mu: tuple[float, float]
    input_sd: Quantiles
    output_mu: tuple[float, float]
    output_sd: Quantiles
    batch_share: float
    late_share: float
    missing_usage: float


REAL = Profile(
    rate_sigma=RATE_SIGMA,
    # ServeGen, active windows: p5 .7, p25 1.0, p50 1.2, p75 2.2, p95 8.5, p99 13
    cv=Quantiles(((0, 0.6), (0.05, 0.7), (0.25, 1.0), (0.5, 1.2), (0.75, 2.2), (0.95, 8.5), (0.99, 13.0), (1, 15.0))),
    # ServeGen, share of windows with a call: p5 .01, p25 .06, p50 .4, p75 .95
    on_share=Quantiles(((0, 0.005), (0.05, 0.01), (0.25, 0.06), (0.5, 0.4), (0.75, 0.95), (0.8, 1.0), (1, 1.0))),
    on_hours=3.0,
    # ServeGen, clients that are always on: p25 .39, p50 .65, p75 .94
    amplitude=Quantiles(((0, 0.1), (0.25, 0.39), (0.5, 0.65), (0.75, 0.94), (1, 0.97))),
    weekend=(0.15, 1.1),
    peak_hour=14.0,
    # wide: the sum over clients swings by .16 to .66 where a client swings by .65
    peak_hour_sd=5.0,
    # chosen so that adjacent windows of busy keys differ as ServeGen's do: sd of the log ratio .7, tails far beyond
    fast_sd=Quantiles(((0, 0.25), (0.25, 0.7), (0.5, 1.1), (1, 1.8))),
    slow_sd=Quantiles(((0, 0.08), (1, 0.4))),
    input_mu=(6.2, 1.1),
    input_sd=Quantiles(((0, 0.03), (0.05, 0.05), (0.5, 0.6), (0.95, 1.6), (1, 1.9))),
    output_mu=(3.8, 1.6),
    output_sd=Quantiles(((0, 0.1), (0.05, 0.2), (0.5, 0.85), (0.95, 2.1), (1, 2.3))),
    batch_share=0.08,
    # ServeGen: 61 of 162 clients first appear after day 1
    late_share=0.35,
    missing_usage=0.002,
)
"""Traffic as wild as it is: keys that sleep for days, bursts of fifty times the mean, swings from hour to hour."""

STEADY = Profile(
    rate_sigma=0.9,
    cv=Quantiles(((0, 0.8), (0.5, 1.1), (1, 1.6))),
    on_share=Quantiles(((0, 1.0), (1, 1.0))),
    on_hours=24.0,
    amplitude=Quantiles(((0, 0.35), (0.5, 0.6), (1, 0.8))),
    weekend=(0.4, 1.0),
    peak_hour=14.0,
    peak_hour_sd=3.0,
    fast_sd=Quantiles(((0, 0.08), (1, 0.25))),
    slow_sd=Quantiles(((0, 0.05), (1, 0.15))),
    input_mu=(6.6, 0.6),
    input_sd=Quantiles(((0, 0.3), (1, 0.9))),
    output_mu=(5.4, 0.6),
    output_sd=Quantiles(((0, 0.3), (1, 0.8))),
    batch_share=0.0,
    late_share=0.0,
    missing_usage=0.001,
)
"""Products in steady use with a clear daily season: what the demo shows, small enough to learn in seconds."""
