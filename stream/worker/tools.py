"""What the shards work with: everything of the outside world, handed in, so that tests can hand in something else."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from stream.core.shard import Shard
from stream.settings import Settings
from stream.worker.group import Group, ask_ends
from stream.worker.journal import Journal
from stream.worker.rebuild import Said, read_said
from stream.worker.recovery import StateLog, read_state
from stream.worker.refusal import refusal
from stream.worker.rights import missing_rights
from stream.worker.topics import Problem

if TYPE_CHECKING:
    from stream.worker.keeper import Keeper, KeeperFlush
    from stream.worker.keying import Keyed
    from stream.worker.live import Flush, LiveShard

EXIT_BAD_STATE = 2
EXIT_LOST = 3
EXIT_TWIN = 70
EXIT_STUCK = 75
"""As sysexits.h has it: try again, by another process."""


class Observer(Protocol):
    """Who is told what became true: the metrics."""

    def flushed(self, shard: LiveShard, flush: Flush, seconds: float) -> None:
        """A transaction was committed; told before the shard takes note of its alerts."""

    def recovered(self, shard: LiveShard, state: StateLog, seconds: float) -> None:
        """A shard is live."""

    def dropped(self) -> None:
        """A shard was thrown away after a failure."""

    def holed(self, offsets: int) -> None:
        """Offsets were passed over that hold no records."""

    def gap(self, offsets: int) -> None:
        """Offsets were deleted before they were read."""

    def passed_on(self, done: Keyed) -> None:
        """A transaction of the intake was committed."""

    def kept(self, keeper: Keeper, flush: KeeperFlush) -> None:
        """A transaction of the groups was committed; told before the keeper takes note of its alerts."""

    def rebalanced(self) -> None:
        """The group assigned partitions anew."""

    def aged(self, times: Sequence[float], now: float) -> None:
        """Events with these times were applied at `now`."""


@dataclass(frozen=True, slots=True)
class Tools:
    """`die(code, message)` ends the process; `lose(message)` hears what a log has lost; `clock` gives epoch seconds."""

    settings: Settings
    group: Group
    observer: Observer
    core: Callable[[int], Shard]
    die: Callable[[int, str], None]
    lose: Callable[[str], None]
    heartbeat_seconds: float = 2.0
    journal: Callable[..., Journal] = Journal
    read: Callable[..., Awaitable[StateLog]] = read_state
    ends: Callable[[Settings], Awaitable[dict[int, int]]] = ask_ends
    said: Callable[[Settings, int], Awaitable[Said]] = read_said
    clock: Callable[[], float] = time.time
    missing_rights: Callable[[Settings], Awaitable[list[Problem]]] = missing_rights
    refusal: Callable[[Settings], Awaitable[str | None]] = refusal
    rebuild: bool = False
    """Learn a state again that cannot be used, instead of refusing it."""


def name_of(error: BaseException) -> str:
    """The type of an error, for a log line."""
    return type(error).__name__


def line_of(error: BaseException) -> str:
    """An error in one line."""
    return f"{name_of(error)}: {error}"[:300] if str(error) else name_of(error)
