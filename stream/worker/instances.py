"""The gateways' instances that records name (`gateway`): which of them lacks usage, and whose clock is off.

A clock is compared with those of the other instances by the order of the log, and not with ours, so that a backlog or a
slow reader cannot look like a wrong clock: whose calls always come with a time behind the newest one before them is
behind by that much. Where calls are further apart than the clocks, less is seen of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from statistics import median_low

from stream.alerts import printable
from stream.core.sums import FIRST_FAILURE
from stream.events import Arrival
from stream.worker.feed import Finding

MAX_INSTANCES = 64
"""Of one shard; records that name further ones are not looked at. An autoscaled gateway has some tens of pods."""
SHOWN = 20
"""Of one worker, those with the most records."""
HALF_SECONDS = 600.0
"""What is told is of the last 10 to 20 minutes."""
LEAST_RECORDS = 20
"""Of fewer records nothing is said of a clock: each may have been held up on its way."""
LEAST_SKEW_SECONDS = 5.0
MAX_LABEL = 64


@dataclass(slots=True)
class Seen:
    """What an instance's records show. lag: seconds by which even the newest of them stayed behind the log's newest."""

    records: int = 0
    missing: int = 0
    lag: float = math.inf

    def add(self, other: Seen) -> None:
        """Take up what else was seen of it."""
        self.records += other.records
        self.missing += other.missing
        self.lag = min(self.lag, other.lag)


class Instances:
    """The instances that a shard's records name. No clock: `now` is in seconds."""

    def __init__(self) -> None:
        self._halves: tuple[dict[str, Seen], dict[str, Seen]] = ({}, {})
        self._since = -math.inf

    def add(self, arrivals: Iterable[Arrival], newest: float, now: float) -> None:
        """Look at the next records of the log; `newest` is the newest event time before them."""
        self.turn(now)
        seen = self._halves[0]
        for _, time, call in arrivals:
            before = newest
            if time > newest:
                newest = time
            gateway = call.gateway
            if gateway is None:
                continue
            entry = seen.get(gateway)
            if entry is None:
                if len(seen) >= MAX_INSTANCES:
                    continue
                entry = seen[gateway] = Seen()
            entry.records += 1
            if newest - time < entry.lag and before > -math.inf:  # nothing is behind the first record of all
                entry.lag = newest - time
            if (call.input_tokens is None or call.output_tokens is None) and (call.status or 0) < FIRST_FAILURE:
                entry.missing += 1

    def turn(self, now: float) -> None:
        """Forget what is older than 20 minutes; to be called once in a while where no records come."""
        if now - self._since >= 2 * HALF_SECONDS:
            self._halves, self._since = ({}, {}), now
        elif now - self._since >= HALF_SECONDS:
            self._halves, self._since = ({}, self._halves[0]), now

    def seen(self) -> dict[str, Seen]:
        """What was seen within the last 10 to 20 minutes."""
        return merged(self._halves)


def merged(parts: Iterable[Mapping[str, Seen]]) -> dict[str, Seen]:
    """What several have seen of each instance."""
    found: dict[str, Seen] = {}
    for part in parts:
        for gateway, seen in part.items():
            found.setdefault(gateway, Seen()).add(seen)
    return found


def shown(seen: Mapping[str, Seen]) -> dict[str, Seen]:
    """The instances with the most records, by names that may be shown."""
    chosen = nlargest(SHOWN, seen.items(), key=lambda item: (item[1].records, item[0]))
    return {printable(gateway, MAX_LABEL): found for gateway, found in reversed(chosen)}


def skews(seen: Mapping[str, Seen]) -> dict[str, float]:
    """Seconds by which each instance's clock is ahead of the one in the middle, negative: behind; two at least.

    A gateway that is ahead is one to which all others are behind: so the middle one counts and not the newest. Of two
    the one that is ahead is taken to be right.

    >>> skews({"a": Seen(50, 0, 0.1), "b": Seen(50, 0, 90.1), "c": Seen(50, 0, 0.0)})
    {'a': 0.0, 'b': -90.0, 'c': 0.1}
    """
    told = ((gateway, found.lag) for gateway, found in seen.items() if found.records >= LEAST_RECORDS)
    known = {gateway: lag for gateway, lag in told if lag < math.inf}
    if len(known) < 2:
        return {}
    middle = median_low(known.values())
    return {gateway: middle - lag for gateway, lag in known.items()}


def limit_of(allowed_lateness_seconds: float) -> float:
    """From this skew on, half of what may be late, a usual delay on top of it makes records late."""
    return max(LEAST_SKEW_SECONDS, allowed_lateness_seconds / 2)


def skewed(clocks: Mapping[str, float], limit: float) -> Finding | None:
    """The finding about the instance that is furthest off, if that is more than `limit` seconds."""
    worst = max(clocks, key=lambda gateway: (abs(clocks[gateway]), gateway), default=None)
    if worst is None or abs(clocks[worst]) <= limit:
        return None
    seconds = clocks[worst]
    others = sum(abs(skew) > limit for skew in clocks.values()) - 1
    more = f", and {others} more gateways are off" if others else ""
    which = "ahead of" if seconds > 0 else "behind"
    return Finding(
        "skew",
        f"the clock of gateway {printable(worst, MAX_LABEL)} is {abs(seconds):.0f} s {which} the others'{more}: calls "
        "come too late to be counted, or hold buckets open",
        "set that gateway's clock (NTP), or have its records delivered sooner",
        "warning",
        abs(seconds),
        limit,
        "seconds",
    )


def of_all(shards: Sequence[Instances]) -> dict[str, Seen]:
    """What all shards of a worker have seen."""
    return merged(shard.seen() for shard in shards)
