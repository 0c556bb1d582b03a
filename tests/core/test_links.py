"""What a key shares with others: which traits are known, what is told of them, and that callers cannot blow it up."""

from __future__ import annotations

from array import array

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.alerts import model_class
from stream.core.bucket import OpenBucket
from stream.core.fields import fields_of
from stream.core.keyring import Keyring
from stream.core.links import MAX_TRAITS, MAX_VALUES, Links, groups_of
from stream.core.linksrecord import PackedLinks, Traits
from stream.core.rules import Rules
from stream.events import Call
from stream.settings import Settings

TRAITS = st.builds(
    Traits,
    org=st.sampled_from((None, "o", "p")),
    network=st.sampled_from((None, "192.0.2.0/24", "198.51.100.0/24")),
    asn=st.sampled_from((None, 64496)),
    template=st.none(),
    client=st.text(max_size=3),
    model=st.sampled_from((None, "m")),
)


def used(links: Links, traits: Traits, mask: int = 0) -> int:
    if traits not in links.bits:
        links.use(traits, mask)
    return links.bits.get(traits, 0)


def bucket(index: int, links: int = 0, calls: int = 1, refused: int = 0) -> OpenBucket:
    """A closed bucket with calls of these traits."""
    sums = OpenBucket(index, array("f", [float("inf"), 0, 0, 0, 0]))
    sums.links, sums.calls, sums.refused = links, calls, refused
    return sums


def test_only_what_was_used_lately_is_told():
    links = Links()
    links.close(bucket(10, used(links, Traits(org="a"))))
    links.close(bucket(300, used(links, Traits(org="b"))))
    assert links.since_bucket(12) == (Traits(org="b"),)
    assert links.since_bucket(10) == (Traits(org="a"), Traits(org="b"))
    links.spoken()
    assert (links.used, links.spoke) == (False, True)


def test_calls_are_counted_by_the_name_of_their_model():
    links = Links()
    used(links, Traits(model="m"))
    sums = bucket(1, 1, 5)
    sums.models = {model_class("m"): 3, model_class("made up"): 2}
    links.close(sums)
    assert links.models == {"m": 3, "": 2}


def test_a_model_has_its_name_while_a_known_set_of_traits_says_it():
    links = Links()
    sums = bucket(1, 1, 5)
    sums.models = {model_class("m"): 1}
    links.close(sums)
    assert links.models == {"": 1}
    used(links, Traits(model="m"))
    links.close(sums)
    assert links.models == {"": 1, "m": 1}
    for number in range(MAX_TRAITS - 1):
        used(links, Traits(org=str(number)))
    links.close(sums)
    assert links.models == {"": 1, "m": 2}
    used(links, Traits(org="in its place"))
    links.close(sums)
    assert links.models == {"": 2, "m": 2}


def test_a_call_whose_traits_have_lost_their_place_has_the_bit_of_their_new_one():
    """Though they were those of the call before the one that took it."""
    keyring = Keyring(Rules(Settings()))
    key = keyring.make("k")
    for org in [*range(MAX_TRAITS), 0, 0, "new", 0, 0, "new"]:
        bit = keyring.link(key, fields_of(Call(event_id="e", time=0.0, key_id="k", org_id=str(org))))
        assert key.links.known[bit.bit_length() - 1].org == str(org)


def test_a_new_set_of_traits_takes_the_place_of_an_old_one_but_never_of_one_in_use():
    links = Links()
    first = used(links, Traits(org="0"))
    for number in range(1, 5 * MAX_TRAITS):
        used(links, Traits(org=str(number)), first)
    assert len(links.known) == MAX_TRAITS
    assert Traits(org="0") in links.known


@given(st.lists(TRAITS, max_size=200))
def test_the_bit_of_a_call_names_its_traits_and_no_more_are_remembered_than_have_a_place(sequence):
    links = Links()
    for traits in sequence:
        bit = used(links, traits)
        assert links.known[bit.bit_length() - 1] == traits
        assert len(links.bits) <= len(links.known) <= MAX_TRAITS


def test_where_no_place_is_left_the_call_counts_for_no_group_until_there_is_one():
    links = Links()
    everything = 0
    for number in range(MAX_TRAITS):
        everything |= used(links, Traits(org=str(number)))
    assert used(links, Traits(org="late"), everything) == 0
    assert used(links, Traits(org="late"), everything & ~1) == 1


