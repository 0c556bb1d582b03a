"""Once a second: what the source's end tells of lag, silence and outages, and whether this worker is stuck."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from stream.worker.feed import LOG_FINDINGS, silence
from stream.worker.idle import Outage, quiet_needed
from stream.worker.live import LiveShard
from stream.worker.shards import Shards
from stream.worker.tools import EXIT_STUCK, Tools, line_of
from stream.worker.topicwatch import TopicWatch

LOOK_SECONDS = 1.0
STUCK_SECONDS = 60.0
"""Lag and no progress for this long: not ready; `LAST_CHANCE_SECONDS` later the process ends, to be started again."""
LAST_CHANCE_SECONDS = 10.0
UNASSIGNED_SECONDS = 120.0
"""A rebalance takes a session timeout (30 s) and a rebalance timeout (30 s) at most; then something is wrong."""
BROKER_SILENT_SECONDS = 30.0
RECOVERING_SECONDS = 600.0
"""For a shard that is being taken over: ten million keys are read in two minutes."""

log = logging.getLogger(__name__)


class Monitor:
    """Looks at the whole worker; `clock` is monotonic, in seconds."""

    def __init__(self, tools: Tools, shards: Shards, clock: Callable[[], float] = time.monotonic) -> None:
        self.ends: dict[int, int] = {}
        """The end offset of every partition of the source, at the last look that succeeded."""
        self.outage = Outage(quiet_needed(tools.settings.allowed_lateness_seconds))
        self.topics = TopicWatch(tools, shards, clock)
        self._tools = tools
        self._shards = shards
        self._clock = clock
        self._answered = clock()
        self._unassigned_since: float | None = clock()
        self._best: dict[int, tuple[int, int]] = {}
        self._grounds: dict[int, str] = {}
        self._stuck_since: dict[int, float] = {}
        self._applied: dict[LiveShard, int] = {}

    # ------------------------------------------------------------------ what others ask

    def lag(self, partition: int) -> int | None:
        """Records that an own partition is behind its log's end; None while that is not known."""
        end, shard = self.ends.get(partition), self._shards.live.get(partition)
        return None if end is None or shard is None else max(0, end - self._reached(shard))

    def _reached(self, shard: LiveShard) -> int:
        return self._tools.group.position_behind(shard.partition, shard.sequencer.next)

    def unready(self) -> list[str]:
        """Why this worker is not ready; empty if it is."""
        now, assigned = self._clock(), self._shards.assigned
        if self._shards.stopping:
            return ["stopping"]
        if now - self._answered > BROKER_SILENT_SECONDS:
            return [f"the broker has not answered for {now - self._answered:.0f} s"]
        if assigned is None:
            return ["no partitions are assigned yet, the group rebalances"]
        reasons = [f"partition {p} is being recovered" for p in sorted(assigned) if self._shards.ready(p) is None]
        for partition, since in sorted(self._stuck_since.items()):
            if now - since > STUCK_SECONDS:
                reasons.append(_stuck(partition, now - since))
        return reasons

    # ------------------------------------------------------------------ looking

    async def run(self) -> None:
        """Look for ever."""
        while not self._shards.stopping:
            await asyncio.sleep(LOOK_SECONDS)
            await self.topics.look(self.ends)
            try:
                ends = await self._tools.group.ends()
            except Exception as error:
                # nothing is known now: neither silence nor a lack of progress may be concluded from it
                log.warning("the end of the source is not known: %s", line_of(error))
                self._forget()
                continue
            if ends:
                self._answered = self._clock()
                await self.look(ends)

    def _forget(self) -> None:
        self._stuck_since.clear()
        self._unassigned_since = None
        self.outage.disturb()
        for shard in self._shards.live.values():
            shard.idle.disturb()

    async def look(self, ends: dict[int, int]) -> None:
        """Draw conclusions from fresh end offsets."""
        self.ends = ends
        now = self._clock()
        self._watch(now)
        await self.topics.mind_ends(ends)
        live = [shard for _, shard in sorted(self._shards.live.items()) if shard.live]
        self._judge_silence(live, now)
        for shard in live:
            await self._mind(shard, now)

    # ------------------------------------------------------------------ the watchdog

    def _watch(self, now: float) -> None:
        """End the process if it is stuck."""
        assigned = self._shards.assigned
        if assigned is None:
            self._unassigned_since = now if self._unassigned_since is None else self._unassigned_since
            if now - self._unassigned_since > UNASSIGNED_SECONDS:
                self._tools.die(EXIT_STUCK, f"no assignment by the group for {UNASSIGNED_SECONDS:.0f} s")
            return
        self._unassigned_since = None
        for partition in set(self._best) - assigned:
            del self._best[partition]
        self._stuck_since = {p: since for p, since in self._stuck_since.items() if p in assigned}
        for partition in sorted(assigned):
            shard = self._shards.live.get(partition)
            if self._has_progress(partition, shard):
                self._stuck_since.pop(partition, None)
                continue
            since = self._stuck_since.setdefault(partition, now)
            patience = RECOVERING_SECONDS if shard is None else STUCK_SECONDS + LAST_CHANCE_SECONDS
            if now - since > patience:
                self._tools.die(EXIT_STUCK, f"{_stuck(partition, now - since)}: this process ends, to be started again")

    def _has_progress(self, partition: int, shard: LiveShard | None) -> bool:
        """Whether more was written than ever, or read again than ever; a shard that fails in circles has none."""
        if shard is None:
            return self.ends.get(partition, 0) == 0
        if self._grounds.get(partition) != shard.ground:
            self._grounds[partition] = shard.ground
            self._best.pop(partition, None)
        mark = (shard.committed, shard.sequencer.next)
        if mark > self._best.get(partition, (-2, -1)):
            self._best[partition] = mark
            return True
        return self._at_end(shard) and not shard.unflushed

    def _at_end(self, shard: LiveShard) -> bool:
        return self._reached(shard) >= self.ends.get(shard.partition, 0)

    # ------------------------------------------------------------------ silence

    def _judge_silence(self, live: list[LiveShard], now: float) -> None:
        """See whether there is an outage; while it lasts all shards are frozen, and one of them says so."""
        applied = {shard: shard.applied_records for shard in live}
        for shard in live:
            if applied[shard] != self._applied.get(shard, 0):
                shard.idle.disturb()
            if shard not in self._applied and shard.feed.says("silence"):
                self.outage.active = True  # said by whoever owned the shard before: only records end it
        moved = any(count != self._applied.get(shard, 0) for shard, count in applied.items())
        self._applied = applied

        def expected(seconds: float) -> float:
            return sum(shard.core.expected_calls(seconds) for shard in live)

        changed = self.outage.look(self.ends, moved=moved, expected=expected, now=now)
        if changed and self.outage.active:
            log.error("no record on any partition for %.0f s: detection is frozen", self.outage.silent_seconds)
        elif changed:
            log.warning("records arrive again: detection goes on")
        for shard in live:
            if not self.outage.active:
                shard.find("silence", None)
                if changed:
                    shard.idle.disturb()
            elif not shard.frozen and math.isfinite(shard.core.newest):
                shard.core.freeze()
                shard.frozen = True
        if self.outage.active and live and not any("silence" in shard.findings for shard in live):
            seconds = self.outage.silent_seconds
            live[0].find("silence", silence(seconds, expected(seconds)))

    async def _mind(self, shard: LiveShard, now: float) -> None:
        """Let an idle shard's watermark move on; a gap, and a rebuild's silence, are over at the end of the log."""
        at_end = self._at_end(shard)
        if at_end:
            shard.speak_again()
            shard.told.clear()
            for name in LOG_FINDINGS:
                shard.find(name, None)
        if shard.frozen or self.outage.active:
            shard.idle.disturb()
            return
        target = shard.idle.step(at_end=at_end, watermark=shard.core.watermark, now=now)
        if target is not None and not await self._shards.step_idle(shard, target):
            shard.frozen = shard.live  # frozen before a restart: only a record moves it on


def _stuck(partition: int, seconds: float) -> str:
    return f"partition {partition} has a lag and made no progress for {seconds:.0f} s"
