"""The loop: every chunk goes to its partition's shard, in order and in slices, and is acknowledged once written."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from stream.core.state import StateError
from stream.worker.live import LiveShard
from stream.worker.logs import likewise
from stream.worker.shards import Shards
from stream.worker.tools import line_of
from stream.worker.transport import Chunk

SLICE_RECORDS = 500
"""Some 5 ms of work; between slices flushes, heartbeats and HTTP have their turn."""

log = logging.getLogger(__name__)


def add_agent(app: Any, name: str, topic: Any, take: Callable[[Any], Awaitable[None]]) -> None:
    """Give the Faust app an agent that hands over every chunk of a topic."""

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            await take(event)

    app.agent(topic, name=name)(agent)


class Intake:
    """Applies chunks to shards. `clock` gives epoch seconds."""

    def __init__(self, shards: Shards, clock: Callable[[], float] = time.time) -> None:
        self._shards = shards
        self._clock = clock
        self._shown: set[str] = set()
        """Failures whose traceback is in the log: the same record fails again after every takeover."""

    async def take(self, event: Any) -> None:
        """Apply one chunk. Nothing escapes but a cancel: Faust would restart the agent and go on behind the failure."""
        shard = self._shards.ready(event.message.partition)
        if shard is None:  # not taken over yet, or dropped: it is read again
            event.ack()
            return
        if shard.held:  # fetched before the partition was paused: it is read again as well
            self._shards.hold(shard)
            event.ack()
            return
        try:
            await self._apply(shard, event.value)
        except StateError as error:
            self._shards.refuse(shard, error)
        except Exception as error:
            why = line_of(error)
            log.error(
                "partition %d: a record could not be applied: %s", shard.partition, why,
                exc_info=error if why not in self._shown else None, extra=likewise(shard.partition, why),
            )  # fmt: skip
            self._shown.add(why)
            self._shards.drop(shard, why)
        if not shard.live:
            event.ack()
            return
        shard.acknowledge_later(event)

    async def _apply(self, shard: LiveShard, chunk: Chunk) -> None:
        take = shard.sequencer.take(chunk.begin, chunk[0].offset, chunk[-1].offset, time.monotonic())
        if take.seek is not None:
            self._shards.rewind(shard)
        if take.skipped:
            self._shards.passed_over(shard, take.skipped)
        if take.start is None:
            return
        for records in slices(chunk, take.start):
            async with shard.turn:
                if not shard.live:
                    return
                shard.apply(records, self._clock())
            if shard.is_pressing:
                self._shards.flush_soon(shard)
            await asyncio.sleep(0)
            if shard.is_full:
                self._shards.hold(shard)
                return


def slices(records: Sequence[Any], start: int, size: int = SLICE_RECORDS) -> Iterator[Sequence[Any]]:
    """Records from offset `start` on, in slices."""
    if records[0].offset < start:
        records = [record for record in records if record.offset >= start]
    for first in range(0, len(records), size):
        yield records[first : first + size]
