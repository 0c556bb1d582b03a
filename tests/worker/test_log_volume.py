"""What goes wrong on every partition, again and again, is a few lines: the log of an outage can still be read."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, ProducerFenced, TopicAuthorizationFailedError

from stream.worker import intake
from stream.worker.logs import Likewise, Plain, Seldom
from stream.worker.monitor import Monitor
from tests.worker.fakes import T0, Bench, call, until
from tests.worker.test_repartition import IntakeBench

PARTITIONS = 24
ROUNDS = 4
MOST_LINES = 40
"""One line a partition for its takeover, and some for everything else; unbounded it would be hundreds."""


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as a worker writes it, but into memory."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Plain())
    handler.addFilter(Seldom())
    handler.addFilter(Likewise())
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield text
    root.removeHandler(handler)
    root.setLevel(before)


async def all_live(bench: Bench) -> None:
    await until(lambda: all(bench.shards.ready(partition) for partition in range(PARTITIONS)), 20)


async def test_missing_rights_or_a_full_disk_are_a_few_lines(log: io.StringIO) -> None:
    bench = Bench(partitions=PARTITIONS)
    await bench.assign(*range(PARTITIONS))
    for _ in range(ROUNDS):
        for partition in range(PARTITIONS):
            bench.shards.live[partition].owner_due = True
            bench.kafka.fail_next.append(TopicAuthorizationFailedError("overdraw-state"))
            assert not await bench.flush(partition)
        await all_live(bench)
    lines = log.getvalue().splitlines()
    assert len(lines) <= MOST_LINES
    assert sum("TopicAuthorizationFailedError" in line for line in lines) == 1
    assert not any("Traceback" in line for line in lines)


async def test_a_broker_that_refuses_every_takeover_is_a_few_lines(log: io.StringIO) -> None:
    bench = Bench(partitions=PARTITIONS)
    refusals = 0

    async def refuse(partition: int) -> bool:
        nonlocal refusals
        refusals += 1
        raise ConnectionError("refused")

    bench.group.is_member = refuse  # type: ignore[method-assign]
    bench.group.mine = set(range(PARTITIONS))
    bench.shards.on_assigned(range(PARTITIONS))
    await until(lambda: refusals >= 2 * PARTITIONS)
    await bench.shards.on_revoked()
    assert len(log.getvalue().splitlines()) <= 3


async def test_a_record_that_fails_again_after_every_takeover_shows_its_traceback_once(log: io.StringIO) -> None:
    bench = Bench()
    real = bench.tools.core

    def defective(partition: int) -> Any:
        core = real(partition)

        def observe(*_: Any) -> Any:
            raise ZeroDivisionError("a defect")

        core.observe = observe  # type: ignore[method-assign]
        return core

    object.__setattr__(bench.tools, "core", defective)
    await bench.assign(0)
    poison = bench.kafka.feed([call("poison", T0)])
    for _ in range(ROUNDS):
        await bench.take(poison)
        await until(lambda: bench.shards.ready(0) is not None)
    assert bench.observer.counts["dropped"] == ROUNDS
    text = log.getvalue()
    assert text.count("Traceback") == 1
    assert text.count("a record could not be applied") == 1


async def test_the_intake_is_as_quiet_in_an_outage(log: io.StringIO) -> None:
    bench = IntakeBench(intake_partitions=PARTITIONS)
    partitions = range(PARTITIONS)
    await bench.go(*partitions)
    for _ in range(ROUNDS):
        for partition in partitions:
            bench.intakes.live[partition].owner_due = True
            bench.kafka.fail_next.append(KafkaTimeoutError())
            assert not await bench.write(partition)
        await until(lambda: all(bench.intakes.ready(partition) for partition in partitions), 20)
    bench.raw_group.silent = True
    monitor = Monitor(bench.tools, bench.shards, intakes=bench.intakes)
    assert monitor.intake is not None
    for _ in range(100):
        await monitor.intake.look()
    lines = log.getvalue().splitlines()
    assert len(lines) <= MOST_LINES
    assert sum("KafkaTimeoutError" in line for line in lines) == 1
    assert sum("the end of the intake topic is not known" in line for line in lines) == 1


async def test_a_record_that_cannot_be_keyed_shows_its_traceback_once(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defective(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(intake, "key_records", defective)
    bench = IntakeBench()
    await bench.go(0)
    poison = bench.unkeyed.feed([call("poison", T0)])
    for _ in range(ROUNDS):
        await bench.hand(poison)
        await until(lambda: bench.intakes.ready(0) is not None)
    text = log.getvalue()
    assert bench.observer.counts["dropped"] == ROUNDS
    assert text.count("Traceback") == 1
    assert text.count("a record could not be keyed") == 1


async def test_a_ghost_that_was_fenced_is_quiet(log: io.StringIO) -> None:
    bench = Bench(partitions=PARTITIONS)
    await bench.assign(*range(PARTITIONS))
    bench.group.member = False
    before = len(log.getvalue().splitlines())
    for partition in range(PARTITIONS):
        bench.shards.live[partition].owner_due = True
        bench.kafka.fail_next.append(ProducerFenced())
        await bench.flush(partition)
    await until(lambda: len(bench.group.asked) > 3 * PARTITIONS)
    await asyncio.sleep(0)
    await bench.shards.on_revoked()
    assert len(log.getvalue().splitlines()) - before <= 3
