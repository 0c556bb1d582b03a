"""States that cannot be used, and logs that have lost something: said, counted, survived."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.core.shard import Shard
from stream.core.state import MODEL, SHARD_KEY, VERSION, StateError
from stream.gateways.overdraw import parse
from stream.worker import rebuild, takeover
from stream.worker.agents import SLICE_RECORDS
from stream.worker.protocol import TopicIdsRequest
from stream.worker.rebuild import REBUILD_KEY, Rebuild
from stream.worker.recovery import SOURCE_KEY, StateLog
from stream.worker.source import Source, TopicState, fate, topic_states
from stream.worker.tools import EXIT_BAD_STATE, EXIT_LOST
from tests.kafka.workers import traffic
from tests.worker.fakes import T0, Bench, FakeKafka, call, until
from tests.worker.test_silence import Watched as Plain

HOURLY = {"bucket_seconds": 3600, "min_excess_tokens": 1000.0, "allowed_lateness_seconds": 60}
TRAFFIC = [value for _, value in traffic(keys=5)]
LATER = T0 + 30 * 86_400.0
"""Kafka timestamp of all records: none of them is ahead of its own."""


class Watched(Plain):
    """A bench with a monitor that looks at the topics too."""

    async def look(self, seconds: float = 1.0) -> None:
        await self.monitor.topics.look(self.monitor.ends)
        await super().look(seconds)

    def written(self, topic: str) -> list[Any]:
        return [json.loads(value) for _, value, _ in self.kafka.topics[topic]]

    async def catch_up(self, upto: int | None = None) -> None:
        """Take what the source holds, in chunks, from where the shard stands."""
        log = self.kafka.source[0]
        while (shard := self.shards.ready(0)) is not None:
            rest = [r for r in log if r.offset >= max(shard.sequencer.next, self.kafka.source_start[0])]
            rest = [r for r in rest if upto is None or r.offset < upto][: 2 * SLICE_RECORDS]
            if not rest:
                return
            await self.take(rest, begin=shard.sequencer.next)

    def sums(self) -> dict[str, int]:
        core = self.shards.live[0].core
        known = [*core._keys.held, *(key_id for key_id, _ in core._keys.packed.items())]
        return {key_id: view.calls for key_id in known if (view := core.key(key_id)) is not None}


async def stored(values: list[bytes], **changes: Any) -> Watched:
    """A worker that has applied and written some records; its state is in its Kafka."""
    bench = Watched(**changes)
    await bench.assign(0)
    bench.kafka.feed(values, timestamp=LATER)
    await bench.catch_up()
    assert await bench.flush()
    return bench


async def refused(bench: Bench) -> tuple[int, str]:
    """What a worker says that cannot start on its partition."""
    bench.group.mine = {0}
    bench.shards.on_assigned([0])
    await until(lambda: bool(bench.deaths))
    return bench.deaths[0]


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "SHORT_PATIENCE_SECONDS", 0.0)


# ---------------------------------------------------------------------- versions and settings


async def test_a_newer_state_is_refused_with_both_versions_and_left_as_it_is() -> None:
    bench = await stored([call("a", T0)])
    log = bench.kafka.state[0]
    record = msgspec.msgpack.decode(dict(log)[SHARD_KEY])
    log.append((SHARD_KEY, msgspec.msgpack.encode({**record, "version": VERSION + 1})))
    before = list(log)
    code, text = await refused(Bench(bench.kafka))
    assert code == EXIT_BAD_STATE
    assert f"state version {VERSION + 1}, this one reads up to {VERSION}" in text
    assert bench.kafka.state[0] == before


async def test_a_key_that_turns_out_damaged_ends_the_worker_instead_of_being_left_out() -> None:
    values = [call("a", T0, key_id="quiet"), *(call(f"e{i}", T0 + 3600 + i) for i in range(3))]
    bench = await stored(values)
    name = MODEL + b"quiet"
    bench.kafka.state[0].append((name, dict(bench.kafka.state[0])[name][:-1]))
    other = Watched(bench.kafka)
    await other.assign(0)
    bench.kafka.feed([call("again", T0 + 3700, key_id="quiet")], timestamp=LATER)
    await other.take(bench.kafka.source[0], begin=0)
    assert [code for code, _ in other.deaths] == [EXIT_BAD_STATE]
    assert "damaged" in other.deaths[0][1]
    again = Watched(bench.kafka, rebuild=True)
    await again.assign(0)
    await again.catch_up()
    assert again.sums() == {"quiet": 2, "k": 3}


async def quiet_and_damaged() -> Watched:
    """A worker whose one key is packed, has an open bucket, and cannot be unpacked."""
    bench = await stored([call("a", T0), *(call(f"e{i}", T0 + 3600 + i) for i in range(3))])
    name = MODEL + b"k"
    bench.kafka.state[0].append((name, dict(bench.kafka.state[0])[name][:-1]))
    other = Watched(bench.kafka)
    await other.assign(0)
    await other.catch_up()
    return other


async def test_a_damaged_key_whose_bucket_is_closed_by_silence_ends_the_worker_too() -> None:
    bench = await quiet_and_damaged()
    for _ in range(10):
        await bench.look(60)
    assert EXIT_BAD_STATE in [code for code, _ in bench.deaths]
    assert "damaged" in bench.deaths[0][1]


async def test_an_idle_step_that_fails_half_way_drops_the_shard(caplog: pytest.LogCaptureFixture) -> None:
    bench = await stored([call("a", T0)])
    shard = bench.shards.live[0]

    def advance() -> Any:
        raise ZeroDivisionError("a defect")

    shard.core.advance = advance  # type: ignore[method-assign]
    for _ in range(3):
        await bench.look(60)
    await until(lambda: bench.shards.ready(0) not in (None, shard))
    assert "ZeroDivisionError: a defect" in caplog.text


# ---------------------------------------------------------------------- another log, a shorter one


@pytest.mark.parametrize(
    ("known", "found", "applied", "end", "verdict"),
    [
        (None, Source("t", "A"), -1, 0, "same"),
        (Source("t", "A"), Source("t", "B"), -1, 5, "same"),
        (None, Source("t", "A"), 4, 5, "same"),
        (None, Source("t", "A"), 5, 5, "anew"),
        (Source("t", "A"), Source("t", "A"), 4, 5, "same"),
        (Source("t", "A"), Source("t", "A"), 5, 5, "cut"),
        (Source("t", "A"), Source("t", "B"), 4, 5000, "anew"),
        (Source("t", None), Source("t", None), 4, 5, "same"),
        (Source("t", None), Source("t", None), 5, 5, "anew"),
        (Source("t", None), Source("t", "A"), 4, 5, "same"),
        (Source("old", None), Source("new", None), 4, 5, "anew"),
    ],
)
def test_the_fate_of_a_log(known: Source | None, found: Source, applied: int, end: int, verdict: str) -> None:
    assert fate(known, found, applied, end) == verdict


class OldClient:
    """aiokafka's client on a Kafka before 2.8, or one that knows no broker."""

    def __init__(self, node: int | None) -> None:
        self.node = node

    def get_random_node(self) -> int | None:
        return self.node

    async def send(self, node: int, request: Any) -> Any:
        if isinstance(request, TopicIdsRequest):
            raise NotImplementedError
        return self

    def to_object(self) -> dict[str, Any]:
        return {"topics": [{"topic": "there", "error_code": 0}, {"topic": "gone", "error_code": 3}]}


