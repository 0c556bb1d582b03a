"""The messages that wait for a service, and the one among them that steps aside."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from stream.notify.delivery import Trial
from stream.notify.message import Message
from stream.notify.service import Notifier

AT_ONCE = 4
"""Requests under way to a service that dedupes; one that does not, or is told again and again, gets one at a time."""
PATIENCE = 3
"""Attempts of a message before another one is tried, to tell a server that is down from one that fails at this one."""
ASIDE_SECONDS = (30.0, 900.0)
"""From one attempt of a message that stepped aside to the next: each failure holds up the others for a second."""
LOOK_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Item:
    """A message on its way, the record that it came from, and what it has met with.

    also: the records, as (partition, offset), that are told with it: one that opened a ticket, which waited
    """

    partition: int
    offset: int
    generation: int
    written_at: float
    message: Message
    also: tuple[tuple[int, int], ...] = ()
    trial: Trial = field(default_factory=Trial)
    pause: float = 0.0
    again_at: float = 0.0

    @property
    def entity(self) -> str:
        """Whose messages go one after the other."""
        return self.message.alert.fingerprint


def lanes_of(notifier: Notifier) -> int:
    """How many messages may be under way at once: one where their order, or a repetition, would be seen."""
    return AT_ONCE if notifier.dedupes and notifier.resend_seconds is None else 1


class Lane:
    """Messages that go one after the other, in their order.

    One that has failed `PATIENCE` times lets another one try. If that fails as well, the service is down, and both wait
    in their order. If it is taken, the service is up: where the first one fails once more, it steps aside, and is tried
    again now and then while the others pass; only what concerns the same entity waits for it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: deque[Item] = deque()
        self._aside: list[Item] = []
        self._suspect: Item | None = None
        self._accused: Item | None = None
        """A suspect after which another one was taken."""
        self._probe: tuple[int, Item] | None = None
        self._probed = 0
        self._ready = asyncio.Event()

    def put(self, item: Item) -> None:
        """Queue a message."""
        self._waiting.append(item)
        self._ready.set()

    def clear(self) -> None:
        """Forget all of them."""
        self._waiting.clear()
        self._aside.clear()
        self._suspect = self._accused = self._probe = None
        self._probed = 0

    @property
    def aside(self) -> int:
        """How many messages have stepped aside."""
        return len(self._aside)

    async def next(self) -> tuple[Item, int]:
        """The next message, and how many attempts it gets now."""
        while True:
            if (chosen := self._choose()) is not None:
                return chosen
            self._ready.clear()
            try:  # only what stepped aside comes by the clock
                await asyncio.wait_for(self._ready.wait(), LOOK_SECONDS if self._aside else None)
            except TimeoutError:
                continue

    def _choose(self) -> tuple[Item, int] | None:
        if self._suspect is not None:
            others = list(self._first_of_each(self._suspect.entity))
            if others:
                place, item = others[self._probed % len(others)]  # the next one may be as bad
                del self._waiting[place]
                self._probe = (place, item)
                return item, 1
            suspect, self._suspect = self._suspect, None
            return suspect, PATIENCE
        if self._accused is not None:
            return self._accused, 1
        now = self._clock()
        for item in self._aside:
            if item.again_at <= now:
                return item, 1
        for place, item in self._first_of_each():
            del self._waiting[place]
            return item, PATIENCE
        return None

    def _first_of_each(self, *but: str) -> Iterator[tuple[int, Item]]:
        """Of each entity that has none aside the first message, with its place."""
        seen = {item.entity for item in self._aside} | set(but)
        for place, item in enumerate(self._waiting):
            if item.entity not in seen:
                seen.add(item.entity)
                yield place, item

    def failed(self, item: Item) -> None:
        """All attempts that it got have failed."""
        if item is self._accused:
            self._accused = None
            self._aside.append(item)
        if item in self._aside:
            item.pause = min(max(ASIDE_SECONDS[0], 2 * item.pause), ASIDE_SECONDS[1])
            item.again_at = self._clock() + item.pause
        elif self._probe is not None and item is self._probe[1]:
            self._waiting.insert(*self._probe)
            if self._suspect is not None:
                self._waiting.appendleft(self._suspect)
            self._suspect = self._probe = None
            self._probed += 1
        else:
            self._suspect = item

    def passed(self, item: Item) -> None:
        """The service is up: it took the message, or said what it thinks of it."""
        if item in self._aside:
            self._aside.remove(item)
        elif item is self._accused:
            self._accused = None
        elif self._probe is not None and item is self._probe[1]:
            self._accused = self._suspect
            self._suspect = self._probe = None
            self._probed = 0
