"""A whole installation in one process, shards and groups, fed day by day: what campaigns are judged by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial

import msgspec

from stream.alerts import Alert
from stream.core.groups import Groups
from stream.core.shard import Shard
from stream.core.state import MODEL, SHARD_KEY, SUMS, pack_shard, unpack_shard
from stream.core.step import Step
from stream.events import Arrival, Call
from stream.partition import partition_of
from stream.settings import Settings


class Installation:
    """All shards and the groups over them; `observe` gives the alerts of both, in no particular order.

    with_groups False leaves groups out: what single keys show alone.
    """

    def __init__(self, settings: Settings, *, with_groups: bool = True) -> None:
        self.settings = settings
        home = partial(partition_of, partitions=settings.partitions)
        self.shards = [Shard(number, settings, partition_of=home) for number in range(settings.partitions)]
        self.groups = Groups(settings) if with_groups else None
        if self.groups is not None:
            self.groups.expect(range(settings.partitions))
        self._states: list[dict[bytes, bytes]] = [{} for _ in self.shards]
        """Of each shard, as of the last copy: what is compiled cannot be copied itself."""
        self._position = 0

    def copy(self, keys: Collection[str] | None = None) -> Installation:
        """Another one that goes on from here; with `keys` its shards know only some of them, its groups all."""
        twin = Installation(self.settings, with_groups=False)
        for shard, state, theirs, states in zip(self.shards, self._states, twin.shards, twin._states, strict=True):
            state.update(shard.changes())  # all that has changed since it was copied last
            states.update(state)
            theirs.load(states.items() if keys is None else _some(states, keys, self.settings))
        if self.groups is not None:
            frozen = self.groups.priors
            twin.groups = deepcopy(self.groups, {id(frozen): frozen})
        twin._position = self._position
        return twin

    def observe(self, calls: Sequence[Call]) -> list[Alert]:
        """Apply calls that are in order of time."""
        split: list[list[Arrival]] = [[] for _ in self.shards]
        for position, call in enumerate(calls, self._position):
            split[partition_of(call.key_id, len(self.shards))].append((position, float(call.time), call))
        self._position += len(calls)
        return self._took(
            shard.observe(part, self._position - 1) for shard, part in zip(self.shards, split, strict=True)
        )

    def finish(self, until: float) -> list[Alert]:
        """Time goes on without calls up to `until` (epoch seconds): what has ended by then closes."""
        steps = []
        for shard in self.shards:
            shard.announce(until)
            steps.append(shard.advance())
        return self._took(steps)

    def _took(self, steps: Iterable[Step]) -> list[Alert]:
        alerts: list[Alert] = []
        for step in steps:
            alerts += step.alerts
            if self.groups is not None:
                self.groups.take(step.evidence)
        if self.groups is not None:
            alerts += self.groups.close().alerts
        return alerts


def _some(states: Mapping[bytes, bytes], keys: Collection[str], settings: Settings) -> Iterator[tuple[bytes, bytes]]:
    """The records of a shard as if it had known no other keys."""
    for name, value in states.items():
        if name == SHARD_KEY:
            record = unpack_shard(value, settings.state_settings, settings.state_digest)
            yield name, pack_shard(msgspec.structs.replace(record, keys=None))
        elif name[:1] not in (SUMS, MODEL) or name[1:].decode("utf-8", "surrogatepass") in keys:
            yield name, value
