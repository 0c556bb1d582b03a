"""Bucket arithmetic: which hour of the week a bucket lies in. All in UTC; bucket `i` covers [i, i + 1) × its length."""

from __future__ import annotations

from functools import lru_cache

HOURS = 24
DAY_SECONDS = 86_400
WEEK_HOURS = 168
EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""


class Calendar:
    """Slots of a bucket length (seconds, a divisor of an hour).

    >>> calendar = Calendar(300)
    >>> calendar.per_hour, calendar.per_day
    (12, 288)
    """

    __slots__ = ("bucket_seconds", "per_day", "per_hour", "slots", "week_hour")

    def __init__(self, bucket_seconds: int) -> None:
        self.bucket_seconds = bucket_seconds
        self.per_hour = 3600 // bucket_seconds
        self.per_day = 24 * self.per_hour
        per_hour, per_day = self.per_hour, self.per_day

        def slots(bucket: int) -> tuple[int, int, float]:
            """The bucket's slot of 48 (hour, weekday or weekend), its nearest neighbour, and the neighbour's weight.

            A slot's mean is right at the middle of its hour; in between the two are interpolated.
            """
            day, in_day = divmod(bucket, per_day)
            offset = HOURS if (day + EPOCH_WEEKDAY) % 7 >= 5 else 0
            hour, in_hour = divmod(in_day, per_hour)
            position = (in_hour + 0.5) / per_hour
            neighbour = (hour - 1) % HOURS if position < 0.5 else (hour + 1) % HOURS
            return offset + hour, offset + neighbour, abs(position - 0.5)

        # a shard asks for the same few buckets for each of its keys
        self.slots = lru_cache(maxsize=4096)(slots)

        def week_hour(bucket: int) -> int:
            """Hour of the week, 0…167, Monday 00:00 UTC first."""
            return (bucket // per_hour + EPOCH_WEEKDAY * HOURS) % WEEK_HOURS

        self.week_hour = lru_cache(maxsize=4096)(week_hour)
