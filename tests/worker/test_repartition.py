"""The intake without Kafka: what is written together, what is read again, and who waits for whom."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from stream.core.origins import Origin
from stream.core.shard import Shard
from stream.gateways.overdraw import parse
from stream.worker import repartition
from stream.worker.intake import beginning
from stream.worker.keying import ORIGIN_HEADER, origins_of
from stream.worker.live import Owner
from stream.worker.monitor import Monitor
from stream.worker.places import Place, Topic
from stream.worker.repartition import HOLD_CHUNKS, Intakes
from stream.worker.source import id_text
from stream.worker.tools import EXIT_STUCK, EXIT_TWIN
from tests.worker.fakes import T0, Bench, Clock, Event, FakeGroup, FakeKafka, FakePlaces, Record, call, records, until

RAW = "raw"


class IntakeBench(Bench):
    """A worker's intake without Faust and Kafka; `unkeyed` is the topic that it reads."""

    def __init__(
        self,
        kafka: FakeKafka | None = None,
        unkeyed: FakeKafka | None = None,
        intake_partitions: int = 1,
        **changes: Any,
    ) -> None:
        super().__init__(kafka, **{"partitions": 2, "intake_topic": RAW, **changes})
        self.unkeyed = unkeyed or FakeKafka(intake_partitions)
        self.raw_group = FakeGroup(self.unkeyed)
        self.places = FakePlaces(self.kafka, RAW)
        self.ticks = 0.0
        self.intakes = Intakes(self.tools, RAW, self.raw_group, self.places, clock=self.tick)

    def tick(self) -> float:
        """A clock that goes a little whenever it is looked at."""
        self.ticks += 0.02
        return self.ticks

    async def go(self, *partitions: int) -> None:
        """Assign partitions of the intake, and wait until they are live."""
        self.raw_group.mine = set(partitions)
        self.intakes.on_assigned(partitions)
        await until(lambda: all(self.intakes.ready(p) for p in partitions))

    async def hand(self, chunk: list[Any], begin: int | None = None) -> None:
        """Hand a chunk to its partition and wait until it has worked through it."""
        held = self.intakes.live[chunk[0].partition]
        await self.intakes.take(Event(chunk[0].partition, chunk, begin))
        await until(lambda: not held.working)

    async def write(self, partition: int = 0) -> bool:
        return await self.intakes.flush(self.intakes.live[partition])

    @property
    def source(self) -> list[Any]:
        return self.kafka.topics[self.settings.source_topic]

    @property
    def letters(self) -> list[Any]:
        return [json.loads(record[1]) for record in self.kafka.topics[self.settings.dead_letter_topic]]

    def origins(self) -> list[tuple[int, Origin]]:
        """The origins of what is in the source."""
        return origins_of([Record(0, value, stamp, 0, key, headers) for key, value, headers, stamp in self.source])

    def place(self, partition: int = 0) -> int | None:
        said = self.kafka.offsets.get((RAW, partition))
        return said[0] if said is not None else None


async def test_a_partition_is_fenced_before_its_place_is_read_and_sought_before_it_is_live() -> None:
    bench = IntakeBench()
    steps: list[int] = []
    real = bench.places.read

    async def read(partitions: Any) -> Any:
        steps.append(bench.kafka.epochs["intake", 0])
        return await real(partitions)

    bench.places.read = read  # type: ignore[method-assign]
    await bench.go(0)
    assert steps == [1]
    assert bench.raw_group.asked == [("is_member", 0), ("seek", 0, 0), ("resume", 0)]


