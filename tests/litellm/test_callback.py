"""The LiteLLM callback without LiteLLM: it records every call, and nothing that happens to it reaches a request."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import prometheus_client
import pytest
from aiokafka.errors import AuthenticationFailedError, ClusterAuthorizationFailedError, KafkaConnectionError

from stream.gateways.overdraw import parse
from stream.litellm.delivery import Delivery
from stream.litellm.logger import make_logger
from stream.settings import Settings, SettingsError
from tests.gateways.fixtures import FIXTURES

PAYLOAD = next(fixture for fixture in FIXTURES if str(fixture) == "litellm/stream").record


class CustomLogger:
    """LiteLLM's base class, as far as it matters."""


class Producer:
    """Kafka, which takes what it is told to; `broken` is what it raises."""

    def __init__(self, hold: bool = False) -> None:
        self.sent: list[tuple[str, bytes, bytes]] = []
        self.started = self.stopped = 0
        self.start_errors: list[Exception] = []
        self.send_errors: list[Exception] = []
        self.hold = hold
        self.held: list[asyncio.Future[Any]] = []

    async def start(self) -> None:
        self.started += 1
        if self.start_errors:
            raise self.start_errors.pop(0)

    async def send(self, topic: str, value: bytes, key: bytes) -> asyncio.Future[Any]:
        if self.send_errors:
            raise self.send_errors.pop(0)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, key, value))
        if self.hold:
            self.held.append(future)
        else:
            future.set_result(None)
        return future

    async def flush(self) -> None:
        for future in self.held:
            if not future.done():
                future.set_result(None)

    async def stop(self) -> None:
        self.stopped += 1


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.litellm.delivery.RETRY_SECONDS", 0.01)


def made(producer: Producer, limit: int = 100, **settings: Any) -> Any:
    def delivery(chosen: Settings) -> Delivery:
        registry = prometheus_client.CollectorRegistry()
        return Delivery(chosen, limit=limit, producer=lambda _: producer, registry=registry)

    return make_logger(CustomLogger, Settings(**settings), delivery)


async def log(logger: Any, payload: Any, failed: bool = False) -> None:
    hook = logger.async_log_failure_event if failed else logger.async_log_success_event
    await hook({"standard_logging_object": payload, "messages": "PROMPT-marker"}, None, None, None)


async def test_every_call_becomes_an_event_keyed_by_its_key() -> None:
    producer = Producer()
    logger = made(producer, source_topic="calls")
    await log(logger, PAYLOAD)
    await log(
        logger, PAYLOAD | {"status": "failure", "id": "x", "prompt_tokens": 0, "completion_tokens": 0}, failed=True
    )
    delivery = logger.recorder.delivery
    until(lambda: delivery.counts["sent"] == 2)
    delivery.close()
    assert [(topic, key) for topic, key, _ in producer.sent] == [("calls", b"9f2c")] * 2
    calls, rejects = parse([(0, value, 2e9) for _, _, value in producer.sent])
    assert rejects == []
    assert [(call.input_tokens, call.status) for _, _, call in calls] == [(120, 200), (0, 500)]
    assert (delivery.waiting, producer.started, producer.stopped) == (0, 1, 1)


async def test_nothing_of_a_prompt_an_address_or_a_secret_goes_out() -> None:
    producer = Producer()
    logger = made(producer)
    await log(logger, PAYLOAD)
    until(lambda: len(producer.sent) == 1)
    logger.recorder.delivery.close()
    for marker in (b"PROMPT", b"SECRET", b"203.0.113.77"):
        assert marker not in producer.sent[0][2]


async def test_ids_are_hidden_where_there_is_a_key_for_it() -> None:
    producer = Producer()
    logger = made(producer, pseudonym_key="0123456789abcdef")
    await log(logger, PAYLOAD)
    until(lambda: len(producer.sent) == 1)
    logger.recorder.delivery.close()
    _, key, value = producer.sent[0]
    event = json.loads(value)
    assert key.decode() == event["key_id"]
    assert not {"9f2c", "acme", "u-1"} & set(event.values())


@pytest.mark.parametrize("payload", [None, 17, "text", {}, {"call_type": "acompletion", "metadata": {"x": object()}}])
async def test_what_is_no_call_is_counted_and_raises_nothing(payload: Any) -> None:
    logger = made(Producer())
    await log(logger, payload)
    assert logger.recorder.delivery.counts == {"refused": 1}


async def test_a_full_queue_drops_what_comes_and_counts_it() -> None:
    producer = Producer(hold=True)
    logger = made(producer, limit=3)
    for number in range(10):
        await log(logger, PAYLOAD | {"id": str(number)})
    delivery = logger.recorder.delivery
    assert (delivery.counts["dropped"], delivery.waiting) == (7, 3)
    until(lambda: len(producer.sent) == 3)
    delivery.close()
    assert delivery.counts == {"sent": 3, "dropped": 7}