async def test_a_kafka_without_topic_ids_still_says_which_topics_are_there() -> None:
    found = await topic_states(OldClient(1), ["there", "gone"])
    assert found == {"there": TopicState(there=True, id=None), "gone": TopicState(there=False, id=None)}
    with pytest.raises(ConnectionError):
        await topic_states(OldClient(None), ["there"])


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"\xff"])
async def test_a_damaged_record_of_the_source_or_the_rebuild_is_a_state_error(value: bytes) -> None:
    with pytest.raises(StateError, match="damaged"):
        Source.unpack(value)
    with pytest.raises(StateError, match="damaged"):
        Rebuild.of(StateLog(worker={REBUILD_KEY: value}))


async def test_a_source_made_anew_is_read_from_its_start_even_if_it_has_outgrown_the_old_one() -> None:
    bench = await stored([call("a", T0), call("b", T0 + 1)])
    bench.kafka.source.clear()
    bench.kafka.ids["api-calls"] = "another"
    bench.kafka.feed([call(f"new-{i}", T0 + 2 + i) for i in range(5)])
    other = Watched(bench.kafka)
    await other.assign(0)
    assert other.shards.live[0].sequencer.next == 0
    await other.catch_up()
    assert other.sums() == {"k": 7}, "what was known is kept, and all that is new is counted"
    await other.flush()
    (alert,) = other.alerts()
    assert (alert["kind"], alert["status"]) == ("feed", "opened")
    assert "not the topic that was read before" in alert["summary"]
    assert len(other.losses) == 1
    third = Watched(bench.kafka)
    await third.assign(0)
    assert third.losses == [], "it is said once"
    assert third.shards.live[0].core.applied == 4
    await third.catch_up()
    await third.look()
    await third.flush()
    assert [alert["status"] for alert in third.alerts()] == ["opened", "resolved"]


