"""One notifier at work, on a consumer in memory: the place that it keeps, and what a storm and a rebalance come to."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError
from aiokafka.structs import OffsetAndMetadata, OffsetAndTimestamp

sys.path.insert(0, str(Path(__file__).parent.parent / "notify"))

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from services import KEY, alone, config_of, made, made_alert

from stream.alerts import Alert
from stream.notify.client import Answer
from stream.notify.config import NotifyConfig
from stream.notify.delivery import OUTCOMES, Deliverer
from stream.notify.hold import MOST_HELD
from stream.notify.service import Request
from stream.worker.ending import Exit
from stream.worker.notifier.consumer import group_of
from stream.worker.notifier.line import MAX_QUEUE, Line
from stream.worker.notifier.progress import MAX_METADATA, Place, Progress, metadata_of, read_place
from stream.worker.notifier.service import NotifierMetrics, NotifierServer, Pagers
from stream.worker.table import NOTIFIER_TABLE
from tests.worker.fakes import make_settings

TOPIC = "overdraw-alerts"
URL = "http://127.0.0.1:1"


class Record(NamedTuple):
    partition: int
    offset: int
    value: bytes | None
    timestamp: int


class Consumer:
    """As much of aiokafka's consumer as a line uses, over one partition in memory."""

    def __init__(self, log: list[Record], committed: dict[TopicPartition, OffsetAndMetadata]) -> None:
        self.log, self.committed = log, committed
        self.position = 0
        self.refuse: list[Exception] = []
        self._coordinator = self
        self._given = False
        self.listener: Any = None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def subscribe(self, topics: list[str], listener: Any) -> None:
        assert topics == [TOPIC]
        self.listener = listener

    async def fetch_committed_offsets(self, _: list[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        return dict(self.committed)

    async def offsets_for_times(self, wanted: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        found = {}
        for one, stamp in wanted.items():
            later = [record for record in self.log if record.timestamp >= stamp]
            found[one] = OffsetAndTimestamp(later[0].offset, later[0].timestamp) if later else None
        return found

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.log[-1].offset + 1 if self.log else 0)

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.position = offset

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        if not self._given:
            self._given = True
            await self.call(self.listener.on_partitions_assigned)
        found = [record for record in self.log if record.offset >= self.position][:max_records]
        if not found:
            await asyncio.sleep(0.001)
            return {}
        self.position = found[-1].offset + 1
        return {TopicPartition(TOPIC, 0): found}

    async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        if self.refuse:
            raise self.refuse.pop(0)
        self.committed.update(offsets)

    async def call(self, listen: Callable[[list[TopicPartition]], Awaitable[None]]) -> None:
        with suppress(Exception):  # as aiokafka does
            await listen([TopicPartition(TOPIC, 0)])

    async def rebalance(self) -> None:
        await self.call(self.listener.on_partitions_revoked)
        await self.call(self.listener.on_partitions_assigned)


class Bench:
    """A log, a service that takes everything or as told, and one line at a time."""

    def __init__(self) -> None:
        self.log: list[Record] = []
        self.committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self.sent: list[Request] = []
        self.answer: Callable[[], Answer] = lambda: Answer("delivered", "ok")
        self.fails_at = b""
        """What a message holds that the server fails at, whatever the answer is to others."""
        self.told: Counter[str] = Counter()
        self.pages = False
        """Whether a pager that works is told of the alert as well."""
        self.now = time.time()
        self.paused = 0.0
        self.holding: asyncio.Event | None = None
        self.task: asyncio.Task[None] | None = None
        self.consumers: list[Consumer] = []

    def write(self, *alerts: Alert | bytes, age: float = 0.0) -> None:
        for alert in alerts:
            value = alert if isinstance(alert, bytes) else alert.model_dump_json().encode()
            offset = self.log[-1].offset + 2 if self.log else 5  # as after transactions: with holes
            self.log.append(Record(0, offset, value, int((self.now - age) * 1000)))

    async def post(self, request: Request) -> Answer:
        if self.holding is not None:
            await self.holding.wait()
        answer = self.answer()
        if self.fails_at and self.fails_at in request.body:
            answer = Answer("retry", "500", failed=True)
        if answer.verdict == "delivered":
            self.sent.append(request)
        return answer

    def begin(self, name: str = "chat", config: NotifyConfig | None = None, **more: Any) -> Line:
        notifier, _ = made(URL, name, **more)
        deliverer = Deliverer(
            self.post, at_once=4, give_up_seconds=86_400, told=self.count, say=lambda _: None,
            clock=lambda: self.paused, sleep=self.pause,
        )  # fmt: skip

        def consumer(*_: Any) -> Consumer:
            self.consumers.append(Consumer(self.log, self.committed))
            return self.consumers[-1]

        self.line = Line(
            name, make_settings(), config or config_of(URL, **more), notifier, deliverer,
            told=self.count, clock=lambda: self.now, consumer=consumer,
            pages=lambda names: self.pages and "pd" in names,
        )  # fmt: skip
        self.task = asyncio.create_task(self.line.run())
        return self.line

    def count(self, outcome: str) -> None:
        self.told[outcome] += 1

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0.002)
        self.paused += seconds

    async def end(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.002)

    @property
    def place(self) -> int:
        return next((said.offset for said in self.committed.values()), -1)

    @property
    def end_of_log(self) -> int:
        return self.log[-1].offset + 1

    async def all_kept(self) -> None:
        await self.until(lambda: self.place == self.end_of_log, f"committed {self.place} of {self.end_of_log}")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made_bench = Bench()
    yield made_bench
    await made_bench.end()


def storm(count: int, status: str = "opened", **changes: Any) -> list[Alert]:
    return [made_alert(key=f"key-{number}", status=status, **changes) for number in range(count)]


async def test_what_is_told_is_committed_and_never_told_again(bench: Bench) -> None:
    bench.begin()
    bench.write(*storm(3))
    await bench.all_kept()
    await bench.end()
    bench.write(*storm(3, "resolved"))
    bench.begin()
    await bench.all_kept()
    assert len(bench.sent) == 6
    assert bench.told == {"delivered": 6}


async def test_what_is_not_told_is_not_committed(bench: Bench) -> None:
    bench.answer = lambda: Answer("retry", "503")
    bench.begin()
    bench.write(*storm(3))
    await bench.until(lambda: bench.told["retried"] > 3)
    assert bench.place in (-1, 5)
    assert bench.line.waiting == 3
    bench.now += 60
    assert bench.line.lag_seconds >= 60
    await bench.end()
    bench.answer = lambda: Answer("delivered", "ok")
    bench.begin()
    await bench.all_kept()
    assert bench.told["delivered"] == 3
    assert bench.line.lag_seconds == 0


async def test_a_service_that_is_down_leaves_the_rest_in_kafka(bench: Bench) -> None:
    bench.answer = lambda: Answer("retry", "503")
    bench.begin("bus")
    bench.write(*storm(3000))
    await bench.until(lambda: bench.line.waiting >= MAX_QUEUE // 2)
    await asyncio.sleep(0.05)
    assert bench.line.waiting <= MAX_QUEUE
    bench.answer = lambda: Answer("delivered", "ok")
    await bench.all_kept()
    assert bench.told["delivered"] == 3000


async def test_the_first_start_tells_the_last_hour_and_remembers_the_day(bench: Bench) -> None:
    bench.write(made_alert(key="old"), age=2 * 3600)
    bench.write(made_alert(key="new"), age=600)
    bench.begin("bus")
    await bench.all_kept()
    assert len(bench.sent) == 1
    assert len(bench.line.desk) == 2
    bench.write(made_alert(key="old", status="resolved"))
    await bench.all_kept()
    assert len(bench.sent) == 2


async def test_a_storm_is_some_messages_and_a_digest_and_so_is_its_end(bench: Bench) -> None:
    bench.begin("chat", burst=20, burst_seconds=600)
    bench.write(*storm(2000))
    await bench.until(lambda: bench.told["digested"] == 1980)
    await bench.until(lambda: len(bench.sent) == 20)
    bench.now += 11
    await bench.until(lambda: len(bench.sent) == 21, "the digest")
    await bench.all_kept()
    assert b"1,980 more incidents" in bench.sent[-1].body
    await bench.end()

    bench.begin("chat", burst=20, burst_seconds=600)
    await bench.until(lambda: len(bench.line.desk) == 2000, "what was told is known again")
    assert bench.line.desk.digested() == 1980
    bench.write(*storm(2000, "resolved"))
    await bench.until(lambda: len(bench.sent) == 41, "the ends of those that were told one by one")
    bench.now += 700
    await bench.until(lambda: len(bench.sent) == 42, "one message for all the others")
    await bench.all_kept()
    assert b"all 1,980 incidents" in bench.sent[-1].body


@pytest.mark.parametrize("pages", [True, False])
async def test_a_channel_hears_that_a_ticket_became_a_page_unless_a_pager_tells_it(bench: Bench, pages: bool) -> None:
    bench.pages = pages
    bench.begin()
    bench.write(made_alert(severity="warning"), made_alert(status="updated", severity="high"))
    bench.write(made_alert(status="updated", severity="critical"), made_alert(status="resolved", severity="critical"))
    await bench.all_kept()
    said = [json.loads(request.body)["text"].split()[0] for request in bench.sent]
    assert said == ["[WARNING]", *([] if pages else ["[HIGH]"]), "[resolved]"]


def words(bench: Bench) -> list[str]:
    """The first word of each message, and whose it is."""
    return [" ".join(json.loads(request.body)["text"].split()[:3]) for request in bench.sent]


def small(key: str, status: str = "opened", **changes: Any) -> Alert:
    return made_alert(key, status, **{"severity": "warning", "excess_tokens": 5e5} | changes)


async def test_a_ticket_of_a_channel_alone_waits_and_a_restart_forgets_none(bench: Bench) -> None:
    bench.begin(config=alone())
    bench.write(small("a"), small("b"), small("c"), small("d"), made_alert("p"))
    bench.write(small("b", "updated", severity="high", excess_tokens=2e6), small("c", "resolved"))
    await bench.until(lambda: len(bench.sent) == 3)
    assert words(bench) == ["[HIGH] key p", "[HIGH] key b", "[resolved] key c"]
    assert len(bench.line.holds) == 2
    assert bench.line.waiting == bench.line.lag_seconds == 0
    await bench.until(lambda: bench.place == 5, "the first that waits is not committed")
    await bench.end()

    bench.write(small("a", "updated", summary="key a is still at it"))
    bench.begin(config=alone())
    await bench.until(lambda: len(bench.line.holds) == 2 and len(bench.line.desk) == 4)
    bench.now += 13 * 3600
    await bench.all_kept()
    assert len(bench.sent) == 5, "what was told is not told again, and what waited is"
    assert b"key a is still at it" in bench.sent[3].body, "as it is now"
    await bench.end()

    bench.begin(config=alone())
    bench.write(small("a", "resolved"), small("d", "resolved"), small("b", "resolved"))
    await bench.all_kept()
    assert words(bench)[5:] == ["[resolved] key a", "[resolved] key d", "[resolved] key b"]


@pytest.mark.parametrize("again", ["restart", "rebalance"])
@pytest.mark.parametrize(
    ("update", "said"),
    [
        (small("a", "updated", excess_tokens=3e6), "[WARNING] key a"),
        (small("a", "updated", severity="high", excess_tokens=2e6), "[HIGH] key a"),
        (small("a", "resolved"), "[resolved] key a"),
    ],
)
async def test_a_ticket_that_waited_is_not_committed_before_its_message_is_delivered(
    bench: Bench, update: Alert, said: str, again: str
) -> None:
    bench.begin(config=alone())
    bench.write(small("a"))
    await bench.until(lambda: len(bench.line.holds) == 1)
    bench.answer = lambda: Answer("retry", "503")
    bench.write(update)
    await bench.until(lambda: bench.line.waiting == 1 and bench.told["retried"] > 1)
    bench.line.places.dirty = True
    await bench.line.reader.commit()
    assert bench.place == 5
    if again == "restart":
        await bench.end()
        bench.answer = lambda: Answer("delivered", "ok")
        bench.begin(config=alone())
    else:
        await bench.consumers[0].rebalance()
        bench.answer = lambda: Answer("delivered", "ok")
    await bench.all_kept()
    assert words(bench) == [said]


async def test_tickets_that_wait_are_bounded(bench: Bench) -> None:
    bench.begin(config=alone(burst=0))
    bench.write(*[small(f"key-{number}") for number in range(MOST_HELD + 5)])
    await bench.until(lambda: len(bench.sent) == 5)
    assert len(bench.line.holds) == MOST_HELD
    bench.write(*[small(f"key-{number}", "resolved") for number in range(MOST_HELD + 5)])
    await bench.all_kept()
    assert len(bench.sent) == 5 + MOST_HELD + 5


SOME = range(MOST_HELD)


async def hold_some(bench: Bench) -> None:
    bench.begin(config=alone())
    bench.write(*[small(f"key-{number}") for number in SOME])
    await bench.until(lambda: len(bench.line.desk) == MOST_HELD)


async def test_tickets_that_wait_use_up_no_messages(bench: Bench) -> None:
    await hold_some(bench)
    for _ in range(2):
        assert len(bench.line.holds) == MOST_HELD
        assert (bench.told["digested"], bench.sent) == (0, [])
        await bench.end()
        bench.begin(config=alone())
        await bench.until(lambda: len(bench.line.desk) == MOST_HELD)
    bench.write(made_alert("p"))
    await bench.until(lambda: len(bench.sent) == 1)
    assert words(bench) == ["[HIGH] key p"]


@pytest.mark.parametrize(
    ("updates", "said"),
    [
        ([small(f"key-{n}", "updated", severity="high", excess_tokens=2e6) for n in SOME], "[HIGH]"),
        ([small(f"key-{n}", "updated", excess_tokens=3e6) for n in SOME], "[WARNING]"),
        ([small(f"key-{n}", "resolved") for n in SOME], "[WARNING]"),
        ([], "[WARNING]"),
    ],
)
async def test_a_storm_of_tickets_that_waited_is_some_messages_and_a_digest(
    bench: Bench, updates: list[Alert], said: str
) -> None:
    await hold_some(bench)
    bench.write(*updates)
    if not updates:
        bench.now += 12 * 3600
    await bench.until(lambda: len(bench.sent) == 20 and bench.told["digested"] == 20)
    assert bench.place < bench.end_of_log, "the digest is not told"
    if updates:
        await bench.end()
        bench.begin(config=alone())
        await bench.until(lambda: bench.told["digested"] == 40)
    bench.now += 11
    await bench.all_kept()
    assert len(bench.sent) == 21
    assert words(bench)[-1] == f"{said} 20 more"
    assert len(bench.line.holds) == 0
    ended = bool(updates) and updates[0].status == "resolved"
    assert bench.line.desk.digested() == (0 if ended else 20)


async def test_the_end_of_a_ticket_is_told_if_the_digest_that_was_to_tell_it_never_went(bench: Bench) -> None:
    bench.begin(config=alone(burst=1))
    bench.write(small("a"), small("b"), small("c"))
    await bench.until(lambda: len(bench.line.holds) == 3)
    bench.now += 12 * 3600
    await bench.until(lambda: len(bench.sent) == 1 and bench.told["digested"] == 2)
    bench.write(small("b", "resolved"))
    await bench.until(lambda: bench.told["digested"] == 3)
    await bench.end()
    bench.begin(config=alone(burst=1))
    await bench.until(lambda: len(bench.sent) == 2)
    bench.now += 700
    await bench.all_kept()
    assert words(bench)[:2] == ["[WARNING] key a", "[resolved] key b"]
    assert b"key c" in bench.sent[2].body


def test_a_pager_pages_if_it_works_and_nothing_else_does() -> None:
    pagers = Pagers(config_of(URL))
    trouble: list[str | None] = [None]
    pagers.lines = [SimpleNamespace(name=name, down=None, trouble=lambda: trouble[0]) for name in ("chat", "pd")]
    assert pagers(["chat", "pd"])
    assert not pagers(["chat"])
    trouble[0] = "503"
    assert not pagers(["chat", "pd"]), "better told twice than not at all"
    trouble[0], pagers.lines[1].down = None, "not assigned yet"
    assert not pagers(["pd"])


async def test_what_gets_worse_after_a_digest_is_told_and_ends_the_digest_when_it_was_the_last(bench: Bench) -> None:
    bench.begin("pd", burst=1, burst_seconds=600)
    bench.write(*storm(3))
    await bench.until(lambda: bench.told["digested"] == 2)
    bench.now += 11
    await bench.all_kept()
    assert len(bench.sent) == 2
    bench.write(made_alert(key="key-1", status="updated", severity="critical"))
    await bench.until(lambda: bench.told["digested"] == 3, "the limit is reached")
    bench.now += 700
    await bench.all_kept()
    assert "1 of the incidents told in one message got worse" in bench.sent[-1].body.decode()
    bench.write(made_alert(key="key-2", status="updated", severity="critical"))
    await bench.all_kept()
    event = json.loads(bench.sent[-1].body)
    assert (event["event_action"], event["dedup_key"]) == ("trigger", made_alert(key="key-2").fingerprint)
    bench.now += 700
    bench.write(made_alert(key="key-1", status="updated", severity="high"))
    bench.write(made_alert(key="key-2", status="resolved"))
    await bench.all_kept()
    assert bench.line.desk.digested() == 1
    await bench.end()

    bench.begin("pd", burst=1, burst_seconds=600)
    await bench.until(lambda: len(bench.line.desk) == 2)
    assert bench.line.desk.digested() == 1, "the place says which ones were told one by one"


async def test_the_last_of_a_digest_that_is_told_by_itself_ends_the_digest(bench: Bench) -> None:
    bench.begin("pd", burst=1, burst_seconds=600)
    bench.write(*storm(2))
    await bench.until(lambda: bench.told["digested"] == 1)
    bench.now += 700
    await bench.all_kept()
    bench.write(made_alert(key="key-1", status="updated", severity="critical"))
    await bench.all_kept()
    assert bench.line.desk.digested() == 0
    await bench.until(lambda: len(bench.sent) == 4)
    event = json.loads(bench.sent[-1].body)
    assert (event["event_action"], event["dedup_key"]) == ("resolve", "overdraw-digest-overdraw-0")


async def test_alertmanager_is_told_again_of_a_digest_while_incidents_of_it_are_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.notify.services.alertmanager.Alertmanager.resend_seconds", 0.02)

    def digests() -> list[dict[str, Any]]:
        alerts = [alert for request in bench.sent for alert in json.loads(request.body)]
        return [alert for alert in alerts if "digest" in alert["labels"]]

    bench.begin("am", burst=1, burst_seconds=600)
    bench.write(*storm(3, severity="critical"))
    await bench.until(lambda: bench.told["digested"] == 2)
    bench.now += 11
    await bench.all_kept()
    for _ in range(2):  # and after a restart
        bench.now += 3600
        before = len(digests())
        await bench.until(lambda: len(digests()) > before + 1)  # noqa: B023
        said = digests()[-1]
        assert said["labels"] == digests()[0]["labels"]
        assert said["annotations"]["severity"] == "critical"
        assert said["annotations"]["summary"] == "[CRITICAL] 2 incidents that came too many at once are open"
        assert datetime.fromisoformat(said["endsAt"]).timestamp() == pytest.approx(bench.now + 900, abs=1)
        await bench.end()
        bench.begin("am", burst=1, burst_seconds=600)
        await bench.until(lambda: len(bench.line.desk) == 3)
        assert bench.line.desk.digested() == 2
    bench.write(*storm(3, "resolved"))
    await bench.until(lambda: bench.told["digested"] == 4)
    bench.now += 700
    await bench.all_kept()
    assert datetime.fromisoformat(digests()[-1]["endsAt"]).timestamp() == pytest.approx(bench.now, abs=1)
    before = len(digests())
    await asyncio.sleep(0.1)
    assert len(digests()) == before


async def test_a_storm_while_the_service_is_down_waits_in_kafka(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.worker.notifier.storm.MAX_GATHERED", 300)
    bench.answer = lambda: Answer("retry", "503")
    bench.begin("bus", burst=1, burst_seconds=600)
    bench.write(*storm(3000))
    await bench.until(lambda: bench.told["digested"] >= 600, "one digest on its way, and what comes after it")
    for _ in range(20):
        bench.now += 60
        await asyncio.sleep(0.005)
    assert bench.told["digested"] < 900
    bench.answer = lambda: Answer("delivered", "ok")
    for _ in range(15):
        bench.now += 700
        await asyncio.sleep(0.01)
    await bench.until(lambda: bench.told["digested"] + bench.told["delivered"] >= 3000)
    bench.now += 700
    await bench.all_kept()


async def test_a_digest_that_was_not_told_is_gathered_again(bench: Bench) -> None:
    bench.begin("pd", burst=1, burst_seconds=600)
    bench.write(*storm(5))
    await bench.until(lambda: bench.told["digested"] == 4)
    await bench.until(lambda: len(bench.sent) == 1)
    await bench.end()
    assert bench.place < bench.end_of_log
    bench.begin("pd", burst=1, burst_seconds=600)
    await bench.until(lambda: bench.told["digested"] == 8)
    bench.now += 11
    await bench.all_kept()
    assert len(bench.sent) == 2, "a restart gives no leave for more"
    assert b"4 more incidents at once" in bench.sent[-1].body


async def test_a_restart_commits_no_less_than_was_told_out_of_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[Place] = []
    commit = Consumer.commit

    async def noted(consumer: Consumer, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        places.extend(read_place(said.offset, said.metadata) for said in offsets.values())
        await commit(consumer, offsets)

    monkeypatch.setattr(Consumer, "commit", noted)
    bench.begin("chat", burst=2, burst_seconds=600)
    bench.write(*storm(2, severity="warning"))
    await bench.all_kept()
    bench.write(made_alert(key="in the digest"), made_alert(key="key-0", status="updated", severity="critical"))
    await bench.until(lambda: len(bench.sent) == 3 and bench.told["digested"] == 1)
    await bench.until(lambda: places[-1].done == ((11, 11),))
    for _ in range(3):
        await bench.end()
        places.clear()
        bench.begin("chat", burst=2, burst_seconds=600)
        await bench.until(lambda: bool(places))
        assert {(place.offset, place.done, len(place.told or ())) for place in places} == {(9, ((11, 11),), 2)}
    await bench.end()
    places.clear()
    bench.now += 2 * 86_400  # nothing is read again that stands before the place
    bench.begin("chat", burst=2, burst_seconds=600)
    await bench.all_kept()
    assert all(place.is_done(11) for place in places)
    assert len(bench.sent) == 4, "what was in no digest yet, and nothing twice"


async def test_a_rebalance_tells_nothing_twice_and_nothing_never(bench: Bench) -> None:
    bench.holding = asyncio.Event()
    bench.begin("bus")
    bench.write(*storm(50))
    await bench.until(lambda: bench.line.waiting == 50)
    moving = asyncio.create_task(bench.consumers[0].rebalance())
    await asyncio.sleep(0.01)
    bench.holding.set()
    await moving
    await bench.all_kept()
    assert len({request.body for request in bench.sent}) == len(bench.sent) == 50


async def test_what_concerns_one_key_is_told_in_its_order(bench: Bench) -> None:
    bench.begin("bus")
    for sequence in range(30):
        bench.write(*(made_alert(key=key, status="updated", sequence=sequence) for key in ("a", "b", "c")))
    await bench.all_kept()
    said: dict[str, list[int]] = {}
    for request in bench.sent:
        alert = Alert.model_validate(json.loads(request.body)["data"])
        said.setdefault(alert.entity.id, []).append(alert.sequence)
    assert said == {key: list(range(30)) for key in ("a", "b", "c")}


def entities(bench: Bench) -> list[str]:
    """Whom the messages that were taken are about, in their order, with what became of them."""
    said = []
    for request in bench.sent:
        words = json.loads(request.body)["text"].split()
        said.append(f"{words[2]} {'over' if words[0] == '[resolved]' else 'open'}")
    return said


async def test_a_message_that_a_server_fails_at_steps_aside_and_only_its_own_incident_waits(bench: Bench) -> None:
    bench.fails_at = b"key-1 uses"
    bench.begin("chat", burst=0)
    bench.write(*storm(5), made_alert(key="key-1", status="resolved"), made_alert(key="key-2", status="resolved"))
    others = ["key-0 open", "key-2 open", "key-3 open", "key-4 open", "key-2 over"]
    await bench.until(lambda: len(bench.sent) == 5, "the others pass")
    assert entities(bench) == others
    assert (bench.line.aside, bench.line.waiting) == (1, 2)
    assert bench.place == 7, "what was not told is not committed"
    bench.fails_at = b""
    bench.now += 31
    await bench.all_kept()
    assert entities(bench) == [*others, "key-1 open", "key-1 over"]
    assert bench.line.aside == 0


async def test_what_stepped_aside_is_tried_again_after_a_restart_and_nothing_else_is_told_twice(bench: Bench) -> None:
    bench.fails_at = b"key-1 uses"
    bench.begin("chat", burst=0)
    bench.write(*storm(5))
    await bench.until(lambda: len(bench.sent) == 4)
    await bench.end()
    bench.fails_at = b""
    bench.begin("chat", burst=0)
    await bench.all_kept()
    assert entities(bench) == [f"key-{number} open" for number in (0, 2, 3, 4, 1)]


async def test_a_service_that_is_down_gets_everything_in_its_order(bench: Bench) -> None:
    bench.answer = lambda: Answer("retry", "503", failed=True)
    bench.begin("chat", burst=0)
    bench.write(*storm(6), *storm(6, "resolved"))
    await bench.until(lambda: bench.told["retried"] > 40, "each of them was tried, to see whether it is the message")
    assert bench.line.aside == 0
    bench.answer = lambda: Answer("delivered", "ok")
    await bench.all_kept()
    assert [words.split()[0] for words in entities(bench)] == [f"key-{n % 6}" for n in range(12)]


async def test_several_bad_messages_in_a_row_hold_up_nobody(bench: Bench) -> None:
    bench.fails_at = b"key bad-"
    bench.begin("chat", burst=0)
    bench.write(*(made_alert(key=f"bad-{n}") for n in range(4)), *storm(3))
    await bench.until(lambda: len(bench.sent) == 3)
    assert entities(bench) == ["key-0 open", "key-1 open", "key-2 open"]
    for number in range(3, 40):  # each failure is one more only if another message was taken since
        bench.now += 901
        bench.write(made_alert(key=f"key-{number}"))
        await bench.until(lambda: len(bench.sent) > number)  # noqa: B023
    await bench.all_kept()
    assert bench.told["refused"] == 4, "and are given up in the end"


async def test_what_is_no_alert_is_counted_and_passed_over(bench: Bench) -> None:
    bench.begin()
    bench.write(b"{broken", b"", made_alert())
    await bench.all_kept()
    assert bench.told == {"unreadable": 2, "delivered": 1}


@pytest.mark.parametrize("error", [KafkaError("no"), CommitFailedError("moved")])
async def test_a_commit_that_fails_is_tried_again_and_stops_nothing(bench: Bench, error: Exception) -> None:
    bench.begin()
    await bench.until(lambda: bool(bench.consumers) and bench.line.down is None)
    bench.consumers[0].refuse = [error]
    bench.write(made_alert(key="a"))
    await bench.until(lambda: len(bench.sent) == 1)
    bench.now += 2
    bench.write(made_alert(key="b"))
    await bench.all_kept()


async def test_kafka_that_fails_is_told_and_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [True]

    async def start(_: Consumer) -> None:
        if failing.pop() if failing else False:
            raise KafkaError("no broker")

    monkeypatch.setattr(Consumer, "start", start)
    monkeypatch.setattr("stream.worker.notifier.reader.RESTART_SECONDS", (0.01, 0.01))
    bench.begin()
    await bench.until(lambda: "no broker" in (bench.line.down or ""))
    bench.write(made_alert())
    await bench.all_kept()
    assert bench.line.down is None


@pytest.mark.parametrize("what", ["fetch_committed_offsets", "offsets_for_times", "commit"])
@pytest.mark.parametrize("waiting", [1, MAX_QUEUE])
async def test_a_rebalance_that_fails_is_told_and_the_reading_begins_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, what: str, waiting: int
) -> None:
    monkeypatch.setattr("stream.worker.notifier.reader.RESTART_SECONDS", (0.05, 0.05))
    bench.begin("bus")
    await bench.until(lambda: bool(bench.consumers) and bench.line.down is None)
    bench.answer = lambda: Answer("retry", "503")
    bench.write(*storm(waiting))
    await bench.until(lambda: bench.line.waiting >= min(waiting, MAX_QUEUE // 2))

    async def fails(*_: Any) -> None:
        raise RuntimeError("a broker that is odd")

    monkeypatch.setattr(bench.consumers[0], what, fails)
    bench.line.places.dirty = True
    await bench.consumers[0].rebalance()
    await bench.until(lambda: "odd" in (bench.line.down or ""))
    bench.answer = lambda: Answer("delivered", "ok")
    await bench.all_kept()
    assert len(bench.consumers) == 2
    assert bench.line.down is None
    assert bench.told["delivered"] == waiting


async def test_alertmanager_is_told_again_of_what_fires_and_not_of_what_is_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.notify.services.alertmanager.Alertmanager.resend_seconds", 0.02)
    bench.begin("am")
    bench.write(made_alert(key="a"), made_alert(key="b"), made_alert(key="b", status="resolved"))
    await bench.all_kept()
    before = len(bench.sent)
    await bench.until(lambda: bench.told["resent"] >= 2)
    assert all(b'"key-' not in r.body and b'"entity": "b"' not in r.body for r in bench.sent[before:])
    assert all(b'"entity": "a"' in r.body for r in bench.sent[before:])


@pytest.mark.parametrize("name", ["am", "pd", "bus"])
@pytest.mark.parametrize("moment", [1e18, 253_402_300_700])
async def test_an_alert_of_no_time_that_there_is_ends_nothing_but_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, moment: float
) -> None:
    monkeypatch.setattr("stream.notify.services.alertmanager.Alertmanager.resend_seconds", 0.02)
    bench.begin(name)
    odd = made_alert(key="a").model_dump(mode="json") | {"started_at": moment, "updated_at": moment}
    bench.write(json.dumps(odd).encode(), made_alert(key="b"))
    await bench.all_kept()
    cannot_be_told = moment == 1e18 or name == "am"  # whose end lies ahead, in the year 10000
    assert bench.told["rejected"] == cannot_be_told
    assert bench.told["delivered"] == 2 - cannot_be_told
    assert len(bench.consumers) == 1
    if name == "am":
        await bench.until(lambda: bench.told["resent"] >= 2)
        assert all(b'"entity": "b"' in request.body for request in bench.sent)


def test_each_notifier_has_a_group_of_its_own() -> None:
    assert group_of(make_settings(), "oncall") == "overdraw-notifier-oncall"


async def test_what_a_notifier_exports_is_what_the_table_says_and_its_status_names_the_trouble(bench: Bench) -> None:
    registry = CollectorRegistry()
    metrics = NotifierMetrics(registry)
    metrics.expect("chat")
    metrics.lines = [bench.begin("chat")]
    server = NotifierServer(make_settings(notifier_port=0), metrics.lines, registry, Exit())
    assert not server.status()["ready"]
    bench.write(made_alert())
    await bench.all_kept()
    assert server.status()["notifiers"][0]["open_incidents"] == 1
    assert server.status()["ready"]
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(registry).decode())}
    for row in NOTIFIER_TABLE:
        family = families[row.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (row.kind, row.help)
        assert all(set(sample.labels) == set(row.labels) for sample in family.samples)
    outcomes = {sample.labels["outcome"] for sample in families["overdraw_notifications"].samples}
    assert outcomes == set(OUTCOMES)


# ---------------------------------------------------------------------- the place


def test_the_place_is_the_first_record_that_is_not_told() -> None:
    progress = Progress(10)
    for offset in (10, 12, 13, 20, 21):
        progress.take(offset, done=offset == 13)
    assert (progress.offset, progress.done()) == (10, [(13, 13)])
    progress.finish(12)
    progress.finish(21)
    assert (progress.offset, progress.done()) == (10, [(12, 13), (21, 21)])
    progress.finish(10)
    assert (progress.offset, progress.done()) == (20, [(21, 21)])
    progress.finish(20)
    assert (progress.offset, progress.done()) == (22, [])


def test_a_place_survives_its_metadata_and_a_full_one_stays_within_the_brokers_limit() -> None:
    done, told = [(13, 13), (21, 40)], ["0123456789", "abcdef0123"]
    place = read_place(10, metadata_of(done, told))
    assert place == Place(10, tuple(done), frozenset(told))
    assert [place.is_done(offset) for offset in (9, 10, 13, 14, 40)] == [True, False, True, False, True]
    text = metadata_of([(10**15 + 2 * n, 10**15 + 2 * n) for n in range(1000)], [f"{n:010d}" for n in range(5000)])
    assert len(text) <= MAX_METADATA
    full = read_place(0, text)
    assert full.more
    assert full.done[0][0] == 10**15
    assert f"{4999:010d}" in (full.told or ())
    assert metadata_of([], None) == ""


def test_the_work_of_a_commit_does_not_grow_with_the_square_of_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    dumped: list[int] = []

    def dumps(value: Any, **more: Any) -> str:
        text = json.JSONEncoder(**more).encode(value)
        dumped.append(len(text))
        return text

    monkeypatch.setattr("stream.worker.notifier.progress.json.dumps", dumps)
    metadata_of([(n, n) for n in range(0, 100_000, 2)], [])
    assert sum(dumped) < 2 * MAX_METADATA


def test_what_is_passed_over_while_one_waits_is_one_range_and_keeps_no_memory() -> None:
    progress = Progress(0)
    progress.take(0)
    for offset in range(1, 10_000):
        progress.take(offset, done=True)
    assert progress.done() == [(1, 9_999)]
    assert len(progress._done) == 2
    progress.take(10_000)
    progress.take(10_001, done=True)
    assert progress.done() == [(1, 9_999), (10_001, 10_001)]
    progress.finish(10_000)
    assert progress.done() == [(1, 10_001)]
    progress.finish(0)
    assert (progress.offset, progress.done(), progress._done) == (10_002, [], set())


@pytest.mark.parametrize(
    "text", ["", "text of somebody else", "[]", '{"v":2}', '{"v":1,"done":7}', '{"v":1,"done":[[1]]}']
)
def test_metadata_that_is_not_ours_says_nothing(text: str) -> None:
    assert read_place(7, text) == Place(7)


def test_no_secret_is_in_what_is_committed() -> None:
    assert KEY not in metadata_of([(1, 2)], ["a"])
