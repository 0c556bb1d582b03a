"""State as bytes: nothing is lost, every old version loads, and what cannot be taken up says why."""

from __future__ import annotations

import dataclasses
import json
from array import array
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from core_streams import START, calls, log_of, new_shard, whole
from hypothesis import given
from hypothesis import strategies as st
from made_priors import made_priors
from state_golden import GOLDEN_SETTINGS, golden_shard, read_records

from stream.alerts import CLASS_MASK
from stream.core import shardrecord, sumsrecord
from stream.core.bucket import MAX_MODELS, OTHER_MODELS, OpenBucket
from stream.core.key import KeyState
from stream.core.rules import Rules
from stream.core.shard import Shard
from stream.core.state import (
    LOADERS,
    MODEL,
    SHARD_KEY,
    SUMS,
    VERSION,
    StateError,
    has_open_bucket,
    open_buckets,
    pack_model,
    pack_sums,
    summaries,
    unpack_model,
    unpack_shard,
    unpack_sums,
)
from stream.core.sums import add_to_bucket
from stream.events import Call
from stream.settings import Settings

GOLDEN = sorted((Path(__file__).parent.parent / "state").glob("v*.json"))
assert {f"v{version}" for version in range(1, VERSION + 1)} <= {path.stem for path in GOLDEN}
every_version = pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
RECORDS = golden_shard().changes()
BY_KIND = {name[:1]: (name, value) for name, value in RECORDS}
damages = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


def quiet_records():
    """The golden state four hours later: all keys but two stay packed when it is loaded."""
    later = golden_shard()
    time = later.newest + 4 * 3600
    later.observe([(later.applied + 1, time, Call(event_id="later", time=time, key_id="once"))], later.applied + 1)
    return later.changes()


def shard(**changes):
    return Shard(0, GOLDEN_SETTINGS.model_copy(update=changes), partition_of=lambda key_id: 0, priors=made_priors())


def taken_up(records):
    """Load records and unpack every key, as the first call of each would."""
    loaded = shard()
    loaded.load(records)
    for name, _ in records:
        if name[:1] == SUMS:
            loaded.key(name[1:].decode())
    return loaded


@every_version
def test_the_state_of_every_version_still_loads(golden):
    document = json.loads(golden.read_text("utf-8"))
    loaded = taken_up(read_records(golden))
    for key_id, expected in document["keys"].items():
        view = loaded.key(key_id)
        for name, value in expected.items():
            assert getattr(view, name) == pytest.approx(value, rel=1e-6), (key_id, name)
    assert loaded.applied == document["applied"]
    assert [alert.kind for alert in loaded.open_alerts()] == document["open"]
    assert dict(golden_shard().changes()).keys() == dict(read_records(golden)).keys(), "no kind of record was added"


@every_version
def test_the_state_of_every_version_goes_on(golden):
    loaded = taken_up(read_records(golden))
    last = loaded.newest
    position = loaded.applied
    batch = [
        (position + 1 + i, last + 60.0 * i, Call(event_id=f"on-{i}", time=last + 60.0 * i, key_id="steady"))
        for i in range(200)
    ]
    before = loaded.key("steady").calls
    step = loaded.observe(batch, position + 200)
    assert step.accepted == 200
    assert loaded.key("steady").calls == before + 200


def test_packing_what_was_unpacked_gives_the_same_bytes():
    for name, value in RECORDS:
        key = KeyState(name[1:].decode(), Rules(GOLDEN_SETTINGS, made_priors()))
        if name[:1] == SUMS:
            unpack_sums(value, key)
            assert pack_sums(key) == value
        elif name[:1] == MODEL:
            unpack_model(value, key)
            assert pack_model(key) == value


