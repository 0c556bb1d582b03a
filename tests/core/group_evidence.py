"""What shards might tell of their keys, made up hour by hour: no detector of keys is needed to test that of groups."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from stream.alerts import Alert
from stream.core.evidence import (
    ALL,
    COUNT,
    HOT_Z,
    KEYS,
    PACE,
    USED,
    USED_OUTPUT,
    USUAL,
    WEIGHT,
    WEIGHTED_HOT,
    Z_4H,
    Z_40M,
    Cell,
    Evidence,
    Member,
    leaf_of,
)
from stream.core.groups import Groups
from stream.core.linksrecord import Traits
from stream.settings import Settings

FIRST_HOUR = 490_000
"""Hours since 1970: November 2025."""
SETTINGS = Settings(partitions=4, bucket_seconds=900, false_alerts_per_1000_group_days=100)
PER_HOUR = 4
VARIANCE = 0.2
"""Of the departures of a key."""

Log = list[Evidence]


def cell(key_id: str, traits: Traits, z: float, tokens: float = 5000.0, usual: float = 4000.0, number: int = 0) -> Cell:
    """One established key that is `z` above what is usual for it; it makes so many calls more, too."""
    sums = [0.0] * COUNT
    sums[KEYS] = sums[ALL] = 1.0
    sums[Z_40M] = sums[Z_4H] = z
    sums[WEIGHT] = 0.125
    if z > HOT_Z:
        sums[WEIGHTED_HOT] = 0.125
    for place in range(PACE, COUNT, 2):
        sums[place] = 0.125 / VARIANCE
        sums[place + 1] = sums[place] * math.log(tokens / usual)
    sums[USED], sums[USUAL], sums[USED_OUTPUT] = tokens, usual, tokens / 3
    member = Member(key_id, z, tokens - usual, 1.5, 4.0, 0, math.log(tokens / usual), 1 / VARIANCE)
    return Cell(number, [traits], sums, {"m": 1.0}, [leaf_of(key_id)], [member])


def traits_of(number: int) -> Traits:
    """Of the key with this number: every other one comes from one network with one client."""
    if number % 2:
        return Traits(org=f"org-{number}", network=f"198.51.{number}.0/24", client=f"client-{number % 3}", model="n")
    return Traits(org=f"org-{number}", network="203.0.113.0/24", client="client-x", model="m")


def told(seed: int, hours: int = 225, keys: int = 16, shards: int = 4, attack: int = 172) -> list[Log]:
    """For each shard what it tells, in order; from hour `attack` on, for 20 hours, every other key uses more."""
    rng = random.Random(seed)
    logs: list[Log] = [[] for _ in range(shards)]
    for hour in range(hours):
        for shard in range(shards):
            for quarter in range(PER_HOUR):
                bucket = (FIRST_HOUR + hour) * PER_HOUR + quarter
                cells = []
                for number in range(shard, keys, shards):
                    # each key speaks once in an hour, if it is used
                    if (number // shards + hour) % PER_HOUR != quarter or rng.random() < 0.2:
                        continue
                    raised = attack <= hour < attack + 20 and number % 2 == 0
                    z = rng.gauss(0.0, 0.6) + (2.2 if raised else 0.0)
                    tokens = 4000.0 * (1.7 if raised else 1.0) + rng.randrange(500)
                    traits = traits_of(number)
                    cells.append(cell(f"key-{number}", traits, max(-3.0, min(3.0, z)), tokens, number=len(cells)))
                complete = quarter == PER_HOUR - 1
                if cells or complete:
                    logs[shard].append(Evidence(shard, bucket, cells, complete))
    return logs


def mixed(logs: Sequence[Log], seed: int | None) -> Log:
    """One topic of them: what each shard tells keeps its order, that of the shards is drawn; None: hour by hour."""
    if seed is None:
        return sorted((part for log in logs for part in log), key=lambda part: (part.bucket, part.shard))
    rng = random.Random(seed)
    rest = [list(reversed(log)) for log in logs]
    topic: Log = []
    while any(rest):
        # now one and then the other runs ahead by hours
        chosen = rng.choice([log for log in rest if log])
        topic += [chosen.pop() for _ in range(min(len(chosen), rng.randrange(1, 60)))]
    return topic


@dataclass
class Keeping:
    """Groups on a topic of evidence, with what they have committed: the state topic and the alert topic."""

    topic: Log
    settings: Settings = SETTINGS
    state: dict[bytes, bytes] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    pending: list[Alert] = field(default_factory=list)
    position: int = 0
    groups: Groups = field(init=False)

    def __post_init__(self) -> None:
        self.groups = self._new()

    def _new(self) -> Groups:
        groups = Groups(self.settings)
        groups.expect(range(self.settings.partitions))
        return groups

    def read(self, count: int) -> None:
        """Apply the next pieces of evidence in one chunk."""
        upto = min(self.position + count, len(self.topic)) - 1
        if upto >= self.position:
            chunk = [(p, deepcopy(self.topic[p])) for p in range(self.position, upto + 1)]
            self.pending += self.groups.observe(chunk, upto).alerts
            self.position = upto + 1

    def flush(self) -> None:
        """One transaction: states and alerts."""
        for name, value in self.groups.changes():
            if value is None:
                self.state.pop(name, None)
            else:
                self.state[name] = value
        self.alerts += self.pending
        self.pending = []

    def crash(self) -> None:
        """All that was not flushed is gone; another owner takes over."""
        self.groups, self.pending = self._new(), []
        self.groups.take_up(self.state.items())
        self.pending += self.groups.taken_up().alerts
        self.position = self.groups.read_from

    def give_up(self) -> None:
        """Close what only missing shards hold up, as the worker does it: announced, written, then done."""
        hour = self.groups.done_without(self.groups.behind())
        if self.groups.behind() and hour > self.groups.oldest:
            self.groups.announce(hour)
            self.flush()
            self.pending += self.groups.advance().alerts

    def finish(self) -> None:
        """To the end of the topic."""
        while self.position < len(self.topic):
            self.read(200)
        self.flush()


def kept(topic: Log, settings: Settings = SETTINGS) -> Keeping:
    """The undisturbed run."""
    run = Keeping(topic, settings)
    run.finish()
    return run


def statuses(alerts: Iterable[Alert]) -> Iterator[tuple[str, str]]:
    """Status and entity of each alert."""
    for alert in alerts:
        yield alert.status, f"{alert.entity.type} {alert.entity.id}"
