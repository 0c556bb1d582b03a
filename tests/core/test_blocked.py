"""A key that an operator has blocked: what it was like is told of at once, so that whoever takes its place shows."""

from __future__ import annotations

import msgspec
import pytest
from core_streams import HOUR, calls, log_of, new_shard
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_traffic import DAY, Timed, call, feed, shard, steady
from shard_traffic import START as BEGIN

from stream.control import MESSAGE, Message
from stream.core.control import Control, Heard
from stream.core.evidence import ALL, FIRST, MOST_MEMBERS, REFUSALS, REFUSED, Cell, Evidence, Member
from stream.core.groups import Groups
from stream.core.linksrecord import Traits
from stream.core.shard import Shard

DAYS = 9
NOW = BEGIN + DAYS * DAY


def word(kind: str, key_id: str = "k", **content: object) -> Message:
    said = {"kind": kind, "id": "r", "at": NOW, "by": "ann", "why": "drained", "key_id": key_id, **content}
    return MESSAGE.validate_python(said)


def hear(to: Shard, *messages: Message, first: int = 0) -> None:
    assert to.instruct([Heard(first + number, message) for number, message in enumerate(messages)], "t") == []


def used(key_id: str, start: float, hours: float) -> list[Timed]:
    """A call every two minutes, by the same client of the same organisation; the other key's are another's."""
    stream = steady(key_id, start, hours / 24, every=120.0)
    traits = (
        {"org_id": "theirs", "user_agent": "curl"} if key_id == "other" else {"org_id": "acme", "user_agent": "farm"}
    )
    return [
        call(time, key_id, input_tokens=c.input_tokens, output_tokens=c.output_tokens, **traits) for time, c in stream
    ]


def both(*streams: list[Timed]) -> list[Timed]:
    return sorted((one for stream in streams for one in stream), key=lambda one: one[0])


def known() -> Shard:
    """A shard that has known two keys for days, of which k is used no more."""
    one = shard()
    feed(one, both(used("k", BEGIN, 24 * DAYS), used("other", BEGIN, 24 * DAYS)))
    return one


