"""`python -m stream.lab.priors`: make the frozen priors again, on simulated traffic without attacks.

Two passes. The first, over keys as real traffic has them, gives the law of each horizon's daily maximum (location and
scale by moments, the median over keys). The second, with these laws and over restless and steady keys alike, gives the
tail: the share of clean key-days whose highest score exceeds a value. A key-day is a UTC day with at least one call,
after the key's seventh day.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stream.core import calibration
from stream.core.calibration import Priors
from stream.core.key import KeyState
from stream.core.residuals import HORIZONS
from stream.core.rules import Rules
from stream.lab.parameters import REAL, STEADY
from stream.lab.simulate import BucketCounts, bucket_counts
from stream.settings import Settings

WORLDS = ((101, REAL), (102, STEADY), (103, REAL), (104, STEADY))
"""Seeds, kept apart from those of tests and demonstrations, and the traffic that they make."""
KEYS, DAYS = 200, 28
FIRST_DAY = 7
SHARES = (0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 0.0005, 0.0003)
LEAST_EXCEEDANCES = 8
"""A share that fewer key-days reach is left to the slope of the law beyond the last point."""
CALL_INPUT_TOKENS, CALL_OUTPUT_TOKENS = 500, 250
"""What a call takes before a key has shown it: about the medians of the population."""

Value = Callable[[KeyState], float]


class DailyPeaks:
    """The highest value of each key and day, for the days that count."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.peaks: dict[tuple[int, str], dict[int, float]] = defaultdict(dict)

    def see(self, world: int, key: KeyState, day: int, first_day: int) -> None:
        """Take a bucket with calls into account."""
        if day - first_day >= FIRST_DAY:
            days = self.peaks[world, key.key_id]
            days[day] = max(days.get(day, -math.inf), self.value(key))

    def all(self) -> np.ndarray[Any, Any]:
        """Every key-day's peak."""
        return np.array([peak for days in self.peaks.values() for peak in days.values()])


def walk(world: int, counts: BucketCounts, rules: Rules, watchers: list[DailyPeaks]) -> None:
    """Take every key through all its buckets, with nothing opening an incident."""
    per_day = rules.calendar.per_day
    first = int(counts.start // counts.bucket_seconds)
    for column, key_id in enumerate(counts.key_ids):
        key = KeyState(key_id, rules)
        sums = (counts.calls[:, column], counts.input_tokens[:, column], counts.output_tokens[:, column])
        active = np.flatnonzero(sums[0])
        for row in active:
            bucket = first + int(row)
            if key.next_bucket < 0:
                key.next_bucket = bucket
            opened = key.open_bucket(bucket, bucket, ())
            opened.calls, opened.input_tokens, opened.output_tokens = (int(values[row]) for values in sums)
            key.catch_up(bucket, ())
            key.close(key.open.pop(bucket), bucket + 1)
            for watcher in watchers:
                watcher.see(world, key, bucket // per_day, (first + int(active[0])) // per_day)


def _rules(priors: Priors) -> Rules:
    rules = Rules(Settings(), priors)
    rules.open_score = rules.hold_score = math.inf
    return rules


def _residual(h: int) -> Value:
    return lambda key: key.residuals.z[h]


def laws_of(watchers: list[DailyPeaks]) -> list[tuple[float, float]]:
    """Location and scale of a Gumbel law by moments: medians over the keys with at least ten days."""
    laws = []
    for watcher in watchers:
        rows = [list(days.values()) for days in watcher.peaks.values() if len(days) >= 10]
        scale = float(np.median([np.std(row) for row in rows])) * math.sqrt(6) / math.pi
        location = float(np.median([np.mean(row) for row in rows])) - 0.5772156649 * scale
        laws.append((round(location, 3), round(scale, 3)))
    return laws


def tail_of(peaks: np.ndarray[Any, Any]) -> list[tuple[float, float]]:
    """The empirical tail at SHARES, as far as there are enough key-days."""
    tail: list[tuple[float, float]] = []
    for share in SHARES:
        if share * len(peaks) < LEAST_EXCEEDANCES:
            break
        score = round(float(np.quantile(peaks, 1 - share)), 3)
        if score > 0 and (not tail or score > tail[-1][0]):
            tail.append((score, share))
    return tail


def make(report: Callable[[str], None]) -> str:
    """The text of a new priors file."""
    blank = Priors(((0.0, 1.0),) * len(HORIZONS), ((1.0, 0.1), (2.0, 0.01)), CALL_INPUT_TOKENS, CALL_OUTPUT_TOKENS, "")
    residuals = [DailyPeaks(_residual(h)) for h in range(len(HORIZONS))]
    worlds = [bucket_counts("calm", seed=seed, keys=KEYS, days=DAYS, profile=profile) for seed, profile in WORLDS]
    for world, counts in enumerate(worlds):
        if WORLDS[world][1] is not REAL:
            continue  # a law as narrow as steady keys' makes storms of the restless ones until they have shown theirs
        walk(world, counts, _rules(blank), residuals)
        report(f"laws: seed {WORLDS[world][0]} done")
    laws = laws_of(residuals)
    scores = DailyPeaks(lambda key: key.score)
    fitted = Priors(tuple(laws), blank.tail, CALL_INPUT_TOKENS, CALL_OUTPUT_TOKENS, "")
    for world, counts in enumerate(worlds):
        walk(world, counts, _rules(fitted), [scores])
        report(f"tail: seed {WORLDS[world][0]} done")
    peaks = scores.all()
    document = {
        "source": "python -m stream.lab.priors",
        "key_days": len(peaks),
        "laws": [
            {"horizon_seconds": horizon, "location": location, "scale": scale}
            for horizon, (location, scale) in zip(HORIZONS, laws, strict=True)
        ],
        "tail": tail_of(peaks),
        "call_input_tokens": CALL_INPUT_TOKENS,
        "call_output_tokens": CALL_OUTPUT_TOKENS,
    }
    return json.dumps(document, indent=1) + "\n"


def main() -> None:
    """Write the priors that the package ships, or to the file that is given."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(calibration.__file__).with_name("priors.json")

    def report(line: str) -> None:
        sys.stderr.write(line + "\n")

    text = make(report)
    Priors.from_json(text)
    target.write_text(text, "utf-8")
    report(f"{target} written")


if __name__ == "__main__":
    main()
