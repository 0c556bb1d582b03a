"""Bucket arithmetic: bucket `i` covers [i, i + 1) × its length in UTC; its hour and day are those of the local clock.

People work by the clock on the wall: in UTC a change to summer time would move every office by an hour. Buckets, hours
of 3,600 s and the days of calibration stay in UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from typing import Final

HOURS: Final = 24
HOUR_SECONDS: Final = 3600
DAY_SECONDS: Final = 86_400
WEEK_HOURS: Final = 168
EPOCH_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday; Monday is 0."""
SATURDAY: Final = 5
SUNDAY: Final = 6
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_CACHED_BUCKETS: Final = 10_000
"""More than the 28 days of 300 s that a key may have to catch up on: the next key that does asks for the same ones."""


class Calendar:
    """Slots of a bucket length (seconds, a divisor of an hour) by the clock of a time zone, with its holidays.

    `zone` None is UTC. `holidays` are local dates. Offsets of half and quarter hours are taken as they are. At a
    change of the clock the repeated hour is met twice, the skipped one not at all: both only shift how often a slot is
    learned, since every bucket has exactly one.

    >>> calendar = Calendar(300)
    >>> calendar.per_hour, calendar.per_day
    (12, 288)
    >>> from zoneinfo import ZoneInfo
    >>> noon = 1_772_452_800 // 300  # 2026-03-02T12:00:00Z, a Monday
    >>> calendar.week_hour(noon), Calendar(300, ZoneInfo("Europe/Berlin")).week_hour(noon)
    (12, 13)
    """

    __slots__ = ("bucket_seconds", "per_day", "per_hour", "place", "slots", "week_hour")

    def __init__(
        self, bucket_seconds: int, zone: tzinfo | None = None, holidays: frozenset[date] = frozenset()
    ) -> None:
        self.bucket_seconds = bucket_seconds
        self.per_hour = HOUR_SECONDS // bucket_seconds
        self.per_day = HOURS * self.per_hour
        per_hour = self.per_hour
        clock = UTC if zone is None else zone
        always = clock.utcoffset(None)
        fixed = None if always is None else always.total_seconds()
        free_days = frozenset(day.toordinal() - _EPOCH_ORDINAL for day in holidays)

        def local(instant: float) -> tuple[int, float]:
            """The local day (days since 1970-01-01) of epoch seconds, and the seconds that its clock shows."""
            ahead = fixed
            if ahead is None:
                offset = datetime.fromtimestamp(instant, clock).utcoffset()
                ahead = offset.total_seconds() if offset is not None else 0.0
            day, in_day = divmod(instant + ahead, DAY_SECONDS)
            return int(day), in_day

        def slots(bucket: int) -> tuple[int, int, float]:
            """The bucket's slot of 48 (hour, weekday or weekend), its nearest neighbour, and the neighbour's weight.

            A slot's mean is right at the middle of its hour; in between the two are interpolated. The bucket is where
            its own middle is. A holiday is a weekend day.
            """
            day, in_day = local((bucket + 0.5) * bucket_seconds)
            offset = HOURS if (day + EPOCH_WEEKDAY) % 7 >= SATURDAY or day in free_days else 0
            hour = int(in_day // HOUR_SECONDS)
            position = in_day % HOUR_SECONDS / HOUR_SECONDS
            neighbour = (hour - 1) % HOURS if position < 0.5 else (hour + 1) % HOURS
            return offset + hour, offset + neighbour, abs(position - 0.5)

        # a shard asks for the same few buckets for each of its keys
        self.slots = lru_cache(maxsize=_CACHED_BUCKETS)(slots)

        def week_hour(bucket: int) -> int:
            """Hour of the week, 0…167, Monday 00:00 first: one for all buckets of an hour of UTC, by its middle.

            A holiday on a working day has the hours of a Sunday. It would leave its own weekday's hours quiet for the
            week after, and what they know would hide a leak on it. The price: a job of Sundays only is half forgotten.
            """
            day, in_day = local((bucket // per_hour + 0.5) * HOUR_SECONDS)
            weekday = (day + EPOCH_WEEKDAY) % 7
            if weekday < SATURDAY and day in free_days:
                weekday = SUNDAY
            return weekday * HOURS + int(in_day // HOUR_SECONDS)

        self.week_hour = lru_cache(maxsize=_CACHED_BUCKETS)(week_hour)

        def place(bucket: int) -> tuple[int, int, int, float, int, int]:
            """`slots`, `week_hour`, and a number that is the same for buckets that agree in slots and hour of the week.

            The number, the slot, its neighbour and the neighbour's weight, the hour of the week, and the slot of the
            bucket behind it.
            """
            slot, neighbour, weight = slots(bucket)
            hour = week_hour(bucket)
            number = (slot * 2 * HOURS + neighbour) * WEEK_HOURS + hour
            return number, slot, neighbour, weight, hour, slots(bucket + 1)[0]

        self.place = lru_cache(maxsize=_CACHED_BUCKETS)(place)
