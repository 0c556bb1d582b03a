"""The intake: a topic that is not keyed by key id, read, checked, keyed and written into the source, each record once.

Every partition of the intake topic has a transactional producer of its own, whose id fences whoever had the partition
before. A flush writes the keyed records, the dead letters and the group's offset in one transaction, or nothing. Should
the offsets be lost all the same, the origins in the headers keep the shards from counting anything twice; dead letters
of what is read again are then written again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from stream.worker.agents import slices
from stream.worker.alignment import Alignment, Limit, Reach
from stream.worker.group import Group
from stream.worker.intake import STRIDE_RECORDS, IntakeFlush, IntakePartition, IntakeRole, PlacesOf
from stream.worker.logs import likewise
from stream.worker.partitions import Partitions
from stream.worker.places import Place, Places
from stream.worker.tools import Tools, line_of, name_of
from stream.worker.transport import Chunk

MAX_PENDING_BYTES = 4 << 20
"""Beyond it a partition is flushed at once: a transaction takes well under a second of the 8 s that it may."""
HOLD_CHUNKS = 4
"""A partition with so many chunks waiting is fetched from no more until it has one left."""
DISCONNECT_SECONDS = 0.5
"""At a stop: a question that hangs would take 10 s of the 9 that there are."""
ALIGN_SECONDS, MOST_ALIGN_SECONDS = 0.02, 0.32
"""Pace at which a partition that waits for another worker's looks how far that one has come, while nothing moves."""
ALIGN_PATIENCE_SECONDS = 60.0
"""Twice the usual session timeout: by then a dead worker's partitions have a new owner."""

log = logging.getLogger(__name__)