@pytest.mark.usefixtures("quick")
async def test_while_no_broker_is_there_events_wait_and_then_arrive() -> None:
    producer = Producer()
    producer.start_errors = [OSError("no broker")] * 5
    logger = made(producer)
    await log(logger, PAYLOAD)
    delivery = logger.recorder.delivery
    until(lambda: delivery.counts["sent"] == 1)
    delivery.close()
    assert producer.started == 6


@pytest.mark.usefixtures("quick")
async def test_a_password_that_cannot_be_read_for_a_moment_stops_nothing() -> None:
    """While secrets are renewed a file may be missing just when the connection is made anew."""
    producer, failures = Producer(), [SettingsError("kafka_password_file: there is no such file")] * 3

    def make(_: Settings) -> Producer:
        if failures:
            raise failures.pop()
        return producer

    registry = prometheus_client.CollectorRegistry()
    logger = make_logger(CustomLogger, Settings(), lambda s: Delivery(s, producer=make, registry=registry))
    await log(logger, PAYLOAD)
    until(lambda: logger.recorder.delivery.counts["sent"] == 1)
    logger.recorder.delivery.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KafkaConnectionError("gone"), "has no broker (KafkaConnectionError): 1 events wait"),
        (
            ClusterAuthorizationFailedError(),
            "may not write (ClusterAuthorizationFailedError): grant its user",
        ),
        (AuthenticationFailedError("no"), "is not let in (AuthenticationFailedError): look at its user and password"),
        (SettingsError("kafka_password_file: cannot read"), "cannot connect (kafka_password_file: cannot read)"),
    ],
)
async def test_the_proxys_log_says_why_there_is_no_producer(
    error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    producer = Producer()
    producer.start_errors = [error]
    logger = made(producer)
    await log(logger, PAYLOAD)
    until(lambda: logger.recorder.delivery.counts["sent"] == 1)
    logger.recorder.delivery.close()
    assert words in caplog.text


def test_a_certificate_that_cannot_be_read_stops_the_proxy_at_its_start() -> None:
    secured = Settings(kafka_security_protocol="SSL", kafka_ca_file="/nowhere/ca.crt")
    with pytest.raises(SettingsError, match="kafka_ca_file"):
        make_logger(CustomLogger, secured)


@pytest.mark.usefixtures("quick")
async def test_an_event_that_kafka_refuses_is_given_up_and_the_next_ones_arrive() -> None:
    producer = Producer()
    producer.send_errors = [ValueError("too long")]
    logger = made(producer)
    for number in range(3):
        await log(logger, PAYLOAD | {"id": str(number)})
    delivery = logger.recorder.delivery
    until(lambda: delivery.counts.total() == 3)
    delivery.close()
    assert (delivery.counts, delivery.waiting) == ({"failed": 1, "sent": 2}, 0)


@pytest.mark.usefixtures("quick")
async def test_what_a_broken_connection_leaves_open_frees_its_room() -> None:
    producer = Producer(hold=True)
    logger = made(producer, limit=2)
    delivery = logger.recorder.delivery
    await log(logger, PAYLOAD | {"id": "0"})
    until(lambda: len(producer.sent) == 1)
    producer.send_errors = [ConnectionError("gone")]
    await log(logger, PAYLOAD | {"id": "1"})
    until(lambda: delivery.counts["failed"] == 2)
    assert delivery.waiting == 0
    delivery.close()


async def test_the_end_is_bounded_and_counts_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = Producer()
    blocked = threading.Event()

    async def never() -> None:
        await asyncio.to_thread(blocked.wait, 20)
        raise OSError("no broker")

    monkeypatch.setattr(producer, "start", never)
    logger = made(producer)
    for number in range(5):
        await log(logger, PAYLOAD | {"id": str(number)})
    delivery = logger.recorder.delivery
    delivery.close(seconds=0.1)
    assert delivery.counts == {"dropped": 5}
    assert not delivery.offer(b"k", b"v"), "after the end nothing is taken"
    blocked.set()


async def test_the_log_says_why_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    logger = made(Producer())
    for _ in range(50):
        await log(logger, {"call_type": "completion", "metadata": {}, "messages": "PROMPT-marker"})
    (record,) = [record for record in caplog.records if record.name == "overdraw.litellm"]
    assert "metadata.user_api_key_hash" in record.getMessage() or "Field required" in record.getMessage()
    assert "PROMPT-marker" not in caplog.text


def test_without_litellm_the_handler_says_what_to_install() -> None:
    import stream.litellm

    with pytest.raises(ImportError, match=r"overdraw\[litellm\]"):
        _ = stream.litellm.handler
    with pytest.raises(AttributeError):
        _ = stream.litellm.another


def test_the_callback_needs_neither_faust_nor_river() -> None:
    code = "import sys, stream.litellm.logger; print(sorted({'faust', 'river', 'click', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