def test_a_newer_version_is_refused_with_what_to_do():
    name, value = BY_KIND[SHARD_KEY[:1]]
    newer = msgspec.msgpack.encode({**msgspec.msgpack.decode(value), "version": VERSION + 1})
    with pytest.raises(StateError, match=r"newer Overdraw .*run the newer version"):
        shard().load([(name, newer)])
    for kind in (SUMS, MODEL):
        name, value = BY_KIND[kind]
        records = [(n, bytes([VERSION + 1]) + v[1:] if n == name else v) for n, v in RECORDS]
        with pytest.raises(StateError, match="newer Overdraw"):
            shard().load(records)
        with pytest.raises(StateError, match="newer Overdraw"):
            list(summaries(records))


def test_every_version_that_was_ever_written_has_a_loader_and_a_golden_file():
    assert sorted(LOADERS) == sorted(shardrecord.SHARD_LOADERS) == list(range(1, VERSION + 1))
    for golden in GOLDEN:
        version = int(golden.stem.partition("-")[0][1:])
        records = read_records(golden)
        written = {msgspec.msgpack.decode(v)["version"] if n == SHARD_KEY else v[0] for n, v in records}
        assert written == {version}


def test_an_older_version_is_taken_up_by_its_own_loader_and_written_as_the_new_one(monkeypatch):
    used = []

    def sums_1(data, key):
        used.append(key.key_id)
        sumsrecord.sums_1(data, key)

    monkeypatch.setitem(LOADERS, 1, dataclasses.replace(LOADERS[1], sums=sums_1))
    records = read_records(GOLDEN[0])
    first = {name: value for name, value in records if name[:1] == SUMS}
    # without its open bucket, a key has nothing to close: it stays packed
    first[SUMS + b"steady"] = first[SUMS + b"steady"][: sumsrecord._HEAD_1.size - 4] + bytes(4)
    records = list((dict(records) | first).items())
    loaded = shard()
    loaded.load(records)
    assert "steady" not in used, "it stays packed until it is seen"
    call = Call(event_id="new", time=loaded.newest, key_id="steady")
    loaded.observe([(loaded.applied + 1, loaded.newest, call)], loaded.applied + 1)
    assert used.count("steady") == 1
    changed = dict(loaded.changes())
    assert changed[SUMS + b"steady"][0] == VERSION
    assert msgspec.msgpack.decode(changed[SHARD_KEY])["version"] == VERSION
    again = shard()
    again.load((dict(records) | changed).items())
    assert again.key("steady") == loaded.key("steady")


def test_a_bucket_of_version_1_has_no_known_calls_for_nothing_was_written_of_their_shape():
    name = SUMS + b"attacked"
    key = KeyState("attacked", Rules(GOLDEN_SETTINGS, made_priors()))
    unpack_sums(dict(read_records(GOLDEN[0]))[name], key)
    (bucket,) = key.open.values()
    assert bucket.calls > 0
    assert bucket.input_tokens > 0
    assert (bucket.known_calls, bucket.known_input, bucket.known_output) == (0, 0, 0)


sums = st.integers(0, 2**64 - 1)
any_bucket = st.fixed_dictionaries(
    {name: sums for name in OpenBucket.__slots__ if name not in ("early", "index", "models", "plan", "threshold")}
    | {
        "early": st.booleans(),
        "models": st.dictionaries(st.integers(OTHER_MODELS, CLASS_MASK), sums, max_size=MAX_MODELS + 1),
    }
)


@given(
    buckets=st.dictionaries(st.integers(-(2**31), 2**31 - 1), any_bucket, max_size=4),
    plan=st.lists(st.floats(width=32, allow_nan=False), min_size=5, max_size=5),
)
def test_no_sum_of_an_open_bucket_is_lost_by_packing(buckets, plan):
    key = KeyState("k", Rules(GOLDEN_SETTINGS, made_priors()))
    for index, values in buckets.items():
        bucket = key.open[index] = OpenBucket(index, array("f", plan))
        for name, value in values.items():
            setattr(bucket, name, value)
    packed = pack_sums(key)
    other = KeyState("k", Rules(GOLDEN_SETTINGS, made_priors()))
    unpack_sums(packed, other)
    assert pack_sums(other) == packed
    assert list(other.open) == list(buckets) == open_buckets(packed)
    assert has_open_bucket(packed) == bool(buckets)
    for index, values in buckets.items():
        bucket = other.open[index]
        assert (bucket.index, list(bucket.plan), bucket.threshold) == (index, plan, plan[0])
        assert {name: getattr(bucket, name) for name in values} == values


