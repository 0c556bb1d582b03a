"""A small Kafka in memory: a source log, a state log with transactions and fencing, and a consumer group."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka.errors import ProducerFenced

from stream.core.shard import Shard
from stream.settings import Settings, load_settings
from stream.worker.agents import Intake
from stream.worker.ending import Exit
from stream.worker.monitor import Monitor
from stream.worker.places import Place, Topic
from stream.worker.rebuild import Said
from stream.worker.recovery import StateLog
from stream.worker.shards import Shards
from stream.worker.source import TopicState
from stream.worker.tools import Tools
from stream.worker.transport import Chunk

T0 = 1_772_323_200.0
"""2026-03-01T00:00:00Z."""


class Record(NamedTuple):
    """A Kafka record, as far as the worker looks at it."""

    offset: int
    value: bytes | None
    timestamp: int | None
    partition: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def call(event_id: str, time: float, key_id: str = "k", tokens: int = 10, **more: Any) -> bytes:
    return json.dumps(
        {"event_id": event_id, "time": time, "key_id": key_id, "input_tokens": tokens, "output_tokens": 1, **more}
    ).encode()


def records(values: Sequence[bytes | None], start: int = 0, partition: int = 0, timestamp: float = T0) -> list[Record]:
    return [Record(start + i, value, int(timestamp * 1000), partition) for i, value in enumerate(values)]


def make_settings(**changes: Any) -> Settings:
    base = {"partitions": 1, "bucket_seconds": 60, "allowed_lateness_seconds": 10, "flush_seconds": 0.05}
    token = changes.pop("web_token", None)  # no flag is taken for it
    return load_settings({**base, **changes}, environ={} if token is None else {"OVERDRAW_WEB_TOKEN": token})


class Message(NamedTuple):
    partition: int


class Event:
    """A Faust event of one chunk."""

    def __init__(self, partition: int, chunk: list[Any], begin: int | None = None) -> None:
        self.message = Message(partition)
        self.value = Chunk(chunk, chunk[0].offset if begin is None else begin)
        self.acked = False

    def ack(self) -> None:
        self.acked = True


class Kept(Exit):
    """Writes down how the process would have ended."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        super().__init__(clock)
        self.codes: list[int] = []

    def at_once(self, code: int, words: Any = None) -> None:
        if words is not None:
            words()
        self.codes.append(code)


class FakeKafka:
    """The broker's side: what is committed, and who may write."""

    def __init__(self, partitions: int = 1) -> None:
        self.state: dict[int, list[tuple[bytes, bytes | None]]] = defaultdict(list)
        self.topics: dict[str, list[Any]] = defaultdict(list)
        self.epochs: dict[Any, int] = defaultdict(int)
        self.offsets: dict[tuple[str, int], tuple[int, str]] = {}
        self.targets: dict[tuple[str, int], list[Any]] = defaultdict(list)
        self.topic_id = b"\1" * 16
        self.ids: dict[str, str | None] = {}
        """Ids of topics that differ from their names; None: the topic is not there."""
        self.committed: dict[int, int] = {}
        self.said: dict[int, Said] = defaultdict(Said)
        self.source: dict[int, list[Record]] = defaultdict(list)
        self.source_start: dict[int, int] = defaultdict(int)
        self.evidence: list[Record] = []
        self.evidence_start = 0
        self.group_state: list[tuple[bytes, bytes | None]] = []
        self.partitions = partitions
        self.fail_next: list[Exception] = []
        self.transactions = 0
        self.dies_after: int | None = None
        """So many transactions are still written, then none: their writer has died."""
        self.hang = False
        self.slice_records = 3
        """The state log is read so many records at a time."""

    def feed(self, values: Sequence[bytes | None], partition: int = 0, timestamp: float = T0) -> list[Record]:
        log = self.source[partition]
        start = log[-1].offset + 1 if log else 0
        new = records(values, start, partition, timestamp)
        log += new
        return new

    def tell(self, values: Sequence[bytes | None]) -> list[Record]:
        """Append to the evidence topic; every third offset is a marker, which is no record."""
        new = []
        for value in values:
            last = self.evidence[-1].offset if self.evidence else self.evidence_start - 1
            new.append(Record(last + (2 if last % 3 == 1 else 1), value, int(T0 * 1000)))
            self.evidence.append(new[-1])
        return new

    def end(self, partition: int) -> int:
        log = self.source[partition]
        return log[-1].offset + 1 if log else self.source_start[partition]

    def topic(self, name: str) -> TopicState:
        topic_id = self.ids.get(name, f"id of {name}")
        return TopicState(topic_id is not None, topic_id)

    async def read_said(self, settings: Settings, partition: int) -> Said:
        return self.said[partition]

    async def read(
        self, settings: Settings, partition: int, log: StateLog | None = None, *, stable: bool = False
    ) -> StateLog:
        log = StateLog() if log is None else log
        log.source_id = self.topic(settings.source_topic).id
        records = self.state[partition]
        log.source_start, log.source_end = self.source_start[partition], self.end(partition)
        if settings.source_topic == settings.group_evidence_topic:
            records = self.group_state
            log.source_start = self.evidence_start
            log.source_end = self.evidence[-1].offset + 1 if self.evidence else self.evidence_start
        log.end = len(records)
        while log.reached < log.end:
            log.take(records[log.reached : log.reached + self.slice_records])
            log.reached = min(log.end, log.reached + self.slice_records)
            await asyncio.sleep(0)
        return log


