"""What people would use instead: each gives every bucket and key a score, and one threshold makes alerts of it.

The threshold is chosen on the very data that is scored, so that a rival has as many false alerts there as the detector
had: no operator could choose so well. What a rival says of a bucket rests on that bucket and those before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream.core.incidents import CALM_SECONDS
from stream.lab.evaluation import river_rivals
from stream.lab.evaluation.detector import Alarm
from stream.lab.evaluation.keydays import Kind, key_days
from stream.lab.evaluation.rolling import (
    Flags,
    Floats,
    lasting,
    shifted,
    trailing_mean,
    trailing_spread,
    trailing_sum,
)
from stream.lab.evaluation.scoring import Scores, line, score
from stream.lab.worlds.world import World

HOUR_SECONDS = 3600
HOLD_SECONDS = 600
"""`for: 10m`, as alert rules on 5-minute samples have it."""
FLOOR_SHARE = 0.02
"""Part of the population's mean that is added to a key's own, or every key that is seldom used would alert."""


def tokens_of(world: World) -> Floats:
    """Input and output tokens per bucket."""
    return (world.input_tokens + world.output_tokens).astype(np.float64)


def seen(world: World) -> Flags:
    """Where a key has a sample: from its first call on, but for lost telemetry."""
    begun: Flags = np.logical_or.accumulate(world.calls > 0, axis=0)
    return begun & ~world.lost


def static_limit(world: World) -> Floats:
    """Tokens in the last hour."""
    return trailing_sum(tokens_of(world), HOUR_SECONDS // world.bucket_seconds)


def static_times_mean(world: World) -> Floats:
    """Tokens in the last hour, as a multiple of the key's mean hour over the last seven days."""
    hour = HOUR_SECONDS // world.bucket_seconds
    tokens, valid = tokens_of(world), seen(world)
    mean, count = trailing_mean(tokens, valid, 7 * world.per_day)
    usual = np.nan_to_num(mean) * hour
    population = usual.sum(axis=1, keepdims=True) / np.maximum((count > 0).sum(axis=1, keepdims=True), 1)
    multiple: Floats = trailing_sum(tokens, hour) / (usual + FLOOR_SHARE * population + 1.0)
    return multiple