async def test_records_are_keyed_split_and_written_with_the_place_in_one_transaction() -> None:
    bench = IntakeBench()
    await bench.go(0)
    array = b"[" + call("b", T0, "key-2") + b"," + b'{"event_id": "x"}' + b"," + call("c", T0, "key-1") + b"]"
    await bench.hand(bench.unkeyed.feed([call("a", T0, "key-1"), b"{", array]))
    before = bench.kafka.transactions
    assert bench.source == []
    assert bench.place() is None
    assert await bench.write()
    assert bench.kafka.transactions == before + 1
    assert {json.loads(value)["event_id"]: key for key, value, *_ in bench.source} == {
        "a": b"key-1",
        "b": b"key-2",
        "c": b"key-1",
    }
    assert [(letter["reason"], letter["topic"], letter["offset"], letter["element"]) for letter in bench.letters] == [
        ("broken_json", RAW, 1, None),
        ("missing_field", RAW, 2, 1),
    ]
    assert bench.place() == 3
    assert bench.observer.counts["passed_on"] == 3
    for key, value, headers, stamp in bench.source:
        assert stamp == int(T0 * 1000), "the Kafka timestamp of the original record"
        kafka_record = Record(0, value, stamp, 0, key, headers)
        ((_, origin),) = origins_of([kafka_record])
        assert origin.partition == 0
        assert (origin.offset, origin.element) in [(0, 0), (2, 0), (2, 2)]
        assert [name for name, _ in headers] == [ORIGIN_HEADER]


async def test_nothing_is_in_the_source_of_what_a_failed_transaction_held_and_it_is_read_again_once() -> None:
    bench = IntakeBench()
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call("a", T0)]))
    await bench.write()
    await bench.hand(bench.unkeyed.feed([call("b", T0), b"{"]))
    bench.kafka.fail_next.append(KafkaTimeoutError())
    first = bench.intakes.live[0]
    assert not await bench.write()
    assert first.broken
    await until(lambda: bench.intakes.ready(0) is not None)
    assert bench.intakes.live[0].sequencer.next == 1
    await bench.hand(bench.unkeyed.source[0])
    await bench.write()
    assert [json.loads(value)["event_id"] for _, value, *_ in bench.source] == ["a", "b"]
    assert len(bench.letters) == 1


async def test_a_zombie_writes_nothing_once_another_worker_has_the_partition() -> None:
    zombie = IntakeBench()
    await zombie.go(0)
    await zombie.hand(zombie.unkeyed.feed([call("a", T0)]))
    heir = IntakeBench(zombie.kafka, zombie.unkeyed)
    await heir.go(0)
    await heir.hand(zombie.unkeyed.source[0])
    assert await heir.write()
    zombie.raw_group.member = False
    assert not await zombie.write()
    assert len(zombie.source) == 1
    assert zombie.place() == 1


async def test_a_partition_that_somebody_had_in_between_is_dropped_at_its_next_flush() -> None:
    bench = IntakeBench()
    await bench.go(0)
    await bench.write()
    await bench.intakes.on_revoked()
    other = IntakeBench(bench.kafka, bench.unkeyed)
    await other.go(0)
    await bench.go(0)
    assert not await bench.write(), "without any record the epoch is tried"


async def test_a_revoked_partition_writes_what_it_has_keyed_and_goes_on_behind_it() -> None:
    bench = IntakeBench()
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call("a", T0)]))
    await bench.intakes.on_revoked()
    assert bench.place() == 1
    other = IntakeBench(bench.kafka, bench.unkeyed)
    await other.go(0)
    assert other.intakes.live[0].sequencer.next == 1


async def test_the_older_of_two_twins_leaves_the_intake_to_the_younger() -> None:
    older = IntakeBench(instance_id="worker-0")
    await older.go(0)
    younger = IntakeBench(older.kafka, older.unkeyed, instance_id="worker-0")
    younger.intakes.owner = younger.intakes._acquirer._owner = Owner("worker-0", older.intakes.owner.started_ms + 5)
    await younger.go(0)
    assert await younger.write()
    assert not await older.write()
    await until(lambda: bool(older.deaths))
    assert older.deaths[0][0] == EXIT_TWIN


async def test_stopping_writes_closes_and_disconnects() -> None:
    bench = IntakeBench()
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call("a", T0)]))
    held = bench.intakes.live[0]
    assert await bench.intakes.close()
    assert bench.place() == 1
    assert held.journal.closed  # type: ignore[attr-defined]
    assert bench.places.closed


async def test_fausts_own_commits_never_touch_the_intake() -> None:
    bench = IntakeBench()
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call("a", T0)]))
    await bench.write()
    assert bench.intakes.committed_offset(0) is None
    assert bench.intakes.next_offset(0) == 1