class FakeJournal:
    """One producer; `kafka.fail_next` holds what its next writes raise."""

    def __init__(self, kafka: FakeKafka, settings: Settings, partition: int, role: str = "") -> None:
        self.kafka, self.settings, self.partition = kafka, settings, partition
        self.name: Any = (role, partition) if role else partition
        self.epoch = -1
        self.closed = False

    async def open(self) -> None:
        self.kafka.epochs[self.name] += 1
        self.epoch = self.kafka.epochs[self.name]
        await asyncio.sleep(0)

    async def write(self, batches: Any, offsets: Any = None) -> None:
        await asyncio.sleep(0)
        while self.kafka.hang:  # noqa: ASYNC110 - the test ends it
            await asyncio.sleep(0.01)
        if self.kafka.dies_after is not None:
            self.kafka.dies_after -= 1
            if self.kafka.dies_after < 0:
                raise OSError("dead")
        if self.kafka.fail_next:
            raise self.kafka.fail_next.pop(0)
        if self.epoch != self.kafka.epochs[self.name]:
            raise ProducerFenced
        self.kafka.transactions += 1
        self.kafka.offsets.update(offsets or {})
        for target, batch in batches.items():
            assert batch, "an empty batch hangs"
            topic, partition = (target, self.partition) if isinstance(target, str) else target
            self.kafka.topics[topic] += batch
            self.kafka.targets[topic, partition] += batch
            if topic == self.settings.state_topic:
                log = self.kafka.group_state if self.name == ("groups", 0) else self.kafka.state[self.partition]
                log += [(key, value) for key, value, *_ in batch]
            if topic == self.settings.group_evidence_topic:
                self.kafka.tell([value for _, value, *_ in batch])
            if topic == self.settings.alert_topic:
                for _, value, *_ in batch:
                    self.kafka.said[self.partition].take(value)

    async def close(self, *, fast: bool = False) -> None:
        self.closed = True


class FakeGroup:
    """A group with one member; what it was asked is written down."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka
        self.mine: set[int] = set()
        self.member = True
        self.asked: list[tuple[Any, ...]] = []
        self.position: dict[int, int] = {}
        self.paused: set[int] = set()
        self.behind: dict[int, int] = {}
        self.concealed: dict[int, int] = {}
        self.held: set[int] = set()
        self.left = False
        self.silent = False

    def assignment(self) -> set[int]:
        return set(self.mine)

    def pause(self, partition: int) -> None:
        self.paused.add(partition)

    def resume(self, partition: int) -> None:
        self.paused.discard(partition)
        self.asked.append(("resume", partition))

    async def seek(self, partition: int, offset: int) -> None:
        await asyncio.sleep(0)
        self.asked.append(("seek", partition, offset))
        self.position[partition] = offset

    async def is_member(self, partition: int) -> bool:
        await asyncio.sleep(0)
        self.asked.append(("is_member", partition))
        return self.member

    async def leave(self) -> None:
        self.left = True

    async def ends(self) -> dict[int, int]:
        if self.silent:
            raise TimeoutError
        return {p: self.kafka.end(p) for p in range(self.kafka.partitions)}

    async def start(self, partition: int) -> int:
        return self.kafka.source_start[partition]

    async def committed(self, partition: int) -> int | None:
        return self.kafka.committed.get(partition)

    async def topics(self, names: Sequence[str]) -> dict[str, TopicState]:
        return {name: self.kafka.topic(name) for name in names}

    async def refresh(self) -> None:
        self.asked.append(("refresh",))

    def position_behind(self, partition: int, offset: int) -> int:
        return self.behind.get(partition, offset)

    def hidden(self, partition: int) -> int:
        return self.concealed.get(partition, 0)

    def hold(self, partition: int) -> None:
        self.held.add(partition)

    def release(self, partition: int) -> None:
        self.held.discard(partition)


class FakePlaces:
    """The group's offsets of the intake topic."""

    def __init__(self, kafka: FakeKafka, name: str) -> None:
        self.kafka, self.name = kafka, name
        self.closed = False

    async def topic(self) -> Topic:
        await asyncio.sleep(0)
        return Topic(self.name, self.kafka.topic_id)

    async def read(self, partitions: Sequence[int]) -> dict[int, Place]:
        await asyncio.sleep(0)
        found = {p: self.kafka.offsets.get((self.name, p)) for p in partitions}
        return {p: Place.of(self.name, *said) for p, said in found.items() if said is not None}

    async def close(self) -> None:
        self.closed = True


