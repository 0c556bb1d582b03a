"""The keeper of the groups lives as a shard does: fenced, flushed whole, dropped and recovered; and it is patient."""

from __future__ import annotations

import asyncio
import json
import logging
from functools import cache
from typing import Any

import pytest
from aiohttp import ClientSession
from aiokafka.errors import KafkaTimeoutError
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from stream.core.evidence import NEVER, Cell, Evidence
from stream.core.evidencerecord import pack_evidence, unpack_evidence
from stream.core.grouprecord import HEAD_KEY, unpack_head
from stream.worker.keeper_watch import KeeperWatch
from stream.worker.keepers import Keepers
from stream.worker.live_metrics import LiveCollector
from stream.worker.monitor import Monitor
from stream.worker.web import Web
from tests.core.group_evidence import FIRST_HOUR, PER_HOUR, SETTINGS, kept, mixed, told
from tests.worker.fakes import T0, Bench, Clock, Event, FakeGroup, FakeKafka, Record, call, until

PARTITIONS = SETTINGS.partitions
CHANGES: dict[str, Any] = {
    "partitions": PARTITIONS,
    "bucket_seconds": SETTINGS.bucket_seconds,
    "false_alerts_per_1000_group_days": SETTINGS.false_alerts_per_1000_group_days,
    "allowed_lateness_seconds": SETTINGS.allowed_lateness_seconds,
    "group_patience_seconds": 600.0,
}


class EvidenceGroup(FakeGroup):
    """The consumer group as far as it is about the evidence topic."""

    async def ends(self) -> dict[int, int]:
        log = self.kafka.evidence
        return {0: log[-1].offset + 1 if log else self.kafka.evidence_start}

    async def start(self, partition: int) -> int:
        return self.kafka.evidence_start


class Kept:
    """A worker that keeps the groups, without Faust and Kafka."""

    def __init__(self, kafka: FakeKafka | None = None, *, rebuild: bool = False, **changes: Any) -> None:
        self.bench = Bench(kafka or FakeKafka(PARTITIONS), rebuild=rebuild, **{**CHANGES, **changes})
        self.kafka = self.bench.kafka
        self.group = EvidenceGroup(self.kafka)
        self.ticks = Clock(1000.0)
        self.keepers = Keepers(self.bench.tools, self.group, self.ticks)
        self.watch = KeeperWatch(self.bench.tools, self.keepers, self.ticks)

    async def assign(self) -> None:
        self.group.mine = {0}
        self.keepers.on_assigned({0})
        await until(lambda: self.keepers.keeper is not None)

    def fetch(self, count: int) -> tuple[int, list[Record]] | None:
        begin = self.group.position[0]
        chunk = [record for record in self.kafka.evidence if record.offset >= begin][:count]
        if not chunk:
            return None
        self.group.position[0] = chunk[-1].offset + 1
        return begin, chunk

    async def take(self, count: int) -> bool:
        fetched = self.fetch(count)
        if fetched is not None:
            await self.keepers.take(Event(0, fetched[1], fetched[0]))
            await asyncio.sleep(0.001)  # a seek back has its turn
        return fetched is not None

    async def flush(self) -> bool:
        return await self.keepers.flush(self.keepers.live[0])

    async def finish(self) -> None:
        """Undisturbed to the end of the log."""
        self.group.position[0] = self.keepers.live[0].sequencer.next
        while await self.take(400):
            pass
        assert await self.flush()

    async def look(self, seconds: float) -> None:
        """Looks once a second."""
        for _ in range(int(seconds)):
            self.ticks.now += 1.0
            await self.watch.look()
            await asyncio.sleep(0)

    def said(self) -> list[tuple[Any, ...]]:
        topic = self.bench.settings.alert_topic
        return [key_of(json.loads(value)) for _, value, *_ in self.kafka.topics[topic]]


def key_of(alert: dict[str, Any]) -> tuple[Any, ...]:
    names = ("alert_id", "sequence", "status", "kind", "started_at", "updated_at", "observed", "excess_tokens", "score")
    return (*(alert[name] for name in names), json.dumps(alert["members"]), alert["summary"])


@cache
def topic() -> tuple[Evidence, ...]:
    return tuple(mixed(told(1), 9))


