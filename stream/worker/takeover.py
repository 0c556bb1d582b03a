"""What a shard begins with: its stored state, or a rebuilt one where that is asked for; and where its log goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import msgspec

from stream.core.shard import Shard
from stream.core.state import StateError
from stream.core.step import Step
from stream.worker.feed import Finding, anew, cut, lost
from stream.worker.journal import Journal
from stream.worker.live import LiveShard
from stream.worker.rebuild import Rebuild, begin, clear
from stream.worker.recovery import SOURCE_KEY, StateLog
from stream.worker.source import Fate, Source, fate
from stream.worker.tools import Tools

SHORT_PATIENCE_SECONDS = 4.0
"""A leader that has just taken over may say for a moment that its log ends before what it had handed out."""

log = logging.getLogger(__name__)


class LogTooShort(RuntimeError):
    """The source ends before what was applied, for now: to be looked at again."""


async def begin_with(
    tools: Tools, partition: int, journal: Journal, core: Shard, state: StateLog
) -> tuple[Shard, Step, Rebuild | None]:
    """The shard of a stored state, what its announced idle step did, and the rebuild under way, if there is one.

    It is `core`, which has been given the state's records, where that state can be used, else a fresh one. Raises
    StateError if the state cannot be used, unless `tools.rebuild` asks for another one.
    """
    rebuild = Rebuild.of(state)
    if rebuild is not None and not rebuild.cleared:
        log.warning("partition %d: the rebuild that was begun goes on", partition)
        rebuild = await clear(tools, partition, journal, rebuild)
        core, step = tools.core(partition), Step()
    else:
        try:
            step = await asyncio.to_thread(_load, core, tools.rebuild)
        except StateError as error:
            if not tools.rebuild:
                raise
            rebuild = await begin(tools, partition, journal, state, None, str(error))
            core, step = tools.core(partition), Step()
        else:
            rebuild = rebuild or await _without_state(tools, partition, journal, core, state)
            if tools.rebuild and rebuild is None:
                log.info("partition %d: nothing to rebuild", partition)
    if rebuild is not None and core.applied < 0:
        core.follow(rebuild.sequence, float("inf"))
    return core, step, rebuild


def _load(core: Shard, check: bool) -> Step:
    # in a thread: to look through a million keys takes half a second, in which the other shards go on
    step = core.taken_up()
    if check:
        core.check()
    return step


async def _without_state(
    tools: Tools, partition: int, journal: Journal, core: Shard, state: StateLog
) -> Rebuild | None:
    """A partition without any state is new, unless its group has a place in the source: then the state was lost."""
    # keys without a place are those of a log that was cut at its first offset, not of a lost state
    if core.applied >= 0 or len(core) or not (committed := await tools.group.committed(partition)):
        return None
    settings = tools.settings
    if tools.rebuild:
        why = f"{settings.state_topic} holds nothing of it, though {settings.app_id} had come to offset {committed}"
        return await begin(tools, partition, journal, state, committed, why)
    log.error(
        "partition %d: %s holds nothing of it, though %s had come to offset %d of %s: the state was lost, and all is "
        "learned again from offset %d. Alerts and dead letters up to there come a second time; started with --rebuild "
        "they would not",
        partition, settings.state_topic, settings.app_id, committed, settings.source_topic, state.source_start,
    )  # fmt: skip
    return None


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a shard stands in its source.

    source: the log that it reads
    kept: whether that is what is kept with the state already
    name: another one where offsets begin anew or go back, so that lower ones than before are no lack of progress
    rebuild: what is still to be learned silently; None: nothing
    finding: what is to be said, if the log has lost something; `unread` records of it are known never to have been read
    """

    source: Source
    kept: bool
    name: str
    rebuild: Rebuild | None
    finding: Finding | None = None
    unread: int = 0