def test_equal_sums_are_packed_to_equal_bytes_in_whatever_order_their_models_came():
    def packed(models):
        key = KeyState("k", Rules(GOLDEN_SETTINGS, made_priors()))
        key.open_bucket(7, 7, ()).models = models
        return pack_sums(key)

    assert packed({1: 5, 2: 6}) == packed({2: 6, 1: 5})


def test_a_sum_beyond_64_bits_is_held_at_the_most_that_can_be_stored():
    key = KeyState("k", Rules(GOLDEN_SETTINGS, made_priors()))
    bucket = key.open_bucket(7, 7, ())
    bucket.cost_micros, bucket.calls, bucket.models = 2**70, 9, {1: 2**65}
    packed = pack_sums(key)
    unpack_sums(packed, key)
    assert (key.open[7].cost_micros, key.open[7].calls, key.open[7].models) == (2**64 - 1, 9, {1: 2**64 - 1})


def test_an_open_bucket_takes_at_most_90_bytes():
    """Four hundred calls of half a thousand tokens to three models, with costs and a failure or two."""
    key = KeyState("k", Rules(GOLDEN_SETTINGS, made_priors()))
    empty = len(pack_sums(key))
    bucket = key.open_bucket(5_900_000, 5_900_000, ())
    for i in range(400):
        call = Call(
            event_id="e", time=0.0, key_id="k", input_tokens=2000, output_tokens=400 + i, reasoning_tokens=100,
            max_output_tokens=700, model=f"model-{i % 3}", status=500 if i % 100 == 0 else 200,
        )  # fmt: skip
        add_to_bucket(bucket, call, 1, call.input_tokens, call.output_tokens, call.reasoning_tokens, 12_345)
    assert len(pack_sums(key)) - empty <= 90


def test_a_state_of_another_bucket_length_is_refused_with_both_values_and_what_can_be_done():
    with pytest.raises(StateError, match=r"bucket_seconds=3600, and now it is bucket_seconds=600") as error:
        shard(bucket_seconds=600).load(RECORDS)
    assert "--rebuild" in str(error.value)
    assert "Set it back" in str(error.value)
    assert "intake_topic" not in str(error.value)


def test_a_state_of_another_number_of_partitions_is_refused_with_the_way_to_change_it():
    with pytest.raises(StateError, match=r"partitions=1, and now it is partitions=2") as error:
        shard(partitions=2).load(RECORDS)
    assert "intake_topic" in str(error.value)


def test_a_state_that_did_not_keep_its_settings_is_refused_all_the_same():
    with pytest.raises(StateError, match="another number of partitions or another bucket length"):
        shard(bucket_seconds=600).load(read_records(GOLDEN[0]))


def test_a_state_topic_that_has_lost_a_key_is_found_out():
    with pytest.raises(StateError, match="holds 3 of 4 keys"):
        shard().load([record for record in RECORDS if record[0][1:] != b"once"])


def test_checking_finds_a_damaged_key_that_loading_leaves_packed():
    name = MODEL + b"steady"
    records = quiet_records()
    loaded = shard()
    loaded.load([(n, v[:-1] if n == name else v) for n, v in records])
    with pytest.raises(StateError, match="damaged"):
        loaded.check()
    whole_one = shard()
    whole_one.load(records)
    whole_one.check()


