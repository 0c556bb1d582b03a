"""Once a second: whether the worker's topics are still there, and still the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stream.worker.keepers import Keepers
from stream.worker.repartition import Intakes
from stream.worker.shards import Shards
from stream.worker.shortlogs import ShortLogs
from stream.worker.source import TopicState, id_text
from stream.worker.tools import EXIT_LOST, Tools, line_of

GONE_SECONDS = 5.0
"""A topic is gone once brokers have said so for this long: one that has just started may not know all of them yet."""

log = logging.getLogger(__name__)


class TopicWatch:
    """Looks at the topics; `clock` is monotonic, in seconds."""

    def __init__(
        self,
        tools: Tools,
        shards: Shards,
        clock: Callable[[], float] = time.monotonic,
        intakes: Intakes | None = None,
        keepers: Keepers | None = None,
    ) -> None:
        self._tools = tools
        self._shards = shards
        self._intakes = intakes
        self._keepers = keepers
        self._clock = clock
        settings = tools.settings
        self._names = (
            settings.source_topic,
            settings.state_topic,
            settings.alert_topic,
            settings.dead_letter_topic,
            settings.group_evidence_topic,
            settings.group_state_topic,
            *([settings.intake_topic] if settings.intake_topic is not None else []),
        )
        self._state_ids: dict[str, str] = {}
        self._gone_since: float | None = None
        self._short = ShortLogs()

    async def look(self, ends: dict[int, int]) -> None:
        """Ask for the topics, and draw conclusions; `ends`: the source's end offsets as last known."""
        try:
            topics = await self._tools.group.topics(self._names)
        except Exception as error:  # no broker answers: whoever asks for the ends says so
            log.debug("the topics could not be looked at: %s", line_of(error))
            self._gone_since = None
            return
        gone = [name for name in self._names if name in topics and not topics[name].there]
        if gone:
            await self._mind_gone(gone[0], ends)
            return
        if topics:
            self._gone_since = None
            await self._mind_ids(topics, ends)
            self._shards.part()
            if self._shards.assigned == set():
                await self._refresh()

    async def _refresh(self) -> None:
        """A group that was given its partitions while the topic was missing does not look for it again."""
        try:
            await self._tools.group.refresh()
        except Exception as error:  # a broker that hangs; the next look asks again
            log.debug("the group's topics could not be looked at: %s", line_of(error))

    async def _mind_gone(self, name: str, ends: dict[int, int]) -> None:
        now = self._clock()
        if self._gone_since is None:
            self._gone_since = now
            log.warning("there is no topic %s any more, says a broker: waiting for another answer", name)
        if now - self._gone_since < GONE_SECONDS:
            return
        await self._shards.give_up(name, self._unread(ends) if name == self._tools.settings.source_topic else {})
        self._tools.die(
            EXIT_LOST,
            f"the topic {name} was deleted: make it again (`overdraw topics create`), then start the worker",
        )

    def _unread(self, ends: dict[int, int]) -> dict[int, int]:
        shards = [*self._shards.live.values(), *self._shards.parting]
        return {shard.partition: max(0, ends.get(shard.partition, 0) - shard.sequencer.next) for shard in shards}

    async def _mind_ids(self, topics: dict[str, TopicState], ends: dict[int, int]) -> None:
        """A topic that was deleted and made anew between two looks."""
        settings = self._tools.settings
        source = topics.get(settings.source_topic)
        for name in (settings.state_topic, settings.group_state_topic):
            state = topics.get(name)
            if state is not None and state.id is not None and state.id != self._state_ids.setdefault(name, state.id):
                await self._leave_state(name)
                return
        await self._mind_intake(topics.get(settings.intake_topic or ""))
        await self._mind_evidence(topics.get(settings.group_evidence_topic))
        if source is None or source.id is None:
            return
        unread = self._unread(ends)
        why = f"{settings.source_topic} was deleted and made anew"
        for shard in [*self._shards.live.values(), *self._shards.parting]:
            if shard.source is not None and shard.source.id not in (None, source.id):
                await self._shards.renew(shard, why, unread=unread.get(shard.partition, 0))

    async def _mind_intake(self, intake: TopicState | None) -> None:
        if self._intakes is None or intake is None or intake.id is None:
            return
        why = f"{self._tools.settings.intake_topic} was deleted and made anew"
        for held in list(self._intakes.live.values()):
            if held.live and held.topic.uuid and id_text(held.topic.uuid) != intake.id:
                await self._intakes.renew(held, why)

    async def _mind_evidence(self, evidence: TopicState | None) -> None:
        keeper = self._keepers.keeper if self._keepers is not None else None
        if self._keepers is None or keeper is None or evidence is None or evidence.id is None:
            return
        if keeper.source.id not in (None, evidence.id):
            await self._keepers.renew(keeper, f"{keeper.source.topic} was deleted and made anew")

    async def _leave_state(self, name: str) -> None:
        """Only what changes from now on would be written to the new state topic: it must not pass for the whole."""
        await self._shards.stop()
        text = (
            f"the topic {name} was deleted and made anew while this worker ran, so it lacks states: start the worker "
            "with --rebuild to learn them again from what the source topic still holds"
        )
        self._tools.die(EXIT_LOST, text)

    async def mind_ends(self, ends: dict[int, int]) -> None:
        """A log that ends before what was applied was cut: only another takeover can let the shard go on there."""
        for shard, end, lowest in self._short.look(self._shards.live, ends, self._clock()):
            why = f"its log ends at {end}, before what was applied"
            await self._shards.renew(shard, why, cut_at=lowest)
