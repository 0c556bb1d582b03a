"""The workers of an experiment: processes that are killed, stopped and started again, and asked how they are."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from stream.embedded.server import free_port
from stream.lab.workers import launch
from stream.settings import Settings

ANSWER_SECONDS = 2.0
POLL_SECONDS = 0.1
END_SECONDS = 30.0
"""More than a worker may take to end: how long it took is a result, not a reason to break off."""


class ChaosError(Exception):
    """An experiment could not be carried out, or something never came back; the message says what."""


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, what: str) -> float:
    """Poll until a condition holds; the seconds that it took. Raises ChaosError after `seconds`."""
    begun = time.monotonic()
    while not await condition():
        if time.monotonic() - begun > seconds:
            raise ChaosError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - begun


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended on SIGTERM."""

    code: int
    seconds: float


class Worker:
    """One worker under a stable name; its log goes on over all its lives."""

    def __init__(self, settings: Settings, instance: str, folder: Path, session: aiohttp.ClientSession) -> None:
        self.instance = instance
        self.log = folder / f"{instance}.log"
        self.paused = False
        self._settings = settings.model_copy(update={"web_port": free_port(), "web_host": "127.0.0.1"})
        self._session = session
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._settings.web_port}"

    async def start(self) -> None:
        """Start its process; returns at once."""
        self._process = await launch(self._settings, self.instance, self.log)
        self.paused = False

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        if self._process is not None:
            await self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it knows nothing of the time that passes."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.paused = False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.returncode is not None:
            raise ChaosError(f"{self.instance} has ended by itself\n{self.last_lines()}")
        self._process.send_signal(number)

    async def end(self) -> Ending:
        """SIGTERM, and how it ended; killed if it does not."""
        begun = time.monotonic()
        self._signal(signal.SIGTERM)
        return await self.ended(begun)

    async def ended(self, begun: float) -> Ending:
        """Wait for its end, whoever asked for it."""
        if self._process is None:
            raise ChaosError(f"{self.instance} was never started")
        try:
            code = await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            await self.kill()
            raise ChaosError(f"{self.instance} did not end within {END_SECONDS:.0f} s\n{self.last_lines()}") from None
        return Ending(code, time.monotonic() - begun)

    async def status(self) -> dict[str, Any] | None:
        """What `/api/status` says; None while it does not answer."""
        try:
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            async with self._session.get(f"{self._url}/api/status", timeout=timeout) as answer:
                status: dict[str, Any] = await answer.json()
                return status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def committed(self, rows: str = "partitions") -> dict[int, int]:
        """The last committed offset of every partition that it holds live; `rows`: those of the source, or `intake`."""
        if not self.running or self.paused:
            return {}
        status = await self.status() or {}
        return {row["partition"]: row["committed"] for row in status.get(rows, ()) if row["live"]}

    async def counted(self, sample: str) -> int:
        """A counter of its `/metrics`, by name and labels. Raises ChaosError if it does not say."""
        try:
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            async with self._session.get(f"{self._url}/metrics", timeout=timeout) as answer:
                lines = (await answer.text()).splitlines()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ChaosError(f"{self.instance} does not show its metrics: {error}") from error
        found = [line.removeprefix(sample) for line in lines if line.startswith(f"{sample} ")]
        if len(found) != 1:
            raise ChaosError(f"{self.instance} has no metric {sample}")
        return round(float(found[0]))

    def said(self) -> str:
        """Its whole log."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def last_lines(self, count: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.said().splitlines()[-count:])

    def tracebacks(self) -> int:
        """Tracebacks in its log: there should be none, whatever happens."""
        return self.said().count("Traceback (most recent call last)")
