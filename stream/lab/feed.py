"""A recorded file into the source topic, at a multiple of its own pace, until its end or until it is interrupted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic_core

from stream.events import epoch_seconds
from stream.lab.produce import LINGER_SECONDS, ProduceError, Producer, Sendable
from stream.settings import Settings

DAY = 86_400.0
NAP_SECONDS = 0.5
"""At most so long between two signs of life while it waits for the next record's time."""
NO_TIME = float("-inf")


class _Head(msgspec.Struct):
    key_id: str
    time: Any = None


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the quick reader raises; RecursionError: on thousands of nested brackets."""

_head = msgspec.json.Decoder(_Head).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def split(value: bytes) -> list[Sendable]:
    """The events of a record: itself, or the elements of its array; (event time or -inf, key id or None, JSON).

    What cannot be read has neither time nor key and stays as it is: the worker says what is wrong with it.

    >>> split(b'[{"key_id": "a", "time": 1.7e9}, 7]')
    [(1700000000.0, 'a', b'{"key_id": "a", "time": 1.7e9}'), (-inf, None, b'7')]
    """
    try:
        return [_event(value, _head(value))]
    except _UNREADABLE:
        pass
    try:
        return [_readable(bytes(element)) for element in _elements(value)]
    except _UNREADABLE:
        pass
    try:
        document = pydantic_core.from_json(value, allow_inf_nan=True)
    except ValueError:
        return [(NO_TIME, None, value)]
    if isinstance(document, list):  # with a NaN in it, which the quick reader does not take
        return [_readable(pydantic_core.to_json(element, inf_nan_mode="constants")) for element in document]
    return [_readable(value)]


def _readable(value: bytes) -> Sendable:
    try:
        return _event(value, _head(value))
    except _UNREADABLE:
        pass
    try:
        document = pydantic_core.from_json(value, allow_inf_nan=True)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("key_id"), str):
        return (_time(document.get("time")), document["key_id"], value)
    return (NO_TIME, None, value)


def _event(value: bytes, head: _Head) -> Sendable:
    return (_time(head.time), head.key_id, value)


def _time(value: Any) -> float:
    try:
        return epoch_seconds(value)
    except pydantic_core.PydanticCustomError:
        return NO_TIME


class Pace:
    """When a record is due, in seconds of a clock that only goes forward.

    speed: event seconds per second. A time more than a day ahead of all before it counts only once another one
    confirms it: one wrong clock must not make the file wait for years.
    """

    def __init__(self, speed: float, begin: float) -> None:
        self._speed = speed
        self._begin = begin
        self._first: float | None = None
        self._newest = NO_TIME
        self._jump: float | None = None

    def due(self, event_time: float) -> float:
        """The moment to send it; in the past or `begin` where it is due at once."""
        if event_time == NO_TIME:
            return self._begin
        if self._first is None:
            self._first = self._newest = event_time
        elif event_time > self._newest + DAY and not self._confirmed(event_time):
            self._jump = event_time
            return self._begin
        self._newest = max(self._newest, event_time)
        return self._begin + (event_time - self._first) / self._speed

    def _confirmed(self, event_time: float) -> bool:
        return self._jump is not None and abs(event_time - self._jump) <= DAY


@dataclass(slots=True)
class Tally:
    """What became of a file. `sent` is confirmed by the broker; the others are counted as they are handed over."""

    records: int = 0
    events: int = 0
    without_key: int = 0
    too_large: int = 0
    reached: float = NO_TIME
    sent: int = 0


class Feed:
    """Plays records; a context manager, whose end waits until what was handed over is acknowledged.

    The caller's thread reads and waits, so that Ctrl-C breaks off either at once; another one talks to Kafka.
    speed: event seconds per second; 0: as fast as it goes. Raises ProduceError.

    too_large: told the line number and length of a record that the topic does not take
    """

    def __init__(
        self, settings: Settings, speed: float, *, too_large: Callable[[int, int], None] = lambda line, length: None
    ) -> None:
        self.tally = Tally()
        self._settings = settings
        self._speed = speed
        self._too_large = too_large
        self._pace: Pace | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._refused: ProduceError | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        self._ready.wait()
        if self._failure:
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._failure:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failure and kind is None:
            raise self._failure

    def play(self, records: Iterable[tuple[int, bytes]], alive: Callable[[], None] = lambda: None) -> None:
        """Send records (line number, JSON) each at its time; `alive` is called at least twice a second."""
        waiting: list[Sendable] = []
        for line, value in records:
            self.tally.records += 1
            for event in split(value):
                if not self._producer.fits(event):
                    self.tally.too_large += 1
                    self._too_large(line, len(event[2]))
                    continue
                if self._speed:
                    self._wait_for(event, waiting, alive)
                waiting.append(event)
        self._hand_over(waiting)
        alive()

    def _wait_for(self, event: Sendable, waiting: list[Sendable], alive: Callable[[], None]) -> None:
        if self._pace is None:
            self._pace = Pace(self._speed, time.monotonic())
        due = self._pace.due(event[0])
        if due - time.monotonic() <= LINGER_SECONDS:
            return
        self._hand_over(waiting, flush=True)
        while (left := due - time.monotonic()) > 0:
            time.sleep(min(left, NAP_SECONDS))
            alive()

    def _hand_over(self, events: list[Sendable], *, flush: bool = False) -> None:
        batch = events.copy()
        events.clear()
        asyncio.run_coroutine_threadsafe(self._send(batch, flush), self._loop).result()

    async def _send(self, events: list[Sendable], flush: bool) -> None:
        async with self._one_at_a_time:
            try:
                await self._producer.send(events)
                # a pipe's records must not wait in a half-full batch for the ones behind them
                await (self._producer.flush() if flush else self._producer.push())
            except ProduceError as error:
                self._refused = error  # more attempts would only wait longer
                raise
        self.tally.events += len(events)
        self.tally.without_key += sum(1 for event in events if event[1] is None)
        self.tally.reached = max(self.tally.reached, *(event[0] for event in events), NO_TIME)
        self.tally.sent = self._producer.acknowledged

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # whatever it is, the caller's thread raises it
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._producer = Producer(self._settings)
        try:
            async with self._producer:
                self._ready.set()
                await self._stop.wait()
                async with self._one_at_a_time:  # what was being handed over when we were told to stop
                    if self._refused:
                        raise self._refused
                    await self._producer.flush()
        finally:
            self.tally.sent = self._producer.acknowledged
