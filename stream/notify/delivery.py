"""How often a message is tried until it is taken, or given up for a reason that is counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from stream.notify.client import Answer, Post, Verdict
from stream.notify.service import Request

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0
REFUSALS = 3
"""A message that was refused so often, while the service took others, is what it refuses: it is given up."""
FAILURES = 10
"""The same for a message that ends in an error of the server, which may be down in part: so with more patience."""
SAY_SECONDS = 60.0
"""A trouble that goes on in other words is said again after this time at the earliest."""

Outcome = Literal["delivered", "rejected", "refused", "expired"]
OUTCOMES: tuple[str, ...] = (
    "delivered", "digested", "resent", "retried", "rejected", "refused", "expired", "unreadable",
)  # fmt: skip


@dataclass(slots=True)
class Trial:
    """What one message has met with so far; `taken` counts the messages that its service has taken."""

    refusals: int = 0
    failures: int = 0
    _begun: int | None = None
    _seen: int = 0

    def begin(self, taken: int) -> None:
        """Note what was taken before its first attempt."""
        if self._begun is None:
            self._begun = self._seen = taken

    def note(self, answer: Answer, taken: int) -> str | None:
        """Take up an attempt that failed; what it is given up for, None if it is not."""
        self.refusals += answer.verdict == "refused"
        if self.refusals >= REFUSALS and taken > (self._begun or 0):
            return "refuses a message and takes others, so it is given up"
        if answer.failed and taken > self._seen:  # others were taken since it failed last
            self.failures, self._seen = self.failures + 1, taken
        if self.failures >= FAILURES:
            return "fails at a message again and again and takes others, so it is given up"
        return None


class Deliverer:
    """Tries until a message is delivered or given up. All messages of a notifier wait together for one that is down.

    `at_once` attempts are under way at most; with 1 each is built when the one before it has its answer.
    `told(outcome)` counts; `say(text)` hears of each new trouble once, and of its end.
    """

    def __init__(
        self,
        post: Post,
        *,
        at_once: int,
        give_up_seconds: float,
        told: Callable[[str], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._send = post
        self._slots = asyncio.Semaphore(at_once)
        self._in_flight = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._give_up = give_up_seconds
        self._told = told
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._hold_until = 0.0
        self._failures = 0
        self._taken = 0
        self._said: tuple[str, str, float] | None = None
        self.trouble: str | None = None
        """What the service said last, if it did not take the last message."""

    async def deliver(
        self,
        build: Callable[[], Request],
        written_at: float,
        now: Callable[[], float],
        wanted: Callable[[], bool] = lambda: True,
        *,
        trial: Trial | None = None,
        attempts: int | None = None,
    ) -> Outcome | Literal["failed"] | None:
        """Send what `build` makes at each attempt, until there is an outcome; None if it is no longer `wanted`.

        `written_at` and `now()` are epoch seconds: a message older than `give_up_seconds` gets one attempt. One that
        `build` raises for is rejected. After so many `attempts` without an outcome it is `failed`, to be gone on with:
        `trial` then holds what it has met with.
        """
        trial = Trial() if trial is None else trial
        trial.begin(self._taken)
        made = 0
        while attempts is None or made < attempts:
            made += 1
            await self._hold()
            answer = await self._post(build, wanted)
            if answer is None:
                return None
            if answer.verdict == "delivered":
                self._fine()
                return self._end("delivered")
            if answer.verdict == "rejected":
                self._trouble("rejected", f"rejects a message, which is given up: {answer.words}")
                return self._end("rejected")
            self._fail(answer)
            if (reason := trial.note(answer, self._taken)) is not None:
                self._say(f"{reason}: {answer.words}")
                return self._end("refused")
            if now() - written_at > self._give_up:
                self._say(f"a message is given up after {self._give_up / 3600:g} h: {answer.words}")
                return self._end("refused" if answer.verdict == "refused" else "expired")
            self._told("retried")
        return "failed"

    async def _post(self, build: Callable[[], Request | None], wanted: Callable[[], bool]) -> Answer | None:
        async with self._slots:
            try:
                request = build() if wanted() else None
            except Exception as error:  # its text may hold what the alert says, or a secret
                return Answer("rejected", f"no request can be made of it: {type(error).__name__}")
            if request is None:
                return None
            self._in_flight += 1
            self._settled.clear()
            try:
                return await self._send(request)
            finally:
                self._in_flight -= 1
                if not self._in_flight:
                    self._settled.set()

    async def settle(self, seconds: float) -> None:
        """Wait for the attempts that are under way, so long at most; those who made them have taken note then."""
        try:
            await asyncio.wait_for(self._settled.wait(), seconds)
        except TimeoutError:
            return
        await asyncio.sleep(0)

    async def once(self, build: Callable[[], Request | None]) -> bool:
        """One attempt, for what will be said again anyway; none while the service is held to be down."""
        if self._clock() < self._hold_until:
            return False
        answer = await self._post(build, lambda: True)
        if answer is None:
            return False
        if answer.verdict == "delivered":
            self._fine()
        elif answer.verdict == "rejected":
            self._trouble("rejected", f"rejects what is said again: {answer.words}")
        else:
            self._fail(answer)
        return answer.verdict == "delivered"

    async def _hold(self) -> None:
        while (left := self._hold_until - self._clock()) > 0:
            await self._sleep(left)

    def _end(self, outcome: Outcome) -> Outcome:
        self._told(outcome)
        return outcome

    def _fine(self) -> None:
        if self._failures:
            self._say("takes messages again")
            self._said = None
        self._taken += 1
        self._failures, self._hold_until, self.trouble = 0, 0.0, None

    def _fail(self, answer: Answer) -> None:
        now = self._clock()
        if answer.verdict == "refused":
            self._trouble("refused", f"refuses: {answer.words}: check its credentials and its address; tried again")
        else:
            self._trouble("retry", f"does not take messages, tried again: {answer.words}")
        if now >= self._hold_until:  # of several attempts at once that failed, the first one counts
            self._failures += 1
            self._hold_until = now + self._pause(answer.retry_after)

    def _pause(self, retry_after: float | None) -> float:
        longest = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10))
        pause = self._jitter(longest / 2, longest)
        return pause if retry_after is None else max(pause, retry_after)

    def _trouble(self, verdict: Verdict, words: str) -> None:
        self.trouble = words
        now = self._clock()
        if self._said is not None:
            said, before, at = self._said
            if said == verdict and (words == before or now - at < SAY_SECONDS):
                return
        self._said = (verdict, words, now)
        self._say(words)
