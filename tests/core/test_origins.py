"""What an intake writes twice counts once: by origins, whatever it repeats and whoever crashes."""

from __future__ import annotations

import pytest
from core_streams import PRIORS, SETTINGS, calls, equality, few
from hypothesis import given
from hypothesis import strategies as st

from stream.alerts import Alert
from stream.core.origins import MAX_TOPICS, Origin, Origins
from stream.core.shard import Shard
from stream.core.step import Step
from stream.events import Arrival

PARTITIONS = 3
Written = list[tuple[Arrival, Origin]]

places = st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 2), st.integers(0, 5), st.integers(0, 2))


def written(seed: int, rewinds: list[tuple[int, int, int]]) -> tuple[list[Arrival], Written]:
    """The undisturbed log, and one in which an intake began again further back, at some moments, on some partitions.

    rewinds: after which record, which partition, by how many of its records
    """
    stream = [(time, call, hash((seed, number)) % PARTITIONS) for number, (time, call) in enumerate(calls(seed))]
    again: dict[int, list[tuple[int, int]]] = {}
    for after, partition, back in rewinds:
        again.setdefault(after % max(1, len(stream)), []).append((partition, back))
    per_partition: list[Written] = [[] for _ in range(PARTITIONS)]
    log: Written = []
    for number, (time, call, partition) in enumerate(stream):
        mine = per_partition[partition]
        # two elements of each record: the place is an offset and a position in its array
        row = ((0, time, call), Origin(b"topic", partition, len(mine) // 2, len(mine) % 2))
        mine.append(row)
        log.append(row)
        for other, back in again.get(number, ()):
            log += per_partition[other][-back:] if back else []
    numbered = [((position, row[0][1], row[0][2]), row[1]) for position, row in enumerate(log)]
    return [(position, time, call) for position, (time, call, _) in enumerate(stream)], numbered


def forgetful_shard() -> Shard:
    """A shard that remembers no ids, so that only origins tell a replay."""
    return Shard(0, SETTINGS.model_copy(update={"max_ids": 0}), partition_of=lambda key_id: 0, priors=PRIORS)


class Reader:
    """A shard that reads such a log, with what it has committed."""

    def __init__(self) -> None:
        self.shard = forgetful_shard()
        self.state: dict[bytes, bytes] = {}
        self.alerts: list[Alert] = []
        self.pending: list[Alert] = []

    def read(self, log: Written, upto: int) -> Step:
        first = min(self.shard.read_from, self.shard.applied + 1)
        rows = [row for row in log if first <= row[0][0] <= upto]
        step = self.shard.observe([a for a, _ in rows], upto, [(a[0], origin) for a, origin in rows])
        self.pending += step.alerts
        return step

    def flush(self) -> None:
        self.state.update(self.shard.changes())
        self.alerts += self.pending
        self.pending = []

    def crash(self) -> None:
        self.shard, self.pending = forgetful_shard(), []
        self.pending += self.shard.load(self.state.items()).alerts


@pytest.mark.slow
@few
@given(
    seed=st.integers(0, 10_000),
    rewinds=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, PARTITIONS - 1), st.integers(0, 400)), max_size=8),
    actions=st.lists(st.tuples(st.integers(1, 400), st.sampled_from("rffc")), max_size=30),
)
def test_replays_and_crashes_leave_sums_and_alerts_as_one_undisturbed_pass(seed, rewinds, actions):
    straight, log = written(seed, rewinds)
    undisturbed = forgetful_shard()
    alerts = undisturbed.observe(straight, len(straight) - 1).alerts
    reader = Reader()
    for advance, action in actions:
        reader.read(log, min(reader.shard.applied + advance, len(log) - 1))
        if action == "f":
            reader.flush()
        elif action == "c":
            reader.crash()
    reader.read(log, len(log) - 1)
    reader.flush()
    assert equality(reader.alerts) == equality(alerts)
    for key in ("key-0", "key-1", "key-2"):
        assert reader.shard.key(key) == undisturbed.key(key)


@few
@given(seed=st.integers(0, 10_000), back=st.integers(1, 2000))
def test_every_replay_is_counted_as_a_duplicate(seed, back):
    straight, log = written(seed, [(10**9 - 1, 0, back)])
    plain, with_replays = Reader(), Reader()
    before = plain.shard.observe(straight, len(straight) - 1)
    after = with_replays.read(log, len(log) - 1)
    assert after.duplicates - before.duplicates == len(log) - len(straight)
    assert (after.accepted, after.late, after.calls) == (before.accepted, before.late, before.calls)


@given(seen=st.lists(places, max_size=60))
def test_an_origin_is_new_once_and_only_upwards(seen):
    origins = Origins()
    highest: dict[tuple[bytes, int], tuple[int, int]] = {}
    for topic, partition, offset, element in seen:
        place, known = (offset, element), highest.get((topic, partition), (-1, -1))
        assert origins.is_new(Origin(topic, partition, offset, element)) == (place > known)
        highest[topic, partition] = max(place, known)
        origins = Origins(origins.pack())


def test_of_many_topics_the_oldest_is_forgotten():
    origins = Origins()
    for number in range(MAX_TOPICS + 1):
        assert origins.is_new(Origin(bytes([number]), 0, 5, 0))
    assert origins.is_new(Origin(bytes([0]), 0, 5, 0)), "forgotten"
    assert not origins.is_new(Origin(bytes([MAX_TOPICS]), 0, 5, 0))
    assert len(origins.pack()) == MAX_TOPICS


def test_a_dead_letter_of_a_key_that_lies_elsewhere_is_not_repeated():
    _, log = written(1, [])
    shard = Shard(0, SETTINGS, partition_of=lambda key_id: 1)
    (arrival, origin) = log[0]
    first = shard.observe([arrival], 0, [(0, origin)])
    again = shard.observe([(1, *arrival[1:])], 1, [(1, origin)])
    assert [reject.reason for reject in first.rejects] == ["misrouted"]
    assert (again.rejects, again.duplicates) == ([], 1)
