"""LiteLLM's proxy: `GET /key/info`, then `POST /key/update`, `/key/block` or `/key/unblock`.

A key is named by its hash, which is what LiteLLM's own records, and so our alerts, have as its id. Blocking is for
administrators: the key that we use must be one's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr

from stream import __version__
from stream.alerts import printable
from stream.notify.client import seconds_of, start_of
from stream.notify.secrets import hidden
from stream.response.config import LiteLLMConfig
from stream.response.gateway import DONE, Result
from stream.response.record import Before, Response

MAX_INFO_BYTES = 1 << 20
"""What LiteLLM knows of a key has some kB, and as much metadata as somebody has put there."""
NOT_FOUND = 404
MISTAKES = frozenset({400, 413, 414, 422})
"""What says that it will never take this key or this limit."""


class LiteLLM:
    """See the module."""

    def __init__(self, config: LiteLLMConfig, key: SecretStr) -> None:
        self._url = config.url.rstrip("/")
        self._key, self._proxy = key, config.proxy
        self._timeout = aiohttp.ClientTimeout(total=config.timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def begin(self, active: Sequence[Response]) -> Result:
        """See `Gateway`: what was set stays set."""
        return DONE

    async def look(self, response: Response) -> Result:
        """See `Gateway`."""
        answer = await self._ask("GET", f"/key/info?key={quote(response.entity.id, safe='')}")
        if isinstance(answer, Result):
            return answer
        info = answer.get("info")
        if not isinstance(info, dict):
            return Result("later", "its answer to /key/info has no info: is it a LiteLLM proxy?")
        blocked = info.get("blocked") is True
        limit = info.get(_limit_name(response))
        limit = limit if isinstance(limit, int) and not isinstance(limit, bool) else None
        strict = blocked if response.action == "block" else limit is not None and limit <= (response.per_minute or 0)
        return Result("done", before=Before(limit=limit, blocked=blocked, touched=not strict))

    async def apply(self, response: Response, before: Before, active: Sequence[Response]) -> Result:
        """See `Gateway`."""
        if not before.touched:
            return Result("done", "it was as strict already")
        if response.action == "block":
            return await self._do("/key/block", {"key": response.entity.id})
        return await self._do("/key/update", {"key": response.entity.id, _limit_name(response): response.per_minute})

    async def undo(self, response: Response, before: Before, active: Sequence[Response]) -> Result:
        """See `Gateway`: what others hold on to stays, and a limit that somebody has changed since is theirs."""
        if not before.touched:
            return DONE
        same = [one for one in active if one.entity.id == response.entity.id and one.action == response.action]
        if response.action == "block":
            if same:
                return Result("done", "another response blocks it still")
            return self._gone(await self._do("/key/unblock", {"key": response.entity.id}))
        now = await self.look(response)
        if now.before is None:
            return self._gone(now)
        if now.before.limit != response.per_minute:
            return Result("done", "its limit was changed meanwhile, and stays")
        back = min((one.per_minute or 1 for one in same), default=before.limit)
        return self._gone(await self._do("/key/update", {"key": response.entity.id, _limit_name(response): back}))

    @staticmethod
    def _gone(result: Result) -> Result:
        """Of a key that is no more there is nothing to undo; whatever else is refused is tried again."""
        if result.verdict != "never":
            return result
        return Result("done" if result.words.startswith(f"{NOT_FOUND} ") else "later", result.words)

    async def _do(self, path: str, body: dict[str, Any]) -> Result:
        answer = await self._ask("POST", path, body)
        return answer if isinstance(answer, Result) else DONE

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | Result:
        """The answer as JSON, or what went wrong."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                headers={
                    "User-Agent": f"overdraw/{__version__}",
                    "Authorization": f"Bearer {self._key.get_secret_value()}",
                    "litellm-changed-by": "overdraw",
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a small answer could be a large one in disguise
            )
        try:
            async with self._session.request(
                method, self._url + path, json=body, proxy=self._proxy, allow_redirects=False
            ) as answer:
                text = await start_of(answer, MAX_INFO_BYTES)
                return self._judge(answer.status, answer.headers.get("Retry-After"), text)
        except TimeoutError:
            return Result("later", f"no answer within {self._timeout.total:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Result("later", self._shown(f"{type(error).__name__}: {error}"))

    def _judge(self, status: int, retry_after: str | None, text: bytes) -> dict[str, Any] | Result:
        if 200 <= status < 300:
            try:
                answer = json.loads(text)
            except ValueError:
                answer = None
            if isinstance(answer, dict):
                return answer
            return Result("later", "its answer is no JSON object: is it a LiteLLM proxy?")
        try:
            phrase = f" {HTTPStatus(status).phrase}"
        except ValueError:
            phrase = ""
        words = self._shown(f"{status}{phrase}: {text.decode('utf-8', 'backslashreplace').strip()}")
        if status in MISTAKES or (status == NOT_FOUND and _names_the_key(text)):
            return Result("never", words)
        return Result("later", words, pause=seconds_of(retry_after, time.time()))

    def _shown(self, text: str) -> str:
        return printable(hidden(text, [self._key]), 300)

    async def close(self) -> None:
        """See `Gateway`."""
        if self._session is not None:
            await self._session.close()


def _limit_name(response: Response) -> str:
    return "rpm_limit" if response.unit == "calls" else "tpm_limit"


def _names_the_key(text: bytes) -> bool:
    """Whether a 404 is about the key: one about the path says `Not Found` and no more."""
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    return isinstance(answer, dict) and "key" in json.dumps(answer).lower()
