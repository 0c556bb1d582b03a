"""Taking a shard up from its state: in pieces, without unpacking who can wait, and going on as if nothing had been."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from core_streams import HOUR, PRIORS, SETTINGS, START, Run, calls, few, log_of, new_shard, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from stream.core import keyring
from stream.core.shard import Shard
from stream.core.state import MODEL, SHARD_KEY, SUMS, StateError, has_incident, has_open_bucket
from stream.events import Call

seeds = st.integers(0, 10_000)


def awake(shard) -> set[str]:
    return set(shard._keys.held)


def opened(shard) -> set[str]:
    return {key.key_id for touched in shard._keys.touched.values() for key in touched}


def packed(shard):
    """The state topic's records of a shard that has never written any."""
    return shard.changes()


@pytest.fixture(scope="module")
def many():
    """A shard of 40 keys in the middle of a bucket that most of them have used, and its log."""
    log = log_of(calls(11, days=5, keys=40))
    shard = new_shard()
    shard.observe(log, len(log) - 1)
    return shard, dict(packed(shard)), log


def test_loading_unpacks_only_keys_with_an_open_incident(many):
    shard, records, _ = many
    loaded = new_shard()
    loaded.load(records.items())
    alarmed = {alert.entity.id for alert in shard.open_alerts()}
    assert alarmed
    assert len(opened(shard) - alarmed) > 3, "others have an open bucket, and can wait for its close"
    assert awake(loaded) == alarmed
    assert len(loaded) == len(shard)
    assert [a.alert_id for a in loaded.open_alerts()] == [a.alert_id for a in shard.open_alerts()]


def test_looking_at_a_key_leaves_it_packed(many):
    shard, records, _ = many
    loaded = new_shard()
    loaded.load(records.items())
    before = awake(loaded)
    for k in range(40):
        assert loaded.key(f"key-{k}") == shard.key(f"key-{k}")
    assert loaded.key("nobody") is None
    assert awake(loaded) == before


def test_reading_ids_again_wakes_nobody_and_still_finds_the_duplicates(many):
    _, records, log = many
    loaded = new_shard()
    loaded.load(records.items())
    before = awake(loaded)
    again = [arrival for arrival in log if arrival[0] >= loaded.read_from]
    assert again
    loaded.observe(again, log[-1][0])
    assert awake(loaded) == before
    calls_before = {key_id: loaded.key(key_id).calls for key_id in opened(many[0])}
    repeated = [(log[-1][0] + 1 + i, time, call) for i, (_, time, call) in enumerate(again)]
    step = loaded.observe(repeated, repeated[-1][0])
    assert (step.accepted, step.duplicates + step.late) == (0, len(repeated))
    assert {key_id: loaded.key(key_id).calls for key_id in calls_before} == calls_before


def test_a_chunk_that_is_half_known_is_remembered_and_applied(many):
    shard, records, log = many
    loaded = new_shard()
    loaded.load(records.items())
    new = (log[-1][0] + 1, shard.newest, Call(event_id="new", time=shard.newest, key_id="key-1"))
    step = loaded.observe([*[a for a in log if a[0] >= loaded.read_from], new], new[0])
    assert (step.accepted, step.duplicates) == (1, 0)
    assert loaded.key("key-1").calls == shard.key("key-1").calls + 1


def test_a_key_that_is_never_seen_again_closes_with_its_bucket(many):
    """By an idle step: nobody is seen, everybody is closed, and the bytes are those of a shard that never stopped."""
    _, records, log = many
    undisturbed, loaded = new_shard(), new_shard()
    undisturbed.observe(log, len(log) - 1)
    packed(undisturbed)
    loaded.load(records.items())
    steps = []
    for shard in (undisturbed, loaded):
        shard.announce(shard.newest + 3 * HOUR)
        shard.changes()
        steps.append(shard.advance())
    assert steps[0].buckets_closed > 10
    assert steps[1] == steps[0]
    mine, theirs = dict(loaded.changes()), dict(undisturbed.changes())
    assert mine.keys() == theirs.keys()
    assert {n: v for n, v in mine.items() if n != SHARD_KEY} == {n: v for n, v in theirs.items() if n != SHARD_KEY}
    assert loaded.expected_calls(HOUR) == undisturbed.expected_calls(HOUR) > 0