async def test_a_chunk_for_a_partition_that_is_not_live_is_left_to_be_read_again() -> None:
    bench = IntakeBench()
    event = Event(0, records([call("a", T0)]))
    await bench.intakes.take(event)
    assert event.acked
    await bench.go(0)
    assert bench.intakes.next_offset(0) == 0


async def test_a_chunk_ahead_of_the_next_offset_makes_one_seek_and_is_not_keyed() -> None:
    bench = IntakeBench()
    await bench.go(0)
    await bench.hand(records([call("z", T0)], start=40))
    await until(lambda: bench.raw_group.asked.count(("seek", 0, 0)) == 2)
    assert bench.intakes.live[0].pending.passed == 0


async def test_a_partition_that_cannot_keep_up_is_fetched_from_no_more_until_it_can() -> None:
    bench = IntakeBench()
    await bench.go(0)
    bench.kafka.hang = True
    held = bench.intakes.live[0]
    held.pending.size = 1 << 30  # the next record makes it flush at once
    for number in range(HOLD_CHUNKS + 1):
        await bench.intakes.take(Event(0, bench.unkeyed.feed([call(f"e{number}", T0)])))
        await asyncio.sleep(0)
    assert bench.raw_group.held == {0}
    bench.kafka.hang = False
    await until(lambda: not held.working)
    assert bench.raw_group.held == set()
    assert held.pending.passed + bench.observer.counts["passed_on"] == HOLD_CHUNKS + 1


async def test_faust_that_lets_go_of_a_held_partition_is_put_right() -> None:
    bench = IntakeBench()
    await bench.go(0)
    bench.kafka.hang = True
    held = bench.intakes.live[0]
    held.pending.size = 1 << 30  # the next record makes it flush at once
    for number in range(HOLD_CHUNKS + 2):
        await bench.intakes.take(Event(0, bench.unkeyed.feed([call(f"e{number}", T0)])))
        await asyncio.sleep(0)
        if number == HOLD_CHUNKS:
            assert bench.raw_group.held == {0}
            bench.raw_group.held.clear()
    assert bench.raw_group.held == {0}
    bench.kafka.hang = False
    await until(lambda: not held.working)
    assert bench.raw_group.held == set()


async def test_a_connection_that_hangs_does_not_keep_the_stop_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repartition, "DISCONNECT_SECONDS", 0.01)
    bench = IntakeBench()
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call("a", T0)]))

    async def close() -> None:
        await asyncio.Event().wait()

    bench.places.close = close  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        assert await bench.intakes.close()
    assert bench.place() == 1


async def test_a_failure_of_the_keying_drops_the_partition_and_never_escapes(caplog: pytest.LogCaptureFixture) -> None:
    bench = IntakeBench()
    await bench.go(0)
    held = bench.intakes.live[0]

    def key(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    held.key = key  # type: ignore[method-assign]
    chunk = bench.unkeyed.feed([call("a", T0)])
    await bench.hand(chunk)
    assert held.broken
    assert "ZeroDivisionError: a defect" in caplog.text
    await until(lambda: bench.intakes.ready(0) is not None)
    bench.intakes.live[0].key = key  # type: ignore[method-assign]
    await bench.hand(chunk)
    assert caplog.text.count("Traceback") == 1, "the same record fails again after every takeover"


async def test_records_that_retention_took_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    bench = IntakeBench()
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call("a", T0)]))
    await bench.write()
    bench.unkeyed.source_start[0] = 8
    other = IntakeBench(bench.kafka, bench.unkeyed)
    await other.go(0)
    assert other.observer.counts["gap"] == 7
    assert other.intakes.live[0].lost == 7
    assert other.intakes.live[0].sequencer.next == 8
    assert "7 offsets were deleted from raw before they were read" in caplog.text


