"""What "the same result" means for groups: the order of shards, chunks, crashes and owners change nothing."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest
from group_evidence import (
    FIRST_HOUR,
    PER_HOUR,
    SETTINGS,
    Keeping,
    Log,
    cell,
    kept,
    mixed,
    statuses,
    told,
    traits_of,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.evidence import COUNT, NEVER, Cell, Evidence, leaf_of
from stream.core.grouprecord import HEAD_KEY, unpack_head
from stream.core.linksrecord import Traits
from stream.core.shardrecord import StateError

ACTIONS = st.lists(st.tuples(st.integers(1, 700), st.sampled_from("rfc")), max_size=25)
orders = st.one_of(st.none(), st.integers(0, 10_000))
SEEDS = (1, 2, 3)


@cache
def logs(seed):
    return told(seed)


@cache
def undisturbed(seed):
    return kept(mixed(logs(seed), None))


def records(run):
    """The state, less the position to read from, which is about the topic: what waits for whom is another matter."""
    state = dict(run.state)
    state[HEAD_KEY] = msgspec.structs.replace(unpack_head(run.state[HEAD_KEY], run.groups.priors.laws), read_from=0)
    return state


def test_the_evidence_has_campaigns_to_compare():
    for seed in SEEDS:
        run = undisturbed(seed)
        said = [status for status, _ in statuses(run.alerts)]
        assert {"opened", "updated"} <= set(said)
        opened = next(alert for alert in run.alerts if alert.status == "opened")
        assert {member.key_id for member in opened.members.top} <= {f"key-{number}" for number in range(0, 16, 2)}


@given(seed=st.sampled_from(SEEDS), order=orders, chunk=st.integers(1, 2000))
@settings(max_examples=8)
def test_the_order_in_which_shards_arrive_and_the_chunks_change_nothing(seed, order, chunk):
    run = Keeping(mixed(logs(seed), order))
    while run.position < len(run.topic):
        run.read(chunk)
    run.flush()
    assert run.alerts == undisturbed(seed).alerts
    assert records(run) == records(undisturbed(seed))


@pytest.mark.slow
@given(seed=st.sampled_from(SEEDS), order=orders, actions=ACTIONS)
@settings(max_examples=12)
def test_crashes_and_changes_of_owner_leave_alerts_and_state_as_they_would_have_been(seed, order, actions):
    run = Keeping(mixed(logs(seed), order))
    for count, action in actions:
        run.read(count)
        if action == "f":
            run.flush()
        elif action == "c":
            run.crash()
    run.finish()
    assert run.alerts == undisturbed(seed).alerts
    assert records(run) == records(undisturbed(seed))


@pytest.mark.slow
@given(actions=st.lists(st.tuples(st.integers(1, 700), st.sampled_from("rfcgg"), st.booleans()), max_size=20))
@settings(max_examples=12)
def test_what_is_given_up_is_given_up_at_the_same_place_after_a_crash(actions):
    """One shard lags behind by days; hours are closed without it, and its owner dies before or after that is done."""
    late = logs(1)[3]
    topic = mixed([*logs(1)[:3], []], 5) + late
    run, crashing = Keeping(topic), Keeping(topic)
    for count, action, dies in actions:
        for each in (run, crashing):
            each.read(count)
            each.flush()
        if action == "g" and run.groups.behind():
            hour = run.groups.done_without(run.groups.behind())
            for each in (run, crashing):
                each.groups.announce(hour)
                each.flush()
            run.pending += run.groups.advance().alerts
            if dies:
                crashing.crash()
                crashing.read(run.position - crashing.position)
            else:
                crashing.pending += crashing.groups.advance().alerts
        elif action == "c":
            crashing.crash()
            crashing.read(run.position - crashing.position)
        for each in (run, crashing):
            each.flush()
    run.finish()
    crashing.finish()
    assert crashing.alerts == run.alerts
    assert records(crashing) == records(run)


def test_an_hour_waits_for_the_last_shard_and_says_so_when_it_is_closed_without_it():
    run = Keeping(mixed([*logs(1)[:3], []], None))
    run.finish()
    assert run.groups.next_hour == -1
    assert run.groups.behind() == {3: 0}
    run.give_up()
    run.flush()
    opened = [alert for alert in run.alerts if alert.status == "opened"]
    assert opened
    assert all("a shard has been missing" in alert.severity_reason for alert in opened)
    assert run.groups.behind() == {}
    stale = run.groups.observe([(len(run.topic) + i, part) for i, part in enumerate(logs(1)[3])], 10**6).stale
    assert stale == sum(bool(part.cells) for part in logs(1)[3]), "what comes too late is counted, and changes nothing"


def test_nobody_waits_for_a_shard_that_has_no_record_until_it_has_one():
    def last(part):
        return part.bucket // PER_HOUR < FIRST_HOUR + 200

    first = [[part for part in log if last(part)] for log in logs(2)[:3]]
    run = Keeping([Evidence(3, NEVER, [], complete=True), *mixed(first, None)])
    run.finish()
    assert run.groups.behind() == {}
    assert run.groups.next_hour == FIRST_HOUR + 200
    begins = Evidence(3, (FIRST_HOUR + 200) * PER_HOUR - 1, [], complete=True)
    rest = [[part for part in log if not last(part)] for log in logs(2)]
    run.topic += [begins, *mixed(rest[:3], None)]
    run.finish()
    assert run.groups.next_hour == FIRST_HOUR + 200, "from its first record on it is waited for"
    assert set(run.groups.behind()) == {3}
    run.topic += rest[3]
    run.crash()
    run.finish()
    assert run.groups.next_hour == FIRST_HOUR + 225
    together = kept([Evidence(3, NEVER, [], complete=True), *mixed(first, None)])
    together.topic += [begins, *mixed(rest, 7)]
    together.finish()
    assert together.alerts == run.alerts


def test_what_a_shard_tells_twice_counts_once():
    """A shard whose state was lost tells again of hours that are still open."""
    one = Evidence(0, FIRST_HOUR * PER_HOUR, [cell("key-0", traits_of(0), 1.0)])
    ends = [Evidence(shard, (FIRST_HOUR + 1) * PER_HOUR - 1, [], complete=True) for shard in range(4)]
    once, twice = kept([one, *ends]), kept([one, one, *ends])
    assert {name: value for name, value in once.state.items() if name != HEAD_KEY} == {
        name: value for name, value in twice.state.items() if name != HEAD_KEY
    }


def test_evidence_that_was_deleted_before_it_was_read_makes_its_hours_incomplete():
    half = len(mixed(logs(1), None)) * 9 // 10
    run = Keeping(mixed(logs(1), None))
    run.read(half)
    run.flush()
    lost = 40
    run.groups.read_on_at(half + lost)
    run.flush()
    run.crash()
    assert run.position == half + lost
    before = run.groups.next_hour
    steps = [run.groups.observe([(p, run.topic[p])], p) for p in range(run.position, len(run.topic))]
    assert run.groups.next_hour == FIRST_HOUR + 225
    incomplete = sum(step.incomplete for step in steps)
    assert 0 < incomplete < run.groups.next_hour - before


def test_a_head_of_other_settings_or_without_its_groups_is_refused():
    run = undisturbed(1)
    other = Keeping([], SETTINGS.model_copy(update={"partitions": 5}))
    other.state = dict(run.state)
    with pytest.raises(StateError, match="another number of partitions"):
        other.crash()
    cut = Keeping([])
    cut.state = dict(run.state)
    cut.state.pop(next(name for name in run.state if name[:1] == b"g"))
    with pytest.raises(StateError, match=r"holds \d+ of \d+ groups"):
        cut.crash()


@pytest.mark.slow
def test_made_up_clients_fill_no_memory_and_bury_no_campaign():
    """Each hour hundreds of keys come with clients that nobody has seen; 54,000 in all, and 200 have room."""
    few = SETTINGS.model_copy(update={"max_groups": 200, "partitions": 5})
    made_up: Log = []
    for hour in range(225):
        first = hour * 240
        cells = [
            Cell(i, [Traits(client=f"{first + 4 * i + j}") for j in range(4)], [0.0] * COUNT, {}, [leaf_of(f"{i}")], [])
            for i in range(60)
        ]
        bucket = (FIRST_HOUR + hour) * PER_HOUR
        made_up += [Evidence(4, bucket, cells), Evidence(4, bucket + PER_HOUR - 1, [], complete=True)]
    run = Keeping(mixed([*logs(1), made_up], None), few)
    most = 0
    while run.position < len(run.topic):
        run.read(400)
        run.flush()
        most = max(most, len(run.state))
    assert most <= few.max_groups + 2
    opened = {entity for status, entity in statuses(run.alerts) if status == "opened"}
    assert opened & {"client client-x", "network 203.0.113.0/24", "composite network+client 203.0.113.0/24 client-x"}
