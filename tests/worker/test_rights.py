"""After a refusal for want of a right: one line, slow looks, and no takeover in vain."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka.errors import (
    CorrelationIdError,
    GroupAuthorizationFailedError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from stream.settings import Settings
from stream.worker.rights import PAUSE_SECONDS, REPEAT_SECONDS, STALE_SECONDS, Refusals, transaction_problem
from stream.worker.tools import EXIT_STUCK
from stream.worker.topics import Problem
from tests.worker.fakes import T0, Bench, Clock, call, make_settings, until


class Cluster:
    """Tells what is missing, answer by answer; its time passes by sleeping only."""

    def __init__(self, *answers: list[Problem] | Exception) -> None:
        self.answers = list(answers)
        self.clock = Clock(0.0)
        self.slept: list[float] = []

    async def look(self, settings: Settings) -> list[Problem]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds
        await asyncio.sleep(0)

    def refusals(self) -> Refusals:
        return Refusals(make_settings(), self.look, self.clock, self.sleep)


MISSING = [transaction_problem(make_settings())]
DENIED = TransactionalIdAuthorizationFailed("overdraw-0")


async def test_without_a_refusal_nobody_is_asked_and_nobody_waits() -> None:
    cluster = Cluster(AssertionError("asked"))
    refusals = cluster.refusals()
    assert not refusals.take(KafkaTimeoutError())
    await refusals.over()
    assert cluster.slept == []


async def test_all_wait_until_the_right_is_back_and_one_line_names_it(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(MISSING, MISSING, MISSING, [])
    refusals = cluster.refusals()
    assert refusals.take(DENIED)
    await asyncio.gather(*(refusals.over() for _ in range(8)))
    assert cluster.slept == [PAUSE_SECONDS] * 3
    (line,) = caplog.messages
    assert line.startswith("transactional ids overdraw-*: we lack the right Write: grant it (kafka-acls --add ")
    await refusals.over()
    assert len(cluster.slept) == 3, "it is over"


async def test_it_is_said_again_once_a_minute_and_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    looks = int(REPEAT_SECONDS / PAUSE_SECONDS) + 1
    other = [Problem("no_rights", "api-calls", "we lack the right Read", "grant it")]
    cluster = Cluster(*[MISSING] * looks, other, [])
    refusals = cluster.refusals()
    refusals.take(DENIED)
    await refusals.over()
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    assert ["transactional" in message for message in caplog.messages] == [True, True, False]


@pytest.mark.parametrize(
    "answer",
    [[], ConnectionError("no broker"), CorrelationIdError()],
    ids=["none is missing", "nobody answers", "an answer of another kind"],
)
async def test_a_refusal_that_no_missing_right_explains_only_slows_down(
    answer: list[Problem] | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(answer)
    refusals = cluster.refusals()
    refusals.take(DENIED)
    await refusals.over()
    assert (cluster.slept, caplog.messages) == ([STALE_SECONDS], [])


async def test_a_shard_that_may_not_write_is_taken_over_again_only_when_it_may() -> None:
    bench = Bench()
    granted = asyncio.Event()

    async def look(settings: Settings) -> list[Problem]:
        return [] if granted.is_set() else MISSING

    looks = 0

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.001)

    bench.shards._acquirer.refusals = Refusals(bench.settings, look, sleep=sleep)
    await bench.assign(0)
    await bench.take(bench.kafka.feed([call("a", T0)]))
    bench.kafka.fail_next.append(TopicAuthorizationFailedError("overdraw-state"))
    assert not await bench.flush()
    epoch = bench.kafka.epochs[0]
    await until(lambda: looks > 600)  # 0.5 s and more, after which a shard would else be tried again
    assert (bench.shards.live, bench.kafka.epochs[0]) == ({}, epoch)
    granted.set()
    await until(lambda: bench.shards.ready(0))
    await bench.take(bench.kafka.source[0])
    assert bench.calls() == 1


async def test_a_worker_that_loses_its_group_ends_and_one_that_may_not_read_waits() -> None:
    bench = Bench()
    cluster = Cluster(MISSING, [])
    bench.shards._acquirer.refusals = cluster.refusals()
    await bench.shards.denied(TopicAuthorizationFailedError("api-calls"))
    assert (bench.deaths, cluster.slept) == ([], [PAUSE_SECONDS])
    await bench.shards.denied(GroupAuthorizationFailedError("overdraw"))
    ((code, text),) = bench.deaths
    assert code == EXIT_STUCK
    assert text.startswith("consumer group overdraw: we lack the right Read: grant it")
