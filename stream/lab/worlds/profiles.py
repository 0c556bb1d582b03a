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
    peak: local hour of the daily peak; migrating_share: keys of several models that move to one of them in the run
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
    peak: Range = (14.0, 4.0)
    migrating_share: float = 0.0
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
_SUMMER_ENDS_IN_EUROPE = 1_761_440_400.0
"""2025-10-26 01:00 UTC."""
_SUMMER_ENDS_IN_THE_EAST = 1_762_063_200.0
_SUMMER_ENDS_IN_THE_WEST = 1_762_074_000.0
"""2025-11-02, 02:00 in New York and in Los Angeles."""
_C = Profile(
    kinds=(
        ("steady", 0.12),
        ("office", 0.24),
        ("consumer", 0.10),
        ("bursty", 0.12),
        ("agents", 0.12),
        ("batch", 0.08),
        ("monthly", 0.08),
        ("sparse", 0.08),
        ("growth", 0.03),
        ("flat24", 0.03),
    ),
    rate=(0.8, 1.9),
    rate_bounds=(0.02, 600.0),
    sparse_rate=(-2.5, 1.0),
    daily_sd=(0.10, 0.50),
    fast_sd=(0.30, 0.90),
    level_shape=2.5,
    input_mu=(7.2, 1.2),
    input_sd=(0.5, 1.7),
    output_mu=(5.0, 1.1),
    output_sd=(0.3, 1.5),
    wander_sd=(0.05, 0.40),
    model_counts=(0.25, 0.30, 0.25, 0.20),
    reasoning_share=0.4,
    missing_share=0.08,
    cold_share=0.12,
    peak=(14.0, 2.0),
    migrating_share=0.15,
    zones=(
        Zone(0.18, -7.0, _SUMMER_ENDS_IN_THE_WEST),
        Zone(0.17, -4.0, _SUMMER_ENDS_IN_THE_EAST),
        Zone(0.05, -3.0),
        Zone(0.25, 2.0, _SUMMER_ENDS_IN_EUROPE),
        Zone(0.15, 5.5),
        Zone(0.12, 8.0),
        Zone(0.08, 9.0),
    ),
    # Monday 2025-09-29: summer time ends twice in the counted days, and two months
    start=1_759_104_000.0,
)
PROFILES = {"A": _A, "B": _B, "C": _C}