@cache
def undisturbed() -> list[tuple[Any, ...]]:
    run = kept(list(topic()), SETTINGS)
    return [key_of(alert.model_dump(mode="json")) for alert in run.alerts]


def with_evidence(kafka: FakeKafka | None = None) -> FakeKafka:
    kafka = kafka or FakeKafka(PARTITIONS)
    kafka.tell([pack_evidence(part) for part in topic()])
    return kafka


async def test_what_is_told_of_keys_becomes_alerts_on_the_alert_topic() -> None:
    one = Kept(with_evidence())
    await one.assign()
    await one.finish()
    assert one.said() == undisturbed()
    names = one.bench.settings
    assert {place for place in one.kafka.targets if one.kafka.targets[place]} == {
        (names.alert_topic, 0),
        (names.group_state_topic, 0),
    }
    headers = dict(one.kafka.topics[names.alert_topic][0][2])
    assert headers["ce_source"].endswith(b"/groups")
    assert one.bench.observer.counts["hours"] > 200
    (still,) = one.keepers.open_alerts()
    assert still.alert_id == one.said()[0][0]


ACTIONS = st.sampled_from(["take", "take", "take", "lose", "flush", "flush", "fail", "revoke", "crash", "usurp"])


@pytest.mark.slow
@settings(max_examples=8, phases=[Phase.generate])
@given(actions=st.lists(st.tuples(ACTIONS, st.integers(1, 300)), min_size=15, max_size=30))
def test_alerts_are_those_of_one_undisturbed_pass_whatever_happens(actions: list[tuple[str, int]]) -> None:
    async def run() -> None:
        one = Kept(with_evidence())
        await one.assign()
        for action, count in actions:
            if action == "take":
                await one.take(count)
            elif action == "lose":
                one.fetch(count)
            elif action == "flush" and one.keepers.keeper is not None:
                await one.flush()
            elif action == "fail" and one.keepers.keeper is not None:
                one.kafka.fail_next.append(KafkaTimeoutError())
                await one.flush()
                one.kafka.fail_next.clear()
                await until(lambda one=one: one.keepers.keeper is not None)
            elif action == "revoke":
                await one.keepers.on_revoked()
                await one.assign()
            elif action in ("crash", "usurp"):
                ghost, one = one, Kept(one.kafka)
                await one.assign()
                ghost.group.mine, ghost.group.member = set(), False
                if action == "usurp":
                    for old in list(ghost.keepers.live.values()):
                        assert not await ghost.keepers.flush(old) or not old.unflushed, "a ghost has written"
        await one.finish()
        assert one.said() == undisturbed()

    asyncio.run(run())


async def test_evidence_that_cannot_be_used_is_a_dead_letter_and_nothing_more() -> None:
    kafka = FakeKafka(PARTITIONS)
    kafka.tell([b"\x01garbage", None, pack_evidence(Evidence(77, 5, []))])
    one = Kept(with_evidence(kafka))
    await one.assign()
    await one.finish()
    assert one.said() == undisturbed()
    letters = [json.loads(value) for _, value, *_ in kafka.topics[one.bench.settings.dead_letter_topic]]
    assert [letter["reason"] for letter in letters] == ["bad_evidence"] * 3
    assert letters[0]["topic"] == one.bench.settings.group_evidence_topic
    assert "there is no shard 77" in letters[2]["message"]
    again = Kept(kafka)
    await again.assign()
    await again.finish()
    assert len(kafka.topics[one.bench.settings.dead_letter_topic]) == 3


async def test_a_shard_that_tells_nothing_is_given_up_after_the_patience_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kafka = FakeKafka(PARTITIONS)
    kafka.tell([pack_evidence(part) for part in topic() if part.shard != 2])
    one = Kept(kafka)
    await one.assign()
    await one.finish()
    assert one.said() == []
    await one.look(595)
    assert one.bench.observer.counts["hours"] == 0
    with caplog.at_level(logging.ERROR):
        await one.look(20)
        keeper = one.keepers.live[0]
        await until(lambda: not keeper.turn.locked() and keeper.core.behind() == {})
    assert await one.flush()
    assert "judged without partition 2" in caplog.text
    counts = one.bench.observer.counts
    assert counts["incomplete"] == counts["hours"] > 200
    reasons = [json.loads(value)["severity_reason"] for _, value, *_ in kafka.topics[one.bench.settings.alert_topic]]
    assert reasons
    assert all("a shard has been missing" in reason for reason in reasons)


