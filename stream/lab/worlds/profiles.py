"""Synthetic populations in numbers: what A, which methods are tuned on, and B and C, which only report, differ in."""

from __future__ import annotations

from dataclasses import dataclass

from stream.lab.worlds.tally import START

Range = tuple[float, float]
"""Lowest and highest of a uniform law."""


@dataclass(frozen=True, slots=True)
class Zone:
    """Where office hours are: hours east of UTC, and from which second on they are one less (end of summer time)."""

    share: float
    hours: float
    winter_from: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A population. What differs from key to key is a law: mean and sd of a normal one, or a range.

    kinds: share of each kind of traffic, see `kinds.KINDS`; cold_share: keys that are born in the counted days
    rate: ln of mean calls per bucket, bounded by `rate_bounds`; sparse_rate: that of sparse keys
    daily_sd, fast_sd: sd of the log level from day to day and, within a day, from half hour to half hour
    level_shape: shape of the gamma law of each bucket's level: the smaller, the heavier its bursts
    input_mu, output_mu: mean log tokens of a call; input_sd, output_sd: sd within a key
    wander_sd: sd of a key's mean log output from day to day
    model_counts: share of keys that use one, two, ... models; reasoning_share: keys that use a reasoning model
    missing_share: keys of which some calls come without usage data
    start: epoch seconds of a Monday 00:00 UTC
    """

    kinds: tuple[tuple[str, float], ...]
    rate: Range
    rate_bounds: Range
    sparse_rate: Range
    daily_sd: Range
    fast_sd: Range
    level_shape: float
    input_mu: Range
    input_sd: Range
    output_mu: Range
    output_sd: Range
    wander_sd: Range
    model_counts: tuple[float, ...]
    reasoning_share: float
    missing_share: float
    cold_share: float
    zones: tuple[Zone, ...] = (Zone(1.0, 0.0),)
    start: float = START


_A = Profile(
    kinds=(
        ("steady", 0.30),
        ("office", 0.24),
        ("bursty", 0.14),
        ("batch", 0.09),
        ("sparse", 0.10),
        ("growth", 0.06),
        ("flat24", 0.07),
    ),
    rate=(1.2, 1.5),
    rate_bounds=(0.02, 400.0),
    sparse_rate=(-3.2, 0.7),
    daily_sd=(0.08, 0.30),
    fast_sd=(0.15, 0.6),
    level_shape=8.0,
    input_mu=(6.6, 1.0),
    input_sd=(0.6, 1.3),
    output_mu=(5.6, 0.8),
    output_sd=(0.4, 1.0),
    wander_sd=(0.0, 0.0),
    model_counts=(0.55, 0.25, 0.12, 0.08),
    reasoning_share=0.2,
    missing_share=0.03,
    cold_share=0.08,
)
_B = Profile(
    kinds=(
        ("steady", 0.22),
        ("office", 0.20),
        ("bursty", 0.22),
        ("batch", 0.12),
        ("sparse", 0.10),
        ("growth", 0.08),
        ("flat24", 0.06),
    ),
    rate=(0.9, 1.5),
    rate_bounds=(0.02, 400.0),
    sparse_rate=(-3.2, 0.7),
    daily_sd=(0.08, 0.40),
    fast_sd=(0.15, 0.6),
    level_shape=8.0,
    input_mu=(6.6, 1.0),
    input_sd=(0.6, 1.3),
    output_mu=(5.6, 0.8),
    output_sd=(0.4, 1.2),
    wander_sd=(0.0, 0.0),
    model_counts=(0.45, 0.25, 0.18, 0.12),
    reasoning_share=0.3,
    missing_share=0.05,
    cold_share=0.08,
)
PROFILES = {"A": _A, "B": _B}
