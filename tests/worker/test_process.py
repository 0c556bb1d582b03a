from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from stream.worker.app import build_app
from stream.worker.logs import GATHER_SECONDS, REPEAT_SECONDS, Likewise, NoFencing, Plain, Seldom, likewise
from stream.worker.process import NoTables
from stream.worker.transport import FETCH_WAIT_MS, BatchThread
from tests.worker.fakes import Kept, make_settings, until


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


def test_our_own_line_that_repeats_itself_is_heard_once_in_a_while_for_each_thing_that_it_is_about() -> None:
    seldom = Seldom(lambda: 0.0)

    def live(partition: int) -> logging.LogRecord:
        marked = record("stream.worker.shards", "live")
        marked.seldom = partition
        return marked

    assert [seldom.filter(live(partition)) for partition in (0, 1, 0, 1)] == [True, True, False, False]


def test_what_befalls_many_partitions_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    gather = Likewise(lambda: now[0])

    def dropped(partition: int, why: str = "no broker", noun: str = "partition") -> bool:
        marked = record("stream.worker.shards", "partition %d: dropped: %s")
        marked.__dict__.update(likewise(partition, why, noun))
        return gather.filter(marked)

    assert [dropped(partition) for partition in range(24)] == [True] + [False] * 23
    assert dropped(3, "fenced"), "another reason is another line"
    assert dropped(3, noun="intake partition"), "and so is a partition of another topic"
    assert gather.filter(record("stream.worker.shards", "another"))
    gather.tell()
    assert caplog.messages == []
    now[0] = GATHER_SECONDS
    gather.tell()
    gather.tell()
    assert caplog.messages == ["likewise partitions " + ", ".join(map(str, range(1, 24))) + ": no broker"]
    assert not dropped(7)
    now[0] = REPEAT_SECONDS
    assert dropped(7)


def test_what_a_fenced_producer_says_by_itself_is_left_out() -> None:
    from aiokafka.errors import ProducerFenced

    assert not NoFencing().filter(record("aiokafka.producer.sender", "oh", ProducerFenced()))
    assert NoFencing().filter(record("aiokafka.producer.sender", "oh", OSError()))


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


def test_the_consumer_reads_what_is_committed_and_lets_no_broker_hold_its_fetches_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = SimpleNamespace(_isolation_level="read_uncommitted", _fetch_max_wait_ms=1500)
    monkeypatch.setattr(AIOKafkaConsumerThread, "_create_worker_consumer", lambda *_: theirs)
    thread = BatchThread.__new__(BatchThread)  # made by its own hands it would open an event loop
    consumer = thread._create_worker_consumer(None)
    assert consumer._isolation_level == "read_committed"
    assert consumer._fetch_max_wait_ms == FETCH_WAIT_MS < 500


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


async def test_the_start_does_not_wait_for_tables_to_be_added() -> None:
    app = build_app(make_settings(), ending=Kept())
    steps = []

    class Unhurried(NoTables):
        @property
        def recovery(self) -> Any:
            return self

        async def start(self) -> None:
            steps.append("recovery")

        async def _update_channels(self) -> None:
            steps.append("channels")

        async def sleep(self, n: Any) -> None:
            raise AssertionError(f"it waits for {n} s")

    assert app.conf.TableManager is NoTables
    await Unhurried(app).on_start()
    assert steps == ["channels", "recovery"]
