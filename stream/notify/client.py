"""One attempt over HTTP: a POST, a bounded answer, and what to make of it."""

from __future__ import annotations

import time
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
MAX_RETRY_AFTER_SECONDS = 900.0
"""A service may ask for more patience than this; we then ask it once in a while."""
UNUSABLE = frozenset({400, 411, 413, 414, 415, 422, 431})
"""What says that this very request is wrong: it would be wrong again."""
PASSING = frozenset({408, 409, 423, 425, 429})
"""What passes by itself."""

Verdict = Literal["delivered", "retry", "refused", "rejected"]


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
                body = await start_of(answer)
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


async def start_of(answer: aiohttp.ClientResponse, most_bytes: int = MAX_ANSWER_BYTES) -> bytes:
    """What fits into so many bytes; of a longer answer the connection is closed."""
    body = b""
    while len(body) < most_bytes:
        part = await answer.content.read(most_bytes - len(body))
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
