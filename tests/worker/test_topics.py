"""Topics without a broker: what is said when there is none."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from stream.__main__ import main
from stream.cli.topics import command
from stream.settings import load_settings
from stream.worker.cluster import TopicFacts
from stream.worker.protocol import RELEASES, UNKNOWN_RIGHTS, rights_of
from stream.worker.topics import BrokerUnreachable, _metadata_problems, check_topics, plan, responder_needs


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_no_broker_is_a_typed_error_that_says_what_to_do() -> None:
    broker = f"127.0.0.1:{unused_port()}"
    with pytest.raises(BrokerUnreachable, match=rf"no Kafka answers at {broker}: start it, or .*OVERDRAW_BROKER"):
        await check_topics(load_settings({"broker": broker}, environ={}))


@pytest.mark.parametrize("name", ["create", "check"])
def test_the_commands_exit_3_without_a_broker_and_2_on_a_wrong_setting(name: str) -> None:
    answer = CliRunner().invoke(command, [name, "--set", f"broker=127.0.0.1:{unused_port()}"])
    assert answer.exit_code == 3
    assert "no Kafka answers" in answer.stderr
    assert answer.stdout == ""
    answer = CliRunner().invoke(command, [name, "--set", "partitions"])
    assert answer.exit_code == 2


def test_the_front_door_passes_the_exit_codes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, code in (
        (["check", "--set", f"broker=127.0.0.1:{unused_port()}"], 3),
        (["topics", "check", "--set", f"broker=127.0.0.1:{unused_port()}"], 3),
        (["check", "--set", "partitions=none"], 2),
        (["check", "--help"], 0),
    ):
        monkeypatch.setattr("sys.argv", ["overdraw", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code, arguments


def test_the_plan_follows_the_settings() -> None:
    settings = load_settings({"partitions": 5, "state_topic": "memory"}, environ={})
    topics = {topic.setting: topic for topic in plan(settings)}
    ones = {"group_evidence_topic", "group_state_topic", "control_topic"}
    assert {name: topic.partitions for name, topic in topics.items()} == {
        name: 1 if name in ones else 5 for name in topics
    }
    assert [topic.setting for topic in topics.values() if topic.kept] == ["control_topic"]
    assert [topic.name for topic in topics.values() if topic.compacted] == ["memory", "overdraw-group-state"]


def test_the_intake_topic_may_have_any_number_of_partitions_and_makes_workers_write_the_source() -> None:
    plain = {topic.setting: topic for topic in plan(load_settings({}, environ={}))}
    settings = load_settings({"intake_topic": "raw"}, environ={})
    topics = {topic.setting: topic for topic in plan(settings)}
    assert "intake_topic" not in plain
    assert (topics["intake_topic"].any_count, topics["intake_topic"].rights) == (True, {"Describe", "Read"})
    assert "Write" in topics["source_topic"].rights
    assert "Write" not in plain["source_topic"].rights
    seven = TopicFacts("raw", 0, 7, (), None)
    assert _metadata_problems(topics["intake_topic"], seven, settings) == []
    assert [problem.code for problem in _metadata_problems(topics["source_topic"], seven, settings)] == [
        "partition_count"
    ]


def test_releases_are_in_order_and_rights_are_read_bit_by_bit() -> None:
    assert [first for first, _ in RELEASES] == sorted({first for first, _ in RELEASES})
    assert rights_of(UNKNOWN_RIGHTS) is None
    assert rights_of(0) == set()
    assert rights_of(1 << 3 | 1 << 8) == {"Read", "Describe"}


@pytest.mark.parametrize(("applies", "rights"), [(True, {"Describe", "Read", "Write"}), (False, {"Describe", "Read"})])
def test_a_responder_that_applies_needs_to_write_on_the_control_topic(applies: bool, rights: set[str]) -> None:
    settings = load_settings({"response_file": "response.toml"}, environ={})
    needed = {topic.setting: topic.rights for topic in responder_needs(settings, applies=applies)}
    assert needed["control_topic"] == rights
    assert set(needed) == {"response_topic", "deny_list_topic", "control_topic"}
