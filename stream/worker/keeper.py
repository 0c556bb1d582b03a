"""The keeper: all groups of an installation in one worker's hands, the one that the evidence topic is assigned to.

What it reads is what shards tell of their keys; what it knows stands on a state topic of its own. Both have one
partition, and so the keeper lives as a shard does: fenced, read, sought, flushed in transactions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stream.alerts import Alert
from stream.core.evidence import Evidence
from stream.core.evidencerecord import EvidenceError, unpack_evidence
from stream.core.grouprecord import HEAD_KEY
from stream.core.groups import Groups, GroupStep
from stream.core.shardrecord import StateError
from stream.events import Reject
from stream.settings import Settings
from stream.worker.deadletters import dead_letters
from stream.worker.group import Group
from stream.worker.journal import GROUPS, Journal, Record, Target
from stream.worker.live import Owner
from stream.worker.outbox import alert_record, as_found, follow
from stream.worker.recovery import OWNER_KEY, SOURCE_KEY, StateLog
from stream.worker.sequencer import Sequencer
from stream.worker.source import Source, fate
from stream.worker.tools import Tools
from stream.worker.topics import Problem

CLEAR_RECORDS = 20_000
"""Records of a state that cannot be used, deleted in one transaction."""
SHORT_SECONDS = 1.0
"""Before it is believed that a log has lost its end: a new leader may not know yet how far it goes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeeperFlush:
    """What one transaction writes, and what is told once it is committed."""

    records: dict[Target, list[Record]]
    step: GroupStep
    alerts: list[Alert]
    reasons: list[str]
    acknowledge: list[Any]
    applied: int
    count: int


@dataclass(slots=True)
class _Pending:
    step: GroupStep = field(default_factory=GroupStep)
    letters: list[Record] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)


class Keeper:
    """The groups, from their recovery until they are dropped.

    `turn` is held while evidence or a step is applied; `busy` is True while that goes on in a thread, during which
    nobody else may look at `core`.
    """

    def __init__(
        self,
        core: Groups,
        journal: Journal,
        settings: Settings,
        owner: Owner,
        *,
        next_offset: int,
        source: Source,
        source_kept: bool,
    ) -> None:
        self.partition = 0
        self.core = core
        self.journal = journal
        self.sequencer = Sequencer(next_offset)
        self.source = source
        self.live = False
        self.broken = False
        self.owner_due = True
        self.recovery_seconds = 0.0
        self.unflushed = 0
        self.flushing = asyncio.Lock()
        self.turn = asyncio.Lock()
        self.busy = False
        self.tracked = len(core)
        """Groups that are large enough to be watched."""
        self.holes: list[tuple[int, int]] = []
        self.committed = core.applied
        self.open: dict[str, Alert] = {}
        self.lost = 0
        """Offsets that were deleted before they were read, until it is said."""
        self._settings = settings
        self._owner = owner
        self._source_due = not source_kept
        self._pending = _Pending()
        self._in_flight = 0

    def owe(self, step: GroupStep) -> None:
        """Take up a step that came from no record: recovery's, or one that was announced."""
        self._pending.step.add(step)

    def apply(self, records: Sequence[Any]) -> None:
        """Apply a slice of Kafka records in log order; those that cannot be used become dead letters."""
        known, upto = self.core.applied, records[-1].offset
        evidence: list[tuple[int, Evidence]] = []
        rejects = []
        for record in records:
            try:
                evidence.append((record.offset, unpack_evidence(record.value, self._settings.partitions)))
            except EvidenceError as error:
                rejects.append(Reject(record.offset, "bad_evidence", str(error)))
        self._refuse([reject for reject in rejects if reject.position > known], records)
        self.owe(self.core.observe(evidence, upto))
        self.sequencer.applied(upto)
        self.unflushed += len(records)
        self.tracked = len(self.core)

    def advance(self) -> None:
        """Do what was announced."""
        self.owe(self.core.advance())
        self.tracked = len(self.core)

    def _refuse(self, rejects: Sequence[Reject], records: Sequence[Any]) -> None:
        topic = self._settings.group_evidence_topic
        by_offset = {record.offset: record for record in records}
        self._pending.letters += dead_letters(rejects, by_offset, topic, canonical=False)
        self._pending.reasons += [reject.reason for reject in rejects]

    def acknowledge_later(self, event: Any) -> None:
        """Acknowledge the event of a chunk once the transaction that holds it is committed."""
        self._pending.events.append(event)

    def snapshot(self, now: float) -> KeeperFlush | None:
        """Everything that is owed, packed; None if that is nothing, or if it has to wait.

        No await within: it is one moment of the groups.
        """
        if self.busy:
            return None
        pending, self._pending = self._pending, _Pending()
        settings = self._settings
        alerts = [as_found(alert, now, settings.backlog_seconds) for alert in pending.step.alerts]
        states: list[Record] = [(key, value, ()) for key, value in self.core.changes()]
        if self.owner_due:
            self.owner_due = False
            states.insert(0, (OWNER_KEY, self._owner.pack(), ()))
        if self._source_due:
            self._source_due = False
            states.insert(0, (SOURCE_KEY, self.source.pack(), ()))
        written = {
            # partition 0, as of every journal its own number: so it can hide, or be hidden by, only what shard 0 says
            settings.alert_topic: [alert_record(alert, settings.app_id, GROUPS) for alert in alerts],
            settings.dead_letter_topic: pending.letters,
            settings.group_state_topic: states,
        }
        flush = KeeperFlush(
            records={topic: records for topic, records in written.items() if records},
            step=pending.step,
            alerts=alerts,
            reasons=pending.reasons,
            acknowledge=pending.events,
            applied=self.core.applied,
            count=self.unflushed - self._in_flight,
        )
        if not flush.records and not flush.acknowledge:
            return None
        self._in_flight += flush.count
        return flush

    def written(self, flush: KeeperFlush) -> None:
        """A flush is committed: only now its events may be acknowledged."""
        self.committed = flush.applied
        self.unflushed -= flush.count
        self._in_flight -= flush.count
        for event in flush.acknowledge:
            event.ack()
        follow(self.open, flush.alerts)


