"""How often a message is tried: until it is taken, or given up for a reason that is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from stream.notify.client import MAX_RETRY_AFTER_SECONDS, Answer, seconds_of
from stream.notify.delivery import FAILURES, MAX_PAUSE_SECONDS, REFUSALS, Deliverer
from stream.notify.service import Request

REQUEST = Request("http://127.0.0.1:1", b"{}", {})
DELIVERED, DOWN = Answer("delivered", "200 OK"), Answer("retry", "503 Service Unavailable")
REFUSED, REJECTED = Answer("refused", "403 Forbidden"), Answer("rejected", "400 Bad Request")


class Bench:
    """A deliverer on a clock of its own, and a service that answers as scripted; then with the last answer."""

    def __init__(self, *script: Answer, give_up_seconds: float = 86_400) -> None:
        self.now = 0.0
        self.script = list(script)
        self.attempts: list[float] = []
        self.taken: Request | None = None
        self.told: Counter[str] = Counter()
        self.said: list[str] = []
        self.deliverer = Deliverer(
            self.post,
            at_once=4,
            give_up_seconds=give_up_seconds,
            told=lambda outcome: self.told.update([outcome]),
            say=self.said.append,
            clock=lambda: self.now,
            sleep=self.sleep,
            jitter=lambda low, high: high,
        )

    async def post(self, request: Request) -> Answer:
        self.attempts.append(self.now)
        await asyncio.sleep(0)
        if request is self.taken:
            return DELIVERED
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    async def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, end)

    async def deliver(self, written_at: float = 0.0, **more: Any) -> str | None:
        return await self.deliverer.deliver(lambda: REQUEST, written_at, lambda: self.now, **more)


async def test_pauses_grow_to_a_minute_and_an_hours_outage_ends_in_delivery() -> None:
    bench = Bench(*[DOWN] * 65, DELIVERED)
    assert await bench.deliver() == "delivered"
    pauses = [after - before for before, after in zip(bench.attempts, bench.attempts[1:], strict=False)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, MAX_PAUSE_SECONDS]
    assert bench.now > 3600
    assert bench.told == {"retried": 65, "delivered": 1}
    assert len(bench.said) == 2, "that it is down, and that it is back"
    assert bench.deliverer.trouble is None


@pytest.mark.parametrize(
    ("asked", "waits"), [(7.0, 7.0), (0.1, 1.0), (MAX_RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS)]
)
async def test_what_a_service_asks_for_is_waited_for(asked: float, waits: float) -> None:
    bench = Bench(Answer("retry", "429", asked), DELIVERED)
    await bench.deliver()
    assert bench.attempts == [0.0, waits]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("99999999999999999999", MAX_RETRY_AFTER_SECONDS),
        ("-5", None),
        ("1e9", None),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_SECONDS),
        ("", None),
        ("٣", None),
    ],
)
def test_an_odd_retry_after_is_bounded_or_says_nothing(text: str, seconds: float | None) -> None:
    assert seconds_of(text, 1_772_323_200.0) == seconds


async def test_what_the_service_does_not_understand_is_said_once_counted_and_not_tried_again() -> None:
    bench = Bench(REJECTED)
    for _ in range(1000):
        assert await bench.deliver() == "rejected"
    assert bench.told == {"rejected": 1000}
    assert len(bench.attempts) == 1000
    assert len(bench.said) == 1


async def test_wrong_credentials_hold_all_messages_until_they_are_too_old() -> None:
    bench = Bench(REFUSED, give_up_seconds=3600)
    assert await bench.deliver() == "refused"
    assert 3600 < bench.now < 3600 + 2 * MAX_PAUSE_SECONDS
    assert len(bench.attempts) < 80
    assert "check its credentials" in bench.said[0]
    assert len(bench.said) == 2


async def test_one_message_that_is_refused_while_others_are_taken_holds_up_nobody() -> None:
    bench = Bench(REFUSED)
    blocked = asyncio.create_task(bench.deliver())
    while len(bench.attempts) < 10:
        await bench.sleep(0)
    assert not blocked.done(), "perhaps it is the credentials, and then none must be lost"
    bench.taken = Request("http://127.0.0.1:1", b"{}", {})
    assert await bench.deliverer.deliver(lambda: bench.taken, 0.0, lambda: bench.now) == "delivered"
    assert await blocked == "refused"
    assert bench.told["refused"] == 1
    assert len(bench.attempts) >= REFUSALS


async def test_one_message_that_the_server_fails_at_while_it_takes_others_holds_up_nobody() -> None:
    bench = Bench(Answer("retry", "500", failed=True))
    blocked = asyncio.create_task(bench.deliver())
    bench.taken = Request("http://127.0.0.1:1", b"{}", {})

    async def another_is_taken() -> None:
        before = len(bench.attempts)
        assert await bench.deliverer.deliver(lambda: bench.taken, bench.now, lambda: bench.now) == "delivered"
        while not blocked.done() and len(bench.attempts) < before + 3:
            await bench.sleep(0)

    while len(bench.attempts) < 3 * FAILURES:
        await bench.sleep(0)
    for _ in range(FAILURES - 2):
        await another_is_taken()
    assert not blocked.done(), "perhaps one server of several is down"
    for _ in range(4):
        await another_is_taken()
    assert await blocked == "refused"
    assert any("given up: 500" in words for words in bench.said)


async def test_a_server_that_is_back_takes_what_it_failed_at_for_long() -> None:
    bench = Bench(*[Answer("retry", "503", failed=True)] * (4 * FAILURES), DELIVERED)
    assert await asyncio.gather(*(bench.deliver() for _ in range(8))) == ["delivered"] * 8


async def test_a_message_that_cannot_be_made_is_rejected_and_what_it_holds_is_not_shown() -> None:
    bench = Bench(DELIVERED)

    def build() -> Request:
        raise OverflowError("of a secret")

    assert await bench.deliverer.deliver(build, 0.0, lambda: 0.0) == "rejected"
    assert not await bench.deliverer.once(build)
    assert bench.told == {"rejected": 1}
    assert "OverflowError" in bench.said[0]
    assert not any("secret" in words for words in bench.said)
    assert await bench.deliver() == "delivered"


async def test_a_message_that_is_too_old_gets_one_attempt() -> None:
    bench = Bench(DOWN)
    bench.now = 90_000.0
    assert await bench.deliver(written_at=0.0) == "expired"
    assert len(bench.attempts) == 1
    assert "given up after 24 h" in bench.said[-1]


async def test_what_is_no_longer_wanted_is_not_sent() -> None:
    bench = Bench(DOWN, DELIVERED)
    wanted = iter([True, False])
    assert await bench.deliver(wanted=lambda: next(wanted)) is None
    assert len(bench.attempts) == 1


async def test_many_that_wait_together_count_as_one_failure() -> None:
    bench = Bench(*[DOWN] * 4, DELIVERED)
    assert await asyncio.gather(*(bench.deliver() for _ in range(4))) == ["delivered"] * 4
    assert set(bench.attempts) == {0.0, 1.0}


async def test_what_is_said_again_is_tried_once_and_not_while_the_service_is_down() -> None:
    bench = Bench(DOWN, DELIVERED)
    assert not await bench.deliverer.once(lambda: REQUEST)
    assert not await bench.deliverer.once(lambda: REQUEST)
    assert len(bench.attempts) == 1
    bench.now = 5.0
    assert not await bench.deliverer.once(lambda: None), "there is nothing to say"
    assert await bench.deliverer.once(lambda: REQUEST)
    assert bench.attempts == [0.0, 5.0]
