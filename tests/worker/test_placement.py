from __future__ import annotations

import pytest
from click.testing import CliRunner

from stream.cli.check import command
from stream.partition import key_bytes, partition_of
from stream.worker import placement
from stream.worker.placement import NOT_KEYED, OTHER_PARTITIONER, Placement
from tests.worker.fakes import T0, Record, call

PARTITIONS = 4
KEYS = [f"key-{number}" for number in range(40)]


def record(number: int, key_id: str, partition: int, key: bytes | None = None) -> Record:
    return Record(number, call(f"e{number}", T0, key_id), int(T0 * 1000), partition, key)


def looked(*records: Record) -> Placement:
    found = Placement(PARTITIONS)
    found.add(records)
    return found


def test_records_where_their_keys_belong_are_ok() -> None:
    found = looked(*(record(i, key, partition_of(key, PARTITIONS)) for i, key in enumerate(KEYS)))
    finding = found.finding("calls")
    assert (finding.level, finding.remedy) == ("ok", "")
    assert "all of 40 events" in finding.text


def test_an_unkeyed_topic_is_a_problem_that_names_both_ways_out() -> None:
    found = looked(*(record(i, KEYS[i % 40], (i // 40 + i) % PARTITIONS) for i in range(400)))
    finding = found.finding("calls")
    assert finding.level == "problem"
    assert "key-" in finding.text
    assert "home" in finding.text
    assert "keys were seen on several" in finding.text
    assert finding.remedy == NOT_KEYED
    assert "key_id" in finding.remedy
    assert "intake_topic" in finding.remedy


def test_another_partitioner_is_told_from_a_missing_key() -> None:
    moved = [record(i, key, (partition_of(key, PARTITIONS) + 1) % 4, key_bytes(key)) for i, key in enumerate(KEYS)]
    assert looked(*moved).finding("calls").remedy == OTHER_PARTITIONER


def test_on_the_intake_topic_keys_may_lie_anywhere() -> None:
    found = looked(*(record(i, KEYS[i % 40], i % PARTITIONS) for i in range(400)))
    assert found.intake_finding("raw").level == "ok"


def test_a_topic_without_records_is_a_hint() -> None:
    found = looked()
    assert found.finding("calls").level == found.intake_finding("calls").level == "hint"


def test_a_topic_of_which_all_is_refused_is_a_problem_with_the_reason() -> None:
    found = looked(*(Record(i, value, None) for i, value in enumerate([b"{", b"[1]", b"{"])))
    for finding in (found.finding("calls"), found.intake_finding("calls")):
        assert finding.level == "problem"
        assert (
            "none of the 3 events at its end can be read (2 broken_json, 1 not_an_object); the first: " in finding.text
        )
        assert "broken_json" in finding.remedy


def test_records_of_another_format_are_told_by_the_setting_that_they_need() -> None:
    kong = b'{"started_at": 1, "latencies": {}, "ai": {"proxy": {"usage": {}}}}'
    found = looked(Record(0, kong, None))
    assert found.finding("calls").remedy.startswith("name this topic as intake_topic with intake_format=kong")
    assert found.intake_finding("raw", "apisix").remedy == "set intake_format to kong"
    assert "kong" not in found.intake_finding("raw", "kong").remedy


def test_what_is_refused_beside_calls_is_told_with_its_reasons() -> None:
    found = looked(record(0, "k", partition_of("k", PARTITIONS)), Record(1, b"{", None), Record(2, b"7", None))
    assert "(2 more are refused: 1 broken_json, 1 not_an_object)" in found.intake_finding("raw").text


def test_ids_are_escaped() -> None:
    assert "\x1b" not in looked(record(0, "\x1b[31m" * 9, 0), record(1, "\x1b[31m" * 9, 1)).finding("calls").text


def test_memory_is_bounded_whatever_the_keys_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MAX_KEYS", 5)
    found = looked(*(record(i, f"k{i}", (partition_of(f"k{i}", PARTITIONS) + 1) % 4) for i in range(50)))
    assert len(found._places) == 5
    assert found.misplaced == 50


def test_for_without_live_is_bad_usage() -> None:
    answer = CliRunner().invoke(command, ["--for", "5"])
    assert answer.exit_code == 2
    assert "--live" in answer.stderr