def told(evidence: list[Evidence], key_id: str = "k") -> list[tuple[int, list[Traits], list[float], Member]]:
    """Bucket, traits and sums of each cell that names a key, and what it says of it."""
    return [
        (part.bucket, cell.traits, cell.sums, member)
        for part in evidence
        for cell in part.cells
        for member in cell.members
        if member.key_id == key_id
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_blocked_key_is_told_of_at_the_next_boundary_though_it_is_silent(packed):
    one = known()
    before = told(feed(one, used("other", NOW, 6)).evidence)[-1][3]
    if packed:
        again = shard()
        again.load(one.changes())
        one = again
    hear(one, word("block"))
    evidence = feed(one, used("other", NOW + 6 * HOUR, 2)).evidence
    ((bucket, traits, sums, member),) = told(evidence)
    assert bucket == int(NOW + 6 * HOUR) // 300 - 1
    assert traits == [Traits(org="acme", client="farm")]
    assert member == before._replace(z=0.0, excess=0.0, notes=REFUSED)
    assert (sums[REFUSALS], sum(sums)) == (1.0, 1.0), "it has used nothing"


def test_while_a_blocked_key_is_used_all_the_same_each_word_says_so_until_it_is_blocked_no_more():
    one = known()
    hear(one, word("block"))
    evidence = feed(one, both(used("k", NOW, 5), used("other", NOW, 5))).evidence
    notes = [member.notes & REFUSED for _, _, sums, member in told(evidence) if sums[ALL]]
    assert len(notes) >= 4
    assert notes[1:] == [REFUSED] * (len(notes) - 1)
    assert not any(member.notes & REFUSED for *_, member in told(evidence, "other"))
    hear(one, word("unblock"), first=1)
    evidence = feed(one, both(used("k", NOW + 5 * HOUR, 5), used("other", NOW + 5 * HOUR, 5))).evidence
    assert [member.notes & REFUSED for *_, member in told(evidence)][-4:] == [0] * 4


def test_that_it_is_blocked_comes_after_what_a_key_has_said_in_the_same_bucket():
    """Else that would say that it is not blocked after all."""
    one = known()
    hear(one, word("block"))
    words = told(feed(one, both(used("k", NOW, 2), used("other", NOW, 3))).evidence)
    (before, _, used_sums, open_word), (bucket, _, sums, blocked_word) = words[:2]
    assert before == bucket == int(NOW) // 300 - 1, "the last of an hour of its use"
    assert (used_sums[ALL], open_word.notes & REFUSED) == (1.0, 0)
    assert (sums[ALL], blocked_word.notes & REFUSED) == (0.0, REFUSED)
    assert all(member.notes & REFUSED for *_, member in words[1:])


def test_who_was_never_seen_or_whose_block_has_ended_is_not_told_of():
    one = known()
    hear(one, word("block", "stranger"), word("block", at=NOW - 2 * DAY, until=NOW - DAY))
    evidence = feed(one, used("other", NOW, 3)).evidence
    assert told(evidence, "stranger") == []
    assert not any(member.notes & REFUSED for *_, member in told(evidence))


RESPONSE = {"response_id": "0123456789abcdef"}


@pytest.mark.parametrize("packed", [False, True])
def test_what_the_responder_blocks_is_told_of_as_what_an_operator_does(packed):
    one = known()
    feed(one, used("other", NOW, 6))
    hear(one, word("block", **RESPONSE))
    if packed:
        again = shard()
        again.load(one.changes())
        one = again
    ((_, _, _, member),) = told(feed(one, used("other", NOW + 6 * HOUR, 2)).evidence)
    assert member.notes & REFUSED
    control = Control(300)
    control.unpack(one.rules.control.pack())
    assert control.responded == one.rules.control.responded != {}


def test_neither_the_responder_nor_an_operator_takes_back_the_word_of_the_other():
    one = known()
    bucket = int(NOW) // 300
    control = one.rules.control
    hear(one, word("block"), word("block", **RESPONSE))
    feed(one, used("other", NOW, 1))
    hear(one, word("unblock", **RESPONSE), first=2)
    feed(one, used("other", NOW + HOUR, 1))
    assert control.is_blocked("k", bucket + 20), "by the operator"
    hear(one, word("block", **RESPONSE), word("unblock"), first=3)
    feed(one, used("other", NOW + 2 * HOUR, 1))
    assert control.is_blocked("k", bucket + 32), "by the responder"
    hear(one, word("unblock", **RESPONSE), first=5)
    feed(one, used("other", NOW + 3 * HOUR, 1))
    assert not control.is_blocked("k", bucket + 44)
    assert (control.blocked, control.responded) == ({}, {})


def test_a_responders_block_is_forgotten_once_it_is_over():
    one = known()
    hear(one, word("block", until=NOW + 2 * HOUR, **RESPONSE))
    feed(one, used("other", NOW, 1))
    assert one.rules.control.responded
    feed(one, used("other", NOW + 3 * HOUR, 2))
    assert one.rules.control.responded == {}


@pytest.mark.parametrize("said", [{}, RESPONSE])
def test_of_two_words_the_last_one_holds_though_it_is_heard_when_it_is_over(said):
    one = known()
    hear(one, word("block", until=NOW + 10 * HOUR, **said))
    feed(one, used("other", NOW, 3))
    hear(one, word("block", until=NOW + 2 * HOUR, **said), first=1)
    feed(one, used("other", NOW + 3 * HOUR, 1))
    assert not one.rules.control.is_blocked("k", int(NOW + 4 * HOUR) // 300)


def test_what_was_written_before_there_was_a_responders_word_loads():
    control = Control(300)
    control.instruct([Heard(0, word("block"))], "t", 7, mine=lambda _: True, known=lambda _: True)
    control.take(7)
    fields = msgspec.msgpack.decode(control.pack())
    del fields["responded"]
    again = Control(300)
    again.unpack(msgspec.msgpack.encode(fields))
    assert (again.blocked, again.responded) == (control.blocked, {})


def test_a_block_is_told_of_once():
    """Else a place that was taken up would be free again, each time that the block is extended."""
    one = known()
    feed(one, used("other", NOW, 3))
    hear(one, word("block", until=NOW + DAY))
    assert len(told(feed(one, used("other", NOW + 3 * HOUR, 3)).evidence)) == 1
    hear(one, word("block"), first=1)
    assert told(feed(one, used("other", NOW + 6 * HOUR, 3)).evidence) == []
    hear(one, word("unblock"), word("block"), first=2)
    assert told(feed(one, used("other", NOW + 9 * HOUR, 3)).evidence) == [], "it was blocked all along"


def test_a_key_that_has_been_silent_for_weeks_is_not_told_of():
    one = known()
    feed(one, used("other", NOW + 20 * DAY, 3))
    hear(one, word("block"))
    assert told(feed(one, used("other", NOW + 20 * DAY + 3 * HOUR, 3)).evidence) == []


@pytest.mark.parametrize("minutes", [0, 3, 20])
def test_a_block_that_stands_before_there_is_anything_to_compare_tells_of_no_bucket_that_never_was(minutes):
    one = shard()
    if minutes:
        feed(one, used("k", BEGIN, minutes / 60))
    hear(one, word("block", at=BEGIN))
    evidence = feed(one, both(used("k", BEGIN + minutes * 60, 0.05), used("other", BEGIN + minutes * 60, 3))).evidence
    assert min(part.bucket for part in evidence) >= BEGIN // 300 - 3
    assert all(member.length > 0 for *_, member in told(evidence))


def test_of_many_that_are_blocked_at_once_all_are_named():
    one = shard()
    keys = [f"k-{number:02}" for number in range(40)]
    feed(one, both(*(used(key_id, BEGIN, 30) for key_id in [*keys, "other"])))
    hear(one, *(word("block", key_id) for key_id in keys))
    end = BEGIN + 30 * HOUR
    evidence = feed(one, used("other", end, 3)).evidence
    cells = [cell for part in evidence for cell in part.cells if cell.sums[REFUSALS]]
    assert sorted(member.key_id for cell in cells for member in cell.members) == keys
    # they are used all the same: a new key among them must not be hidden, nor hide them
    evidence = feed(one, both(*(used(key_id, end + 3 * HOUR, 3) for key_id in [*keys, "new"]))).evidence
    first = next(cell for part in evidence for cell in part.cells if cell.sums[FIRST])
    assert "new" in {member.key_id for member in first.members}
    named = [cell.members for part in evidence for cell in part.cells if cell.sums[REFUSALS] > MOST_MEMBERS]
    assert named
    assert all(len(members) == MOST_MEMBERS for members in named)


def test_whoever_takes_up_what_a_blocked_key_did_is_a_respawn():
    one = shard()
    groups = Groups(one.settings)
    groups.expect([0])

    def go_on(*streams: list[Timed]) -> None:
        groups.take(feed(one, both(*streams)).evidence)
        groups.close()

    go_on(*(used(key_id, BEGIN, 24 * DAYS) for key_id in ("k", "l", "bystander")))
    hear(one, word("block"), word("block", "l"))
    go_on(used("bystander", NOW, 3))
    state = groups._groups["org", "acme"]
    assert [fallen.key_id for fallen in state.fallen] == ["k", "l"]
    go_on(used("bystander", NOW + 3 * HOUR, 6), *(used(f"heir-{n}", NOW + 3 * HOUR, 6) for n in range(3)))
    assert state.fallen == []
    assert 1.8 < state.returned < 2.0, "two of three, of which some has faded"


def told_by(
    cuts: list[int], crashes: set[int], lost: set[int], seed: int, place: int
) -> list[tuple[int, bool, list[Cell]]]:
    """What is committed; a crash in `lost` comes before the flush, so that what was told is gone with the state."""
    log = log_of(calls(seed))
    one, found = new_shard(), list[Evidence]()
    state: dict[bytes, bytes] = {}
    pending: list[Evidence] = []
    while one.applied < len(log) - 1:
        cut = min(cut for cut in (*cuts, place, len(log) - 1) if cut > one.applied)
        first = min(one.read_from, one.applied + 1)
        pending += one.observe([arrival for arrival in log if first <= arrival[0] <= cut], cut).evidence
        if cut >= place:
            hear(one, word("block", "key-0"), word("unblock", "key-0"), word("block", "key-1"))
        if cut not in lost:
            state.update(one.changes())
            found += pending
        if cut in lost or cut in crashes:
            one = new_shard()
            pending = one.load(state.items()).evidence
        else:
            pending = []
        lost = lost - {cut}
    return [(part.bucket, part.complete, part.cells) for part in found]


def test_in_some_of_the_streams_a_silent_key_is_blocked():
    """Else the property below would say little."""
    silent = 0
    for seed in range(30):
        cells = [cell for _, _, cells in told_by([], set(), set(), seed, 60) for cell in cells]
        silent += any(cell.sums[REFUSALS] and not cell.sums[ALL] for cell in cells)
    assert silent > 3


@pytest.mark.slow
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 150), max_size=8, unique=True), data=st.data())
@settings(max_examples=20, deadline=None)
def test_crashes_around_a_block_change_nothing_of_what_is_told(seed, cuts, data):
    place = 60
    crashes = data.draw(st.sets(st.sampled_from([*cuts, place])))
    lost = data.draw(st.sets(st.sampled_from([*cuts, place]))) - {place}
    whole = told_by([], set(), set(), seed, place)
    assert told_by(cuts, crashes, lost, seed, place) == whole
    assert any(cell.sums[REFUSALS] for _, _, cells in whole for cell in cells)
