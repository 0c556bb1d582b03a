"""Once a second: what the source's end tells of lag, silence and outages, and whether this worker is stuck."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from stream.settings import SettingsError
from stream.worker.feed import LOG_FINDINGS, Finding, hanging, silence
from stream.worker.idle import Outage, quiet_needed
from stream.worker.instances import limit_of, of_all, skewed, skews
from stream.worker.intake_watch import IntakeWatch
from stream.worker.keeper_watch import KeeperWatch
from stream.worker.keepers import Keepers
from stream.worker.live import LiveShard
from stream.worker.repartition import Intakes
from stream.worker.shards import Shards
from stream.worker.tools import EXIT_STUCK, Tools, line_of
from stream.worker.topicwatch import TopicWatch

LOOK_SECONDS = 1.0
MOST_SECONDS = 15.0
"""What one look may count for: a look takes 10 s at most, and a process that was suspended has not been stuck."""
STUCK_SECONDS = 60.0
"""Lag and no progress for this long: not ready; `LAST_CHANCE_SECONDS` later the process ends, to be started again."""
LAST_CHANCE_SECONDS = 10.0
UNASSIGNED_SECONDS = 120.0
"""A rebalance takes a session timeout (30 s) and a rebalance timeout (30 s) at most; then something is wrong."""
STEP_SECONDS = 2.0
"""What an idle step may take before the watchdog looks on without it; a transaction takes milliseconds."""
LEAST_LOOKED = 1000
"""Records after which it is known whether gateways name themselves."""
BROKER_SILENT_SECONDS = 30.0
ASK_ANEW_SECONDS = 15.0
"""Without an answer to the consumer for this long a fresh connection asks: is it the broker, or is it us?"""
REFUSAL_SECONDS = 30.0
"""Between two looks whether brokers do answer and only do not take us: each is an attempt that they may count."""
TAKEOVER_SECONDS = 120.0
"""For a shard that is being taken over: the group may still be at odds, and each step is tried again. While its state
is being read, what counts is that the reading gets further than ever."""

log = logging.getLogger(__name__)


class Monitor:
    """Looks at the whole worker; `clock` is monotonic, in seconds.

    The watchdog's time passes only while a broker answers: a worker whose broker is away for hours is not ready, stays,
    and goes on by itself. What it has counted is never forgotten but by progress, so that a broker that comes and goes
    does not hide a worker that is stuck. And if the broker answers a fresh connection but not the consumer, it is the
    consumer that is dead: then time passes as well.
    """

    def __init__(
        self,
        tools: Tools,
        shards: Shards,
        clock: Callable[[], float] = time.monotonic,
        intakes: Intakes | None = None,
        keepers: Keepers | None = None,
    ) -> None:
        self.ends: dict[int, int] = {}
        """The end offset of every partition of the source, at the last look that succeeded."""
        self.intake = IntakeWatch(tools, intakes, clock) if intakes is not None else None
        self.outage = Outage(quiet_needed(tools.settings.allowed_lateness_seconds))
        self.keeping = KeeperWatch(tools, keepers, clock) if keepers is not None else None
        self.topics = TopicWatch(tools, shards, clock, intakes, keepers)
        self._tools = tools
        self._shards = shards
        self._clock = clock
        self._answered = self._looked = clock()
        self._silent_since: float | None = None
        self._complained = False
        self._asked_why = -math.inf
        self._unassigned = 0.0
        """Seconds without an assignment since all was well, while a broker answered."""
        self._best: dict[int, tuple[int, int]] = {}
        self._furthest: dict[int, dict[str, tuple[int, int]]] = {}
        """How far a takeover has ever read (and deleted) the state topic, by partition and purpose of the reading."""
        self._grounds: dict[int, str] = {}
        self._stuck: dict[int, float] = {}
        """Seconds without progress, by partition, while a broker answered."""
        self._applied: dict[LiveShard, int] = {}

    # ------------------------------------------------------------------ what others ask

    def lag(self, partition: int) -> int | None:
        """Records that an own partition is behind its log's end; None while that is not known."""
        end, shard = self.ends.get(partition), self._shards.live.get(partition)
        return None if end is None or shard is None else max(0, end - self._reached(shard)) + self._hidden(shard)

    def _reached(self, shard: LiveShard) -> int:
        return self._tools.group.position_behind(shard.partition, shard.sequencer.next)

    def _hidden(self, shard: LiveShard) -> int:
        return self._tools.group.hidden(shard.partition)

    def unready(self) -> list[str]:
        """Why this worker is not ready; empty if it is."""
        now, assigned = self._clock(), self._shards.assigned
        if self._shards.stopping:
            return ["stopping"]
        if now - self._answered > BROKER_SILENT_SECONDS:
            return [f"the broker has not answered for {now - self._answered:.0f} s"]
        if assigned is None:
            return ["no partitions are assigned yet, the group rebalances"]
        reasons = [self._recovering(p) for p in sorted(assigned) if self._shards.ready(p) is None]
        reasons += [_stuck(p, seconds) for p, seconds in sorted(self._stuck.items()) if seconds > STUCK_SECONDS]
        reasons += self.intake.reasons() if self.intake is not None else []
        return reasons + (self.keeping.reasons() if self.keeping is not None else [])

    def _recovering(self, partition: int) -> str:
        state = self._shards.reading.get(partition)
        return f"partition {partition} is being recovered" + (f": {state}" if state is not None and state.end else "")

    # ------------------------------------------------------------------ looking

    async def run(self) -> None:
        """Look for ever."""
        while not self._shards.stopping:
            await asyncio.sleep(LOOK_SECONDS)
            await self.topics.look(self.ends)
            await self.look_once()

    async def look_once(self) -> None:
        """Ask for the end offsets and draw conclusions, or none where nobody tells them."""
        ends = await self._ends()
        if ends:
            await self.look(ends)
        else:
            self._forget()

    async def _ends(self) -> dict[int, int]:
        """The source's end offsets; none if no broker tells them."""
        try:
            if ends := await self._tools.group.ends():
                self._say_answered(self._clock())
                return ends
            why = "the consumer is not there yet"
        except Exception as error:
            why = line_of(error)
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = self._answered
            self._complained = self._shards.assigned is not None  # before, nobody has expected an answer
            if self._complained:
                log.warning("the broker does not answer (%s): this worker waits, and goes on when it does", why)
        if now - self._silent_since < ASK_ANEW_SECONDS:
            return {}
        try:
            return await self._tools.ends(self._tools.settings)
        except Exception as error:
            log.debug("the broker does not answer a fresh connection either: %s", line_of(error))
            await self._say_why_refused(now)
            return {}

    async def _say_why_refused(self, now: float) -> None:
        """A password or a certificate that is no longer accepted is for people to mend."""
        if now - self._asked_why < REFUSAL_SECONDS:
            return
        self._asked_why = now
        try:
            why = await self._tools.refusal(self._tools.settings)
        except SettingsError as error:
            why = str(error)
        if why is not None:
            log.error("%s; this worker waits, and a new one would not start", why)

    def _say_answered(self, now: float) -> None:
        if self._silent_since is not None and self._complained:
            log.warning("the broker answers again, after %.0f s", now - self._silent_since)
        self._silent_since = None

    def _forget(self) -> None:
        """Nothing is known now: neither silence nor a lack of progress may be concluded from it."""
        self._looked = self._clock()
        self.outage.disturb()
        for shard in self._shards.live.values():
            shard.idle.disturb()

    async def look(self, ends: dict[int, int]) -> None:
        """Draw conclusions from fresh end offsets."""
        self.ends = ends
        now = self._answered = self._clock()
        passed, self._looked = min(now - self._looked, MOST_SECONDS), now
        self._watch(passed)
        await self.topics.mind_ends(ends)
        lost = None
        if self.intake is not None:
            lost = self.intake.lost()  # a partition that has caught up forgets it
            await self.intake.look()
        if self.keeping is not None:
            await self.keeping.look()
        live = [shard for _, shard in sorted(self._shards.live.items()) if shard.live]
        self._judge_silence(live, now)
        self._say_what_is_missing(live, lost, now)
        self._compare_clocks(live)
        targets = [(shard, self._idle_step(shard, now)) for shard in live]
        steps = {self._shards.spawn(self._step(shard, target)) for shard, target in targets if target is not None}
        if steps:  # a step waits for a flush: the watchdog must not wait for what it watches
            await asyncio.wait(steps, timeout=STEP_SECONDS)

    # ------------------------------------------------------------------ the watchdog

    def _watch(self, passed: float) -> None:
        """End the process if it is stuck; `passed`: seconds since the last look."""
        assigned = self._shards.assigned
        if assigned is None:
            self._unassigned += passed
            if self._unassigned > UNASSIGNED_SECONDS:
                self._tools.die(EXIT_STUCK, f"no assignment by the group for {UNASSIGNED_SECONDS:.0f} s")
            return
        self._best = {p: mark for p, mark in self._best.items() if p in assigned}
        self._furthest = {p: marks for p, marks in self._furthest.items() if p in assigned}
        self._stuck = {p: seconds for p, seconds in self._stuck.items() if p in assigned}
        for partition in sorted(assigned):
            shard = self._shards.live.get(partition)
            if self._has_progress(partition, shard):
                self._stuck.pop(partition, None)
                continue
            seconds = self._stuck[partition] = self._stuck.get(partition, -passed) + passed
            patience = TAKEOVER_SECONDS if shard is None else STUCK_SECONDS + LAST_CHANCE_SECONDS
            if seconds > patience:
                self._tools.die(EXIT_STUCK, f"{_stuck(partition, seconds)}: this process ends, to be started again")
        if not self._stuck:
            self._unassigned = 0.0

    def _has_progress(self, partition: int, shard: LiveShard | None) -> bool:
        """Whether more was written than ever, or read again than ever; a shard that fails in circles has none."""
        if shard is None:
            reading = self._shards.reading.get(partition)
            if reading is not None:
                furthest = self._furthest.setdefault(partition, {})
                if reading.mark > furthest.get(reading.purpose, (-1, 0)):
                    furthest[reading.purpose] = reading.mark
                    return True
            return self.ends.get(partition, 0) == 0
        self._furthest.pop(partition, None)
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
        moved = any(count != self._applied.get(shard, 0) or self._hidden(shard) for shard, count in applied.items())
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

    def _say_what_is_missing(self, live: list[LiveShard], lost: Finding | None, now: float) -> None:
        """Open transactions that hide records, by shard; what the intake has lost is said by the first shard."""
        for shard in live:
            offsets = self._hidden(shard)
            seconds = shard.hidden.look(self.ends.get(shard.partition, 0), offsets, now)
            if seconds and "open_transaction" not in shard.findings:
                shard.find("open_transaction", hanging(offsets, seconds))
                log.error("partition %d: %s", shard.partition, shard.findings["open_transaction"].text)
            elif not offsets:
                shard.find("open_transaction", None)
        for number, shard in enumerate(live):
            said = shard.feed.says("intake_gap")
            still = self.intake.lost() if self.intake is not None else None
            if number == 0 and (finding := still or (None if said else lost)):
                shard.find("intake_gap", finding)
            elif said:  # what was never said is said first
                shard.find("intake_gap", None)

    def _compare_clocks(self, live: list[LiveShard]) -> None:
        """Whether a gateway's clock is off: of all that this worker sees, said by its first shard."""
        said = any(shard.feed.says("skew") for shard in live)
        limit = limit_of(self._tools.settings.allowed_lateness_seconds)
        for shard in live:
            shard.instances.turn(self._tools.clock())
        clocks = skews(of_all([shard.instances for shard in live]))
        looked = sum(shard.applied_records for shard in live)
        if said and not clocks and looked < LEAST_LOOKED:
            return  # just started: what was said holds until enough was seen
        finding = skewed(clocks, limit / 2 if said else limit)
        for number, shard in enumerate(live):
            shard.find("skew", finding if number == 0 else None)

    def _idle_step(self, shard: LiveShard, now: float) -> float | None:
        """The watermark that an idle shard moves on to, if it is time.

        A gap, and a rebuild's silence, are over at the end of the log.
        """
        at_end = self._at_end(shard)
        if at_end:
            if not self._hidden(shard):
                shard.tell_empty()
            shard.speak_again()
            shard.told.clear()
            for name in LOG_FINDINGS:
                if shard.feed.says(name):  # what was never said is said first
                    shard.find(name, None)
        if shard.frozen or self.outage.active:
            shard.idle.disturb()
            return None
        if shard.turn.locked():
            return None
        # what an open transaction hides is no silence: its records must not find their bucket closed
        at_end = at_end and not self._hidden(shard)
        return shard.idle.step(at_end=at_end, watermark=shard.core.watermark, now=now)

    async def _step(self, shard: LiveShard, target: float) -> None:
        if not await self._shards.step_idle(shard, target):
            shard.frozen = shard.live  # frozen before a restart: only a record moves it on


def _stuck(partition: int, seconds: float) -> str:
    return f"partition {partition} has a lag and made no progress for {seconds:.0f} s"
