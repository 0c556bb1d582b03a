"""Synthetic populations in numbers: what A, B and C, which methods are tuned on, and D, which none is, differ in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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
class Custom:
    """What one kind of traffic has of its own: rate and lengths, as in a profile."""

    rate: Range
    input_mu: Range
    input_sd: Range
    output_mu: Range
    output_sd: Range


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
    day_tail: Tukey's h of the log level from day to day: 0 is normal, more has heavier tails at the same sd
    failing_share: keys whose calls sometimes fail and are made again
    reshapings: look-alikes of `lookalikes.RESHAPINGS` that happen to keys, besides those of every profile
    customs: kinds that have rates and lengths of their own
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
    day_tail: float = 0.0
    failing_share: float = 0.0
    reshapings: tuple[str, ...] = ()
    customs: Mapping[str, Custom] = field(default_factory=dict)

    def of(self, kind: str) -> Profile:
        """The profile as it is for one kind of traffic."""
        own = self.customs.get(kind)
        if own is None:
            return self
        return replace(
            self,
            rate=own.rate,
            input_mu=own.input_mu,
            input_sd=own.input_sd,
            output_mu=own.output_mu,
            output_sd=own.output_sd,
        )


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
_D = Profile(
    kinds=(
        ("chat", 0.16),
        ("copilot", 0.20),
        ("cron", 0.10),
        ("rag", 0.14),
        ("coding", 0.14),
        ("annotation", 0.08),
        ("student", 0.10),
        ("rollout", 0.08),
    ),
    # of a roll-out; the other kinds have customs
    rate=(1.6, 1.1),
    rate_bounds=(0.004, 900.0),
    sparse_rate=(-4.6, 0.8),
    daily_sd=(0.06, 0.34),
    fast_sd=(0.10, 0.75),
    level_shape=4.5,
    input_mu=(6.9, 0.9),
    input_sd=(0.4, 1.2),
    output_mu=(5.3, 0.7),
    output_sd=(0.4, 1.1),
    wander_sd=(0.0, 0.22),
    model_counts=(0.50, 0.32, 0.12, 0.06),
    reasoning_share=0.35,
    missing_share=0.06,
    cold_share=0.10,
    peak=(13.5, 1.0),
    zones=(
        Zone(0.20, -7.0),
        Zone(0.22, -4.0),
        Zone(0.06, -3.0),
        Zone(0.14, 1.0),
        Zone(0.16, 2.0),
        Zone(0.10, 5.5),
        Zone(0.07, 9.0),
        Zone(0.05, 10.0),
    ),
    # Monday 2026-05-04: no clock is changed for months
    start=1_777_852_800.0,
    day_tail=0.07,
    failing_share=0.4,
    reshapings=("model_migration", "prompt_change"),
    customs={
        "chat": Custom((2.6, 1.2), (6.2, 0.6), (0.8, 1.4), (5.6, 0.4), (0.6, 1.0)),
        "copilot": Custom((1.5, 1.3), (7.4, 0.7), (0.6, 1.1), (5.2, 0.6), (0.5, 1.0)),
        "cron": Custom((0.4, 1.0), (6.8, 1.1), (0.1, 0.6), (4.6, 0.9), (0.1, 0.6)),
        "rag": Custom((1.8, 1.2), (8.7, 0.5), (0.3, 0.8), (4.6, 0.5), (0.4, 0.8)),
        # much of such an input is read from a cache: it counts as input all the same
        "coding": Custom((0.9, 1.3), (9.8, 0.6), (0.6, 1.2), (5.4, 0.5), (0.9, 1.4)),
        "annotation": Custom((1.0, 1.2), (6.4, 0.8), (0.2, 0.7), (4.2, 1.3), (0.2, 0.8)),
        "student": Custom((-4.3, 0.8), (5.6, 0.9), (0.8, 1.3), (5.7, 0.6), (0.6, 1.1)),
    },
)
PROFILES = {"A": _A, "B": _B, "C": _C, "D": _D}
