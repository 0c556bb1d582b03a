"""The detector over files: the same shards as the worker, fed in file order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stream.alerts import Alert, reading_order
from stream.core.groups import Groups, GroupStep
from stream.core.key import KeyState
from stream.core.keyring import MakeKey
from stream.core.priors import Priors
from stream.core.shard import Shard
from stream.core.step import Step
from stream.core.view import KeyView
from stream.events import Arrival, Reject
from stream.gateways.overdraw import parse
from stream.settings import Settings

if TYPE_CHECKING:
    from stream.core.rules import Watch

SHOWN_REJECTS = 5
"""Rejects kept for each reason, to be shown; all are counted."""
MAX_ROUTES = 1_000_000
STRIDE_RECORDS = 10_000
"""After so many records it is looked whether groups wait for a shard that is silent: at places of the input, so that it
cannot matter in what pieces it came."""
PATIENCE_HOURS = 72
"""Groups wait for a shard that is so far behind the others, a long weekend's silence of a few keys, and no longer: what
waits is held in memory."""


@dataclass(slots=True)
class Summary:
    """What a replay came to."""

    read: int = 0
    step: Step = field(default_factory=Step)
    dead_letters: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    keys: int = 0
    groups: GroupStep = field(default_factory=GroupStep)
    """What became of the hours of groups; their alerts are with the others, in `step`."""

    def reject(self, rejects: Iterable[Reject]) -> None:
        """Count rejects, and keep the first few of each reason."""
        for reject in rejects:
            self.dead_letters[reject.reason] += 1
            if self.dead_letters[reject.reason] <= SHOWN_REJECTS:
                self.rejects.append(reject)

    def as_json(self, seconds: float) -> dict[str, Any]:
        """The summary in the published shape; `excess` is the sum over all incidents as last reported."""
        step = self.step
        last: dict[str, Alert] = {}
        for alert in step.alerts:
            last[alert.alert_id] = alert
        opened = [alert for alert in step.alerts if alert.status == "opened"]
        return {
            "events": {
                "read": self.read,
                "accepted": step.accepted,
                "duplicate": step.duplicates,
                "late": step.late,
                "dead_letters": dict(sorted(self.dead_letters.items())),
            },
            "keys": self.keys,
            "group_hours": {"closed": self.groups.hours, "incomplete": self.groups.incomplete},
            "alerts": {
                "opened": len(opened),
                "by_kind": dict(sorted(Counter(alert.kind for alert in opened).items())),
                "by_severity": dict(sorted(Counter(alert.severity for alert in last.values()).items())),
            },
            "tokens": {
                "input": step.input_tokens,
                "output": step.output_tokens,
                "excess": round(sum(alert.excess_tokens for alert in last.values())),
            },
            "seconds": round(seconds, 3),
        }


class Replay:
    """All shards of an installation in one process, and all groups of their keys.

    `partition_of(key_id, partitions)` splits the calls as Kafka's producer would; `now` is the latest time that a
    record may have, in epoch seconds. Memory is bounded by the keys, not by the length of the input: an hour of groups
    is closed without a shard that is PATIENCE_HOURS behind, and then its alerts say that it is incomplete. With `watch`
    nothing opens an incident; it hears every judgement instead (`Rules.listen`).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        partition_of: Callable[[str, int], int],
        now: float,
        priors: Priors | None = None,
        watch: Watch | None = None,
        make_key: MakeKey = KeyState,
    ) -> None:
        self.settings = settings
        self.now = now
        self.summary = Summary()
        partitions = settings.partitions
        self._partition_of = partition_of
        self._routes: dict[str, int] = {}
        self._position = 0
        self.shards = [
            Shard(
                p,
                settings,
                partition_of=lambda key: partition_of(key, partitions),
                confirm_jumps=True,
                priors=priors,
                make_key=make_key,
            )
            for p in range(partitions)
        ]
        self.groups = Groups(settings, key_priors=priors) if watch is None else None
        if self.groups is not None:
            self.groups.expect(range(partitions))
        if watch is not None:
            for shard in self.shards:
                shard.rules.listen(watch)

    def feed(self, values: Sequence[bytes]) -> list[Alert]:
        """Apply raw records in their order; returns the alerts that they raised."""
        alerts: list[Alert] = []
        while values:
            room = STRIDE_RECORDS - self._position % STRIDE_RECORDS
            alerts += self._feed(values[:room])
            if len(values) >= room:
                alerts += self._lose_patience()
            values = values[room:]
        return alerts

    def _feed(self, values: Sequence[bytes]) -> list[Alert]:
        base, now = self._position, self.now
        arrivals, rejects = parse([(base + i, value, now) for i, value in enumerate(values)])
        self._position += len(values)
        summary = self.summary
        summary.read += len(arrivals) + len(rejects)
        summary.reject(rejects)
        routes, partitions = self._routes, self.settings.partitions
        split: list[list[Arrival]] = [[] for _ in self.shards]
        for arrival in arrivals:
            key_id = arrival[2].key_id
            partition = routes.get(key_id)
            if partition is None:
                if len(routes) >= MAX_ROUTES:
                    routes.clear()
                partition = routes[key_id] = self._partition_of(key_id, partitions)
            split[partition].append(arrival)
        alerts: list[Alert] = []
        for shard, part in zip(self.shards, split, strict=True):
            if part:
                alerts += self._take(shard.observe(part, self._position - 1))
        return alerts + self._close_hours()

    def finish(self) -> list[Alert]:
        """The end of the input: bring all shards to its newest time, as the clock would have done live."""
        newest = max((shard.newest for shard in self.shards), default=float("-inf"))
        alerts: list[Alert] = []
        for shard in self.shards:
            if len(shard):
                shard.announce(newest - self.settings.allowed_lateness_seconds)
                alerts += self._take(shard.advance())
        self._tell_empty()
        alerts += self._close_hours()
        self.summary.keys = sum(len(shard) for shard in self.shards)
        # across shards, alerts are in order only once all are known
        self.summary.step.alerts.sort(key=reading_order)
        return alerts

    def key(self, key_id: str) -> KeyView | None:
        """What is known of a key."""
        return self.shards[self._partition_of(key_id, self.settings.partitions)].key(key_id)

    def _take(self, step: Step) -> list[Alert]:
        self.summary.reject(step.rejects)
        step.rejects.clear()
        if self.groups is not None:
            self.groups.take(step.evidence)
        step.evidence.clear()
        self.summary.step.add(step)
        return step.alerts

    # ------------------------------------------------------------------ groups

    def _close_hours(self, *, to: int | None = None) -> list[Alert]:
        if self.groups is None:
            return []
        done = self.groups.close(to=to)
        self.summary.groups.add(done)
        self.summary.step.alerts += done.alerts
        return done.alerts

    def _lose_patience(self) -> list[Alert]:
        """Close what lies far behind: a shard without any record so far has nothing to say, others may have."""
        groups = self.groups
        if groups is None or not groups.behind() or groups.front - groups.oldest <= PATIENCE_HOURS:
            return []
        self._tell_empty()
        alerts = self._close_hours()
        return alerts + self._close_hours(to=groups.front - PATIENCE_HOURS)

    def _tell_empty(self) -> None:
        for shard in self.shards:
            self._take(shard.tell_empty())
