"""The limits of a transaction, on a producer in memory; what it does on a real Kafka is tested in tests/kafka."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stream.worker import journal as module
from stream.worker.journal import Journal, JournalError, Record
from tests.worker.fakes import make_settings

BATCH = 100


class Batch:
    def __init__(self) -> None:
        self.size = 0

    def append(self, *, value: bytes, **_: Any) -> object | None:
        if self.size + len(value) > BATCH:
            return None
        self.size += len(value)
        return object()


class Producer:
    """Sends one batch after the other; `pace` seconds each, or for ever from batch `hangs_at` on."""

    def __init__(self, pace: float = 0.0, hangs_at: int | None = None) -> None:
        self.pace, self.hangs_at = pace, hangs_at
        self.made = self.sent = 0
        self.ahead = 0
        self.committed = False

    async def begin_transaction(self) -> None:
        pass

    def create_batch(self) -> Batch:
        self.made += 1
        self.ahead = max(self.ahead, self.made - self.sent)
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        await asyncio.sleep(self.pace)
        if self.sent == self.hangs_at:
            await asyncio.Event().wait()
        self.sent += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def commit_transaction(self) -> None:
        self.committed = True


def on(producer: Producer) -> Journal:
    journal = Journal(make_settings(), 0)  # made behind the test's change of the limits
    journal._producer = producer
    return journal


def rows(count: int, size: int = 40) -> list[Record]:
    return [(b"k", b"x" * size, ()) for _ in range(count)]


async def test_a_large_transaction_may_take_long_as_long_as_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.3)
    producer = Producer(pace=0.05)
    await on(producer).write({"states": rows(20)})
    assert (producer.sent, producer.committed) == (10, True)


async def test_a_transaction_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.05)
    producer = Producer(hangs_at=3)
    with pytest.raises(TimeoutError):
        await on(producer).write({"states": rows(20)})
    assert not producer.committed


async def test_no_transaction_takes_longer_than_the_broker_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.1)
    producer = Producer(pace=0.03)
    with pytest.raises(TimeoutError):
        await on(producer).write({"states": rows(200)})
    assert not producer.committed


def test_the_broker_waits_longer_than_we_do_and_the_watchdog_too() -> None:
    from stream.worker.monitor import STUCK_SECONDS

    assert module.INTAKE_TIMEOUT_SECONDS > module.INTAKE_WRITE_SECONDS

    assert min(STUCK_SECONDS, module.TRANSACTION_TIMEOUT_SECONDS) > module.WRITE_SECONDS


async def test_batches_are_built_when_they_are_wanted_and_not_all_at_once() -> None:
    producer = Producer()
    await on(producer).write({"alerts": rows(6), "states": rows(21)})
    assert (producer.sent, producer.ahead) == (3 + 11, 1)


async def test_a_record_that_fits_into_no_batch_is_named() -> None:
    with pytest.raises(JournalError, match="200 bytes for states"):
        await on(Producer()).write({"states": rows(1, 200)})


async def test_nothing_is_no_batch() -> None:
    producer = Producer()
    await on(producer).write({"states": []})
    assert (producer.made, producer.committed) == (0, True)
