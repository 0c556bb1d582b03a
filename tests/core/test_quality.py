"""How far data can be trusted: what counts, how it fades, and that poor data raise the bar, by no more than is said."""

from __future__ import annotations

from functools import cache
from zlib import crc32

import msgspec
import pytest
from core_streams import Run, calls, equality, few, log_of, shuffled, whole
from hypothesis import given
from hypothesis import strategies as st
from shard_traffic import DAY, HOUR, START, call, feed, merged, shard, steady, times

from stream.core.quality import FREE_SHARE, HALF_LIFE_SECONDS, MOST_CAUTION, caution_of
from stream.core.state import SHARD_KEY, pack_shard, unpack_shard

seeds = st.integers(0, 10_000)
HISTORY_DAYS = 24
NOW = START + HISTORY_DAYS * DAY


def unmetered(stream, every):
    """The stream with every n-th call's usage missing."""
    return [
        (time, msgspec.structs.replace(c, input_tokens=None, output_tokens=None) if i % every == 0 else c)
        for i, (time, c) in enumerate(stream)
    ]


def worse(seed, every=2):
    """A stream with incidents where every n-th call lacks its usage; a duplicate says what the first one did."""
    return [
        (time, msgspec.structs.replace(c, output_tokens=None) if crc32(c.event_id.encode()) % every == 0 else c)
        for time, c in calls(seed)
    ]


# ---------------------------------------------------------------- what counts


def test_shares_are_of_what_came_within_the_last_hours():
    taught = shard()
    feed(taught, steady(days=1))
    assert taught.quality().model_dump() == dict.fromkeys(taught.quality().model_dump(), 0.0)
    feed(taught, unmetered(steady(start=START + DAY, days=1 / 4), 2))
    assert 0.45 < taught.quality().missing_usage < 0.5
    feed(taught, steady(start=START + 1.25 * DAY, days=1 / 4))
    assert taught.quality().missing_usage < 0.02, "six half-lives later it is over"


def test_a_failed_call_owes_no_usage():
    here = shard()
    failed = [call(START + i, event_id=f"e-{i}", status=429) for i in range(0, 7200, 10)]
    assert feed(here, failed).missing_usage == 720
    assert here.quality().missing_usage == 0.0
    assert here.quality().caution == 0.0


def test_late_duplicate_disordered_and_empty_records_are_told_apart():
    here = shard()
    used = {"input_tokens": 5, "output_tokens": 5}
    none = {"input_tokens": 0, "output_tokens": 0}
    step = feed(here, [
        call(START, **used),
        call(START + 3600, **used),
        call(START + 3600, **used),  # seen
        call(START + 3599.5, **used),  # in step, as several gateways are
        call(START + 3590, **used),  # out of order
        call(START, "k", "late", **used),
        call(START + 3601, **none),
        call(START + 3602, **none, status=500),  # nothing for a failure is right
        call(START + 3603, calls=4, period_seconds=60, **none),
    ])  # fmt: skip
    assert step.counts == (7, 1, 1, 1, 2)
    quality = here.quality()
    assert quality.late == quality.duplicates == 1 / 9
    assert (quality.out_of_order, quality.zero_usage) == (1 / 7, 2 / 7)


# ---------------------------------------------------------------- by how much


@given(
    missing=st.floats(0, 1), calls=st.floats(0, 1e9), late=st.floats(0, 1), records=st.floats(0, 1e9),
    more=st.floats(0, 1),
)  # fmt: skip
def test_caution_is_bounded_and_grows_with_what_is_wrong(missing, calls, late, records, more):
    caution = caution_of(missing * calls, calls, late * records, records)
    assert 0.0 <= caution <= MOST_CAUTION
    assert caution <= caution_of(max(missing, more) * calls, calls, late * records, records)
    assert caution <= caution_of(missing * calls, calls, max(late, more) * records, records)


def test_a_few_bad_records_and_the_usual_losses_raise_nothing():
    assert caution_of(5, 5, 0, 5) == 0.0
    assert caution_of(FREE_SHARE * 1e6, 1e6, 0, 1e6) == 0.0


