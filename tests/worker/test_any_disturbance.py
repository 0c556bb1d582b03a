"""Whatever happens between the log and the state, in any order: sums and alerts are those of one undisturbed pass."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from functools import cache
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stream.core.shard import Shard
from stream.gateways.overdraw import parse
from stream.lab.chaos.traffic import Traffic
from stream.lab.chaos.verdict import said_of
from stream.worker.keying import FUTURE_SECONDS
from tests.worker.fakes import Bench, FakeKafka, Record, until

NOW = 2_000_000_000.0
HOURS = 150
CHANGES = {
    "bucket_seconds": 3600,
    "allowed_lateness_seconds": 600.0,
    "min_excess_tokens": 2000.0,
    "false_alerts_per_1000_key_days": 1000.0,
}
ACTIONS = st.sampled_from(
    ["deliver", "deliver", "deliver", "lose", "hold", "release", "flush", "flush", "fail", "revoke", "crash", "usurp"]
)


@cache
def log() -> tuple[Record, ...]:
    """Some days of three keys with attacks and repetitions; every ninth offset is a marker, which is no record."""
    traffic = Traffic(keys=3, per_hour=15, seed=11, faults=True, clock=lambda: NOW)
    values = [value for _ in range(HOURS) for _, _, value in traffic.hour()]
    offsets = (offset for offset in range(2 * len(values)) if offset % 9 != 4)
    return tuple(Record(offset, value, int(NOW * 1000)) for offset, value in zip(offsets, values, strict=False))


@cache
def undisturbed() -> tuple[list[tuple[Any, ...]], int, Counter[str]]:
    """Alerts, accepted calls and refusals of one pass through the pure core."""
    bench = Bench(**CHANGES)
    shard = Shard(0, bench.settings, partition_of=lambda key_id: 0)
    calls, rejects = parse([(record.offset, record.value, NOW + FUTURE_SECONDS) for record in log()])
    step = shard.observe(calls, log()[-1].offset)
    reasons = Counter(reject.reason for reject in (*rejects, *step.rejects))
    return [said_of(alert.model_dump(mode="json")) for alert in step.alerts], step.accepted, reasons


class Disturbed:
    """A worker on a log in memory, to which everything happens that the network, the group and kill -9 can do."""

    def __init__(self) -> None:
        self.kafka = FakeKafka()
        self.kafka.source[0] = list(log())
        self.held: list[tuple[int, list[Record]]] = []

    async def start(self) -> None:
        """A new process, such as after a kill: it knows nothing but what the log says."""
        self.bench = Bench(self.kafka, **CHANGES)
        self.held.clear()
        await self.bench.assign(0)

    def fetch(self, count: int) -> tuple[int, list[Record]] | None:
        begin = self.bench.group.position[0]
        chunk = [record for record in log() if record.offset >= begin][:count]
        if not chunk:
            return None
        self.bench.group.position[0] = chunk[-1].offset + 1
        return begin, chunk

    async def take(self, begin: int, chunk: list[Record]) -> None:
        await self.bench.take(chunk, begin)
        await asyncio.sleep(0.001)  # a seek back has its turn

    async def do(self, action: str, count: int) -> None:
        shard = self.bench.shards.ready(0)
        if action in ("deliver", "lose", "hold"):
            fetched = self.fetch(count)
            if fetched is not None and action == "deliver":
                await self.take(*fetched)
            elif fetched is not None and action == "hold":
                self.held.append(fetched)
        elif action == "release" and self.held:
            await self.take(*self.held.pop(0))
        elif action == "flush" and shard is not None:
            await self.bench.shards.flush(shard)
        elif action == "fail" and shard is not None:
            self.kafka.fail_next.append(KafkaTimeoutError())
            await self.bench.shards.flush(shard)
            self.kafka.fail_next.clear()  # there was perhaps nothing to write
            await until(lambda: self.bench.shards.ready(0) is not None)
        elif action == "revoke":
            await self.bench.shards.on_revoked()
            await self.bench.assign(0)
        elif action == "crash":
            await self.start()
        elif action == "usurp":
            ghost = self.bench
            await self.start()
            ghost.group.mine, ghost.group.member = set(), False
            for old in list(ghost.shards.live.values()):
                assert not await ghost.shards.flush(old) or not old.unflushed, "a ghost has written"

    async def finish(self) -> None:
        """Undisturbed to the end of the log."""
        self.bench.group.position[0] = self.bench.shards.live[0].sequencer.next
        while (fetched := self.fetch(400)) is not None:
            await self.take(*fetched)
        assert await self.bench.flush()


@pytest.mark.slow
# not shrunk: one example takes a second, and what it logs tells the story
@settings(max_examples=20, phases=[Phase.generate])
@given(actions=st.lists(st.tuples(ACTIONS, st.integers(1, 300)), min_size=25, max_size=50))
def test_sums_alerts_and_dead_letters_are_those_of_one_undisturbed_pass(actions: list[tuple[str, int]]) -> None:
    async def run() -> None:
        world = Disturbed()
        await world.start()
        for action, count in actions:
            await world.do(action, count)
        await world.finish()
        alerts, accepted, refused = undisturbed()
        assert len(alerts) > 2
        topics, names = world.kafka.topics, world.bench.settings
        said = [said_of(json.loads(value)) for _, value, _ in topics[names.alert_topic]]
        assert [one for one in said if one[3] != "feed"] == alerts
        assert sum(world.bench.calls(f"key-{key}") for key in range(3)) == accepted
        letters = Counter(json.loads(value)["reason"] for _, value, _ in topics[names.dead_letter_topic])
        assert letters == refused

    asyncio.run(run())
