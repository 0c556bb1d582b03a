"""What groups cost on top of keys: the same calls through shards that tell of their keys, and through those that don't.

The work of groups is what telling takes a shard, its records on the evidence topic, written and read, the judging of
every hour, and the states that are written of it. What stays with the keys is to note the traits of a call.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from stream.core.evidence import Evidence
from stream.core.evidencerecord import evidence_records, unpack_evidence
from stream.core.groups import Groups
from stream.core.shard import Shard
from stream.events import Arrival, Call
from stream.gateways.traits import reduce_traits
from stream.lab.bench_core import Installation
from stream.lab.bench_table import MOST_GROUP_SHARE, Row
from stream.lab.bench_traffic import Traffic
from stream.partition import partition_of
from stream.settings import Settings

REPEATS = 3


def group_rows(traffic: Traffic, installation: Installation, settings: Settings, count: int) -> list[Row]:
    """The cost of groups over `count` calls, as a share of all that their keys cost; the least of three runs each."""
    hours = [_split(hour, settings.partitions) for hour in traffic.calls(count)]
    silent, telling, judging, cells = [], [], [], 0
    for _ in range(REPEATS):
        silent.append(_run(hours, installation, settings, tells=False)[0])
        spent, told = _run(hours, installation, settings, tells=True)
        telling.append(spent)
        judging.append(_judge(told, settings))
        cells = sum(len(part.cells) for hour in told for part in hour)
    keys, telling_more = min(silent), max(0.0, min(telling) - min(silent))
    groups = min(judging)
    return [
        Row(
            "group work, of that of keys", (telling_more + groups) / keys, "×", bar=MOST_GROUP_SHARE, at_most=True,
            note=f"{keys * 1e6 / count:.1f} µs a call for keys, {telling_more * 1e6 / count:.1f} for telling, "
            f"{groups * 1e6 / count:.1f} for judging {cells:,} cells in {len(hours)} hours",
        )
    ]  # fmt: skip


def _split(calls: Iterable[Call], partitions: int) -> list[list[Call]]:
    split: list[list[Call]] = [[] for _ in range(partitions)]
    for call in calls:
        reduce_traits(call)
        split[partition_of(call.key_id, partitions)].append(call)
    return split


def _run(
    hours: Sequence[Sequence[Sequence[Call]]], installation: Installation, settings: Settings, *, tells: bool
) -> tuple[float, list[list[Evidence]]]:
    """CPU seconds of the shards, with their changes packed, and what they told hour by hour."""
    count = settings.partitions
    shards = []
    for partition in range(count):
        shard = Shard(partition, settings, partition_of=lambda key_id: partition_of(key_id, count))
        shard.load(installation.states[partition])
        if not tells:
            shard.rules.gathering = None
        shards.append(shard)
    spent, told = 0.0, []
    for hour in hours:
        evidence: list[Evidence] = []
        for shard, calls in zip(shards, hour, strict=True):
            first = shard.applied + 1
            arrivals: list[Arrival] = [(first + i, float(call.time), call) for i, call in enumerate(calls)]
            begin = time.thread_time()
            evidence += shard.observe(arrivals, first + len(arrivals) - 1).evidence
            shard.changes()
            spent += time.thread_time() - begin
        told.append(evidence)
    return spent, told


def _judge(told: Sequence[Sequence[Evidence]], settings: Settings) -> float:
    """CPU seconds from what shards told to the written states of groups."""
    groups = Groups(settings)
    groups.expect(range(settings.partitions))
    position, spent = 0, 0.0
    for hour in told:
        begin = time.thread_time()
        values = [value for _, value in evidence_records(hour)]
        parts = [(position + i, unpack_evidence(value, settings.partitions)) for i, value in enumerate(values)]
        position += len(parts)
        groups.observe(parts, position - 1)
        groups.changes()
        spent += time.thread_time() - begin
    return spent
