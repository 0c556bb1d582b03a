"""Topics on a real broker: made once, checked, and what is wrong is named with both sides."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from click.testing import CliRunner

from stream.broker import EmbeddedKafka
from stream.cli.topics import command
from stream.settings import Settings, load_settings
from stream.worker.cluster import GROUP, TRANSACTION, cluster
from stream.worker.topics import STATE_SETTINGS, Problem, TopicError, check_topics, create_topics, plan
from tests.kafka.rights import (
    CLUSTER,
    CREATE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GUARDED,
    READ,
    THE_CLUSTER,
    TOPIC,
    WRITE,
    deny,
)
from tests.kafka.workers import admin

pytestmark = pytest.mark.xdist_group("topics")  # they share a broker of their own


async def make(settings: Settings, name: str, partitions: int, **configuration: str) -> None:
    async with admin(settings.broker) as client:
        configuration = {key.replace("_", "."): value for key, value in configuration.items()}
        answer = await client.create_topics([NewTopic(name, partitions, 1, topic_configs=configuration)])
        assert answer.topic_errors[0][1] == 0


def flags(settings: Settings) -> list[str]:
    names = [
        "broker", "app_id", "source_topic", "alert_topic", "dead_letter_topic", "state_topic", "group_evidence_topic",
        "group_state_topic", "control_topic", "partitions",
    ]  # fmt: skip
    return [part for name in names for part in ("--set", f"{name}={getattr(settings, name)}")]


async def test_topics_are_made_once_and_are_then_right(settings: Settings) -> None:
    assert {problem.code for problem in await check_topics(settings)} == {"missing_topic"}
    names = [topic.name for topic in plan(settings)]
    assert len(names) == 7
    assert await create_topics(settings) == names
    assert await check_topics(settings) == []
    assert await create_topics(settings) == []
    async with cluster(settings) as kafka:
        facts = await kafka.topics(names)
        ones = {settings.group_evidence_topic, settings.group_state_topic, settings.control_topic}
        assert {fact.name: fact.partitions for fact in facts.values()} == {
            name: 1 if name in ones else settings.partitions for name in names
        }
        for name in (settings.state_topic, settings.group_state_topic):
            _, state = (await kafka.topic_settings([name]))[name]
            assert {name: state[name] for name in STATE_SETTINGS} == STATE_SETTINGS


async def test_two_that_make_topics_at_once_do_no_harm(settings: Settings) -> None:
    made = await asyncio.gather(*(create_topics(settings) for _ in range(4)))
    assert sorted(name for names in made for name in names) == sorted(topic.name for topic in plan(settings))
    assert await check_topics(settings) == []


async def test_another_partition_count_names_both_sides(settings: Settings) -> None:
    await make(settings, settings.source_topic, 3)
    await create_topics(settings)
    (problem,) = await check_topics(settings)
    assert (problem.code, problem.subject) == ("partition_count", settings.source_topic)
    assert "has 3 partitions, the setting `partitions` says 2" in problem.text
    assert "OVERDRAW_PARTITIONS=3" in problem.remedy
    assert "OVERDRAW_SOURCE_TOPIC" in problem.remedy
    assert "set the old source topic as intake_topic of a new one" in problem.remedy


async def test_the_topics_of_groups_have_one_partition(settings: Settings) -> None:
    await make(settings, settings.group_evidence_topic, 3)
    await create_topics(settings)
    (problem,) = await check_topics(settings)
    assert (problem.code, problem.subject) == ("partition_count", settings.group_evidence_topic)
    assert "has 3 partitions, and has to have 1" in problem.text
    assert "OVERDRAW_GROUP_EVIDENCE_TOPIC" in problem.remedy


async def test_cleanup_policies_that_would_lose_records_are_problems(settings: Settings) -> None:
    await make(settings, settings.state_topic, 2, cleanup_policy="compact,delete")
    await make(settings, settings.source_topic, 2, cleanup_policy="compact")
    await create_topics(settings)
    problems = {problem.subject: problem.code for problem in await check_topics(settings)}
    assert problems == {settings.state_topic: "not_compacted", settings.source_topic: "compacted"}


async def test_more_copies_than_brokers_are_refused_with_what_to_set(settings: Settings) -> None:
    with pytest.raises(TopicError, match="set OVERDRAW_REPLICATION to at most their number"):
        await create_topics(settings.model_copy(update={"replication": 3}))


async def test_the_cluster_tells_its_release_and_serves_groups_and_transactions(settings: Settings) -> None:
    async with cluster(settings) as kafka:
        assert await kafka.release() == "4.1"
        assert await kafka.brokers() == 1
        assert await kafka.coordinator_error(GROUP, settings.app_id) == 0
        assert await kafka.coordinator_error(TRANSACTION, f"{settings.app_id}-0") == 0


def test_the_commands_create_check_and_exit_as_documented(settings: Settings) -> None:
    run = CliRunner().invoke
    answer = run(command, ["check", *flags(settings)])
    assert answer.exit_code == 1
    assert f"problem  {settings.source_topic}: there is no such topic: run `overdraw topics create`" in answer.stdout
    answer = run(command, ["create", "--json", *flags(settings)])
    assert answer.exit_code == 0
    report = json.loads(answer.stdout)
    assert settings.state_topic in report["created"]
    assert (report["existing"], report["problems"]) == ([], [])
    answer = run(command, ["check", *flags(settings)])
    control = settings.control_topic
    said = f"ok       all topics are there, with 2 partitions each ({control} and those of groups have one)\n"
    assert (answer.exit_code, answer.stdout) == (0, said)
    answer = run(command, ["check", "--json", *flags(settings), "--set", "partitions=5"])
    assert answer.exit_code == 1
    assert {problem["code"] for problem in json.loads(answer.stdout)["problems"]} == {"partition_count"}
    answer = run(command, ["create", *flags(settings), "--set", "partitions=5"])
    assert answer.exit_code == 1
    assert f"existing {settings.source_topic}" in answer.stdout


def test_the_topics_of_a_responder_are_made_and_checked_where_there_is_one(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "response.toml"
    file.write_text('[gateways.edge]\ntype = "topic"\n')
    name = settings.app_id
    responder = flags(settings) + [
        word
        for value in (f"response_topic={name}-responses", f"deny_list_topic={name}-deny", f"response_file={file}")
        for word in ("--set", value)
    ]
    run = CliRunner().invoke
    assert run(command, ["create", *flags(settings)]).exit_code == 0
    answer = run(command, ["check", *responder])
    assert answer.exit_code == 1
    assert f"problem  {name}-responses: there is no such topic: run `overdraw topics create`" in answer.stdout
    answer = run(command, ["create", *responder])
    assert (answer.exit_code, answer.exception) == (0, None)
    assert f"created  {name}-responses (1 partition)" in answer.stdout
    answer = run(command, ["check", *responder])
    assert answer.exit_code == 0
    assert "those of groups and of the responder have one" in answer.stdout


# -- rights


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedKafka]:
    """A broker with an authorizer: everything is allowed until something is denied."""
    with EmbeddedKafka(extra_properties=GUARDED, cache_dir=load_settings().data_dir) as broker:
        yield broker


@pytest.fixture
def guarded_settings(guarded: EmbeddedKafka, settings: Settings) -> Settings:
    return settings.model_copy(update={"broker": guarded.bootstrap})


async def until_problems(settings: Settings) -> list[Problem]:
    """A new rule takes effect when the broker has read it."""
    async with asyncio.timeout(20):
        while True:
            problems = await check_topics(settings)
            if problems:
                return problems
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("topic", "operation", "name"),
    [
        ("source_topic", READ, "Read"),
        ("alert_topic", WRITE, "Write"),
        ("state_topic", READ, "Read"),
        ("state_topic", DESCRIBE_CONFIGS, "DescribeConfigs"),
        ("dead_letter_topic", DESCRIBE, "Describe, Write"),
    ],
)
async def test_a_right_that_is_missing_is_named(
    guarded_settings: Settings, topic: str, operation: int, name: str
) -> None:
    await create_topics(guarded_settings)
    assert await check_topics(guarded_settings) == []
    subject = getattr(guarded_settings, topic)
    deny(guarded_settings.broker, TOPIC, subject, operation)
    (problem,) = await until_problems(guarded_settings)
    assert (problem.code, problem.subject) == ("no_rights", subject)
    assert f"we lack the right {name}" in problem.text
    assert problem.remedy.startswith("grant it")


async def test_the_right_to_make_a_topic_is_named(guarded_settings: Settings, fresh_name: str) -> None:
    await create_topics(guarded_settings)
    deny(guarded_settings.broker, CLUSTER, THE_CLUSTER, CREATE)
    refused = ""
    async with asyncio.timeout(20):
        while not refused:
            # until the broker has read the rules it may still make them, so each try has names of its own
            fresh = f"{fresh_name}-{uuid.uuid4().hex[:6]}"
            deny(guarded_settings.broker, TOPIC, fresh, CREATE)
            try:
                await create_topics(guarded_settings.model_copy(update={"source_topic": fresh}))
            except TopicError as error:
                refused = str(error)
    assert "we lack the right Create: grant it, or have an administrator make the topic with 2 partitions" in refused


def test_an_advertised_address_that_does_not_answer_is_named(tmp_path: Path) -> None:
    port = 9
    properties = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}"}
    with EmbeddedKafka(extra_properties=properties, cache_dir=load_settings().data_dir) as broker:
        answer = CliRunner().invoke(command, ["check", "--set", f"broker={broker.bootstrap}"])
    assert answer.exit_code == 3
    assert "names itself 127.0.0.1:9, and that does not answer from here: check the broker's advertised.listeners" in (
        answer.stderr
    )
