"""A partition of the intake: its place, what has been keyed and not written yet, and how it is taken over."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stream.gateways import overdraw, parser_of
from stream.gateways.adapter import Parse
from stream.settings import Settings
from stream.worker.alignment import Alignment, Reach
from stream.worker.group import Group
from stream.worker.journal import INTAKE, Journal, Offsets, Record, Target
from stream.worker.keying import Keyed, key_records
from stream.worker.live import Owner
from stream.worker.logs import likewise
from stream.worker.places import Place, PlaceError, Topic
from stream.worker.sequencer import Sequencer
from stream.worker.tools import Tools
from stream.worker.transport import Chunk

STRIDE_RECORDS = 500
"""Records that are keyed at once: some 5 ms of work."""

SECOND_LOOK_SECONDS = 1.0
"""Before it is believed that a log has lost its end."""

log = logging.getLogger(__name__)


class PlacesOf(Protocol):
    """What reads the places of the intake: `Places`, or a test's."""

    async def topic(self) -> Topic:
        """The topic as it is now."""

    async def read(self, partitions: Sequence[int]) -> dict[int, Place]:
        """The committed places of these partitions."""

    async def close(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class IntakeFlush:
    """What one transaction of the intake writes."""

    records: dict[Target, list[Record]]
    offsets: Offsets
    done: Keyed
    place: Place
    count: int


class IntakePartition:
    """One partition of the intake in this worker's hands, from its takeover until it is dropped."""

    def __init__(
        self,
        partition: int,
        journal: Journal,
        settings: Settings,
        owner: Owner,
        place: Place,
        behind: Callable[[int], int],
        parse: Parse = overdraw.parse,
    ) -> None:
        self.partition = partition
        self.journal = journal
        self.sequencer = Sequencer(place.offset)
        self.live = False
        self.broken = False
        self.owner_due = True
        self.recovery_seconds = 0.0
        self.unflushed = 0
        self.holes: list[tuple[int, int]] = []
        self.flushing = asyncio.Lock()
        self.front = place.front
        self.lost = 0
        """Offsets that were deleted before they were read, until the partition has caught up."""
        self.waiting = False
        """Whether it waits for others that lag behind."""
        self.stride = STRIDE_RECORDS
        """Records that it tries to do at once: fewer where it has to wait for others again and again."""
        self.chunks: deque[Chunk] = deque()
        self.working = False
        self.held_back = False
        """Whether nothing is fetched for it for now: enough chunks wait."""
        self.pending = Keyed()
        self._place = place
        self._behind = behind
        self._owner = owner
        self._settings = settings
        self._parse = parse

    @property
    def committed(self) -> int:
        """Last offset whose outcome is committed."""
        return self._place.offset - 1

    @property
    def topic(self) -> Topic:
        """Which log it reads."""
        return self._place.topic

    @property
    def reach(self) -> Reach:
        """How far it has come, for others to wait for: what is committed, for only that lies in the source."""
        return Reach(self._place.offset, self._place.front)

    @property
    def position(self) -> int:
        """The first offset that is not keyed yet."""
        return self._behind(self.sequencer.next)

    def key(self, records: Sequence[Any], now: float) -> Keyed:
        """What becomes of some records; nothing is done yet."""
        return key_records(
            records,
            topic=self._place.topic.name,
            identity=self._place.topic.identity,
            partitions=self._settings.partitions,
            now=now,
            parse=self._parse,
        )

    def take(self, records: Sequence[Any], keyed: Keyed) -> None:
        """Take up what became of the next records."""
        self.pending.add(keyed)
        self.front = max(self.front, keyed.front)
        self.sequencer.applied(records[-1].offset)
        self.unflushed += len(records)

    def snapshot(self, now: float) -> IntakeFlush | None:
        """Everything since the last flush, and the place behind it; None if nothing has changed."""
        position = self.position
        if position == self._place.offset and not self.owner_due:
            return None
        self.owner_due = False
        done, self.pending = self.pending, Keyed()
        place = Place(position, self._place.topic, self._owner.instance, self._owner.started_ms, self.front)
        source, letters = self._settings.source_topic, self._settings.dead_letter_topic
        records: dict[Target, list[Record]] = {(source, p): rows for p, rows in sorted(done.keyed.items())}
        if done.letters:
            records[letters, self.partition % self._settings.partitions] = done.letters
        offsets = {(place.topic.name, self.partition): (position, place.metadata)}
        return IntakeFlush(records, offsets, done, place, self.unflushed)

    def written(self, flush: IntakeFlush) -> None:
        """A flush is committed."""
        self._place = flush.place
        self.unflushed -= flush.count


class IntakeRole:
    """A partition of the intake: its place stands in the group's offsets."""

    noun = "intake partition"

    def __init__(self, tools: Tools, group: Group, places: PlacesOf, alignment: Alignment) -> None:
        self.group = group
        self.cuts: dict[int, int] = {}
        """Where logs were cut, by partition, as this process has seen; by now they may have grown again."""
        self._alignment = alignment
        self._tools = tools
        self._places = places
        self._parse = parser_of(tools.settings)

    def journal(self, partition: int) -> Journal:
        """See `Role`."""
        return self._tools.journal(self._tools.settings, partition, INTAKE)

    async def owner(self, partition: int) -> Owner | None:
        """See `Role`."""
        place = (await self._places.read([partition])).get(partition)
        return Owner(place.instance, place.started_ms) if place is not None else None

    async def load(
        self, partition: int, journal: Journal, owner: Owner, check: Callable[[], None]
    ) -> tuple[IntakePartition, Place | None]:
        """See `Role`. Where nothing is committed, or for another topic of this name, reading begins at the start."""
        topic = await self._places.topic()
        check()
        committed = (await self._places.read([partition])).get(partition)
        check()
        start, end = await self.group.start(partition), await self._end(partition)
        if committed is not None and committed.offset > end:
            # a new leader may not know yet how far its log goes
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            check()
            end = await self._end(partition)
        end = min(end, self.cuts.get(partition, end))
        place, lost = beginning(partition, topic, committed, start, end)
        if committed is not None and committed.topic.uuid and place.topic != committed.topic:
            self._tools.lose(f"intake partition {partition}: {topic.name} was made anew, or has lost its end")
        held = IntakePartition(
            partition,
            journal,
            self._tools.settings,
            owner,
            place,
            lambda offset: self.group.position_behind(partition, offset),
            self._parse,
        )
        held.lost = lost
        return held, committed

    async def _end(self, partition: int) -> int:
        ends = await self.group.ends()
        if partition not in ends:
            raise PlaceError("the end of its log is not known yet")
        if not self._alignment.partitions:
            self._alignment.see_ends(ends, -math.inf)  # none may go before it is known who lags behind
        return ends[partition]


def beginning(partition: int, topic: Topic, committed: Place | None, start: int, end: int) -> tuple[Place, int]:
    """Where a partition is read on, and how many offsets were deleted before they were read.

    start, end: the first offset that the topic still holds, and the one that its next record will get
    """
    if committed is None:
        return Place(start, topic), 0
    known = committed.topic
    if known.uuid and topic.uuid != known.uuid:
        log.error(
            "intake partition %d: %s was made anew: it is read from its first offset", partition, topic.name,
            extra=likewise(partition, "made anew", IntakeRole.noun),
        )  # fmt: skip
        return Place(start, topic), 0
    topic = Topic(topic.name, topic.uuid, known.cuts)
    if committed.offset > end:
        log.error(
            "intake partition %d: offset %d of %s was read, and its log ends at %d: it has lost its end (unclean leader"
            " election?), and is read on from there", partition, committed.offset - 1, topic.name, end,
            extra=likewise(partition, "its log has lost its end", IntakeRole.noun),
        )  # fmt: skip
        return Place(end, topic.cut(), front=committed.front), 0
    return Place(max(start, committed.offset), topic, front=committed.front), max(0, start - committed.offset)
