"""The week that a key has learned: what its state alone can tell of its past hours."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stream.core.baseline import WEEK_CODE
from stream.core.calendar import WEEK_HOURS
from stream.core.key import KeyState


@dataclass(frozen=True, slots=True)
class SeasonHour:
    """An hour of the week before the last closed bucket, in tokens per hour; `start` in epoch seconds.

    held: what this hour of the week has held, an older week counting half as much as the one after it, to 5 %
    expected: what the key's season expects of it today
    """

    start: float
    held: float
    expected: float


def season_of(key: KeyState) -> tuple[SeasonHour, ...]:
    """The 168 hours before the end of the key's last closed bucket; none if there was no such bucket.

    The key's model is left as it was.
    """
    if key.next_bucket < 0 or not key.baseline.age:
        return ()
    baseline, calendar = key.baseline, key.rules.calendar
    end = key.next_bucket // calendar.per_hour
    hours = []
    for hour in range(end - WEEK_HOURS, end):
        first = hour * calendar.per_hour
        coded = baseline.week[calendar.week_hour(first)]
        expected = sum(baseline.predict(first + i)[0] for i in range(calendar.per_hour))
        held = math.expm1(coded / WEEK_CODE) * calendar.per_hour if coded else 0.0
        hours.append(SeasonHour(float(first * calendar.bucket_seconds), held, expected))
    return tuple(hours)
