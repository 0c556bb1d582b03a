"""A key that an operator has blocked: what it was like is told of at once, so that whoever takes its place shows."""

from __future__ import annotations

import pytest
from core_streams import HOUR, calls, log_of, new_shard
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_traffic import DAY, Timed, call, feed, shard, steady
from shard_traffic import START as BEGIN

from stream.control import MESSAGE, Message
from stream.core.control import Heard
from stream.core.evidence import ALL, REFUSALS, REFUSED, Evidence, Member
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
    assert [member.notes & REFUSED for *_, member in told(evidence)][1:] == [0] * 4


def test_a_key_names_itself_once_in_a_bucket():
    """Else a word from before the block would say that it is not blocked after all."""
    one = known()
    hear(one, word("block"))
    words = told(feed(one, both(used("k", NOW, 2), used("other", NOW, 3))).evidence)
    assert len({bucket for bucket, *_ in words}) == len(words) > 1
    bucket, _, sums, member = words[0]
    assert (bucket, sums[ALL], sums[REFUSALS]) == (int(NOW) // 300 - 1, 1.0, 1.0), "the last of an hour of its use"
    assert member.notes & REFUSED


def test_who_was_never_seen_or_whose_block_has_ended_is_not_told_of():
    one = known()
    hear(one, word("block", "stranger"), word("block", at=NOW - 2 * DAY, until=NOW - DAY))
    evidence = feed(one, used("other", NOW, 3)).evidence
    assert told(evidence, "stranger") == []
    assert not any(member.notes & REFUSED for *_, member in told(evidence))


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


def told_by(cuts: list[int], crashes: set[int], seed: int, place: int) -> list[tuple[int, bool, list[object]]]:
    log = log_of(calls(seed))
    one, state, found = new_shard(), {}, []
    for cut in sorted({place, *cuts, len(log) - 1}):
        first = min(one.read_from, one.applied + 1)
        found += one.observe([arrival for arrival in log if first <= arrival[0] <= cut], cut).evidence
        if cut >= place:
            hear(one, word("block", "key-0"), word("unblock", "key-0"), word("block", "key-1"))
        state.update(one.changes())
        if cut in crashes:
            one = new_shard()
            found += one.load(state.items()).evidence
    return [(part.bucket, part.complete, part.cells) for part in found]


@pytest.mark.slow
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 150), max_size=8, unique=True), data=st.data())
@settings(max_examples=15, deadline=None)
def test_crashes_around_a_block_change_nothing_of_what_is_told(seed, cuts, data):
    place = 60
    crashes = data.draw(st.sets(st.sampled_from([*cuts, place])))
    whole = told_by([], set(), seed, place)
    assert told_by(cuts, crashes, seed, place) == whole
    assert any(sums[REFUSALS] for _, _, cells in whole for sums in [cell.sums for cell in cells])  # type: ignore[attr-defined]
