"""What `feed` makes of a record and of its time; no broker needed."""

from __future__ import annotations

import math
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from stream.cli.feed import command
from stream.gateways.overdraw import parse
from stream.lab.feed import NO_TIME, Pace, split

CALL = b'{"event_id": "e", "time": 1700000000, "key_id": "k", "unknown": [1]}'


@pytest.mark.parametrize(
    ("record", "events"),
    [
        pytest.param(CALL, [(1.7e9, "k", CALL)], id="as it is"),
        pytest.param(b"[" + CALL + b" , " + CALL + b"]", [(1.7e9, "k", CALL)] * 2, id="elements, one by one"),
        pytest.param(b'{"key_id": "k"}', [(NO_TIME, "k", b'{"key_id": "k"}')], id="no time"),
        pytest.param(b'{"key_id": "k", "time": {}}', [(NO_TIME, "k", b'{"key_id": "k", "time": {}}')], id="bad time"),
        pytest.param(b'{"key_id": 7}', [(NO_TIME, None, b'{"key_id": 7}')], id="key of a wrong type"),
        pytest.param(b"{}", [(NO_TIME, None, b"{}")], id="no key"),
        pytest.param(b'{"key_id": "k"', [(NO_TIME, None, b'{"key_id": "k"')], id="broken"),
        pytest.param(b"\xff\xfe", [(NO_TIME, None, b"\xff\xfe")], id="not UTF-8"),
        pytest.param(b"7", [(NO_TIME, None, b"7")], id="not an object"),
        pytest.param(b"[]", [], id="an array of nothing"),
        pytest.param(b"[[1], 2]", [(NO_TIME, None, b"[1]"), (NO_TIME, None, b"2")], id="elements that are no objects"),
        pytest.param(
            b'{"key_id": "k", "cost_usd": NaN}', [(NO_TIME, "k", b'{"key_id": "k", "cost_usd": NaN}')], id="NaN"
        ),
        pytest.param(b'[{"key_id":"k","x":NaN}]', [(NO_TIME, "k", b'{"key_id":"k","x":NaN}')], id="NaN in an array"),
        pytest.param(
            '{"key_id": "ключ \\ud83d\\ude00"}'.encode(),
            [(NO_TIME, "ключ 😀", '{"key_id": "ключ \\ud83d\\ude00"}'.encode())],
            id="a key beyond ASCII",
        ),
        pytest.param(b"[" * 100_000, [(NO_TIME, None, b"[" * 100_000)], id="nested a hundred thousand times"),
        pytest.param(b'{"x":' * 9_999, [(NO_TIME, None, b'{"x":' * 9_999)], id="objects nested without end"),
        pytest.param(b'{"key_id": "\\ud800"}', [(NO_TIME, None, b'{"key_id": "\\ud800"}')], id="half a pair"),
    ],
)
def test_a_record_becomes_its_events(record: bytes, events: list[tuple[float, str | None, bytes]]) -> None:
    assert split(record) == events


@given(st.binary())
def test_nothing_that_a_file_may_hold_stops_it_and_nothing_is_lost(record: bytes) -> None:
    events = split(record)
    calls, rejects = parse([(0, record, math.inf)])
    if events != [(NO_TIME, None, record)]:
        assert len(events) == len(calls) + len(rejects), "as many events as the parser sees"


def test_a_record_is_due_at_its_own_pace() -> None:
    pace = Pace(speed=10, begin=100.0)
    assert [pace.due(1000.0), pace.due(1020.0), pace.due(1010.0), pace.due(990.0)] == [100.0, 102.0, 101.0, 99.0]
    assert pace.due(NO_TIME) == 100.0, "what has no time is due at once"


def test_one_wrong_clock_does_not_make_the_file_wait_for_years() -> None:
    pace = Pace(speed=1, begin=0.0)
    far = 4e9
    assert pace.due(1000.0) == 0
    assert pace.due(far) == 0, "a jump of more than a day waits for a second one"
    assert pace.due(1060.0) == 60
    assert pace.due(far + 5) == far + 5 - 1000, "now two say so: the file has a gap"


def test_a_gap_of_days_is_confirmed_by_the_record_behind_it() -> None:
    pace = Pace(speed=86_400, begin=0.0)
    pace.due(1_700_000_000.0)
    pace.due(1_700_000_000.0 + 2 * 86_400)
    assert pace.due(1_700_000_000.0 + 2 * 86_400 + 1) == pytest.approx(2, abs=0.001)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_broker_is_exit_3_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").write_bytes(CALL)
    broker = f"127.0.0.1:{unused_port()}"
    answer = CliRunner().invoke(command, [str(tmp_path / "calls.jsonl"), "--broker", broker])
    assert answer.exit_code == 3
    assert f"no Kafka answers at {broker}: start it, or" in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["calls.jsonl", "--speed", "-1"], "--speed"),
        (["calls.jsonl", "--broker", "nowhere"], "broker (from the command line): must be host:port"),
        (["calls.jsonl", "--format", "avro"], "avro"),
        (["calls.csv", "--map", "key_id"], "write it as NAME=VALUE"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], words: str) -> None:
    from stream.settings import SettingsError

    answer = CliRunner().invoke(command, arguments)
    said = answer.stderr + (str(answer.exception) if isinstance(answer.exception, SettingsError) else "")
    assert words in said
    assert answer.exit_code == 2 or isinstance(answer.exception, SettingsError), "which the front door makes a 2"


def test_the_help_shows_an_example() -> None:
    answer = CliRunner().invoke(command, ["--help"])
    assert answer.exit_code == 0
    assert "overdraw feed calls.jsonl.gz --speed 0" in answer.output


@pytest.mark.parametrize("speed", ["nan", "inf", "-1"])
def test_a_pace_is_a_finite_number(speed: str) -> None:
    answer = CliRunner().invoke(command, ["calls.jsonl", "--speed", speed])
    assert answer.exit_code == 2
    assert "--speed" in answer.output