def test_the_ids_of_a_full_shards_packed_keys_are_remembered_too():
    full = SETTINGS.model_copy(update={"max_keys": 2})
    log = log_of([(START + i, Call(event_id=str(i), time=START + i, key_id=f"key-{i % 2}")) for i in range(20)])
    shard, loaded = (Shard(0, full, partition_of=lambda key_id: 0, priors=PRIORS) for _ in range(2))
    shard.observe(log, 19)
    loaded.load(packed(shard))
    loaded.observe(log, 19)
    step = loaded.observe([(20 + position, time, call) for position, time, call in log], 39)
    assert (step.accepted, step.duplicates, step.rejects) == (0, 20, [])


def test_a_packed_key_is_alarmed_early_when_its_bucket_becomes_the_oldest():
    """Its sums are over the threshold while the bucket before it is open; then somebody else's record closes that."""
    steady = [
        (START + i * HOUR / 4, Call(event_id=f"{key}-{i}", time=0.0, key_id=key, input_tokens=100, output_tokens=50))
        for i in range(6 * 24 * 4)
        for key in ("attacked", "other")
        if key == "other" or i < (6 * 24 - 1) * 4  # it has nothing in the bucket that will close
    ]
    begin = steady[-1][0] + HOUR / 4
    burst = [
        (begin + i, Call(event_id=f"b-{i}", time=0.0, key_id="attacked", input_tokens=900, output_tokens=900))
        for i in range(60)
    ]
    log = log_of(steady + burst)
    undisturbed, loaded = new_shard(), new_shard()
    assert [a for a in undisturbed.observe(log, len(log) - 1).alerts if a.started_at >= begin] == []
    loaded.load(packed(undisturbed))
    assert awake(loaded) == set()
    after = begin + SETTINGS.allowed_lateness_seconds + 60
    last = (len(log), after, Call(event_id="last", time=0.0, key_id="other", input_tokens=1, output_tokens=1))
    said, expected = (shard.observe([last], last[0]).alerts for shard in (loaded, undisturbed))
    assert [(a.entity.id, a.status, a.started_at) for a in said] == [("attacked", "opened", begin)]
    assert said == expected


@pytest.mark.slow
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_a_crash_after_every_single_record_changes_nothing(seed):
    log = log_of(calls(seed, keys=3))
    undisturbed = whole(log)
    run = Run()
    for position in range(60 * 3, len(log)):
        run.observe(log, position)
        run.flush()
        run.crash()
    run.flush()
    assert run.alerts == undisturbed.alerts
    assert run.state == undisturbed.state


def test_an_incident_that_opened_inside_its_bucket_is_written_with_the_next_flush():
    said = [
        (time, structs.replace(call, input_tokens=call.input_tokens or 0, output_tokens=call.output_tokens or 0))
        for time, call in calls(27, days=5, keys=5)
    ]
    log = log_of(said)  # where usage is missing nothing opens inside its bucket
    shard, state, early = new_shard(), {}, 0
    for position, _, _ in log:
        step = shard.observe(log[position : position + 1], position)
        inside = [a for a in step.alerts if a.status == "opened" and a.detected_at < a.started_at + HOUR]
        changes = dict(shard.changes())
        state.update(changes)
        for alert in inside:
            early += 1
            assert MODEL + alert.entity.id.encode() in changes
            heir = new_shard()
            heir.load(state.items())
            assert alert.alert_id in {a.alert_id for a in heir.open_alerts()}
    assert early