async def test_nobody_is_given_up_while_the_keeper_itself_is_behind() -> None:
    one = Kept(with_evidence())
    await one.assign()
    await one.take(600)
    assert one.keepers.keeper is not None
    assert one.keepers.keeper.core.behind()
    await one.look(2000)
    assert await one.flush()
    assert one.bench.observer.counts["incomplete"] == 0


async def test_an_owner_that_dies_between_the_plan_and_the_deed_has_given_up_all_the_same() -> None:
    kafka = FakeKafka(PARTITIONS)
    kafka.tell([pack_evidence(part) for part in topic() if part.shard != 2])
    calm, dying = Kept(kafka), Kept(kafka)
    await dying.assign()
    await dying.finish()
    keeper = dying.keepers.keeper
    assert keeper is not None
    keeper.core.announce(keeper.core.done_without({2}))
    assert await dying.flush()
    assert unpack_head(dict(kafka.group_state)[HEAD_KEY] or b"", keeper.core.priors.laws).ahead is not None
    await calm.assign()
    await calm.finish()
    assert calm.bench.observer.counts["incomplete"] > 200
    assert calm.said()


async def test_deleted_evidence_is_said_and_makes_hours_incomplete(caplog: pytest.LogCaptureFixture) -> None:
    kafka = with_evidence()
    one = Kept(kafka)
    await one.assign()
    await one.take(1200)
    assert await one.flush()
    kafka.evidence_start = one.keepers.live[0].sequencer.next + 100
    kafka.evidence = [record for record in kafka.evidence if record.offset >= kafka.evidence_start]
    other = Kept(kafka)
    await other.assign()
    await other.finish()
    assert "were deleted from overdraw-group-evidence before they were read" in caplog.text
    assert other.bench.losses
    assert 0 < other.bench.observer.counts["incomplete"] < other.bench.observer.counts["hours"]


async def test_an_evidence_topic_that_was_made_anew_is_read_from_its_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kafka = with_evidence()
    one = Kept(kafka)
    await one.assign()
    await one.take(1200)
    assert await one.flush()
    kafka.ids["overdraw-group-evidence"] = "another"
    kafka.evidence = []
    last = (FIRST_HOUR + 225) * PER_HOUR - 1
    kafka.tell([pack_evidence(Evidence(shard, last, [], complete=True)) for shard in range(PARTITIONS)])
    other = Kept(kafka)
    await other.assign()
    await other.finish()
    keeper = other.keepers.keeper
    assert keeper is not None
    assert "was made anew" in caplog.text
    assert keeper.core.next_hour == FIRST_HOUR + 225
    assert keeper.committed == kafka.evidence[-1].offset


async def test_a_state_that_cannot_be_used_ends_the_worker_unless_it_is_to_be_rebuilt() -> None:
    kafka = with_evidence()
    first = Kept(kafka)
    await first.assign()
    await first.finish()
    said = first.said()
    other = Kept(kafka, bucket_seconds=300)
    other.group.mine = {0}
    other.keepers.on_assigned({0})
    await until(lambda: other.bench.deaths)
    assert other.bench.deaths[0][0] == 2
    assert "overdraw-group-state" in other.bench.deaths[0][1]
    anew = Kept(kafka, bucket_seconds=300, rebuild=True)
    await anew.assign()
    after_a_crash = Kept(kafka, bucket_seconds=300)
    await after_a_crash.assign()
    await after_a_crash.finish()
    assert after_a_crash.said() == said, "what was told before is not judged again"
    names = {name for name, value in dict(kafka.group_state).items() if value is not None}
    assert not any(name[:1] == b"g" for name in names)


# ------------------------------------------------------------------ what is shown