@given(st.lists(TRAITS, max_size=60), st.integers(0, 30))
def test_links_that_were_packed_go_on_the_same(sequence, cut):
    links, twin = Links(), Links()
    for number, traits in enumerate(sequence):
        if number == cut:
            data = msgspec.msgpack.encode(links.pack())
            twin.unpack(msgspec.msgpack.decode(data, type=PackedLinks))
        for each in (links, twin) if number >= cut else (links,):
            bit = used(each, traits)
            if number % 3 == 0:
                each.close(bucket(number, bit))
    if len(sequence) > cut:
        assert msgspec.msgpack.encode(links.pack()) == msgspec.msgpack.encode(twin.pack())


def test_a_model_is_named_once():
    links, again = Links(), Links()
    used(links, Traits(org="o", asn=5, model="m"))
    sums = bucket(1, 1, 5)
    sums.models = {model_class("m"): 3, model_class("made up"): 2}
    links.close(sums)
    packed = links.pack()
    assert (packed.values, packed.models) == (["o", 5, "m"], {3: 3, "": 2})
    again.unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(packed), type=PackedLinks))
    assert again.models == links.models == {"m": 3, "": 2}


def test_links_that_a_former_version_packed_are_read():
    links = Links()
    for number in range(3):
        links.close(bucket(10 * number, used(links, Traits(org="o", template=f"t{number}"))))
    used(links, Traits(org="p"))
    packed = links.pack()
    assert (len(packed.known), packed.seen) == (4 * 6, [20, 20, 10, 0, 21])
    former = msgspec.structs.replace(
        packed, known=[packed.known[first : first + 6] for first in range(0, 24, 6)], seen=[0, 10, 20, -1]
    )
    for one in (packed, former):
        again = Links()
        again.unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=PackedLinks))
        assert (again.known, again.seen) == (links.known, [0, 10, 20, -1])


@pytest.mark.parametrize(
    ("template", "stored"),
    [
        ("template-4f32044a655f32e8", 0x4F32044A655F32E8),
        ("template-4F32044A655F32E8", None),
        ("template-00000000ffffffff", None),
        ("template-0000000100000000", 1 << 32),
        ("template-4f32044a655f32e80", None),
        ("template-0x32044a655f32e8", None),
        ("template-é", None),
        ("template-", None),
        ("mine", None),
    ],
)
def test_of_a_hashed_template_the_hash_is_stored_and_anything_else_as_it_is(template, stored):
    links, again = Links(), Links()
    used(links, Traits(org="o", asn=4_294_967_295, template=template))
    packed = links.pack()
    assert packed.values == ["o", 4_294_967_295, template if stored is None else stored]
    again.unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(packed), type=PackedLinks))
    assert again.known == links.known


@pytest.mark.parametrize(
    "damage",
    [
        {"seen": []},
        {"known": b"\0"},
        {"seen": [5]},
        {"seen": [-(2**63), 5]},
        {"seen": [2**64 - 1, 5]},
        {"seen": [5, 2**64 - 1]},
        {"seen": [0, -5]},
        {"models": {0: 1}},
        {"models": {2: 1}},
        {"known": bytes([9] * 6)},
        {"known": bytes(6 * 17), "seen": [0] * 18},
    ],
)
def test_links_that_are_damaged_are_told(damage):
    links = Links()
    used(links, Traits(org="o"))
    with pytest.raises(ValueError, match="damaged"):
        Links().unpack(msgspec.structs.replace(links.pack(), **damage))


def test_a_key_that_changes_a_trait_at_will_belongs_to_no_group_of_it():
    many = tuple(Traits(org="o", client=f"c{i}") for i in range(MAX_VALUES + 1))
    assert groups_of(many, (("org", "client"),)) == (("org", "o"),)
    assert len(groups_of(many[:MAX_VALUES], ())) == 1 + MAX_VALUES


def test_a_run_of_refusals_is_told_once():
    links = Links()
    links.close(bucket(0, calls=10, refused=10))
    assert (links.refused, links.due) == (True, True)
    links.close(bucket(1, calls=10, refused=10))
    assert (links.refused, links.due) == (True, False)
    links.close(bucket(2, calls=10, refused=2))
    assert (links.refused, links.due) == (False, False)
