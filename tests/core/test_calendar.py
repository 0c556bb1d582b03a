"""The clock of a season: UTC as it always was, zones with their changes of the clock, holidays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.calendar import Calendar
from stream.core.shard import Shard
from stream.settings import Settings
from tests.core.shard_traffic import Timed, arrivals, call, feed

BERLIN, NEW_YORK, KOLKATA = "Europe/Berlin", "America/New_York", "Asia/Kolkata"
KATHMANDU, LORD_HOWE = "Asia/Kathmandu", "Australia/Lord_Howe"
ZONES = (BERLIN, NEW_YORK, KOLKATA, KATHMANDU, LORD_HOWE, "Pacific/Kiritimati", "Pacific/Apia", "America/St_Johns")
LENGTHS = [n for n in range(10, 3601) if 3600 % n == 0]

lengths = st.sampled_from(LENGTHS)
instants = st.integers(946_684_800, 4_102_444_800)  # 2000 to 2100, as in `events`


def calendar(zone: str = "UTC", bucket_seconds: int = 300, *holidays: str) -> Calendar:
    return Calendar(bucket_seconds, ZoneInfo(zone), frozenset(map(date.fromisoformat, holidays)))


def bucket_at(text: str, bucket_seconds: int = 300) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // bucket_seconds


def slot(calendar: Calendar, text: str) -> int:
    """The slot of the bucket at a time."""
    return calendar.slots(bucket_at(text, calendar.bucket_seconds))[0]


def slots_in_utc(bucket: int, per_hour: int) -> tuple[int, int, float]:
    """The slots as they were before there were zones: stored seasons are in them."""
    day, in_day = divmod(bucket, 24 * per_hour)
    offset = 24 if (day + 3) % 7 >= 5 else 0
    hour, in_hour = divmod(in_day, per_hour)
    position = (in_hour + 0.5) / per_hour
    neighbour = (hour - 1) % 24 if position < 0.5 else (hour + 1) % 24
    return offset + hour, offset + neighbour, abs(position - 0.5)


@given(lengths, st.integers(-(10**10), 10**12))
def test_without_a_zone_every_slot_is_to_the_last_bit_what_it_was(bucket_seconds, bucket):
    per_hour = 3600 // bucket_seconds
    for same in (Calendar(bucket_seconds), calendar("UTC", bucket_seconds)):
        assert same.slots(bucket) == slots_in_utc(bucket, per_hour)
        assert same.week_hour(bucket) == (bucket // per_hour + 72) % 168


@given(lengths, instants, st.sampled_from(ZONES))
def test_a_bucket_is_where_the_clock_on_the_wall_shows_its_middle(bucket_seconds, instant, zone):
    there = calendar(zone, bucket_seconds)
    bucket = instant // bucket_seconds
    local = datetime.fromtimestamp((bucket + 0.5) * bucket_seconds, ZoneInfo(zone))
    slot, neighbour, weight = there.slots(bucket)
    assert slot == local.hour + (24 if local.weekday() >= 5 else 0)
    assert neighbour // 24 == slot // 24
    assert (neighbour - slot) % 24 in (1, 23)
    assert 0 <= weight <= 0.5
    assert weight == pytest.approx(abs((local.minute + local.second / 60 + local.microsecond / 6e7) / 60 - 0.5))


@given(lengths, instants, st.sampled_from(ZONES))
def test_all_buckets_of_an_hour_share_their_hour_of_the_week(bucket_seconds, instant, zone):
    """The baseline sums up hours of UTC; one that was begun under a number must end under it."""
    there = calendar(zone, bucket_seconds)
    hour = instant // 3600
    per_hour = there.per_hour
    found = {there.week_hour(hour * per_hour + index) for index in range(per_hour)}
    middle = datetime.fromtimestamp(hour * 3600 + 1800, ZoneInfo(zone))
    assert found == {middle.weekday() * 24 + middle.hour}


@pytest.mark.parametrize(
    ("zone", "time", "hour", "why"),
    [
        (BERLIN, "2026-03-27T08:10+00:00", 9, "the last working day of winter"),
        (BERLIN, "2026-03-30T07:10+00:00", 9, "the first one of summer: an hour earlier in UTC"),
        (BERLIN, "2026-03-29T00:55+00:00", 24 + 1, "the last five minutes of winter"),
        (BERLIN, "2026-03-29T01:00+00:00", 24 + 3, "then 03:00: there is no hour 2"),
        (BERLIN, "2026-10-25T00:30+00:00", 24 + 2, "the first hour 2 of autumn"),
        (BERLIN, "2026-10-25T01:30+00:00", 24 + 2, "the second one"),
        (BERLIN, "2026-10-25T02:30+00:00", 24 + 3, "and then 03:00"),
        (BERLIN, "2026-03-01T23:30+00:00", 0, "Sunday night in UTC is Monday"),
        (BERLIN, "2026-03-06T23:30+00:00", 24, "and Friday night is Saturday"),
        (NEW_YORK, "2026-03-06T14:10+00:00", 9, "winter"),
        (NEW_YORK, "2026-03-09T13:10+00:00", 9, "summer"),
        (NEW_YORK, "2026-03-08T06:55+00:00", 24 + 1, "before the change"),
        (NEW_YORK, "2026-03-08T07:00+00:00", 24 + 3, "after it"),
        (NEW_YORK, "2026-11-01T05:30+00:00", 24 + 1, "01:30 for the first time"),
        (NEW_YORK, "2026-11-01T06:30+00:00", 24 + 1, "and for the second"),
        (NEW_YORK, "2026-03-02T03:00+00:00", 24 + 22, "Monday in UTC is Sunday"),
        (KOLKATA, "2026-03-02T03:25+00:00", 8, "08:55"),
        (KOLKATA, "2026-03-02T03:30+00:00", 9, "09:00, in the middle of an hour of UTC"),
        (KATHMANDU, "2026-03-02T03:10+00:00", 8, "08:55"),
        (KATHMANDU, "2026-03-02T03:15+00:00", 9, "09:00: 5 h 45 min ahead"),
        (LORD_HOWE, "2026-04-04T14:45+00:00", 24 + 1, "01:45 in summer, 11 h ahead"),
        (LORD_HOWE, "2026-04-04T15:00+00:00", 24 + 1, "01:30 again: the clock goes back half an hour"),
        (LORD_HOWE, "2026-04-04T15:30+00:00", 24 + 2, "02:00 in winter"),
        (LORD_HOWE, "2026-10-03T15:25+00:00", 24 + 1, "01:55 in winter"),
        (LORD_HOWE, "2026-10-03T15:30+00:00", 24 + 2, "then 02:30: half an hour is skipped"),
        (LORD_HOWE, "2026-10-03T16:00+00:00", 24 + 3, "03:00"),
    ],
)
def test_slots_go_by_the_local_clock(zone, time, hour, why):
    assert slot(calendar(zone), time) == hour, why


def met(zone: str, day: str, bucket_seconds: int = 300) -> list[int]:
    """How often each of the 24 hours is met on a local day."""
    there = calendar(zone, bucket_seconds)
    place = ZoneInfo(zone)
    begin = datetime.fromisoformat(day).replace(tzinfo=place)
    end = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=place)
    counts = [0] * 24
    for bucket in range(int(begin.timestamp()) // bucket_seconds, int(end.timestamp()) // bucket_seconds):
        counts[there.slots(bucket)[0] % 24] += 1
    return counts


@pytest.mark.parametrize(
    ("zone", "day", "odd", "why"),
    [
        (BERLIN, "2026-03-28", {}, "an ordinary day"),
        (BERLIN, "2026-03-29", {2: 0}, "the skipped hour"),
        (BERLIN, "2026-10-25", {2: 24}, "the repeated hour"),
        (NEW_YORK, "2026-03-08", {2: 0}, "the skipped hour"),
        (NEW_YORK, "2026-11-01", {1: 24}, "the repeated hour"),
        (LORD_HOWE, "2026-10-04", {2: 6}, "half an hour skipped"),
        (LORD_HOWE, "2026-04-05", {1: 18}, "half an hour repeated"),
    ],
)
def test_a_change_of_the_clock_touches_its_own_hour_only(zone, day, odd, why):
    assert met(zone, day) == [odd.get(hour, 12) for hour in range(24)], why


def test_an_hour_long_bucket_of_a_half_hour_zone_lies_between_two_slots():
    """00:00 to 01:00 UTC is 05:30 to 06:30 in Kolkata: half of it is hour 5, half hour 6."""
    assert calendar(KOLKATA, 3600).slots(bucket_at("2026-03-02T00:00+00:00", 3600)) == (6, 5, 0.5)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (BERLIN, "2026-03-29", [0, 1, 3, 4]),
        (BERLIN, "2026-10-25", [0, 1, 2, 2, 3, 4]),
        (NEW_YORK, "2026-03-08", [0, 1, 3, 4]),
    ],
)
def test_the_hours_of_the_week_skip_and_repeat_with_the_clock(zone, day, hours):
    there = calendar(zone)
    first = int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()) // 300
    assert [there.week_hour(first + 12 * index) - 144 for index in range(len(hours))] == hours


GOOD_FRIDAY, WHITSUN = "2026-04-03", "2026-05-24"


@pytest.mark.parametrize(
    ("time", "hour", "of_week", "why"),
    [
        ("2026-04-03T10:00+02:00", 24 + 10, 6 * 24 + 10, "a Friday off is a Sunday"),
        ("2026-04-03T00:00+02:00", 24, 6 * 24, "from its first minute by the local clock"),
        ("2026-04-02T23:55+02:00", 23, 3 * 24 + 23, "the day before is as ever, though Friday has begun farther east"),
        ("2026-04-03T23:55+02:00", 24 + 23, 6 * 24 + 23, "to its last minute"),
        ("2026-04-04T00:00+02:00", 24, 5 * 24, "the Saturday after it is a Saturday"),
        ("2026-04-10T10:00+02:00", 10, 4 * 24 + 10, "the Friday after it is a working day"),
        ("2026-05-24T10:00+02:00", 24 + 10, 6 * 24 + 10, "a Sunday that is a holiday is a Sunday"),
        ("2026-08-15T10:00+02:00", 24 + 10, 5 * 24 + 10, "a Saturday that is a holiday stays a Saturday"),
    ],
)
def test_a_holiday_is_a_weekend_day_with_the_hours_of_a_sunday(time, hour, of_week, why):
    there = calendar(BERLIN, 300, GOOD_FRIDAY, WHITSUN, "2026-08-15")
    assert slot(there, time) == hour, why
    assert there.week_hour(bucket_at(time)) == of_week, why


@given(instants, st.sampled_from(ZONES), st.frozensets(st.dates(date(2000, 1, 1), date(2100, 1, 1)), max_size=5))
def test_holidays_change_no_other_day(instant, zone, days):
    with_days, without = Calendar(300, ZoneInfo(zone), days), calendar(zone)
    for when in (instant, *(int(datetime(d.year, d.month, d.day, 12, tzinfo=UTC).timestamp()) for d in days)):
        bucket = when // 300
        local = datetime.fromtimestamp((bucket + 0.5) * 300, ZoneInfo(zone))
        if local.date() in days:
            assert with_days.slots(bucket)[0] == 24 + local.hour
        else:
            assert with_days.slots(bucket) == without.slots(bucket)


def test_a_bucket_is_looked_up_once_for_all_keys():
    there = calendar(BERLIN)
    for _ in range(1000):
        there.slots(5_900_000)
        there.week_hour(5_900_000)
    assert there.slots.cache_info().misses == there.week_hour.cache_info().misses == 1


# What it is for: an office whose key is used from nine to six by the local clock, and hardly at all otherwise.


def office(zone: str, first: date, days: int, *, free: frozenset[date] = frozenset()) -> Iterator[Timed]:
    """A call a minute from 09:00 to 18:00 on working days, one in half an hour at other times."""
    place = ZoneInfo(zone)
    time = datetime(first.year, first.month, first.day, tzinfo=place).timestamp()
    last = first + timedelta(days=days)
    i = 0
    while (local := datetime.fromtimestamp(time, place)).date() < last:
        i += 1
        if local.weekday() < 5 and local.date() not in free and 9 <= local.hour < 18:
            yield call(time, input_tokens=3000 + 37 * (i % 11), output_tokens=1000 + 13 * (i % 7))
            time += 60
        else:
            yield call(time, input_tokens=200, output_tokens=50)
            time += 1800


def opened(settings: Settings, traffic: list[Timed]) -> list[datetime]:
    """When incidents began, as the shard says."""
    step = feed(Shard(0, settings, partition_of=lambda key_id: 0), traffic)
    return [datetime.fromtimestamp(a.started_at, UTC) for a in step.alerts if a.status == "opened"]


@pytest.mark.parametrize(
    ("zone", "first"),
    [
        (BERLIN, date(2026, 3, 2)),
        (BERLIN, date(2026, 9, 28)),
        (NEW_YORK, date(2026, 2, 9)),
        (NEW_YORK, date(2026, 10, 5)),
        (LORD_HOWE, date(2026, 3, 9)),
        (KOLKATA, date(2026, 3, 2)),
    ],
)
def test_an_office_raises_no_alert_when_the_clock_changes(zone, first):
    """Six weeks, with the change of the clock after four."""
    assert opened(Settings(partitions=1, timezone=zone), list(office(zone, first, 42))) == []


@pytest.mark.parametrize(
    ("zone", "first", "hours_of_the_alerts"),
    [
        (BERLIN, date(2026, 3, 2), ["2026-03-30T07", "2026-03-31T07"]),
        (NEW_YORK, date(2026, 2, 9), ["2026-03-09T13", "2026-03-10T13"]),
    ],
)
def test_by_the_clock_of_utc_the_same_office_does(zone, first, hours_of_the_alerts):
    """On the first morning, maybe on the second too. What the zone is for: else the test above would tell nothing."""
    times = opened(Settings(partitions=1), list(office(zone, first, 42)))
    hours = [time.isoformat()[:13] for time in times]
    assert hours
    assert hours == hours_of_the_alerts[: len(hours)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zone", "days", "why"),
    [
        (BERLIN, 0, "an hour's difference is in the width of any key"),
        (
            NEW_YORK,
            9,
            "five hours are accepted after a week of incidents, as the settings say, and learned within two days",
        ),
        ("Asia/Tokyo", 9, "and nine"),
        ("Pacific/Kiritimati", 9, "and fourteen"),
    ],
)
def test_states_outlive_a_change_of_the_zone(zone, days, why):
    """A month in UTC, then another zone on the same states: the key moved by hours, and is no new one."""
    change = datetime(2026, 3, 2, tzinfo=UTC)
    traffic = list(office(zone, date(2026, 2, 2), 56))
    before = [timed for timed in traffic if timed[0] < change.timestamp()]
    old = Shard(0, Settings(partitions=1), partition_of=lambda key_id: 0)
    feed(old, before)
    new = Shard(0, Settings(partitions=1, timezone=zone), partition_of=lambda key_id: 0)
    new.load(dict(old.changes()).items())
    assert new.read_from > 0, "the states were taken"
    log = arrivals(traffic)
    alerts = new.observe([arrival for arrival in log if arrival[0] >= new.read_from], len(log) - 1).alerts
    begun = [datetime.fromtimestamp(alert.started_at, UTC) for alert in alerts if alert.status == "opened"]
    assert all(timedelta() <= at - change < timedelta(days=days) for at in begun), why


def test_a_leak_on_a_holiday_is_not_taken_for_a_day_at_work(tmp_path):
    """Whoever has the key uses it on a Friday off as the office does on other Fridays."""
    file = tmp_path / "holidays.csv"
    file.write_text(f"date,name\n{GOOD_FRIDAY},Good Friday\n", "utf-8")
    friday = date.fromisoformat(GOOD_FRIDAY)
    traffic = list(office(BERLIN, date(2026, 3, 2), 35))  # the thief keeps office hours
    known = Settings(partitions=1, timezone=BERLIN, holidays_file=str(file))
    assert [time.astimezone(ZoneInfo(BERLIN)).date() for time in opened(known, traffic)] == [friday]
    assert opened(Settings(partitions=1, timezone=BERLIN), traffic) == [], "unknown, it is an ordinary Friday"


def test_an_office_that_keeps_its_holidays_raises_no_alert(tmp_path):
    """A week off, then work again: neither the silence nor the return is news."""
    file = tmp_path / "holidays.csv"
    file.write_text("date,end\n2026-03-23,2026-03-27\n", "utf-8")
    free = frozenset(date(2026, 3, day) for day in range(23, 28))
    traffic = list(office(BERLIN, date(2026, 3, 2), 42, free=free))
    assert opened(Settings(partitions=1, timezone=BERLIN, holidays_file=str(file)), traffic) == []