async def test_an_end_that_is_not_known_yet_is_no_log_that_was_cut() -> None:
    bench = IntakeBench()
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call("a", T0), call("b", T0)]))
    await bench.write()
    other = IntakeBench(bench.kafka, bench.unkeyed)
    real, answers = other.raw_group.ends, [{}, {0: 1}]

    async def ends() -> dict[int, int]:
        return answers.pop(0) if answers else await real()

    other.raw_group.ends = ends  # type: ignore[method-assign]
    await other.go(0)
    assert other.intakes.live[0].sequencer.next == 2
    await other.write()
    assert Place.of(RAW, *other.kafka.offsets[RAW, 0]).topic.cuts == 0


TOPIC = Topic(RAW, b"\1" * 16)


@pytest.mark.parametrize(
    ("committed", "start", "end", "offset", "lost", "why"),
    [
        (None, 3, 9, 3, 0, "nothing committed: from the first offset that there is"),
        (Place(5, TOPIC), 0, 9, 5, 0, "where it was"),
        (Place(5, TOPIC), 7, 9, 7, 2, "retention was quicker"),
        (Place(5, Topic(RAW, b"\2" * 16)), 0, 9, 0, 0, "the topic was made anew"),
        (Place(5, Topic(RAW, b"")), 0, 9, 5, 0, "an operator has set the offset"),
        (Place(50, TOPIC), 0, 9, 9, 0, "the log has lost its end"),
    ],
)
def test_where_a_partition_is_read_on(
    committed: Place | None, start: int, end: int, offset: int, lost: int, why: str
) -> None:
    place, missing = beginning(0, TOPIC, committed, start, end)
    assert (place.offset, missing) == (offset, lost), why


def test_a_topic_that_was_made_anew_or_cut_is_another_one_to_the_shards() -> None:
    anew, _ = beginning(0, Topic(RAW, b"\2" * 16), Place(5, TOPIC), 0, 9)
    cut, _ = beginning(0, TOPIC, Place(50, TOPIC), 0, 9)
    again, _ = beginning(0, TOPIC, Place(60, cut.topic), 0, 9)
    identities = {topic.identity for topic in (TOPIC, anew.topic, cut.topic, again.topic, Topic("other", b"\1" * 16))}
    assert len(identities) == 5
    assert beginning(0, TOPIC, Place(9, cut.topic), 0, 9)[0].topic == cut.topic


def test_a_place_says_the_same_after_a_round_trip() -> None:
    place = Place(7, TOPIC.cut(), "worker-3", 1_700_000_000_000, T0)
    assert Place.of(RAW, 7, place.metadata) == place
    assert Place.of(RAW, 7, Place(7, TOPIC).metadata).front == -math.inf
    for other in ("", None, "[]", '{"instance": 1}', "text"):
        assert Place.of(RAW, 7, other) == Place(7, Topic(RAW, b""))


# -- who waits for whom


async def test_a_partition_waits_for_another_one_of_this_worker_that_lags_behind() -> None:
    bench = IntakeBench(intake_partitions=2, allowed_lateness_seconds=100)
    late = bench.unkeyed.feed([call("late", T0)], partition=1)
    chunk = bench.unkeyed.feed([call("a", T0 + 10), call("b", T0 + 60), call("c", T0 + 300)], partition=0)
    await bench.go(0, 1)
    await bench.intakes.take(Event(0, chunk))
    fast, slow = bench.intakes.live[0], bench.intakes.live[1]
    await until(lambda: fast.waiting)
    assert fast.sequencer.next == 0, "of the other one it is not known where it stands"
    await bench.hand(late)
    await until(lambda: not fast.working)
    assert fast.sequencer.next == 3, "the other one has reached its end and holds nobody up"
    assert slow.front == T0


async def test_a_partition_goes_no_further_ahead_than_half_the_lateness() -> None:
    bench = IntakeBench(intake_partitions=2, allowed_lateness_seconds=100)
    slow = bench.unkeyed.feed([call("s", T0), call("t", T0 + 200)], partition=1)
    fast = bench.unkeyed.feed([call("a", T0 + 10), call("b", T0 + 50), call("c", T0 + 51)], partition=0)
    await bench.go(0, 1)
    bench.intakes.live[1].sequencer.applied(-1)
    await bench.intakes.take(Event(0, fast))
    await bench.hand(slow[:1])
    held = bench.intakes.live[0]
    await until(lambda: held.waiting and held.sequencer.next == 2)
    await bench.hand(slow[1:])
    await until(lambda: not held.working)
    assert held.sequencer.next == 3