class KeeperRole:
    """The evidence topic's partition; `tools` are `tools_of` it."""

    noun = "evidence partition"

    def __init__(self, tools: Tools) -> None:
        self.group: Group = tools.group
        self.cuts: dict[int, int] = {}
        """Where its log was cut, as this process has seen; by now it may have grown again."""
        self._tools = tools
        self._settings = tools.settings

    def journal(self, partition: int) -> Journal:
        """See `Role`."""
        return self._tools.journal(self._settings, partition, GROUPS)

    async def owner(self, partition: int) -> Owner | None:
        """See `Role`."""
        only_worker = StateLog(lambda _: None, purpose="owner")
        state = await self._tools.read(self._settings, partition, only_worker, stable=True)
        packed = state.worker.get(OWNER_KEY)
        return Owner.unpack(packed) if packed is not None else None

    async def load(
        self, partition: int, journal: Journal, owner: Owner, check: Callable[[], None]
    ) -> tuple[Keeper, StateLog]:
        """See `Role`."""
        core = Groups(self._settings)
        state = await self._read(partition, StateLog(core.take_up))
        check()
        try:
            step = await asyncio.to_thread(core.taken_up)
        except StateError as error:
            if not self._tools.rebuild:
                raise
            core, step = await self._begin_anew(partition, journal, state, str(error)), GroupStep()
        check()
        source, kept, lost = await self._ground(partition, core, state)
        check()
        core.expect(range(self._settings.partitions))
        keeper = Keeper(
            core,
            journal,
            self._settings,
            owner,
            next_offset=max(core.read_from, state.source_start),
            source=source,
            source_kept=kept,
        )
        keeper.lost = lost
        keeper.owe(step)
        now, backlog = self._tools.clock(), self._settings.backlog_seconds
        keeper.open = {alert.fingerprint: as_found(alert, now, backlog) for alert in core.open_alerts()}
        return keeper, state

    async def _read(self, partition: int, state: StateLog) -> StateLog:
        return await self._tools.read(self._settings, partition, state)

    async def _begin_anew(self, partition: int, journal: Journal, state: StateLog, why: str) -> Groups:
        """Delete a state that cannot be used; evidence that was told before now is not judged again."""
        topic = self._settings.group_state_topic
        stored = (await self._read(partition, StateLog(purpose="rebuild"))).states
        names = sorted(name for name, value in stored.items() if value is not None and name != HEAD_KEY)
        log.warning(
            "groups: begun anew from offset %d of %s, %d records of %s are deleted; their open campaigns are never "
            "resolved, and what lasts is found again after a week: %s",
            state.source_end, self._settings.group_evidence_topic, len(names), topic, why,
        )  # fmt: skip
        for first in range(0, len(names), CLEAR_RECORDS):
            await journal.write({topic: [(name, None, ()) for name in names[first : first + CLEAR_RECORDS]]})
        core = Groups(self._settings)
        core.read_on_at(state.source_end)
        # the old head goes last: without one, another start would take all evidence that is left for new
        await journal.write({topic: [(name, value, ()) for name, value in core.changes()]})
        return core

    async def _ground(self, partition: int, core: Groups, state: StateLog) -> tuple[Source, bool, int]:
        """The log that it reads, whether that is what is kept already, and how many offsets were never read."""
        packed = state.worker.get(SOURCE_KEY)
        known = Source.unpack(packed) if packed is not None else None
        found = Source(self._settings.group_evidence_topic, state.source_id)
        if found.id is None and known is not None and known.topic == found.topic:
            found = known  # a Kafka that does not tell ids any more
        end = min(state.source_end, self.cuts.get(partition, state.source_end))
        verdict = fate(known, found, core.applied, end)
        if verdict != "same" and found == known and partition not in self.cuts:
            await asyncio.sleep(SHORT_SECONDS)
            end = (await self.group.ends()).get(partition, end)
            verdict = fate(known, found, core.applied, end)
        kept = found == known
        lost = 0
        if verdict != "same":
            how = "was made anew" if verdict == "anew" else f"has lost its end, and goes on at {end}"
            self._tools.lose(f"{found.topic} {how}")
            log.error("groups: %s %s: hours that were told of so far are judged without what it held", found.topic, how)
            core.read_on_at(state.source_start if verdict == "anew" else end)
        elif core.read_from < state.source_start and core.applied >= 0:
            lost = state.source_start - core.read_from
            if core.applied + 1 < state.source_start:
                core.read_on_at(state.source_start)
            core.lack()
        return found, kept, lost


def tools_of(tools: Tools, group: Group) -> Tools:
    """The tools of the keeper: its source is the evidence topic, its state stands on the topic of groups.

    group: the consumer group as far as it is about the evidence topic
    """
    settings = tools.settings
    names = {"source_topic": settings.group_evidence_topic, "state_topic": settings.group_state_topic}

    async def missing_rights(_: Settings) -> list[Problem]:
        return await tools.missing_rights(settings)

    return replace(tools, settings=settings.model_copy(update=names), group=group, missing_rights=missing_rights)