class FakeObserver:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = defaultdict(float)

    def flushed(self, shard: Any, flush: Any, seconds: float) -> None:
        self.counts["flushed"] += 1
        self.counts["accepted"] += flush.step.accepted
        self.counts["dead"] += len(flush.reasons)

    def recovered(self, shard: Any, state: Any, seconds: float) -> None:
        self.counts["recovered"] += 1

    def dropped(self) -> None:
        self.counts["dropped"] += 1

    def holed(self, offsets: int) -> None:
        self.counts["holed"] += offsets

    def gap(self, offsets: int) -> None:
        self.counts["gap"] += offsets

    def passed_on(self, done: Any) -> None:
        self.counts["passed_on"] += done.passed

    def kept(self, keeper: Any, flush: Any) -> None:
        self.counts["kept"] += 1
        self.counts["hours"] += flush.step.hours
        self.counts["incomplete"] += flush.step.incomplete
        self.counts["dead"] += len(flush.reasons)

    def rebalanced(self) -> None:
        self.counts["rebalanced"] += 1

    def aged(self, times: Any, now: float) -> None:
        self.counts["aged"] += len(times)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = T0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Bench:
    """A worker without Faust and Kafka."""

    def __init__(
        self, kafka: FakeKafka | None = None, partitions: int = 1, *, rebuild: bool = False, **changes: Any
    ) -> None:
        self.settings = make_settings(partitions=partitions, **changes)
        self.kafka = kafka or FakeKafka(partitions)
        self.group = FakeGroup(self.kafka)
        self.observer = FakeObserver()
        self.clock = Clock()
        self.deaths: list[tuple[int, str]] = []
        self.losses: list[str] = []
        self.tools = Tools(
            self.settings,
            self.group,
            self.observer,
            core=lambda p: Shard(p, self.settings, partition_of=lambda key_id: p),
            die=lambda code, text: self.deaths.append((code, text)),
            lose=lambda text: self.losses.append(text),
            heartbeat_seconds=0.001,
            journal=lambda settings, p, role="": FakeJournal(self.kafka, settings, p, role),  # type: ignore[arg-type,return-value]
            read=self.kafka.read,
            said=self.kafka.read_said,
            rebuild=rebuild,
            clock=self.clock,
        )
        self.shards = Shards(self.tools)
        self.intake = Intake(self.shards, self.clock)

    async def assign(self, *partitions: int) -> None:
        """Assign and wait until all is live."""
        self.group.mine = set(partitions)
        self.shards.on_assigned(partitions)
        await until(lambda: all(self.shards.ready(p) for p in partitions))

    async def take(self, chunk: list[Any], begin: int | None = None) -> Event:
        event = Event(chunk[0].partition, chunk, begin)
        await self.intake.take(event)
        return event

    async def flush(self, partition: int = 0) -> bool:
        return await self.shards.flush(self.shards.live[partition])

    def calls(self, key_id: str = "k", partition: int = 0) -> int:
        view = self.shards.live[partition].core.key(key_id)
        return view.calls if view is not None else 0


class Watched(Bench):
    """A bench with a monitor, whose clock is moved by hand."""

    def __init__(self, *args: Any, **changes: Any) -> None:
        super().__init__(*args, **changes)
        self.ticks = Clock(1000.0)
        self.others_ends: dict[int, int] | None = None
        """What a fresh connection to the broker would be told; None: nothing."""
        self.refused: str | None = None
        """Why a broker that answers would not take it."""
        object.__setattr__(self.tools, "ends", self._ask)
        object.__setattr__(self.tools, "refusal", self._why)
        self.monitor = Monitor(self.tools, self.shards, self.ticks)

    async def _ask(self, settings: Settings) -> dict[int, int]:
        if self.others_ends is None:
            raise ConnectionError("refused")
        return self.others_ends

    async def _why(self, settings: Settings) -> str | None:
        return self.refused

    def pass_time(self, seconds: float) -> None:
        self.ticks.now += seconds
        self.clock.now += seconds

    async def look(self, seconds: float = 1.0) -> None:
        """One look after a second each, as the monitor does it by itself."""
        while seconds > 0:
            self.pass_time(min(seconds, 1.0))
            seconds -= 1.0
            await self.monitor.look_once()

    def alerts(self) -> list[Any]:
        return [json.loads(value) for _, value, _ in self.kafka.topics[self.settings.alert_topic]]


async def until(condition: Any, seconds: float = 5.0) -> None:
    """Wait until a condition holds; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.002)