async def test_a_partition_waits_for_another_workers_as_far_as_that_one_has_committed() -> None:
    one = IntakeBench(intake_partitions=2, allowed_lateness_seconds=100)
    two = IntakeBench(one.kafka, one.unkeyed, allowed_lateness_seconds=100)
    chunk = one.unkeyed.feed([call("a", T0 + 200)], partition=0)
    slow = one.unkeyed.feed([call("s", T0), call("t", T0 + 160)], partition=1)
    await one.go(0)
    await two.go(1)
    await one.intakes.take(Event(0, chunk))
    held = one.intakes.live[0]
    await until(lambda: held.waiting)
    assert Place.of(RAW, *one.kafka.offsets[RAW, 0]).front == T0 + 200, "it says how far it is, for others to wait"
    await two.hand(slow[:1])
    await two.write(1)
    await asyncio.sleep(0)
    assert held.sequencer.next == 0
    await two.hand(slow[1:])
    await two.write(1)
    await until(lambda: not held.working)
    assert held.sequencer.next == 1


async def test_nobody_waits_for_ever_for_a_partition_that_does_not_move() -> None:
    bench = IntakeBench(intake_partitions=2, allowed_lateness_seconds=100)
    bench.unkeyed.feed([call("nobody reads it", T0)], partition=1)
    chunk = bench.unkeyed.feed([call("a", T0 + 200)], partition=0)
    await bench.go(0)
    await bench.intakes.take(Event(0, chunk))
    held = bench.intakes.live[0]
    await until(lambda: held.waiting)
    bench.ticks += 61.0
    await until(lambda: not held.working)
    assert held.sequencer.next == 1


@pytest.mark.parametrize("at", [T0 - 86_400, None], ids=["an old clock", "only garbage"])
async def test_what_is_written_to_another_workers_partition_all_the_time_holds_nobody_up_for_ever(
    at: float | None,
) -> None:
    one = IntakeBench(intake_partitions=2, allowed_lateness_seconds=100)
    two = IntakeBench(one.kafka, one.unkeyed, allowed_lateness_seconds=100)
    number = 0

    async def ends() -> dict[int, int]:
        nonlocal number
        if one.unkeyed.source[1]:  # what was written before has been passed on by now
            await two.hand(one.unkeyed.source[1][-1:])
            await two.write(1)
        number += 1
        one.unkeyed.feed([b"{" if at is None else call(f"old-{number}", at + number)], partition=1)
        return {partition: one.unkeyed.end(partition) for partition in range(2)}

    await two.go(1)
    one.raw_group.ends = ends  # type: ignore[method-assign]
    chunk = one.unkeyed.feed([call("a", T0), call("b", T0 + 500)], partition=0)
    await one.go(0)
    await one.intakes.take(Event(0, chunk))
    held = one.intakes.live[0]
    await until(lambda: not held.working)
    assert held.sequencer.next == 2
    assert one.ticks < 30, "and not by patience"


# -- what is watched