class Intakes(Partitions[IntakePartition]):
    """Every partition of the intake that this worker holds. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        tools: Tools,
        topic: str,
        group: Group,
        places: PlacesOf | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = places or Places(tools.settings, topic)
        self.alignment = Alignment(
            allowance=tools.settings.allowed_lateness_seconds / 2,
            patience=max(ALIGN_PATIENCE_SECONDS, 2 * tools.settings.session_timeout_seconds),
        )
        role = IntakeRole(tools, group, self._places, self.alignment)
        super().__init__(tools, role)
        self._cuts = role.cuts
        self._topic = topic
        self._elsewhere: dict[int, Reach] = {}
        self._looks = 0
        self._looking = asyncio.Lock()
        self._pace = 0.0
        self._moved = asyncio.Event()
        self._monotonic = clock
        self._shown: set[str] = set()
        """Failures whose traceback is in the log: the same record fails again after every takeover."""

    # ------------------------------------------------------------------ what the life cycle asks

    def committed_offset(self, partition: int) -> int | None:
        """None: our transactions write the group's offsets, and nobody else may."""
        return None

    def _recovered(self, shard: IntakePartition, read: Place | None, seconds: float) -> None:
        whence = "the committed offset" if read is not None else "the first one, for nothing is committed"
        log.info(
            "intake partition %d: live at offset %d, %s, after %.0f ms (epoch %d)",
            shard.partition, shard.sequencer.next, whence, seconds * 1000, shard.journal.epoch,
            extra={"seldom": shard.partition},
        )  # fmt: skip
        lost, shard.lost = shard.lost, 0
        self._mind_gap(shard, lost)

    def _mind_gap(self, shard: IntakePartition, offsets: int) -> None:
        if offsets > 0:
            shard.lost += offsets
            self._tools.observer.gap(offsets)
            log.error(
                "intake partition %d: %d offsets were deleted from %s before they were read: sums lack what they held; "
                "raise the topic's retention above the longest stop of the workers",
                shard.partition, offsets, self._topic,
                extra=likewise(shard.partition, "offsets were deleted", self.noun),
            )  # fmt: skip
            self._tools.lose(
                f"intake partition {shard.partition}: {offsets} offsets were deleted before they were read"
            )

    async def _commit(self, shard: IntakePartition, flush: IntakeFlush) -> None:
        await shard.journal.write(flush.records, flush.offsets)
        self._cuts.pop(shard.partition, None)  # the place says so by now
        self._pulse()
        self._tools.observer.passed_on(flush.done)

    async def renew(self, held: IntakePartition, why: str, *, cut_at: int | None = None) -> None:
        """A partition's log is another one by now: write what was keyed, and take the partition over again.

        cut_at: the offset at which the log was cut; None: it was not
        """
        await self._last_flush(held, why)
        if cut_at is not None:
            self._cuts[held.partition] = cut_at
        self._begin_anew(held, why)

    async def close(self) -> bool:
        """See `Partitions`; the connection is closed too."""
        written = await super().close()
        try:
            await asyncio.wait_for(self._places.close(), DISCONNECT_SECONDS)
        except Exception as error:
            log.debug("the connection for the intake's places was not closed: %s", name_of(error))
        return written

    # ------------------------------------------------------------------ records

    async def take(self, event: Any) -> None:
        """Take a chunk over; its partition works through it beside the others, for it may have to wait for them."""
        event.ack()  # of Faust's own bookkeeping: our transactions say what is done
        held = self.ready(event.message.partition)
        if held is None:  # not taken over yet, or dropped: it is read again
            return
        held.chunks.append(event.value)
        if len(held.chunks) >= HOLD_CHUNKS:  # once more too: Faust lets go of it when its own buffer has room again
            held.held_back = True
            self.group.hold(held.partition)
        if not held.working:
            held.working = True
            self.spawn(self._work(held))

    async def _work(self, held: IntakePartition) -> None:
        try:
            while held.live and held.chunks:
                chunk = held.chunks.popleft()
                if held.held_back and len(held.chunks) <= 1:
                    held.held_back = False
                    self.group.release(held.partition)
                await self._apply(held, chunk)
                if not held.chunks and any(other.waiting for other in self.live.values()):
                    await self.flush(held)
        except Exception as error:
            why = line_of(error)
            log.error(
                "intake partition %d: a record could not be keyed: %s", held.partition, why,
                exc_info=error if why not in self._shown else None, extra=likewise(held.partition, why, self.noun),
            )  # fmt: skip
            self._shown.add(why)
            self.drop(held, why)
        finally:
            held.working = held.held_back = False
            held.chunks.clear()  # empty, or no longer ours: then it is read again

    async def _apply(self, held: IntakePartition, chunk: Chunk) -> None:
        take = held.sequencer.take(chunk.begin, chunk[0].offset, chunk[-1].offset, time.monotonic())
        if take.seek is not None:
            self.rewind(held)
        if take.skipped:
            self.passed_over(held, take.skipped)
        if take.start is None:
            return
        for records in slices(chunk, take.start, STRIDE_RECORDS):
            rest = records
            while rest:
                if not held.live:
                    return
                rest = await self._stride(held, rest)
                if held.pending.size > MAX_PENDING_BYTES and not await self.flush(held):
                    return
                await asyncio.sleep(0)

    async def _stride(self, held: IntakePartition, records: Sequence[Any]) -> Sequence[Any]:
        """Do the first of some records, as far as the others let us; returns those that are left."""
        while True:
            part = records[: held.stride]
            keyed = held.key(part, self._tools.clock())
            limit = self._limit(held)
            if keyed.front <= limit.time:
                break
            if len(part) > 1:
                held.stride = len(part) // 2
                continue
            await self._wait(held, keyed.front, limit)
            if not held.live:
                return records
        held.stride = min(2 * held.stride, STRIDE_RECORDS)
        held.take(part, keyed)
        return records[len(part) :]

    # ------------------------------------------------------------------ waiting for others

    @property
    def front(self) -> float:
        """The largest event time that a partition in hand has reached or is about to, -inf before the first."""
        return max((held.front for held in self.live.values()), default=-math.inf)

    @property
    def _mine(self) -> set[int]:
        return {partition for partition, held in self.live.items() if held.live}

    @property
    def _reached(self) -> dict[int, Reach]:
        return {**self._elsewhere, **{partition: self.live[partition].reach for partition in self._mine}}

    def _limit(self, held: IntakePartition) -> Limit:
        return self.alignment.limit(held.partition, self._reached, self._monotonic())

    async def _wait(self, held: IntakePartition, front: float, limit: Limit) -> None:
        """Wait a moment for those who lag behind: those in hand move by themselves, for others one has to look."""
        if front > held.front or held.unflushed:  # others wait for us too: commit what we have and how far we are
            held.front = max(front, held.front)
            held.owner_due = True
            if not await self.flush(held):
                return
        held.waiting = True
        moved = self._moved
        try:
            if limit.slowest and limit.slowest <= self._mine:
                await asyncio.wait_for(moved.wait(), MOST_ALIGN_SECONDS)
            else:
                await self._look(self._looks)
        except TimeoutError:
            return
        finally:
            held.waiting = False

    async def _look(self, looks: int) -> None:
        """Look how far the topic goes, and how far other workers have committed; one look for all who wait."""
        async with self._looking:
            if looks != self._looks:  # somebody has looked since
                return
            await asyncio.sleep(self._pace)
            self._looks += 1
            front = self.front
            try:
                ends = await self.group.ends()
                others = sorted(set(ends) - self._mine)
                places = await self._places.read(others) if others else {}
            except Exception as error:
                why = line_of(error)
                log.warning("how far the intake's partitions are is not known: %s", why, extra={"seldom": why})
                self._pace = MOST_ALIGN_SECONDS
                return
            elsewhere = {partition: Reach(place.offset, place.front) for partition, place in places.items()}
            moved = elsewhere != self._elsewhere
            self._pace = 0.0 if moved else min(max(2 * self._pace, ALIGN_SECONDS), MOST_ALIGN_SECONDS)
            self._elsewhere = elsewhere
            self.alignment.see_ends(ends, front, self._reached)
            self._pulse()

    def _pulse(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