async def test_the_page_the_api_and_the_metrics_show_groups_and_campaigns_escaped() -> None:
    evil = 'x"><script>\x1b[31m'
    kafka = FakeKafka(PARTITIONS)
    for part in topic():
        if part.bucket // PER_HOUR >= FIRST_HOUR + 180:
            continue
        cells = [
            Cell(
                one.number, [t._replace(client=evil) for t in one.traits], one.sums, one.models, one.leaves, one.members
            )
            for one in part.cells
        ]
        kafka.tell([pack_evidence(Evidence(part.shard, part.bucket, cells, part.complete))])
    one = Kept(kafka, web_port=0)
    registry = CollectorRegistry()
    monitor = Monitor(one.bench.tools, one.bench.shards, keepers=one.keepers)
    registry.register(LiveCollector(one.bench.shards, monitor, one.bench.settings))
    web = Web(one.bench.settings, one.bench.shards, monitor, registry, die=one.bench.tools.die)
    await web.start()
    try:
        async with ClientSession(f"http://127.0.0.1:{web.port}") as session:

            async def get(path: str) -> tuple[int, str]:
                async with session.get(path) as answer:
                    return answer.status, await answer.text()

            status, text = await get("/api/groups")
            assert (status, "ask the one that does" in text) == (404, True)
            await one.assign()
            await one.finish()
            await monitor.keeping.look()  # type: ignore[union-attr]
            status, text = await get("/api/groups?top=3")
            answer = json.loads(text)
            assert status == 200
            assert [campaign["status"] for campaign in answer["campaigns"]]
            assert answer["groups"][0]["campaign"] == "campaign"
            assert answer["groups"][0]["members"] >= 8
            assert answer["groups"][0]["tokens_per_second"] > answer["groups"][0]["expected_tokens_per_second"]
            assert (await get("/api/groups?top=0"))[0] == 400
            _, text = await get("/")
            assert "Open campaigns" in text
            assert "<script>" not in text
            assert "\x1b" not in text
            _, text = await get("/api/status")
            groups = json.loads(text)["groups"]
            assert (groups["live"], groups["lag"], groups["waits_for"]) == (True, 0, [])
            _, text = await get("/metrics")
            assert 'overdraw_campaigns_open{kind="campaign"} 1.0' in text
            assert "overdraw_group_lag_events 0.0" in text
            assert 'overdraw_alerts_open{kind="campaign"' in text
    finally:
        await web.stop()


# ------------------------------------------------------------------ the shards' side


async def test_a_shard_tells_of_its_keys_in_the_transaction_that_writes_its_state() -> None:
    bench = Bench(bucket_seconds=900)
    await bench.assign(0)
    values = [call(f"{i}", T0 + i * 300.0, client_ip="192.0.2.1", org_id="o") for i in range(20)]
    await bench.take(bench.kafka.feed(values, timestamp=T0 + 1e5))
    before = bench.kafka.transactions
    assert await bench.flush()
    assert bench.kafka.transactions == before + 1
    parts = [unpack_evidence(record.value, 1) for record in bench.kafka.evidence]
    assert parts[0].complete
    assert any(part.cells for part in parts)
    told = len(bench.kafka.evidence)
    again = Bench(bench.kafka, bucket_seconds=900)
    await again.assign(0)
    assert await again.flush()
    assert len(bench.kafka.evidence) == told, "nothing is told twice"


async def test_what_was_not_committed_is_told_by_the_next_owner() -> None:
    bench = Bench(bucket_seconds=900)
    await bench.assign(0)
    chunk = bench.kafka.feed([call(f"{i}", T0 + i * 300.0) for i in range(20)], timestamp=T0 + 1e5)
    await bench.take(chunk)
    bench.kafka.fail_next.append(OSError("gone"))
    assert not await bench.flush()
    await bench.shards.close()  # else it takes the partition back as soon as it may
    assert bench.kafka.evidence == []
    again = Bench(bench.kafka, bucket_seconds=900)
    await again.assign(0)
    await again.take(chunk)
    assert await again.flush()
    assert len(bench.kafka.evidence) > 3


async def test_a_shard_without_a_record_says_so_once() -> None:
    bench = Bench()
    await bench.assign(0)
    shard = bench.shards.live[0]
    for _ in range(3):
        shard.tell_empty()
        assert await bench.flush()
    (part,) = [unpack_evidence(record.value, 1) for record in bench.kafka.evidence]
    assert (part.bucket, part.complete) == (NEVER, True)