class Watched(IntakeBench):
    """An intake with its watch, whose clock is moved by hand."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.clockwork = Clock(1000.0)
        self.monitor = Monitor(self.tools, self.shards, self.clockwork, self.intakes)
        assert self.monitor.intake is not None
        self.watch = self.monitor.intake

    async def look(self, seconds: float = 1.0) -> None:
        self.clockwork.now += seconds
        self.monitor._answered = self.clockwork.now
        await self.monitor.look(await self.group.ends())


async def test_lag_and_readiness_know_the_intake() -> None:
    bench = Watched()
    await bench.assign(0, 1)
    bench.unkeyed.feed([call("a", T0), call("b", T0)])
    bench.raw_group.mine = {0}
    bench.intakes.on_assigned([0])
    assert bench.monitor.unready() == ["intake partition 0 is being taken over"]
    await until(lambda: bench.intakes.ready(0) is not None)
    await bench.look()
    assert bench.monitor.unready() == []
    assert bench.watch.lag(0) == 2
    bench.raw_group.concealed[0] = 3
    assert bench.watch.lag(0) == 5
    await bench.hand(bench.unkeyed.source[0])
    assert bench.watch.lag(0) == 3
    assert bench.watch.lag(7) is None


async def test_an_intake_that_makes_no_progress_is_not_ready_and_then_ends_the_process() -> None:
    bench = Watched()
    await bench.assign(0, 1)
    await bench.go(0)
    bench.unkeyed.feed([call("a", T0)])
    for _ in range(65):
        await bench.look()
    (reason,) = bench.monitor.unready()
    assert reason.startswith("intake partition 0 has a lag and made no progress for 6")
    assert bench.deaths == []
    await bench.hand(bench.unkeyed.source[0])
    await bench.write()
    await bench.look()
    assert bench.monitor.unready() == []
    bench.unkeyed.feed([call("b", T0)])
    for _ in range(125):
        await bench.look()
    assert bench.deaths[0][0] == EXIT_STUCK


async def test_a_partition_that_waits_for_others_or_has_nothing_to_do_is_not_stuck() -> None:
    bench = Watched(intake_partitions=2)
    await bench.assign(0, 1)
    await bench.go(0, 1)
    bench.unkeyed.feed([call("a", T0)])
    bench.intakes.live[0].waiting = True
    for _ in range(200):
        await bench.look()
    assert bench.monitor.unready() == []
    assert bench.deaths == []


async def test_what_the_intake_lost_is_a_feed_alert_of_one_shard_until_it_has_caught_up() -> None:
    bench = Watched()
    await bench.assign(0, 1)
    bench.kafka.offsets[RAW, 0] = (3, "")
    bench.unkeyed.source_start[0] = 9
    bench.unkeyed.source[0] = records([call("a", T0)], start=9)
    await bench.go(0)
    await bench.look()
    for partition in (0, 1):
        await bench.flush(partition)
    alerts = [json.loads(record[1]) for record in bench.kafka.topics[bench.settings.alert_topic]]
    assert [(alert["kind"], alert["status"], alert["observed"]) for alert in alerts] == [("feed", "opened", 6.0)]
    assert "6 offsets were deleted from the intake topic" in alerts[0]["summary"]
    await bench.hand(bench.unkeyed.source[0], begin=9)
    await bench.look()
    await bench.flush(0)
    alerts = [json.loads(record[1]) for record in bench.kafka.topics[bench.settings.alert_topic]]
    assert [alert["status"] for alert in alerts] == ["opened", "resolved"]


async def test_what_the_intake_lost_is_said_even_if_it_catches_up_at_once() -> None:
    bench = Watched()
    await bench.assign(0, 1)
    bench.kafka.offsets[RAW, 0] = (3, "")
    bench.unkeyed.source_start[0] = 9
    await bench.go(0)
    for _ in range(2):
        await bench.look()
        await bench.flush(0)
    alerts = [json.loads(record[1]) for record in bench.kafka.topics[bench.settings.alert_topic]]
    assert [alert["status"] for alert in alerts] == ["opened", "resolved"]


async def test_a_watch_that_finds_no_ends_concludes_nothing() -> None:
    bench = Watched()
    await bench.assign(0, 1)
    await bench.go(0)
    bench.unkeyed.feed([call("a", T0)])
    await bench.look()

    async def ends() -> dict[int, int]:
        raise OSError("away")

    bench.raw_group.ends = ends  # type: ignore[method-assign]
    for _ in range(300):
        await bench.look()
    assert bench.deaths == []


async def test_an_intake_topic_that_is_made_anew_while_it_is_read_is_read_from_its_start() -> None:
    bench = Watched()
    bench.kafka.ids[RAW] = id_text(bench.kafka.topic_id)
    await bench.assign(0, 1)
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call(f"e{number}", T0) for number in range(5)]))
    await bench.monitor.topics.look({})
    assert bench.intakes.ready(0) is not None
    bench.kafka.topic_id = b"\2" * 16
    bench.kafka.ids[RAW] = id_text(bench.kafka.topic_id)
    bench.unkeyed.source[0] = []
    chunk = bench.unkeyed.feed([call("new", T0)])
    await bench.hand(chunk)
    assert bench.intakes.live[0].sequencer.next == 5, "by its offset it was read before"
    await bench.monitor.topics.look({})
    await until(lambda: bench.intakes.ready(0) is not None)
    assert bench.intakes.live[0].sequencer.next == 0
    await bench.hand(chunk)
    await bench.write()
    assert [json.loads(value)["event_id"] for _, value, *_ in bench.source] == ["e0", "e1", "e2", "e3", "e4", "new"]
    assert len({origin.topic for _, origin in bench.origins()}) == 2
    assert "made anew" in bench.losses[0]


async def test_an_intake_log_that_is_cut_while_it_is_read_goes_on_where_it_ends_though_it_has_grown_since() -> None:
    bench = Watched()
    await bench.assign(0, 1)
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call(f"e{number}", T0) for number in range(5)]))
    await bench.write()
    await bench.look()
    del bench.unkeyed.source[0][3:]
    for _ in range(5):
        await bench.look()
        assert bench.intakes.ready(0) is not None, "a new leader may need a moment"
    await bench.look()
    chunk = bench.unkeyed.feed([call(f"f{number}", T0) for number in range(4)])
    await until(lambda: bench.intakes.ready(0) is not None)
    assert bench.intakes.live[0].sequencer.next == 3
    await bench.hand(chunk)
    await bench.write()
    written = [json.loads(value)["event_id"] for _, value, *_ in bench.source]
    assert written == [*(f"e{number}" for number in range(5)), *(f"f{number}" for number in range(4))]
    assert len({origin.topic for _, origin in bench.origins()}) == 2
    assert "lost its end" in bench.losses[0]
    for _ in range(10):
        await bench.look()
    assert bench.observer.counts["dropped"] == 1


# -- together with the shards


async def test_lost_offsets_make_replays_that_the_shards_know() -> None:
    bench = IntakeBench(partitions=1)
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call(f"e{i}", T0 + i, tokens=7) for i in range(30)]))
    await bench.write()
    bench.kafka.offsets.clear()
    again = IntakeBench(bench.kafka, bench.unkeyed, partitions=1)
    await again.go(0)
    assert again.intakes.live[0].sequencer.next == 0
    more = bench.unkeyed.feed([call(f"f{i}", T0 + 900 + i, tokens=7) for i in range(5)], timestamp=T0 + 900)
    await again.hand(bench.unkeyed.source[0][:-5] + more)
    await again.write()
    log = [Record(i, value, stamp, 0, key, headers) for i, (key, value, headers, stamp) in enumerate(again.source)]
    assert len(log) == 30 + 35
    shard = Shard(0, again.settings, partition_of=lambda key_id: 0)
    calls, _ = parse([(record.offset, record.value, T0 + 9000) for record in log])
    step = shard.observe(calls, log[-1].offset, origins_of(log))
    assert (step.accepted, step.duplicates, step.late) == (35, 30, 0)


async def test_a_live_shard_drops_replays_and_counts_them_as_duplicates() -> None:
    bench = IntakeBench(partitions=1)
    await bench.go(0)
    await bench.hand(bench.unkeyed.feed([call("a", T0), call("b", T0 + 3600)], timestamp=T0 + 3600))
    await bench.write()
    rows = bench.source + bench.source[:1]
    bench.kafka.source[0] = [
        Record(i, value, stamp, 0, key, headers) for i, (key, value, headers, stamp) in enumerate(rows)
    ]
    await bench.assign(0)
    assert await bench.flush(), "else the first records are written at once"
    await bench.take(bench.kafka.source[0])
    assert bench.calls() == 2, "the bucket of the first one has closed, so its id alone would not have told"
    shard = bench.shards.live[0]
    assert (shard._pending.step.duplicates, shard._pending.step.late) == (1, 0)
    await bench.flush()
    heir = IntakeBench(bench.kafka, bench.unkeyed, partitions=1)
    await heir.assign(0)
    await heir.take(bench.kafka.source[0] + [bench.kafka.source[0][1]._replace(offset=3)])
    assert heir.calls() == 2, "the origins are part of the state"
