"""One key by itself: random traffic, bucket by bucket, as a shard would close it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from made_priors import made_priors

from stream.core.bucket import LOG_SCALE, Verdict
from stream.core.key import KeyState
from stream.core.rules import Rules
from stream.settings import Settings

MONDAY = 1_772_409_600  # 2026-03-02T00:00:00Z


def rules_of(**changes: object) -> Rules:
    """Rules on made priors; what lets a short stream speak is set low."""
    gates = {"min_excess_tokens": 2000, "min_calls": 2, "partitions": 1}
    return Rules(Settings(**(gates | changes)), made_priors())


def new_key(rules: Rules) -> KeyState:
    key = KeyState("key", rules)
    key.next_bucket = MONDAY // rules.settings.bucket_seconds
    return key


def walk(key: KeyState, buckets: int, seed: int, attack: int = 10**9) -> Iterator[Verdict]:
    """Close so many buckets: an office's hours, now and then a pause, from bucket `attack` on three times as much."""
    rng = random.Random(seed)
    calendar = key.rules.calendar
    per_hour, first = calendar.per_hour, key.next_bucket
    for index in range(first, first + buckets):
        hour = index // per_hour % 24
        calls = rng.randrange(0, 4 if 8 <= hour < 18 else 2)
        if index >= attack:
            calls = 3 * calls + 2
        sums = None
        if calls:
            sums = key.open_bucket(index, index, ())
            given, taken = calls * rng.randrange(200, 900), calls * rng.randrange(50, 400)
            sums.calls, sums.input_tokens, sums.output_tokens = calls, given, taken
            sums.log_output, sums.log_output_squares = 5 * calls * LOG_SCALE, 26 * calls * LOG_SCALE
            sums.models = {rng.randrange(3): calls}
            sums.saturated = rng.randrange(2)
            del key.open[index]
        if sums is None and key.incident is None:
            key.catch_up(index + 1, ())
        else:
            key.catch_up(index, ())
            yield key.close(sums, index + 1)
