"""Whether the groups move: lag, progress and patience of the keeper, looked at about once a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stream.worker.keeper import Keeper
from stream.worker.keepers import Keepers
from stream.worker.shortlogs import ShortLogs
from stream.worker.tools import EXIT_STUCK, Tools, line_of

MOST_SECONDS = 15.0
"""What one look may count for: a process that was suspended has not been stuck."""
STUCK_SECONDS = 60.0
"""Lag and no progress for this long: not ready; after as much again the process ends, to be started again."""

log = logging.getLogger(__name__)


class KeeperWatch:
    """Watches the keeper of the groups; `clock` is monotonic, in seconds."""

    def __init__(self, tools: Tools, keepers: Keepers, clock: Callable[[], float] = time.monotonic) -> None:
        self.keepers = keepers
        self.end: int | None = None
        """The end offset of the evidence topic, at the last look that succeeded."""
        self._tools = tools
        self._clock = clock
        self._looked = clock()
        self._best = (-2, -1)
        self._source = ""
        self._stuck = 0.0
        self._short = ShortLogs()

    def lag(self) -> int | None:
        """Records that the keeper in this worker's hands is behind its log's end; None while that is not known."""
        keeper = self.keepers.live.get(0)
        if self.end is None or keeper is None:
            return None
        return max(0, self.end - self._reached(keeper)) + self.keepers.group.hidden(0)

    def reasons(self) -> list[str]:
        """Why the keeper is not ready; empty if it is, or if another worker has it."""
        if not self.keepers.assigned:
            return []  # None: the shards say so already
        if self.keepers.keeper is None:
            return ["the groups are being recovered"]
        return [_stuck(self._stuck)] if self._stuck > STUCK_SECONDS else []

    async def look(self) -> None:
        """Ask for the log's end and draw conclusions; none where nobody tells it."""
        try:
            ends = await self.keepers.group.ends()
        except Exception as error:
            why = line_of(error)
            log.warning("the end of the evidence topic is not known: %s", why, extra={"seldom": why})
            self._looked = self._clock()
            return
        now = self._clock()
        passed, self._looked = min(now - self._looked, MOST_SECONDS), now
        self.end = ends.get(0, self.end)
        for held, end, lowest in self._short.look(self.keepers.live, ends, now):
            await self.keepers.renew(held, f"its log ends at {end}, before what was read", cut_at=lowest)
        if not self.keepers.assigned:
            self._stuck = 0.0
            return
        keeper = self.keepers.live.get(0)
        if self._has_progress(keeper):
            self._stuck = 0.0
        else:
            self._stuck += passed
            if self._stuck > 2 * STUCK_SECONDS:
                self._tools.die(EXIT_STUCK, f"{_stuck(self._stuck)}: this process ends, to be started again")
        if keeper is not None and keeper.live:
            # what the keeper has not read yet is no shard's fault
            self.keepers.mind(keeper, at_end=self._at_end(keeper) and not self.keepers.group.hidden(0))

    def _reached(self, keeper: Keeper) -> int:
        return self.keepers.group.position_behind(0, keeper.sequencer.next)

    def _at_end(self, keeper: Keeper) -> bool:
        return self._reached(keeper) >= (self.end or 0)

    def _has_progress(self, keeper: Keeper | None) -> bool:
        """Whether more was written, or read again, than ever."""
        if keeper is None:
            return False
        source = keeper.source.id or ""
        if source != self._source:  # offsets of another log begin anew
            self._source, self._best = source, (-2, -1)
        mark = (keeper.committed, keeper.sequencer.next)
        if mark > self._best:
            self._best = mark
            return True
        return keeper.busy or (self._at_end(keeper) and not keeper.unflushed)


def _stuck(seconds: float) -> str:
    return f"the groups have a lag and made no progress for {seconds:.0f} s"
