from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from stream.worker import process
from stream.worker.app import build_app
from stream.worker.logs import NoFencing, Plain, Seldom
from stream.worker.process import Exit
from tests.worker.fakes import make_settings, until


class Kept(Exit):
    """Writes down how the process would have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: list[int] = []

    def at_once(self, code: int) -> None:
        self.codes.append(code)


def record(name: str, text: str, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error is not None else None
    return logging.LogRecord(name, logging.ERROR, "f", 1, text, (), info)


def test_a_log_line_is_one_line_with_untrusted_text_escaped() -> None:
    line = Plain().format(record("stream.worker", "key \x1b[31m\nnext"))
    assert line.endswith("ERROR stream.worker: key \\x1b[31m\\nnext")
    assert "\n" not in line


def test_a_librarys_traceback_is_one_line_and_our_own_is_whole() -> None:
    assert Plain().format(record("aiokafka.x", "no", OSError("gone"))).endswith("aiokafka.x: no (OSError: gone)")
    assert "\nOSError: gone" in Plain().format(record("stream.x", "no", OSError("gone")))


def test_a_library_that_repeats_itself_is_heard_once_in_a_while() -> None:
    now = [0.0]
    seldom = Seldom(lambda: now[0])
    assert [seldom.filter(record("aiokafka", "no broker")) for _ in range(3)] == [True, False, False]
    assert seldom.filter(record("aiokafka", "something else"))
    assert all(seldom.filter(record("stream.worker", "ours")) for _ in range(3))
    now[0] = 31.0
    assert seldom.filter(record("aiokafka", "no broker"))


def test_what_a_fenced_producer_says_by_itself_is_left_out() -> None:
    from aiokafka.errors import ProducerFenced

    assert not NoFencing().filter(record("aiokafka.producer.sender", "oh", ProducerFenced()))
    assert NoFencing().filter(record("aiokafka.producer.sender", "oh", OSError()))


def test_the_end_comes_even_if_everything_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.02)
    ending = Kept()
    ending.arm()
    ending.arm()
    deadline = time.monotonic() + 5
    while not ending.codes and time.monotonic() < deadline:
        time.sleep(0.005)
    assert ending.codes == [1]


def test_a_stop_that_was_asked_for_and_is_clean_ends_with_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "FAUST_STOP_SECONDS", 0.02)
    ending = Kept()
    ending.asked = True
    ending.closed()
    deadline = time.monotonic() + 5
    while not ending.codes and time.monotonic() < deadline:
        time.sleep(0.005)
    assert ending.codes == [0]


def test_a_clean_end_after_a_loss_is_3_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "FAUST_STOP_SECONDS", 60.0)
    ending = Kept()
    ending.asked = True
    ending.lose("partition 3: 7 offsets were deleted")
    ending.lose("partition 4: the same")
    assert ending.code == 1, "not written yet: others may not take it for a clean end"
    ending.closed()
    assert ending.code == 3
    assert "a log has lost records: partition 3: 7 offsets were deleted (and 1 times more)" in caplog.text


async def test_the_first_signal_stops_and_a_second_one_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ending = Kept()
    app = build_app(make_settings(), ending=ending)
    worker = app.Worker(loop=asyncio.get_running_loop())
    stops: list[Any] = []
    monkeypatch.setattr(worker, "_schedule_shutdown", stops.append)
    monkeypatch.setattr(ending, "arm", lambda: None)
    worker._on_sigterm()
    worker._on_sigterm()
    assert (len(stops), ending.codes) == (1, []), "a supervisor's echo is no second wish"
    ending.asked_at -= 1
    worker._on_sigterm()
    assert ending.codes == [128 + 15]


async def test_the_app_is_set_up_as_the_journal_needs_it() -> None:
    conf = build_app(make_settings(instance_id="worker-0", broker="a:1,b:2"), ending=Kept()).conf
    assert conf.processing_guarantee.value == "at_least_once"
    assert conf.consumer_auto_offset_reset == "earliest"
    assert conf.consumer_group_instance_id == "worker-0"
    assert conf.broker_request_timeout >= conf.broker_session_timeout
    assert conf.broker_heartbeat_interval <= conf.broker_session_timeout / 3
    assert not conf.stream_wait_empty
    assert not conf.topic_allow_declare
    assert [str(url) for url in conf.broker] == ["kafka://a:1", "kafka://b:2"]


async def test_fausts_own_web_server_stays_off_whatever_its_command_line_says() -> None:
    app = build_app(make_settings(), ending=Kept())
    app.conf.web_enabled = True
    assert list(app.boot_strategy.web_server()) == []


async def test_the_flusher_must_not_end_unseen(caplog: pytest.LogCaptureFixture) -> None:
    ending = Kept()
    detector = build_app(make_settings(web_port=0), ending=ending).detector

    async def run() -> None:
        raise ZeroDivisionError

    detector.monitor.run = run  # type: ignore[method-assign]
    await detector.start()
    await until(lambda: ending.codes == [1])
    assert "failed" in caplog.text
    detector.shards.stopping = True
    for task in detector._tasks:
        task.cancel()
    await asyncio.gather(*detector._tasks, return_exceptions=True)
    await detector.web.stop()