async def test_a_crash_before_the_new_log_was_written_down_finds_it_again() -> None:
    bench = await stored([call("a", T0)])
    bench.kafka.ids["api-calls"] = "another"
    bench.kafka.source.clear()
    bench.kafka.feed([call("new", T0 + 1)])
    crashed = Watched(bench.kafka)
    await crashed.assign(0)
    await crashed.catch_up()
    other = Watched(bench.kafka)
    await other.assign(0)
    await other.catch_up()
    await other.flush()
    assert other.sums() == {"k": 2}
    assert [alert["kind"] for alert in other.alerts()] == ["feed"]


async def test_a_source_made_anew_without_topic_ids_is_found_by_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    kafka = FakeKafka()
    monkeypatch.setattr(kafka, "topic", lambda name: TopicState(there=True, id=None))
    await stored([call("a", T0), call("b", T0 + 1)], kafka=kafka)
    kafka.source.clear()
    kafka.feed([call("new", T0 + 2)])
    other = Watched(kafka)
    await other.assign(0)
    await other.catch_up()
    assert other.sums() == {"k": 3}
    assert len(other.losses) == 1


async def test_a_cut_log_goes_on_at_the_cut_and_counts_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await stored([call(f"e{i}", T0 + i) for i in range(10)])
    del bench.kafka.source[0][6:]
    shorten(monkeypatch)
    other = Watched(bench.kafka)
    await other.assign(0)
    bench.kafka.feed([call(f"new-{i}", T0 + 20 + i) for i in range(5)])
    await other.catch_up()
    assert other.sums() == {"k": 15}
    assert other.shards.live[0].core.applied == 10
    await other.flush()
    (alert,) = other.alerts()
    assert "cut at offset 6: 4 records that were counted are gone" in alert["summary"]