def promql_zscore_day(world: World) -> Floats:
    """(rate - avg_over_time[1d]) / stddev_over_time[1d] of 5-minute samples, held for ten minutes."""
    return lasting(_zscore(tokens_of(world), seen(world), world.per_day, world.per_day // 4), _hold(world))


def promql_zscore_week(world: World) -> Floats:
    """The same over seven days, of the rate over the last hour."""
    hourly = trailing_sum(tokens_of(world), HOUR_SECONDS // world.bucket_seconds)
    return _zscore(hourly, seen(world), 7 * world.per_day, world.per_day)


def _zscore(values: Floats, valid: Flags, window: int, least: int) -> Floats:
    """How far each row is from the rows before it; 0 with fewer than `least` of them."""
    mean, deviation, count = (shifted(part, 1, 0.0) for part in trailing_spread(values, valid, window))
    judged = valid & (count >= least) & (deviation > 0)
    return np.where(judged, (values - mean) / np.where(judged, deviation, 1.0), 0.0)


def grafana_adaptive(world: World) -> Floats:
    """The rate over the upper band of grafana/promql-anomaly-detection's adaptive rules, held for ten minutes.

    Its short-term band is the mean hour plus two of its filtered deviations, at least half as much again; its long-term
    bands are those of the hour a day and a week ago (24 h less 30 min, 7 d less 30 min). Silence is no sample.
    """
    tokens, hour = tokens_of(world), HOUR_SECONDS // world.bucket_seconds
    present = (tokens > 0) & ~world.lost
    mean, deviation, _ = trailing_spread(tokens, present, hour)
    restless = deviation > 0.5 * mean
    usual, _ = trailing_mean(np.nan_to_num(deviation), restless, 26 * hour)
    upper = np.fmax(mean + 2 * usual, 1.5 * mean)
    for back in (world.per_day - hour // 2, 7 * world.per_day - hour // 2):
        upper = np.fmax(upper, shifted(mean + 2 * deviation, back, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = tokens / upper
    return lasting(np.where(present & np.isfinite(ratio), ratio, 0.0), _hold(world))


def _hold(world: World) -> int:
    return max(1, HOLD_SECONDS // world.bucket_seconds)


@dataclass(frozen=True, slots=True)
class Rival:
    """One way to do without us: what it is, and its scores (buckets x keys; higher is more suspicious)."""

    summary: str
    scores: Callable[[World], Floats]


RIVALS = {
    "static": Rival("static limit, tokens per hour", static_limit),
    "static-mean": Rival("static × the key's 7-day mean", static_times_mean),
    "zscore-1d": Rival("PromQL z-score, 1 d, 5-min samples held 10 min", promql_zscore_day),
    "zscore-7d": Rival("PromQL z-score, 7 d, hourly rate", promql_zscore_week),
    "grafana": Rival("grafana/promql-anomaly-detection, adaptive bands", grafana_adaptive),
    "adwin": Rival("River ADWIN on the log hourly rate", river_rivals.adwin),
    "halfspace": Rival("River HalfSpaceTrees on hourly features", river_rivals.half_space_trees),
}
"""Name on the command line to rival."""


@dataclass(frozen=True, slots=True)
class Match:
    """A rival with the threshold that it was given, and what it scored with it."""

    name: str
    threshold: float
    scores: Scores


def match(name: str, world: World, false_alerts: int, scores: Floats | None = None) -> Match:
    """Score a rival at the lowest threshold that gives at most so many false alerts on this very world.

    `scores` are the rival's own, if they are at hand.
    """
    if scores is None:
        scores = RIVALS[name].scores(world)
    threshold = threshold_for(world, scores, false_alerts)
    return Match(name, threshold, score(world, alarms_over(world, scores, threshold)))


def threshold_for(world: World, scores: Floats, false_alerts: int) -> float:
    """The lowest threshold at which scores make at most `false_alerts` alerts on clean key-days.

    Searched from the top down: far below, everything is one incident without end, which has few alerts too.
    """
    days = key_days(world)
    daily = np.maximum.reduceat(scores, np.arange(0, len(scores), world.per_day), axis=0)
    peaks = np.unique(daily[(days.kinds == Kind.CLEAN) & (daily > 0)])[::-1]

    def too_many(threshold: float) -> bool:
        return line(world, days, alarms_over(world, scores, threshold), Kind.CLEAN).alerts > false_alerts

    good, step = -1, 1
    while good + step < len(peaks) and not too_many(peaks[good + step]):
        good, step = good + step, 2 * step
    bad = min(good + step, len(peaks))
    while bad - good > 1:
        middle = (good + bad) // 2
        if too_many(peaks[middle]):
            bad = middle
        else:
            good = middle
    lowest = float(np.nextafter(peaks[bad] if bad < len(peaks) else 0.0, np.inf))
    return lowest if good < 0 or not too_many(lowest) else float(peaks[good])


def alarms_over(world: World, scores: Floats, threshold: float) -> list[Alarm]:
    """Incidents as the detector has them: opened at the threshold, over after an hour below it."""
    calm = CALM_SECONDS // world.bucket_seconds
    keys, rows = np.nonzero((scores >= threshold).T)
    if len(rows) == 0:
        return []
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = (np.diff(rows) > calm) | (np.diff(keys) != 0)
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:], len(rows)) - 1
    found = zip(keys[firsts].tolist(), rows[firsts].tolist(), (rows[lasts] + calm).tolist(), strict=True)
    return [Alarm(key, row, row, "rival", None, min(last, len(scores) - 1)) for key, row, last in found]