def test_a_setting_that_leaves_states_comparable_may_change():
    other = shard(false_alerts_per_1000_key_days=3.0, min_calls=10)
    other.load(RECORDS)
    assert len(other) == len({name for name, _ in RECORDS if name[:1] == SUMS})


def test_keys_without_a_shard_record_are_a_damage():
    with pytest.raises(StateError, match="no shard record"):
        shard().load([record for record in RECORDS if record[0] != SHARD_KEY])


def test_an_empty_state_topic_is_a_beginning():
    fresh = shard()
    fresh.load([])
    assert (len(fresh), fresh.applied) == (0, -1)


def test_a_key_whose_name_is_damaged_is_a_damage():
    with pytest.raises(StateError, match="name"):
        shard().load([*RECORDS, (SUMS + b"\xff", b"")])


@given(which=st.sampled_from(RECORDS), cut=st.floats(0, 1, exclude_max=True))
def test_a_record_cut_anywhere_is_a_state_error(which, cut):
    name, value = which
    short = value[: int(cut * len(value))]
    key = KeyState("k", Rules(GOLDEN_SETTINGS, made_priors()))
    unpack = {SUMS: lambda: unpack_sums(short, key), MODEL: lambda: unpack_model(short, key)}.get(
        name[:1], lambda: unpack_shard(short)
    )
    with pytest.raises(StateError):
        unpack()


@given(which=st.sampled_from(RECORDS), damage=damages)
def test_damaged_bytes_load_or_are_a_state_error(which, damage):
    name, value = which
    bad = bytearray(value)
    for place, byte in damage:
        bad[int(place * len(bad))] = byte
    records = [(n, bytes(bad) if n == name else v) for n, v in RECORDS]
    with suppress(StateError):
        taken_up(records)
    with suppress(StateError):
        list(summaries(records))


@given(junk=st.binary(max_size=300))
def test_junk_is_a_state_error(junk):
    key = KeyState("k", Rules(GOLDEN_SETTINGS, made_priors()))
    for unpack in (lambda: unpack_sums(b"\x00" + junk, key), lambda: unpack_model(b"\x00" + junk, key)):
        with pytest.raises(StateError):
            unpack()
    with pytest.raises(StateError):
        unpack_shard(junk)


def test_every_lateness_that_may_be_set_can_be_packed():
    """A day of lateness over buckets of 5 minutes holds 289 of them open, with as many plans."""
    settings = Settings(partitions=1, allowed_lateness_seconds=86_400)
    wide = Shard(0, settings, partition_of=lambda key_id: 0, priors=made_priors())
    stream = [(START + i * 300.0, Call(event_id=str(i), time=START + i * 300.0, key_id="k")) for i in range(700)]
    step = wide.observe(log_of(stream), 699)
    assert step.accepted == 700
    again = Shard(0, settings, partition_of=lambda key_id: 0, priors=made_priors())
    again.load(wide.changes())
    assert again.key("k") == wide.key("k")


def test_the_summaries_are_the_lifetime_sums_of_every_key():
    run = whole(log_of(calls(4)))
    views = {view.key_id: view for view in summaries(run.state.items())}
    assert list(views) == sorted(views)
    for key_id, view in views.items():
        live = run.shard.key(key_id)
        assert (view.calls, view.input_tokens, view.output_tokens, view.first_seen, view.last_seen) == (
            live.calls, live.input_tokens, live.output_tokens, live.first_seen, live.last_seen,
        )  # fmt: skip
        assert view.open_incidents == live.open_incidents


def test_a_key_that_was_deleted_is_in_no_summary():
    run = whole(log_of(calls(4)))
    records = [*run.state.items(), (SUMS + b"key-0", None), (MODEL + b"key-0", None)]
    assert "key-0" not in [view.key_id for view in summaries(records)]


def test_nothing_is_written_when_nothing_has_changed():
    twin = new_shard()
    assert twin.changes() == []
    twin.observe(log_of(calls(1)), 10**6)
    assert twin.changes()
    assert twin.changes() == []
