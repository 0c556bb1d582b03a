"""A bounded way to Kafka out of somebody else's process: what does not fit is dropped and counted, nothing waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal

import prometheus_client

from stream.security import client_options
from stream.settings import Settings, SettingsError

WAITING = 10_000
"""Events in memory at most, some 10 MB: half a minute of 300 calls a second while the broker is away."""
RETRY_SECONDS = 2.0
CLOSE_SECONDS = 3.0
"""How long the end of the process may wait for what is under way."""
TELL_SECONDS = 60.0
REQUEST_MS = 10_000

Outcome = Literal["sent", "dropped", "failed", "refused"]

log = logging.getLogger("overdraw.litellm")


def make_producer(settings: Settings) -> Any:
    """A producer whose partitioner is Kafka's own, so that one key lives on one partition."""
    from aiokafka import AIOKafkaProducer

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it says is counted, and told once a minute
    return AIOKafkaProducer(
        **client_options(settings),
        client_id="overdraw-litellm",
        enable_idempotence=True,
        linger_ms=20,
        request_timeout_ms=REQUEST_MS,
    )


def _why(error: Exception, topic: str) -> str:
    """Why there is no producer. Kafka refuses who may write nowhere as one who lacks a right on the cluster."""
    name = type(error).__name__
    if "Authorization" in name:
        return f"may not write ({name}): grant its user the right Write on {topic}"
    if "Authentication" in name:
        return f"is not let in ({name}): look at its user and password, or its certificate"
    if isinstance(error, SettingsError):
        return f"cannot connect ({error})"
    return f"has no broker ({name})"


class Delivery:
    """Events to the source topic, by a thread with a producer of its own, which starts at the first event.

    counts: what became of events: sent (the broker has it), dropped (no room), failed (the broker did not take it),
    refused (no event could be made of a call)
    waiting: events that neither of these has become of; at most `limit`
    """

    def __init__(
        self,
        settings: Settings,
        *,
        limit: int = WAITING,
        producer: Callable[[Settings], Any] = make_producer,
        registry: prometheus_client.CollectorRegistry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.waiting = 0
        self._settings = settings
        self._limit = limit
        self._producer = producer
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: deque[tuple[bytes, bytes]] = deque()
        self._under_way: set[asyncio.Future[Any]] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closing = False
        self._told = -TELL_SECONDS
        self._metric = prometheus_client.Counter(
            "overdraw_litellm_records",
            "Calls of this proxy, by what became of their events: sent, dropped (the queue was full), failed (Kafka "
            "did not take it), refused (no event could be made).",
            ["outcome"],
            registry=registry or prometheus_client.REGISTRY,
        )

    def offer(self, key: bytes, value: bytes) -> bool:
        """Take an event over, unless there is no room or the end has come; returns at once whether it was taken."""
        with self._lock:
            taken = self.waiting < self._limit and not self._closing
            if taken:
                self.waiting += 1
                self._queue.append((key, value))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="overdraw-litellm", daemon=True)
                    self._thread.start()
            loop, wake = self._loop, self._wake
        if not taken:
            self._count("dropped", "the queue is full: is the broker there?")
        elif loop is not None and wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: close() counts what is left
                loop.call_soon_threadsafe(wake.set)
        return taken

    def refuse(self, why: str) -> None:
        """Count a call of which no event could be made."""
        self._count("refused", why)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what is there, for so long at most; what is left counts as dropped."""
        with self._lock:
            self._closing = True
            thread, loop, wake = self._thread, self._loop, self._wake
        if thread is None:
            return
        if loop is not None and wake is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(wake.set)
        thread.join(seconds)
        left = len(self._queue)
        for _ in range(left):
            self._count("dropped", "the process ended before the broker took it")

    def _count(self, outcome: Outcome, why: str = "") -> None:
        with self._lock:
            self.counts[outcome] += 1
            now = self._clock()
            tell = outcome != "sent" and now - self._told >= TELL_SECONDS
            if tell:
                self._told = now
        self._metric.labels(outcome).inc()
        if tell:
            log.warning("Overdraw lacks calls (%s): %s", why, ", ".join(f"{v} {k}" for k, v in self.counts.items()))

    def _done(self, outcome: Outcome, why: str = "") -> None:
        with self._lock:
            self.waiting -= 1
        self._count(outcome, why)

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        wake = asyncio.Event()
        with self._lock:
            self._loop, self._wake = asyncio.get_running_loop(), wake
        while True:
            producer = None
            try:
                # made anew each time: it reads the password and the certificates of today, or fails as a broker does
                producer = self._producer(self._settings)
                await producer.start()
                await self._send_all(producer, wake)
                return
            except Exception as error:  # no broker, or it threw us out: what waits is kept, what comes may be dropped
                log.debug("no producer", exc_info=True)
                if self._closing:
                    return
                self._tell(error)
            finally:
                if producer is not None:
                    with contextlib.suppress(Exception):
                        await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)
                for future in list(self._under_way):  # a producer that stops leaves some without a word
                    future.cancel()
                await asyncio.sleep(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed(wake), RETRY_SECONDS)

    async def _closed(self, wake: asyncio.Event) -> None:
        while not self._closing:
            wake.clear()
            await wake.wait()

    def _tell(self, error: Exception) -> None:
        now = self._clock()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            why = _why(error, self._settings.source_topic)
            log.warning("Overdraw's callback %s: %d events wait", why, self.waiting)

    async def _send_all(self, producer: Any, wake: asyncio.Event) -> None:
        topic = self._settings.source_topic
        while True:
            wake.clear()
            while self._queue:
                key, value = self._queue[0]
                try:
                    future = await producer.send(topic, value, key=key)  # waits where the broker is slower
                except Exception as error:  # too long, no such topic, no answer: the same record must not come again
                    self._queue.popleft()
                    self._done("failed", type(error).__name__)
                    raise
                self._queue.popleft()
                self._under_way.add(future)
                future.add_done_callback(self._acknowledged)
            if self._closing:
                await producer.flush()
                return
            await wake.wait()

    def _acknowledged(self, future: asyncio.Future[Any]) -> None:
        self._under_way.discard(future)
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            self._done("failed", type(error).__name__ if error is not None else "stopped")
        else:
            self._done("sent")
