"""Event time of a shard: what is open, what closes, what is late, what was seen before, and whose clock is wrong."""

from __future__ import annotations

import math

import pytest

from stream.core.windows import DUPLICATE, FUTURE, LATE, MAX_UNCONFIRMED, Windows

START = 1_772_323_200.0
DAY = 86_400.0
YEAR = 365 * DAY


class Feed:
    """Windows as a shard uses them: place, then see, then close."""

    def __init__(self, bucket_seconds=300, lateness=60.0, max_ids=1000, confirm_jumps=False):
        self.windows = Windows(bucket_seconds, lateness, max_ids, confirm_jumps)
        self.position = 0
        self.closed = 0

    def __call__(self, offset, name=None):
        """A record `offset` seconds after START; returns the bucket relative to START's, or why not."""
        windows = self.windows
        self.position += 1
        placed = windows.place(START + offset, hash(name or f"id-{self.position}"), self.position)
        if placed >= 0 and windows.see(START + offset):
            windows.close()
            self.closed += 1
        return placed - int(START // windows.bucket_seconds) if placed >= 0 else placed

    @property
    def first_open(self):
        return self.windows.first_open - int(START // self.windows.bucket_seconds)


@pytest.mark.parametrize(
    ("newest", "first_open", "why"),
    [
        (299.0, -0, "nothing has passed the end of the first bucket"),
        (359.9, 0, "the lateness holds it open after its end"),
        (360.0, 1, "the watermark reaches the end: closed"),
        (660.0, 2, "two at once"),
    ],
)
def test_a_bucket_closes_when_the_watermark_passes_its_end(newest, first_open, why):
    feed = Feed()
    feed(60.0)
    feed(newest)
    assert feed.first_open == first_open, why


def test_without_lateness_a_bucket_closes_with_the_first_record_of_the_next():
    feed = Feed(lateness=0.0)
    assert feed(10.0) == 0
    assert feed(299.999) == 0
    assert feed(300.0) == 1
    assert feed.first_open == 1
    assert feed(299.0) == LATE


@pytest.mark.parametrize("lateness", [0.1, 0.3, 59.7, 1e-6])
def test_a_restart_closes_a_bucket_at_the_same_record_whatever_the_lateness_rounds_to(lateness):
    """The quick comparison of a shard that runs, and the full one of a shard that was just loaded, are one."""
    edge = START + 300 + lateness
    near = [edge]
    for _ in range(3):
        near = [math.nextafter(near[0], 0), *near, math.nextafter(near[-1], math.inf)]
    for time in near:
        running, loaded = Windows(300, lateness, 10, False), Windows(300, lateness, 10, False)
        for first in (START - 400.0, START + 1.0):
            if running.see(first):
                running.close()
        assert running.closing_at > -math.inf
        loaded.newest, loaded.watermark, loaded.first_open = running.newest, running.watermark, running.first_open
        assert running.see(time) == loaded.see(time), time - edge


def test_the_largest_lateness_keeps_a_whole_day_open():
    feed = Feed(bucket_seconds=10, lateness=DAY)
    feed(DAY)
    assert feed(0.0) == 0
    assert feed(-0.5) == LATE


def test_a_record_before_the_first_one_is_in_time_within_the_lateness():
    feed = Feed(lateness=600.0)
    feed(0.0)
    assert feed(-599.0) == -2
    assert feed(-901.0) == LATE


def test_a_record_for_what_an_idle_step_has_closed_is_late():
    feed = Feed()
    feed(10.0)
    assert feed.windows.raise_watermark(START + 300.0)
    feed.windows.close()
    assert feed(20.0) == LATE
    assert feed(301.0) == 1


def test_the_watermark_never_goes_back():
    feed = Feed()
    feed(1000.0)
    before = feed.windows.watermark
    feed(950.0)
    assert not feed.windows.raise_watermark(before - 1)
    assert feed.windows.watermark == before


def test_after_an_idle_step_the_present_is_where_the_clock_has_brought_it():
    feed = Feed()
    feed(10.0)
    assert feed.windows.now == START + 10.0
    feed.windows.raise_watermark(START + 400.0)
    assert feed.windows.now == START + 460.0


def test_the_same_id_counts_once_across_two_open_buckets():
    feed = Feed()
    assert feed(290.0, "a") == 0
    assert feed(310.0, "a") == DUPLICATE
    assert feed(20.0, "a") == DUPLICATE


def test_an_id_seen_twice_outlives_the_first_of_its_buckets():
    feed = Feed()
    feed(290.0, "a")
    feed(310.0, "a")
    feed(400.0)
    assert feed.first_open == 1
    assert feed(420.0, "a") == DUPLICATE, "its repetition lay in the bucket that is still open"


def test_an_id_is_forgotten_with_its_bucket():
    feed = Feed()
    feed(10.0, "a")
    feed(400.0)
    assert feed(420.0, "a") == 1


@pytest.mark.parametrize(
    ("max_ids", "outcome", "why"),
    [(0, 0, "no ids are held: nothing is a duplicate"), (1, 0, "the second id did not fit"), (2, DUPLICATE, "it did")],
)
def test_ids_are_held_up_to_a_limit_per_bucket(max_ids, outcome, why):
    feed = Feed(max_ids=max_ids)
    feed(1.0, "a")
    feed(2.0, "b")
    assert feed(3.0, "b") == outcome, why
    assert all(len(ids) <= max_ids for ids in feed.windows.ids.values())


def test_ids_are_read_again_from_the_first_record_of_the_oldest_open_bucket():
    feed = Feed()
    assert feed.windows.oldest_position() is None
    feed(10.0)
    feed(310.0)
    assert feed.windows.oldest_position() == 1
    feed(370.0)
    assert feed.windows.oldest_position() == 2


# ---------------------------------------------------------------- jumps in a file


def test_on_kafka_a_jump_moves_the_watermark_at_once():
    feed = Feed()
    feed(0.0)
    feed(YEAR)
    assert feed.windows.newest == START + YEAR


def test_in_a_file_one_wrong_clock_makes_nobody_late():
    feed = Feed(confirm_jumps=True)
    feed(0.0)
    assert feed(YEAR) > 0, "it is taken"
    assert feed.windows.newest == START
    assert feed(10.0) == 0


def test_in_a_file_a_second_record_confirms_a_jump():
    feed = Feed(confirm_jumps=True)
    feed(0.0)
    feed(YEAR)
    feed(YEAR + 30)
    assert feed.windows.newest == START + YEAR
    feed(YEAR + 60)
    assert feed.windows.newest == START + YEAR + 60
    assert feed(10.0) == LATE


def test_a_jump_of_a_day_needs_no_confirmation():
    feed = Feed(confirm_jumps=True)
    feed(0.0)
    feed(DAY)
    assert feed.windows.newest == START + DAY


@pytest.mark.parametrize("between", [True, False])
def test_two_wrong_clocks_a_year_apart_do_not_confirm_each_other(between):
    feed = Feed(confirm_jumps=True)
    feed(0.0)
    feed(YEAR)
    if between:
        feed(5.0)
    feed(2 * YEAR)
    assert feed.windows.newest == START + (5.0 if between else 0.0)
    assert feed(10.0) == 0


def test_wrong_clocks_among_records_in_time_never_add_up_to_a_confirmation():
    feed = Feed(confirm_jumps=True)
    for i in range(200):
        assert feed(float(i)) == 0
        feed((1 + i % 7) * YEAR + i * 3 * DAY)
    assert feed.windows.newest == START + 199.0


def test_a_key_used_once_a_month_is_no_wrong_clock():
    feed = Feed(confirm_jumps=True)
    placed = [feed(month * 30 * DAY) for month in range(60)]
    assert all(bucket >= 0 for bucket in placed)
    assert feed.windows.newest == START + 58 * 30 * DAY, "each is confirmed by the next"
    assert len(feed.windows.ids) < 5


def test_the_buckets_that_wrong_clocks_hold_open_are_bounded():
    feed = Feed(confirm_jumps=True)
    refused = 0
    for i in range(100):
        feed(float(i))
        refused += feed((i + 1) * 10 * DAY) == FUTURE
    assert refused == 100 - MAX_UNCONFIRMED
    assert len(feed.windows.ids) == MAX_UNCONFIRMED + 1


def test_a_real_gap_is_crossed_though_wrong_clocks_hold_all_places():
    feed = Feed(confirm_jumps=True)
    for i in range(100):
        feed(float(i))
        feed((i + 10) * YEAR / 10)
    placed = [feed(3 * DAY + i) for i in range(10)]
    assert placed[0] == FUTURE, "one record is the price"
    assert all(bucket >= 0 for bucket in placed[1:])
    assert feed.windows.newest == START + 3 * DAY + 9


def test_a_gap_is_crossed_with_many_buckets_open():
    """The places for unconfirmed jumps must not be taken by buckets that are open as usual."""
    feed = Feed(lateness=7200.0, confirm_jumps=True)
    for i in range(60):
        feed(i * 300.0)
    assert len(feed.windows.ids) > MAX_UNCONFIRMED
    assert all(feed(4 * DAY + i * 300.0) >= 0 for i in range(60))
    assert feed.windows.newest == START + 4 * DAY + 59 * 300.0