async def test_a_log_that_was_cut_at_its_first_offset_is_no_lost_state(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shorten(monkeypatch)
    bench = await stored([call(f"e{i}", T0 + i) for i in range(10)])
    bench.kafka.source[0].clear()
    bench.kafka.committed[0] = 10
    second = Watched(bench.kafka)
    await second.assign(0)
    assert await second.flush()
    third = Watched(bench.kafka, rebuild=True)
    await third.assign(0)
    assert third.sums() == {"k": 10}
    assert "the state was lost" not in caplog.text
    assert "rebuilt from" not in caplog.text


async def test_a_log_that_is_too_short_for_a_moment_is_not_cut(caplog: pytest.LogCaptureFixture) -> None:
    bench = await stored([call(f"e{i}", T0 + i) for i in range(10)])
    hidden = bench.kafka.source[0][6:]
    del bench.kafka.source[0][6:]
    other = Watched(bench.kafka)
    other.group.mine = {0}
    other.shards.on_assigned([0])
    await until(lambda: "not taken over (will try again): LogTooShort" in caplog.text)
    bench.kafka.source[0] += hidden
    await until(lambda: other.shards.ready(0) is not None)
    assert other.losses == []
    assert other.shards.live[0].core.applied == 9


async def test_a_cut_that_another_worker_has_dealt_with_is_not_believed_when_the_partition_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten(monkeypatch)
    bench = Watched(partitions=2)
    await bench.assign(0, 1)
    bench.kafka.feed([call(f"a{i}", T0 + i) for i in range(10)], timestamp=LATER)
    await bench.take(bench.kafka.source[0])
    await bench.flush(0)
    del bench.kafka.source[0][6:]
    while bench.shards.ready(0) is not None:
        await bench.look()
    await bench.shards.on_revoked()
    bench.group.mine = {1}
    bench.shards.on_assigned([1])

    other = Watched(bench.kafka, partitions=2)
    await other.assign(0)
    bench.kafka.feed([call(f"b{i}", T0 + 100 + i) for i in range(10)], timestamp=LATER)
    await other.take(bench.kafka.source[0], begin=0)
    assert await other.flush(0)
    await other.shards.on_revoked()

    await bench.shards.on_revoked()
    await bench.assign(0, 1)
    shard = bench.shards.live[0]
    await bench.take([r for r in bench.kafka.source[0] if r.offset >= shard.sequencer.next], shard.sequencer.next)
    assert (bench.calls(), shard.core.applied) == (20, 15)


async def test_a_source_made_anew_under_a_running_worker_is_taken_up_from_its_start() -> None:
    bench = await stored([call(f"e{i}", T0 + i) for i in range(10)])
    await bench.look()
    await bench.look()
    bench.monitor.ends = {0: 17}
    bench.kafka.source.clear()
    bench.kafka.ids["api-calls"] = "another"
    bench.kafka.feed([call(f"new-{i}", T0 + 20 + i) for i in range(3)])
    first = bench.shards.live[0]
    await bench.look()
    await until(lambda: bench.shards.ready(0) not in (None, first))
    await bench.catch_up()
    assert bench.sums() == {"k": 13}
    assert bench.observer.counts["gap"] == 7, "what is known not to have been read of the old one"
    for _ in range(100):
        await bench.look()
    assert bench.deaths == [], "going back to lower offsets is no lack of progress"


async def test_a_log_that_is_cut_under_a_running_worker_goes_on_at_the_cut_though_it_grows_again_meanwhile() -> None:
    bench = await stored([call(f"e{i}", T0 + i) for i in range(10)])
    await bench.look()
    del bench.kafka.source[0][6:]
    for _ in range(4):
        await bench.look()
    assert bench.losses == [], "a new leader has some seconds to catch up"
    first = bench.shards.live[0]
    for _ in range(4):
        await bench.look()
    bench.kafka.feed([call(f"new-{i}", T0 + 20 + i) for i in range(8)])
    await until(lambda: bench.shards.ready(0) not in (None, first))
    assert "cut at offset 6" in bench.losses[0]
    second = bench.shards.live[0]
    bench.kafka.fail_next.append(OSError("not written"))
    assert not await bench.flush()
    await until(lambda: bench.shards.ready(0) not in (None, second))
    await bench.catch_up()
    assert bench.sums() == {"k": 18}
    assert await bench.flush()
    bench.shards.drop(bench.shards.live[0], "for a test")
    await until(lambda: bench.shards.ready(0) is not None)
    await bench.catch_up()
    assert bench.sums() == {"k": 18}, "it is not cut a second time"


# ---------------------------------------------------------------------- topics that are gone


@pytest.mark.parametrize("taken", [False, True], ids=["still assigned", "already taken away"])
async def test_a_deleted_source_is_said_and_ends_the_worker_with_3(taken: bool) -> None:
    bench = await stored([call(f"e{i}", T0 + i) for i in range(10)])
    await bench.look()
    bench.monitor.ends = {0: 14}
    bench.kafka.ids["api-calls"] = None
    bench.kafka.hang = False
    for _ in range(4):
        await bench.monitor.topics.look(bench.monitor.ends)
        bench.ticks.now += 1
        if taken:
            await bench.shards.on_revoked()
            bench.shards.on_assigned([])
    assert bench.deaths == [], "one broker may be behind"
    for _ in range(3):
        await bench.monitor.topics.look(bench.monitor.ends)
        bench.ticks.now += 1
    assert bench.deaths[0][0] == EXIT_LOST
    assert "api-calls was deleted" in bench.deaths[0][1]
    (alert,) = bench.alerts()
    assert "api-calls was deleted: 4 records had not been read" in alert["summary"]
    assert bench.observer.counts["gap"] == 4
    assert bench.group.left


async def test_a_topic_that_was_away_for_a_moment_changes_nothing() -> None:
    bench = await stored([call("a", T0)])
    shard = bench.shards.live[0]
    for name in (None, "id of api-calls") * 5:
        bench.kafka.ids["api-calls"] = name
        await bench.look(3.0)
    assert bench.deaths == []
    assert bench.shards.live[0] is shard


async def test_shards_of_an_empty_assignment_are_closed_once_the_topics_are_known_to_be_there() -> None:
    bench = await stored([call("a", T0)])
    shard = bench.shards.live[0]
    await bench.shards.on_revoked()
    bench.shards.on_assigned([])
    assert not shard.journal.closed  # type: ignore[attr-defined]
    await bench.look()
    await until(lambda: shard.journal.closed)  # type: ignore[attr-defined]
    assert bench.group.asked[-1] == ("refresh",), "the group may have been given nothing while a topic was missing"


async def test_a_broker_that_hangs_does_not_end_a_worker_that_has_no_partition() -> None:
    bench = Watched()

    async def refresh() -> None:
        raise TimeoutError

    bench.group.refresh = refresh  # type: ignore[method-assign]
    bench.shards.on_assigned([])
    await bench.look()
    assert bench.deaths == []


async def test_a_state_topic_made_anew_under_a_running_worker_ends_it() -> None:
    bench = await stored([call("a", T0)])
    await bench.look()
    bench.kafka.ids["overdraw-state"] = "another"
    bench.kafka.state[0].clear()
    await bench.take(bench.kafka.feed([call("b", T0, key_id="other")]))
    await bench.look()
    assert bench.deaths[0][0] == EXIT_LOST
    assert "--rebuild" in bench.deaths[0][1]
    code, text = await refused(Bench(bench.kafka))
    assert code == EXIT_BAD_STATE
    assert "holds 1 of 2 keys" in text


async def test_a_state_that_was_lost_between_two_runs_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    bench = await stored([call("a", T0), call("b", T0)])
    bench.kafka.state[0].clear()
    bench.kafka.committed[0] = 2
    other = Watched(bench.kafka)
    await other.assign(0)
    assert "the state was lost" in caplog.text
    await other.catch_up()
    assert other.sums() == {"k": 2}


async def test_a_new_partition_has_lost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.assign(0)
    assert "lost" not in caplog.text


# ---------------------------------------------------------------------- rebuild


def holds_together(alerts: list[Any]) -> None:
    """No (alert_id, sequence) twice; per fingerprint opened and resolved in turn."""
    twice = [pair for pair, n in Counter((a["alert_id"], a["sequence"]) for a in alerts).items() if n > 1]
    assert twice == []
    open_now: dict[str, Any] = {}
    for alert in alerts:
        before = open_now.get(alert["fingerprint"])
        if alert["status"] == "opened":
            assert before is None, (before, alert)
        else:
            assert before is not None
            assert before["alert_id"] == alert["alert_id"]
            assert before["sequence"] < alert["sequence"]
        open_now[alert["fingerprint"]] = None if alert["status"] == "resolved" else alert


def turns(alerts: list[dict[str, Any]]) -> list[str]:
    """What opens and what ends; that an incident goes on is left out."""
    return [alert["status"] for alert in alerts if alert["status"] != "updated"]


def at(hours: float) -> int:
    """Index of the first record after so many (negative) hours before the traffic's end."""
    end = json.loads(TRAFFIC[-1])["time"]
    return next(i for i, value in enumerate(TRAFFIC) if json.loads(value)["time"] > end + hours * 3600)


def recount(values: list[bytes]) -> dict[str, int]:
    return dict(Counter(json.loads(value)["key_id"] for value in values if value != b"{"))


async def test_a_state_that_fits_is_left_alone_by_rebuild(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = await stored(TRAFFIC[:500], **HOURLY)
    before = list(bench.kafka.state[0])
    other = Watched(bench.kafka, rebuild=True, **HOURLY)
    await other.assign(0)
    assert "nothing to rebuild" in caplog.text
    assert bench.kafka.state[0] == before
    assert other.sums() == bench.sums()


async def test_a_rebuild_for_another_bucket_length_says_nothing_twice_and_counts_all() -> None:
    middle = at(-7.5)
    values = [*TRAFFIC[:100], b"{", *TRAFFIC[100:middle]]
    bench = await stored(values, **HOURLY)
    said = len(bench.alerts())
    assert turns(bench.alerts()) == ["opened"] * 3
    other = Watched(bench.kafka, rebuild=True, **{**HOURLY, "bucket_seconds": 1800})
    await other.assign(0)
    closed = other.alerts()[said:]
    assert closed
    assert {alert["status"] for alert in closed} == {"resolved"}
    assert all("rebuilt" in alert["summary"] for alert in closed)
    await other.catch_up(upto=len(values) - 1)
    await other.flush()
    assert len(other.alerts()) == said + len(closed), "silent up to where the old state was"
    await other.catch_up()
    await other.flush()
    assert REBUILD_KEY not in (await bench.kafka.read(other.settings, 0)).worker
    reopened = other.alerts()[said + len(closed) :]
    assert {alert["status"] for alert in reopened} == {"opened"}, "the attack still goes on"
    assert len(other.written(other.settings.dead_letter_topic)) == 1, "no dead letter a second time"
    bench.kafka.feed(TRAFFIC[middle:], timestamp=LATER)
    await other.catch_up()
    await other.flush()
    assert other.sums() == recount([*values, *TRAFFIC[middle:]])
    holds_together(other.alerts())


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stop=st.floats(-9.5, -5.5).map(at),  # from before the first incident opens until all are resolved
    crashes=st.lists(st.tuples(st.integers(0, 12), st.sampled_from([900, 1800, 3600])), max_size=4),
    bucket=st.sampled_from([1800, 3600]),
    cut=st.sampled_from([0, 0, 700]),
)
async def test_a_rebuild_that_is_killed_anywhere_comes_to_the_same_end(
    stop: int, crashes: list[tuple[int, int]], bucket: int, cut: int
) -> None:
    bench = await stored(TRAFFIC[:stop], **HOURLY)
    kafka = bench.kafka
    # damaged: also with the same bucket length there is something to rebuild, and the same incidents come up again
    name = next(name for name, _ in kafka.state[0] if name[:1] == MODEL)
    kafka.state[0].append((name, b"\x01"))
    kafka.source_start[0] = cut
    kafka.feed(TRAFFIC[stop:], timestamp=LATER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "CHUNK_RECORDS", 10)
        for writes, length in crashes:
            await killed_after(kafka, writes, {**HOURLY, "bucket_seconds": length})
        other = Watched(kafka, rebuild=True, **{**HOURLY, "bucket_seconds": bucket})
        await other.assign(0)
    await other.catch_up()
    await other.look()
    await other.flush()
    assert other.sums() == recount(TRAFFIC[cut:])
    holds_together([alert for alert in other.alerts() if alert["kind"] != "feed"])
    fresh = Shard(0, other.settings, partition_of=lambda key_id: 0)
    log = [(r.offset, r.value, r.timestamp / 1000 + 1e9) for r in kafka.source[0][cut:]]
    known = json.loads(TRAFFIC[stop - 1])["time"]
    expected = {a.alert_id for a in fresh.observe(parse(log)[0], log[-1][0]).alerts if a.started_at > known}
    if not any(length != bucket for _, length in crashes):
        assert {a["alert_id"] for a in other.alerts()} >= expected, "what came after the old state is said"
    state = await kafka.read(other.settings, 0)
    assert REBUILD_KEY not in state.worker
    assert {name for name in state.states if name[:1] == MODEL} == {MODEL + key.encode() for key in other.sums()}


@pytest.mark.parametrize("writes", [1, 2, 3])
async def test_a_rebuild_that_was_begun_goes_on_without_the_flag_and_ends_its_silence_in_the_same_place(
    writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "CHUNK_RECORDS", 10)
    bench = await stored(TRAFFIC[:1000], **HOURLY)
    bench.kafka.feed(TRAFFIC[1000:], timestamp=LATER)
    changes = {**HOURLY, "bucket_seconds": 1800}
    await killed_after(bench.kafka, writes, changes)
    other = Watched(bench.kafka, **changes)
    await other.assign(0)
    assert other.shards.live[0].rebuild == Rebuild(1000, 1, json.loads(TRAFFIC[999])["time"], cleared=True)
    await other.catch_up()
    await other.flush()
    assert turns(other.alerts()) == ["opened"] * 3 + ["resolved"] * 3
    assert other.sums() == recount(TRAFFIC)


async def killed_after(kafka: FakeKafka, writes: int, changes: dict[str, Any]) -> None:
    """A worker that dies after some transactions, somewhere in its rebuild or in what it learns again."""
    victim = Watched(kafka, rebuild=True, **changes)
    kafka.dies_after = writes
    try:
        victim.group.mine = {0}
        victim.shards.on_assigned([0])
        await until(lambda: kafka.dies_after < 0 or victim.shards.ready(0) is not None)
        while kafka.dies_after >= 0 and (shard := victim.shards.ready(0)) is not None:
            await victim.catch_up(upto=shard.sequencer.next + 400)
            if not await victim.flush() or shard.sequencer.next >= kafka.end(0):
                break
    finally:
        kafka.dies_after = None
        victim.shards.stopping = True
        victim.shards._acquirer.cancel()
        for task in list(victim.shards._tasks):
            task.cancel()


async def test_a_rebuild_of_a_newer_version_reads_nothing_of_it_but_what_the_alerts_say() -> None:
    bench = await stored(TRAFFIC, **HOURLY)
    record = msgspec.msgpack.decode(dict(bench.kafka.state[0])[SHARD_KEY])
    bench.kafka.state[0].append((SHARD_KEY, msgspec.msgpack.encode({**record, "version": VERSION + 1})))
    said = len(bench.alerts())
    other = Watched(bench.kafka, rebuild=True, **HOURLY)
    await other.assign(0)
    kept = (await bench.kafka.read(other.settings, 0)).worker[REBUILD_KEY]
    assert msgspec.json.decode(kept, type=Rebuild).until == len(TRAFFIC), "all that is there by now"
    await other.catch_up()
    await other.flush()
    assert other.sums() == recount(TRAFFIC)
    assert len([a for a in other.alerts()[said:] if a["status"] == "opened"]) == 0
    holds_together(other.alerts())


async def test_a_state_that_was_lost_is_learned_again_silently_by_rebuild() -> None:
    bench = await stored(TRAFFIC, **HOURLY)
    said = len(bench.alerts())
    bench.kafka.state[0].clear()
    bench.kafka.committed[0] = len(TRAFFIC)
    other = Watched(bench.kafka, rebuild=True, **HOURLY)
    await other.assign(0)
    await other.catch_up()
    await other.flush()
    assert other.sums() == recount(TRAFFIC)
    assert other.alerts()[said:] == []


async def test_what_retention_took_between_the_old_state_and_the_source_is_a_gap_of_the_rebuild_too() -> None:
    bench = await stored(TRAFFIC[:1000], **HOURLY)
    bench.kafka.feed(TRAFFIC[1000:2000], timestamp=LATER)
    bench.kafka.source_start[0] = 1300
    other = Watched(bench.kafka, rebuild=True, **{**HOURLY, "bucket_seconds": 1800})
    await other.assign(0)
    assert other.observer.counts["gap"] == 300
    assert other.shards.live[0].rebuild is None, "there is nothing left to be silent about"


async def test_a_gap_behind_which_nothing_is_left_is_said_before_it_is_over() -> None:
    bench = await stored([call("a", T0)])
    bench.kafka.source_start[0] = 8
    bench.kafka.source[0].clear()
    other = Watched(bench.kafka)
    await other.assign(0)
    for _ in range(2):
        await other.look()
        await other.flush()
    assert [alert["status"] for alert in other.written(other.settings.alert_topic)] == ["opened", "resolved"]


async def test_the_end_of_the_log_ends_the_silence_too() -> None:
    """Markers take the last offsets: no record comes that would end it."""
    bench = await stored([call("a", T0)])
    bench.kafka.state[0].append((SHARD_KEY, b"damaged"))
    kafka = bench.kafka
    kafka.end = lambda partition: 3  # type: ignore[method-assign]
    other = Watched(kafka, rebuild=True)
    other.group.behind[0] = 3
    await other.assign(0)
    await other.take(kafka.source[0])
    assert other.shards.live[0].rebuild is not None
    await other.look()
    assert other.shards.live[0].rebuild is None


async def test_the_source_is_kept_with_the_state() -> None:
    bench = await stored([call("a", T0)])
    log = await bench.kafka.read(bench.settings, 0)
    assert Source.unpack(log.worker[SOURCE_KEY]) == Source("api-calls", "id of api-calls")
