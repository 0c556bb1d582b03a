"""Delivery over HTTP: one attempt with a bounded answer, and how often a failed one is tried again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal, Protocol

import aiohttp
from pydantic import SecretStr

from stream import __version__
from stream.alerts import printable
from stream.notify.secrets import hidden
from stream.notify.service import Notifier, Request

MAX_ANSWER_BYTES = 16 << 10
"""The rest of an answer is not read: the connection is closed."""
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 900.0
"""A service may ask for more patience than this; we then ask it once in a while."""
REFUSALS = 3
"""A message that was refused so often, while the service took others, is what it refuses: it is given up."""
FAILURES = 10
"""The same for a message that ends in an error of the server, which may be down in part: so with more patience."""
SAY_SECONDS = 60.0
"""A trouble that goes on in other words is said again after this time at the earliest."""
UNUSABLE = frozenset({400, 411, 413, 414, 415, 422, 431})
"""What says that this very request is wrong: it would be wrong again."""
PASSING = frozenset({408, 409, 423, 425, 429})
"""What passes by itself."""

Verdict = Literal["delivered", "retry", "refused", "rejected"]
Outcome = Literal["delivered", "rejected", "refused", "expired"]
OUTCOMES: tuple[str, ...] = (
    "delivered", "digested", "resent", "retried", "rejected", "refused", "expired", "unreadable",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt: the verdict, words for people without secrets, and what Retry-After asked for."""

    verdict: Verdict
    words: str
    retry_after: float | None = None
    failed: bool = False
    """Whether the server came to an error of its own (5xx), perhaps because of this very message."""


class Post(Protocol):
    """One attempt."""

    async def __call__(self, request: Request) -> Answer:
        """Send, and judge the answer; raises nothing but CancelledError."""
        ...


class Client:
    """Makes the attempts for one notifier. `secrets` are taken out of whatever is shown."""

    def __init__(
        self, notifier: Notifier, *, timeout_seconds: float, proxy: str | None, secrets: list[SecretStr]
    ) -> None:
        self._notifier = notifier
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._proxy = proxy
        self._secrets = secrets
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, request: Request) -> Answer:
        """See `Post`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                headers={"User-Agent": f"overdraw/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a small answer could be a large one in disguise
            )
        try:
            async with self._session.post(
                request.url, data=request.body, headers=request.headers, proxy=self._proxy, allow_redirects=False
            ) as answer:
                body = await _start_of(answer)
                return self._judge(answer.status, answer.headers.get("Retry-After"), body)
        except TimeoutError:
            return Answer("retry", f"no answer within {self._timeout.total:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer("retry", self._shown(f"{type(error).__name__}: {error}"))

    def _judge(self, status: int, retry_after: str | None, body: bytes) -> Answer:
        if self._notifier.accepted(status, body):
            return Answer("delivered", self._words(status, body))
        words = self._words(status, body)
        if status in UNUSABLE and not self._notifier.misconfigured(status, body):
            return Answer("rejected", words)
        if status in PASSING or status >= 500:
            return Answer("retry", words, seconds_of(retry_after, time.time()), failed=status >= 500)
        return Answer("refused", words)

    def _words(self, status: int, body: bytes) -> str:
        try:
            phrase = f" {HTTPStatus(status).phrase}"
        except ValueError:
            phrase = ""
        text = body.decode("utf-8", "backslashreplace").strip()
        return self._shown(f"{status}{phrase}" + (f": {text}" if text else ""))

    def _shown(self, text: str) -> str:
        return printable(hidden(text, self._secrets), 300)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


async def _start_of(answer: aiohttp.ClientResponse) -> bytes:
    """What fits into MAX_ANSWER_BYTES; of a longer answer the connection is closed."""
    body = b""
    while len(body) < MAX_ANSWER_BYTES:
        part = await answer.content.read(MAX_ANSWER_BYTES - len(body))
        if not part:
            return body
        body += part
    answer.close()
    return body


def seconds_of(retry_after: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for, from 0 to MAX_RETRY_AFTER_SECONDS; None if it says nothing.

    >>> seconds_of("120", 0), seconds_of("Thu, 01 Jan 1970 00:01:00 GMT", 30), seconds_of("soon", 0)
    (120.0, 30.0, None)
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        asked = float(text[:10])
    else:
        try:
            asked = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, asked), MAX_RETRY_AFTER_SECONDS)


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
    ) -> Outcome | None:
        """Send what `build` makes at each attempt, until there is an outcome; None if it is no longer `wanted`.

        `written_at` and `now()` are epoch seconds: a message older than `give_up_seconds` gets one attempt. One that
        `build` raises for is rejected.
        """
        refusals, begun = 0, self._taken
        failures, taken = 0, self._taken
        while True:
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
            refusals += answer.verdict == "refused"
            if refusals >= REFUSALS and self._taken > begun:
                self._say(f"refuses a message and takes others, so it is given up: {answer.words}")
                return self._end("refused")
            if answer.failed and self._taken > taken:  # others were taken since it failed last
                failures, taken = failures + 1, self._taken
            if failures >= FAILURES:
                self._say(f"fails at a message again and again and takes others, so it is given up: {answer.words}")
                return self._end("refused")
            if now() - written_at > self._give_up:
                self._say(f"a message is given up after {self._give_up / 3600:g} h: {answer.words}")
                return self._end("refused" if answer.verdict == "refused" else "expired")
            self._told("retried")

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
