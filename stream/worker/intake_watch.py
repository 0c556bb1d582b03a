"""Whether the intake moves: lag, lost offsets and progress of its partitions, looked at about once a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stream.worker.feed import Finding, intake_lost
from stream.worker.intake import IntakePartition
from stream.worker.places import Topic
from stream.worker.repartition import Intakes
from stream.worker.shortlogs import ShortLogs
from stream.worker.tools import EXIT_STUCK, Tools, line_of

MOST_SECONDS = 15.0
"""What one look may count for: a process that was suspended has not been stuck."""
STUCK_SECONDS = 60.0
"""Lag and no progress for this long: not ready; after as much again the process ends, to be started again."""

log = logging.getLogger(__name__)


class IntakeWatch:
    """Watches the partitions of the intake; `clock` is monotonic, in seconds."""

    def __init__(self, tools: Tools, intakes: Intakes, clock: Callable[[], float] = time.monotonic) -> None:
        self.intakes = intakes
        self.ends: dict[int, int] = {}
        """The end offset of every partition of the intake topic, at the last look that succeeded."""
        self._tools = tools
        self._clock = clock
        self._looked = clock()
        self._best: dict[int, tuple[Topic, int]] = {}
        self._stuck: dict[int, float] = {}
        self._short = ShortLogs()
        """Since when, and how far at least, a log has ended before what was read of it."""

    def lag(self, partition: int) -> int | None:
        """Records that an own partition is behind its log's end; None while that is not known."""
        end, held = self.ends.get(partition), self.intakes.live.get(partition)
        if end is None or held is None:
            return None
        return max(0, end - held.position) + self.intakes.group.hidden(partition)

    def reasons(self) -> list[str]:
        """Why the intake is not ready; empty if it is."""
        assigned = self.intakes.assigned
        if assigned is None:
            return []  # the shards say so already
        reasons = [f"intake partition {p} is being taken over" for p in sorted(assigned) if not self.intakes.ready(p)]
        return reasons + [_stuck(p, secs) for p, secs in sorted(self._stuck.items()) if secs > STUCK_SECONDS]

    def lost(self) -> Finding | None:
        """What retention took before it was read, until those partitions have caught up."""
        offsets = sum(held.lost for held in self.intakes.live.values())
        return intake_lost(offsets) if offsets else None

    async def look(self) -> None:
        """Ask for the end offsets and draw conclusions; none where nobody tells them."""
        try:
            ends = await self.intakes.group.ends()
        except Exception as error:
            why = line_of(error)
            log.warning("the end of the intake topic is not known: %s", why, extra={"seldom": why})
            self._looked = self._clock()
            return
        now = self._clock()
        passed, self._looked = min(now - self._looked, MOST_SECONDS), now
        self.ends = ends
        await self._mind_ends(ends, now)
        assigned = self.intakes.assigned or set()
        self._best = {p: best for p, best in self._best.items() if p in assigned}
        self._stuck = {p: seconds for p, seconds in self._stuck.items() if p in assigned}
        for partition in sorted(assigned):
            if self._has_progress(partition, self.intakes.live.get(partition)):
                self._stuck.pop(partition, None)
                continue
            seconds = self._stuck[partition] = self._stuck.get(partition, 0.0) + passed
            if seconds > 2 * STUCK_SECONDS:
                self._tools.die(EXIT_STUCK, f"{_stuck(partition, seconds)}: this process ends, to be started again")

    async def _mind_ends(self, ends: dict[int, int], now: float) -> None:
        """A log that ends before what was read was cut: what comes now has the offsets of what is gone."""
        for held, end, lowest in self._short.look(self.intakes.live, ends, now):
            why = f"its log ends at {end}, before what was read"
            await self.intakes.renew(held, why, cut_at=lowest)

    def _has_progress(self, partition: int, held: IntakePartition | None) -> bool:
        """Whether more was written than ever; who waits for others that lag behind is not stuck."""
        if held is None:
            return False
        at_end = held.position >= self.ends.get(partition, 0)
        if at_end:
            held.lost = 0
        topic, furthest = self._best.get(partition, (held.topic, -2))
        if held.topic != topic or held.committed > furthest:  # offsets of another log begin anew
            self._best[partition] = held.topic, held.committed
            return True
        return held.waiting or (at_end and not held.unflushed)


def _stuck(partition: int, seconds: float) -> str:
    return f"intake partition {partition} has a lag and made no progress for {seconds:.0f} s"