class Grounds:
    """Finds out where shards stand; keeps what only this process can know of their logs."""

    def __init__(self, tools: Tools) -> None:
        self.unread: dict[int, int] = {}
        """Records of a log that is gone, by partition, that its last owner here had not read."""
        self.cuts: dict[int, int] = {}
        """Where logs were cut, by partition, as this process has seen; by now they may have grown again."""
        self._tools = tools
        self._short_since: dict[int, float] = {}
        self._found: dict[int, Ground] = {}

    def settled(self, partition: int) -> None:
        """What the shard made of it is committed: nothing more is to be known of its former log."""
        self.unread.pop(partition, None)
        self.cuts.pop(partition, None)
        self._short_since.pop(partition, None)

    def keep(self, partitions: set[int]) -> None:
        """Only these are this worker's now: of the others another one finds out by itself, and its log may go on."""
        for partition in {*self.unread, *self.cuts, *self._short_since} - partitions:
            self.settled(partition)

    def find(self, partition: int, core: Shard, rebuild: Rebuild | None, state: StateLog) -> Ground:
        """Compare a shard with its source, and let it go on where that does.

        Raises LogTooShort until a log that ends before what was applied has done so for some seconds.
        """
        packed = state.worker.get(SOURCE_KEY)
        known = Source.unpack(packed) if packed is not None else None
        found = Source(self._tools.settings.source_topic, state.source_id)
        if found.id is None and known is not None and known.topic == found.topic:
            found = known  # a Kafka that does not tell ids any more
        fresh = core.applied < 0
        reached = core.applied if not fresh or rebuild is None else rebuild.until - 1
        end = min(state.source_end, self.cuts.get(partition, state.source_end))
        verdict = self._verdict(partition, known, found, reached, end)
        unread = self.unread.get(partition, 0)
        finding: Finding | None = None
        if verdict == "anew":
            before = "it has another id" if known is None or known.topic == found.topic else f"that was {known.topic}"
            finding = anew(found.topic, before, unread)
            core.read_on_at(state.source_start, same_log=False)
            rebuild = _until(rebuild, state.source_start)
        elif verdict == "cut":
            finding = cut(end, reached, unread)
            if not fresh:
                core.read_on_at(end, same_log=True)
            rebuild = _until(rebuild, end)
        elif reached >= 0 and state.source_start > reached + 1:
            unread = state.source_start - reached - 1
            finding = lost(unread)
            if not fresh:  # its next flush says so for good: another owner has not lost it once more
                core.read_on_at(state.source_start, same_log=True)
        name = f"{found.id} from {'its end' if verdict == 'cut' else 'nothing' if fresh else 'a state'}"
        ground = self._found[partition] = Ground(found, found == known, name, rebuild, finding, unread)
        return ground

    def tell(self, shard: LiveShard) -> None:
        """Report what the log has lost of a shard that is live now; an attempt that came to nothing reports nothing."""
        ground = self._found.pop(shard.partition, None)
        if ground is not None and ground.finding is not None:
            report(self._tools, shard, ground.finding, ground.unread)

    def _verdict(self, partition: int, known: Source | None, found: Source, applied: int, end: int) -> Fate:
        verdict = fate(known, found, applied, end)
        sure = verdict == "same" or (known is not None and known != found) or partition in self.cuts
        if sure:
            self._short_since.pop(partition, None)
            return verdict
        since = self._short_since.setdefault(partition, time.monotonic())
        if time.monotonic() - since < SHORT_PATIENCE_SECONDS:
            raise LogTooShort(f"offset {applied} of {found.topic} was applied, and it ends at {end}")
        del self._short_since[partition]
        return verdict


def _until(rebuild: Rebuild | None, offset: int) -> Rebuild | None:
    return None if rebuild is None else msgspec.structs.replace(rebuild, until=min(rebuild.until, offset))


def report(tools: Tools, shard: LiveShard, finding: Finding, unread: int) -> None:
    """The log has lost something: raise a feed alert, count, log, and remember it for the exit code."""
    shard.find(finding.name, finding)
    tools.observer.gap(unread)
    level = logging.DEBUG if finding.name in shard.told else logging.ERROR  # retention may go on overtaking the shard
    log.log(level, "partition %d: %s; %s", shard.partition, finding.text, finding.action)
    shard.told.add(finding.name)
    tools.lose(f"partition {shard.partition}: {finding.text}")
