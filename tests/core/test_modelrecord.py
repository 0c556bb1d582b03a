"""A key's model as bytes: nothing is lost, little is wasted, and what goes on goes on bit by bit."""

from __future__ import annotations

import struct
from array import array
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_streams import MONDAY, new_key, rules_of, walk

from stream.core.chains import Chain
from stream.core.channels.base import pack_sparse, take_sparse
from stream.core.incidents import Incident
from stream.core.key import KeyState
from stream.core.modelrecord import MOST_IN_BLOCK, pack_model
from stream.core.rules import Rules
from stream.core.state import StateError, has_incident, pack_sums, unpack_model

SETTINGS = [
    ({"bucket_seconds": 300}, "the usual"),
    ({"bucket_seconds": 3600}, "a bucket is an hour, and a step"),
    ({"bucket_seconds": 900, "allowed_lateness_seconds": 86_400}, "plans a day ahead, for the same hour"),
    ({"bucket_seconds": 300, "timezone": "Asia/Kathmandu"}, "hours that begin at a quarter past"),
]


def unpacked(packed: bytes, rules: Rules) -> KeyState:
    twin = KeyState("key", rules)
    unpack_model(packed, twin)
    return twin


def told(verdicts):
    return [(v.bucket, v.expected, v.slow, v.upper, v.quick, v.slow_score, v.anomalous) for v in verdicts]


@lru_cache(maxsize=8)
def grown(days: int, **changes: object) -> tuple[Rules, bytes]:
    """The packed model of a key that has been used for some days."""
    rules = rules_of(**changes)
    key = new_key(rules)
    for _ in walk(key, days * rules.calendar.per_day, seed=days):
        pass
    return rules, pack_model(key)


@pytest.mark.parametrize(("changes", "why"), SETTINGS, ids=[why for _, why in SETTINGS])
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 200), attack=st.integers(0, 300))
@settings(max_examples=8)
def test_what_was_packed_at_any_bucket_goes_on_bit_by_bit(changes, why, seed, cut, attack):
    rules, model = grown(9, **changes)
    key = unpacked(model, rules)
    attack += key.next_bucket
    list(walk(key, cut, seed, attack))
    packed = pack_model(key)
    twin = unpacked(packed, rules)
    assert pack_model(twin) == packed
    mine, theirs = (told(walk(each, 200, seed + 1, attack)) for each in (key, twin))
    assert theirs == mine
    assert pack_model(twin) == pack_model(key)


def test_a_key_of_four_weeks_takes_at_most_1200_bytes():
    rules, model = grown(28)
    key = unpacked(model, rules)
    key.calls, key.input_tokens, key.output_tokens = 20_000, 10_000_000, 5_000_000
    key.first_seen, key.last_seen = MONDAY + 0.25, MONDAY + 28 * 86_400 - 0.1
    assert len(pack_sums(key)) + len(model) <= 1200


def test_a_new_key_takes_less():
    key = new_key(rules_of())
    assert len(pack_model(key)) <= 900
    assert len(pack_sums(key)) <= 30


def test_an_incident_is_found_without_unpacking_and_kept_word_by_word():
    rules, model = grown(9)
    assert not has_incident(model)
    key = unpacked(model, rules)
    key.incident = Incident("drift", key.next_bucket, 1.5, key.next_bucket, severity_reason="why", excess_cost=0.25)
    packed = pack_model(key)
    assert has_incident(packed)
    assert unpacked(packed, rules).incident == key.incident


def test_every_attribute_of_a_model_is_packed():
    """Whatever is not kept by packing stands here with the reason."""
    told_by_others = {
        "calendar", "horizons", "floors", "_free_until", "_place",
        "day_gain", "long_gain", "step_days", "wake_fading",
    }  # fmt: skip # the rules'
    derived = {"_known", "_location", "_scale"}
    rules, model = grown(9)
    key = unpacked(model, rules)
    list(walk(key, 50, 3, key.next_bucket + 20))
    twin = unpacked(pack_model(key), rules)
    for part in ("baseline", "residuals", "presence", "pace", "days"):
        mine, theirs = getattr(key, part), getattr(twin, part)
        for name in set(mine.__slots__) - told_by_others - derived:
            one, other = getattr(mine, name), getattr(theirs, name)
            assert getattr(one, "value", one) == getattr(other, "value", other), (part, name)
    sums = {"calls", "dirty", "first_seen", "input_tokens", "key_id", "last_seen", "late", "open", "output_tokens"}
    told_apart = {"baseline", "chain", "channels", "days", "links", "moment", "pace", "presence", "residuals", "surge"}
    apart = told_apart | {"rules", "stale"}
    for name in set(KeyState.__slots__) - sums - apart:
        assert getattr(key, name) == getattr(twin, name), name
    for name in Chain.__slots__:
        assert getattr(key.chain, name) == getattr(twin.chain, name), name
    for mine, theirs in zip(key.channels, twin.channels, strict=True):
        assert theirs.pack() == mine.pack()


@pytest.mark.parametrize("cut", [0, 2, 3, 10, 40, 300, -1])
def test_a_model_that_is_cut_is_a_state_error(cut):
    rules, model = grown(9)
    with pytest.raises(StateError):
        unpack_model(model[:cut], KeyState("key", rules))


def test_a_model_with_more_behind_it_is_a_state_error():
    rules, model = grown(9)
    with pytest.raises(StateError, match="its block cannot be unpacked"):
        unpack_model(model + b"\0", KeyState("key", rules))


def test_a_block_that_is_shorter_than_it_says_is_a_state_error():
    rules, model = grown(9)
    (length,) = struct.unpack_from("<H", model, 1)
    place = 3 + length + 2
    longer = model[:place] + struct.pack("<H", 65_535) + model[place + 2 :]
    with pytest.raises(StateError, match="its block is too short"):
        unpack_model(longer, KeyState("key", rules))


def test_a_key_with_thousands_of_plans_is_packed_as_it_is():
    rules, model = grown(2, bucket_seconds=10, allowed_lateness_seconds=86_400)
    key = unpacked(model, rules)
    first = key.next_bucket
    key.plans = {index: array("f", (1.0, 2.0, 3.0, 4.0, 5.0)) for index in range(first, first + rules.ahead + 1)}
    packed = pack_model(key)
    assert len(packed) > MOST_IN_BLOCK
    assert unpacked(packed, rules).plans == key.plans
    assert pack_model(unpacked(packed, rules)) == packed


@given(values=st.lists(st.just(0.0) | st.floats(width=32, allow_nan=False), min_size=1, max_size=32))
def test_sparse_floats_come_back_as_they_were(values):
    target, other = array("f", [1.0] * (len(values) - 1)), array("f", [1.0])
    rest = take_sparse(memoryview(pack_sparse(values) + b"rest"), target, other)
    assert [*target, *other] == values
    assert bytes(rest) == b"rest"
