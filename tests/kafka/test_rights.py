"""A worker with exactly the rights that deploy/README.md lists, and with one less."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream.broker import EmbeddedKafka
from stream.lab.chaos.topics import records_of
from stream.settings import Settings
from stream.worker.rights import missing_rights
from stream.worker.topics import create_topics
from tests.kafka.rights import (
    ALL,
    CLUSTER,
    CREATE,
    DENY,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GROUP,
    GUARDED,
    IDEMPOTENT_WRITE,
    LITERAL,
    PREFIXED,
    READ,
    THE_CLUSTER,
    TOPIC,
    TRANSACTIONAL_ID,
    WRITE,
    Rule,
    add,
    remove,
)
from tests.kafka.workers import (
    Worker,
    all_passed,
    applied_to_the_end,
    dumped,
    eventually,
    feed,
    overdraw,
    sums,
    traffic,
)

pytestmark = pytest.mark.xdist_group("rights")  # they share a broker of their own

PAGE = Path(__file__).parents[2] / "deploy" / "README.md"
KINDS = {"topic": TOPIC, "group": GROUP, "transactional id": TRANSACTIONAL_ID}
OPERATIONS = {"Read": READ, "Write": WRITE, "DescribeConfigs": DESCRIBE_CONFIGS}
ROW = re.compile(r"^\| (topic|group|transactional id) \| (prefix )?`(\w+)`(-?) \| ([\w, ]+) \|", re.MULTILINE)


def listed() -> list[tuple[str, str, str, str]]:
    """Kind, setting, what follows its value, and operation, of every right that the page lists."""
    return [
        (kind, setting, dash, operation)
        for kind, _, setting, dash, operations in ROW.findall(PAGE.read_text("utf-8"))
        for operation in operations.split(", ")
    ]


def rule_of(settings: Settings, kind: str, setting: str, dash: str, operation: str) -> Rule:
    name = getattr(settings, setting) + dash
    return Rule(KINDS[kind], name, OPERATIONS[operation], pattern=PREFIXED if dash else LITERAL)


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedKafka]:
    """A broker with an authorizer, on which nobody has rights on the cluster that a worker must not need."""
    with EmbeddedKafka(extra_properties=GUARDED) as broker:
        refused = (CREATE, DESCRIBE, DESCRIBE_CONFIGS, IDEMPOTENT_WRITE)
        rules = [Rule(CLUSTER, THE_CLUSTER, operation, DENY) for operation in refused]
        add(broker.bootstrap, [Rule(CLUSTER, THE_CLUSTER, ALL), *rules])
        yield broker


@pytest.fixture
def least(guarded: EmbeddedKafka, settings: Settings) -> Settings:
    """Settings of a worker with topics of its own, for which there are no rules yet."""
    changes = {"broker": guarded.bootstrap, "bucket_seconds": 3600, "min_excess_tokens": 1000.0, "flush_seconds": 0.2}
    least = settings.model_copy(update={**changes, "session_timeout_seconds": 6.0})
    asyncio.run(create_topics(least))
    return least


def grant_least(settings: Settings) -> dict[tuple[str, str, str], Rule]:
    """Let only the listed rights be: by kind, setting and operation."""
    rules = {
        (kind, name, what): rule_of(settings, kind, name, dash, what)
        for kind, name, dash, what in listed()
        if getattr(settings, name) is not None
    }
    # a resource without any rule is everybody's: this one is somebody's
    own = [Rule(r.kind, r.name, ALL, pattern=r.pattern, principal="User:nobody") for r in rules.values()]
    add(settings.broker, [*own, *rules.values()])
    return rules


@contextmanager
def running(settings: Settings, folder: Path) -> Iterator[Worker]:
    worker = Worker(settings, folder)
    try:
        yield worker.wait_ready()
    finally:
        worker.kill()


def test_the_page_lists_rights_on_everything_that_a_worker_uses() -> None:
    of_responder = {"response_topic", "deny_list_topic"}
    topics = {name for name in Settings.model_fields if name.endswith("_topic")}
    used = {("topic", name) for name in topics - of_responder}
    assert {(kind, setting) for kind, setting, _, _ in listed()} == used | {
        ("group", "app_id"),
        ("transactional id", "app_id"),
    }


def test_with_an_intake_a_worker_needs_what_is_listed_and_to_write_the_source(least: Settings, tmp_path: Path) -> None:
    # hours of traffic, of which no partition may run ahead of the other by more than half of the lateness
    changes = {"intake_topic": f"{least.app_id}-raw", "allowed_lateness_seconds": 6 * 3600.0}
    chosen = least.model_copy(update=changes)
    asyncio.run(create_topics(chosen))
    events = traffic()[:1000]
    asyncio.run(feed(chosen.model_copy(update={"source_topic": chosen.intake_topic}), events))
    grant_least(chosen)
    done = overdraw(chosen, "check")
    assert done.returncode == 1
    assert f"{chosen.source_topic}: we lack the right Write" in done.stdout
    add(chosen.broker, [Rule(TOPIC, chosen.source_topic, WRITE)])
    with running(chosen, tmp_path) as worker:
        asyncio.run(all_passed(chosen, [worker], chosen.partitions))
        code, _ = worker.end()
    assert code == 0
    assert dumped(chosen) == sums(events)
    assert "we lack" not in worker.said()


def test_a_worker_and_the_commands_around_it_need_no_more_than_the_listed_rights(
    least: Settings, tmp_path: Path
) -> None:
    events = traffic()
    asyncio.run(feed(least, events))
    grant_least(least)
    with running(least, tmp_path) as worker:
        asyncio.run(applied_to_the_end(least, [worker]))
        code, _ = worker.end()
    assert code == 0
    assert " WARNING " not in worker.said()
    assert dumped(least) == sums(events)
    for command in (["check"], ["topics", "check"]):
        done = overdraw(least, *command)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    tail = ["alerts", "tail", "--from-beginning", "--for", "2"]
    done = overdraw(least, *tail)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert f"{least.alert_topic}: we lack the right Read: grant it" in done.stderr
    add(least.broker, [Rule(TOPIC, least.alert_topic, READ)])
    done = overdraw(least, *tail)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(asyncio.run(records_of(least, least.alert_topic))) > 0


async def test_each_listed_right_is_missed_by_name(guarded: EmbeddedKafka, least: Settings) -> None:
    rules = grant_least(least)

    async def until_missing(*wanted: tuple[str, str]) -> None:
        """A rule takes effect when the broker has read it."""
        async with asyncio.timeout(20):
            while True:
                problems = await missing_rights(least)
                found = [(problem.subject, problem.text) for problem in problems]
                if found == list(wanted):
                    assert all(problem.remedy.startswith("grant it (kafka-acls --add") for problem in problems)
                    return
                await asyncio.sleep(0.02)

    await until_missing()
    for (kind, setting, operation), rule in rules.items():
        subject = {
            "topic": rule.name,
            "group": f"consumer group {rule.name}",
            "transactional id": f"transactional ids {rule.name}*",
        }[kind]
        # Describe goes with the last of a topic's Read and Write
        both = setting in ("state_topic", "group_evidence_topic", "group_state_topic")
        last = operation in ("Read", "Write") and kind == "topic" and not both
        remove(least.broker, [rule])
        await until_missing((subject, f"we lack the right {'Describe, ' if last else ''}{operation}"))
        add(least.broker, [rule])
        await until_missing()


def test_without_the_right_to_write_calls_feeding_names_it(least: Settings, tmp_path: Path) -> None:
    grant_least(least)
    recorded = tmp_path / "calls.jsonl"
    recorded.write_bytes(traffic()[0][1] + b"\n")
    done = overdraw(least, "feed", str(recorded))
    assert done.returncode == 3
    assert f"{least.source_topic}: we lack the right Write: grant it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "operation", "said"),
    [
        ("group", "Read", "consumer group {app_id}: we lack the right Read: grant it"),
        ("transactional id", "Write", "transactional ids {app_id}-*: we lack the right Write: grant it"),
    ],
)
def test_a_worker_does_not_start_without_a_right_and_names_it(
    least: Settings, kind: str, operation: str, said: str
) -> None:
    rules = grant_least(least)
    remove(least.broker, [rules[kind, "app_id", operation]])
    eventually(lambda: asyncio.run(missing_rights(least)))
    done = overdraw(least, "worker")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said.format(app_id=least.app_id) in done.stderr
    done = overdraw(least, "check")
    assert (done.returncode, done.stderr) == (1, "")
    assert said.format(app_id=least.app_id).removesuffix(": grant it") in done.stdout


async def test_a_worker_that_loses_rights_names_them_waits_and_goes_on_when_they_are_back(
    least: Settings, tmp_path: Path
) -> None:
    events = traffic()
    rules = grant_least(least)
    add(least.broker, [Rule(TOPIC, least.source_topic, WRITE)])  # the gateway's
    read = rules["topic", "source_topic", "Read"]
    writes = [rules["topic", "state_topic", "Write"], rules["transactional id", "app_id", "Write"]]
    named = "we lack the right {}: grant it"
    with running(least, tmp_path) as worker:

        async def hears(mark: int, subject: str, operation: str) -> str:
            """What it has said since, once that right is named."""
            words = f"{subject}: {named.format(operation)}"
            await asyncio.to_thread(eventually, lambda: words in worker.said()[mark:], 30, words)
            return worker.said()[mark:]

        await feed(least, events[:1000])
        await applied_to_the_end(least, [worker])
        start = mark = len(worker.said())
        remove(least.broker, [read])
        await feed(least, events[1000:2000])
        said = await hears(mark, least.source_topic, "Read")
        assert " dropped " not in said, "what it has can be kept"
        add(least.broker, [read])
        await applied_to_the_end(least, [worker])

        mark = len(worker.said())
        remove(least.broker, writes)
        await feed(least, events[2000:3000])
        await hears(mark, least.state_topic, "Write")
        await hears(mark, f"transactional ids {least.app_id}-*", "Write")
        assert not worker.is_ready()
        add(least.broker, writes)
        await feed(least, events[3000:])
        await asyncio.to_thread(eventually, worker.is_ready, 40, "ready again")
        await applied_to_the_end(least, [worker])
        code, _ = await asyncio.to_thread(worker.end)
    said = worker.said()[start:]
    assert code == 0, said
    assert "Traceback" not in said
    assert said.count("this worker waits until then") <= 4, said
    assert len(said.splitlines()) < 30, said
    assert dumped(least) == sums(events)


async def test_a_worker_that_loses_its_group_names_the_right_and_ends_to_be_started_again(
    least: Settings, tmp_path: Path
) -> None:
    rules = grant_least(least)
    with running(least, tmp_path) as worker:
        remove(least.broker, [rules["group", "app_id", "Read"]])
        assert await asyncio.to_thread(worker.process.wait, 40) == 75
    assert f"consumer group {least.app_id}: we lack the right Read: grant it" in worker.said()
    assert "Traceback" not in worker.said()