# ---------------------------------------------------------------- what it does


@cache
def history():
    taught = shard()
    feed(taught, merged(steady(days=HISTORY_DAYS, every=60.0), steady("other", START + 7, HISTORY_DAYS, 60.0)))
    return tuple(taught.changes())


def attacked(factor, missing):
    """An attack on a key with a history, while another key's answers lack their usage or do not."""
    here = shard()
    here.load(history())
    begin = NOW + 4 * HOUR + 40
    attack = times(factor, steady(start=NOW, days=0.5, every=60.0), begin, begin + HOUR)
    others = steady("other", NOW + 7, 0.5, 60.0)
    if missing:
        others = [call(time, "other", c.event_id, calls=400) for time, c in others]
    alerts = feed(here, merged(attack, others)).alerts
    return here, [alert for alert in alerts if alert.entity.id == "k"]


def test_a_large_attack_is_found_on_poor_data_at_the_close_of_its_bucket_and_the_alert_says_so():
    _, good = attacked(50, missing=False)
    _, poor = attacked(50, missing=True)
    assert [alert.status for alert in poor].count("opened") == 1
    first, early = poor[0], good[0]
    assert early.detected_at < early.window.end
    assert "data" not in early.summary
    assert early.data_quality.caution == 0.0
    assert first.detected_at == first.window.end + 60, "nothing opens early on poor data"
    assert first.data_quality.missing_usage > 0.8
    assert first.data_quality.caution == MOST_CAUTION
    assert "; the data are poor (" in first.summary
    assert "% of the calls without token counts), so the bar was raised" in first.summary
    assert any(", raised by 1.0 since the data are poor" in alert.severity_reason for alert in poor)


def test_the_bar_is_back_once_the_data_are_good_again():
    here, _ = attacked(1, missing=True)
    assert here.quality().caution > 0.5
    feed(here, merged(steady(start=NOW + 0.5 * DAY, days=1), steady("other", start=NOW + 0.5 * DAY, days=1)))
    assert here.quality().caution == 0.0


# ---------------------------------------------------------------- the same result


@pytest.mark.slow
@few
@given(seed=seeds, actions=st.lists(st.tuples(st.integers(1, 300), st.sampled_from("rfc")), max_size=20))
def test_chunks_and_crashes_on_poor_data_change_nothing(seed, actions):
    log = log_of(worse(seed))
    undisturbed, run = whole(log), Run()
    for advance, action in actions:
        run.observe(log, min(run.shard.applied + advance, len(log) - 1))
        if action == "f":
            run.flush()
        elif action == "c":
            run.crash()
    run.observe(log, len(log) - 1)
    run.flush()
    assert run.alerts == undisturbed.alerts
    assert run.state == undisturbed.state
    assert run.shard.quality() == undisturbed.shard.quality()


@pytest.mark.slow
@few
@given(seed=seeds, order=seeds)
def test_the_order_of_poor_records_within_the_lateness_changes_no_incident(seed, order):
    stream = [(t, c) for t, c in worse(seed) if c.period_seconds is None]
    straight = whole(log_of(stream))
    mixed = whole(log_of(shuffled(stream, 850.0, order)))
    assert mixed.totals.late == 0
    assert equality(mixed.alerts) == equality(straight.alerts)


def test_a_state_from_before_knows_of_no_fault_and_counts_on():
    here = shard()
    feed(here, unmetered(steady(days=1), 2))
    records = dict(here.changes())
    old = msgspec.structs.replace(unpack_shard(records[SHARD_KEY]), recent=[], counted=[], unmetered={})
    records[SHARD_KEY] = pack_shard(old)
    loaded = shard()
    loaded.load(records.items())
    assert loaded.quality().model_dump() == dict.fromkeys(loaded.quality().model_dump(), 0.0)
    feed(loaded, unmetered(steady(start=START + DAY, days=HALF_LIFE_SECONDS / DAY), 2))
    assert 0.4 < loaded.quality().missing_usage < 0.6
