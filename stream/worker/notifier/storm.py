"""Incidents that come too many at once: which of them are told one by one, and the digest of all others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from stream.alerts import Alert
from stream.notify.config import NotifierConfig
from stream.notify.desk import Desk
from stream.notify.digest import Burst, Digest, Gathered
from stream.notify.service import Request

GATHER_SECONDS = 10.0
"""From the first incident beyond the limit to the digest: a storm comes within some flushes."""
MAX_GATHERED = 50_000
"""Then the digest does not wait for its time; where one is on its way still, the others wait in Kafka."""

Records = list[tuple[int, int]]
"""Records of the alert topic, as (partition, offset)."""


class Storm:
    """The limit on bursts and the digests of one notifier.

    `send(digest)` delivers one, and says whether there was an outcome; `finish(records)` hears what that was about.
    """

    def __init__(
        self,
        app_id: str,
        chosen: NotifierConfig,
        clock: Callable[[], float],
        send: Callable[[Digest], Awaitable[bool]],
        finish: Callable[[Records], Awaitable[None]],
    ) -> None:
        self._app_id, self._chosen, self._clock = app_id, chosen, clock
        self._send, self._finish = send, finish
        self._said_at = -1e18
        self._task: asyncio.Task[None] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all that belongs to an assignment."""
        self._burst = Burst(self._chosen.burst, self._chosen.burst_seconds, self._clock())
        self._gathered = Gathered()
        self._records: Records = []
        self._largest: tuple[Alert, ...] = ()

    def leave(self, at: float) -> bool:
        """Whether one more incident may be told by itself."""
        return self._burst.take(at)

    def gather(self, alert: Alert, records: Records, *, known: bool) -> None:
        """Leave an incident to the next digest; without records, it is told of already."""
        self._gathered.add(alert, self._clock(), known=known)
        self._records += records

    def move(self) -> None:
        """The last incident that only a digest told of is told by itself now."""
        self._gathered.move(self._clock())

    @property
    def full(self) -> bool:
        """Whether no more may be gathered."""
        return len(self._records) >= MAX_GATHERED

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [] if self._task is None else [self._task]

    def say(self, desk: Desk, partitions: list[int]) -> None:
        """Begin to tell what is gathered, if it is time."""
        now, since = self._clock(), self._gathered.since
        if self._task is not None or since is None or not (self._records or self._gathered.moved):
            return
        due = max(since + GATHER_SECONDS, self._said_at + self._chosen.burst_seconds)
        just_ends = self._gathered.moved > 0 and not self._records
        if now < due and not just_ends and not self.full:
            return
        digest = self._gathered.digest(self._app_id, partitions, desk.digested(), now)
        self._largest = digest.top or self._largest
        records, self._gathered, self._records = self._records, Gathered(), []
        self._said_at = now
        self._task = asyncio.create_task(self._deliver(digest, records))

    async def _deliver(self, digest: Digest, records: Records) -> None:
        try:
            if await self._send(digest):
                await self._finish(records)
        finally:
            self._task = None

    def firing(self, desk: Desk, partitions: Iterable[int], build: Callable[[Digest], Request]) -> Request | None:
        """What to say again: what is open still of all that only a digest told of; None if nothing is."""
        severities = desk.digested_severities()
        if not severities:
            return None
        digest = Digest(
            self._app_id, min(partitions, default=0), self._clock(), 0, 0, severities.total(),
            severities=tuple(severities.most_common()), top=self._largest,
        )  # fmt: skip
        return build(digest)