@few
@given(seed=seeds, cuts=st.lists(st.integers(0, 400), max_size=12))
def test_any_pieces_of_the_log_make_the_same_shard(seed, cuts):
    """The log as it is before compaction: older writes, deletions and all."""
    rng = random.Random(seed)
    run, written = Run(), []
    log = log_of(calls(seed, days=4))
    for upto in (len(log) // 3, 2 * len(log) // 3, len(log) - 1):
        run.observe(log, upto)
        written += run.shard.changes()
    # a shard deletes no key of its own, and finds out if one is missing: this one stands there from before a rebuild
    gone = SUMS + b"deleted"
    name, value = rng.choice([pair for pair in written if pair[0][:1] == SUMS])
    written[:0] = [(gone, value), (MODEL + gone[1:], value), (gone, None), (MODEL + gone[1:], None)]
    latest = {name: value for name, value in written if value is not None and name[1:] != gone[1:]}
    at_once, in_pieces = new_shard(), new_shard()
    at_once.load(latest.items())
    places = sorted({min(cut, len(written)) for cut in cuts} | {0, len(written)})
    for begin, end in pairwise(places):
        in_pieces.take_up(written[begin:end])
    in_pieces.taken_up()
    assert len(in_pieces) == len(at_once) == len({name for name in latest if name[:1] == SUMS})
    assert in_pieces.key(gone[1:].decode()) is None
    for name in latest:
        assert in_pieces.key(name[1:].decode("utf-8")) == at_once.key(name[1:].decode("utf-8"))
    step, other = (
        shard.observe([(len(log), START + 30 * 24 * HOUR, Call(event_id="x", time=0.0, key_id="key-9"))], len(log))
        for shard in (in_pieces, at_once)
    )
    assert step == other


def test_a_key_is_unpacked_only_once(many, monkeypatch):
    _, records, log = many
    unpacked = []
    real = keyring._unpacked
    monkeypatch.setattr(keyring, "_unpacked", lambda key, packed: unpacked.append(key.key_id) or real(key, packed))
    loaded = new_shard()
    loaded.load(records.items())
    time = loaded.newest
    for i in range(3):
        at = log[-1][0] + 1 + i
        loaded.observe([(at, time, Call(event_id=f"again-{i}", time=time, key_id="key-2"))], at)
    loaded.announce(time + 5 * HOUR)
    loaded.advance()
    assert unpacked.count("key-2") == 1
    assert len(unpacked) == len(set(unpacked))


@pytest.mark.parametrize(
    ("kind", "damage", "why"),
    [
        (SUMS, lambda value: value + b"\0", "one byte too many for its open buckets"),
        (SUMS, lambda value: value[:-1], "one byte too few"),
        (SUMS, lambda value: b"", "nothing of it"),
        (MODEL, lambda value: value[:60], "its head is cut"),
        (MODEL, lambda value: b"\0" + value[1:], "a version that never was"),
    ],
)
def test_damage_shows_before_the_shard_is_live(many, kind, damage, why):
    """That of a key that cannot wait: it has an open bucket, or an open incident."""
    _, records, _ = many
    cannot_wait = has_open_bucket if kind == SUMS else has_incident
    name = min(name for name, value in records.items() if name[:1] == kind and cannot_wait(value))
    bad = {**records, name: damage(records[name])}
    loaded = new_shard()
    loaded.take_up(list(bad.items()))
    with pytest.raises(StateError, match="damaged"):
        loaded.taken_up()


@pytest.mark.parametrize("kind", [SUMS, MODEL])
def test_damage_of_a_key_that_can_wait_shows_when_all_are_checked_and_when_it_is_woken(many, kind):
    _, records, _ = many
    may_wait = {
        name[1:]
        for name, value in records.items()
        if name[:1] == SUMS and not has_open_bucket(value) and not has_incident(records[MODEL + name[1:]])
    }
    name = kind + min(may_wait)
    bad = {**records, name: records[name][:-1]}
    for look in (lambda shard: shard.check(), lambda shard: shard.key(name[1:].decode())):
        loaded = new_shard()
        loaded.load(bad.items())
        with pytest.raises(StateError, match="damaged"):
            look(loaded)


@pytest.mark.slow
@few
@given(seed=seeds)
def test_keys_that_fall_asleep_and_wake_are_as_if_they_had_not(seed):
    """One shard writes every few calls, so that silent keys are packed again; the other never does."""
    log = log_of(calls(seed, keys=3))
    resting, restless = new_shard(), new_shard()
    state, slept = {}, False
    alerts, others = [], []
    for begin in range(0, len(log), 7):
        piece = log[begin : begin + 7]
        alerts += resting.observe(piece, piece[-1][0]).alerts
        others += restless.observe(piece, piece[-1][0]).alerts
        state.update(resting.changes())
        slept = slept or len(awake(resting)) < len(resting)
        assert len(resting) == len(restless)
    assert alerts == others
    assert slept or not any(silent_for_hours(log))
    for _, _, call in log:
        assert resting.key(call.key_id) == restless.key(call.key_id)
    assert dict(restless.changes()).items() <= state.items()


def silent_for_hours(log):
    """Whether each key is silent for long enough, in the midst of other calls, to fall asleep for sure."""
    for key_id in {call.key_id for _, _, call in log}:
        times = [time for _, time, call in log if call.key_id == key_id]
        yield any(after - before > 12 * HOUR for before, after in pairwise(times))


def test_many_keys_fall_asleep_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(keyring, "PACKED_AT_ONCE", 10)
    shard = new_shard()
    log = log_of([(START + k, Call(event_id=f"{k}", time=0.0, key_id=f"key-{k}", input_tokens=9)) for k in range(45)])
    shard.observe(log, len(log) - 1)
    shard.changes()
    assert len(awake(shard)) == 45
    shard.announce(START + 6 * HOUR)
    shard.changes()
    shard.advance()
    left = []
    for _ in range(6):
        shard.announce(shard.watermark)
        shard.changes()
        left.append(len(awake(shard)))
    assert left == [35, 25, 15, 5, 0, 0]
    assert len(shard) == 45
