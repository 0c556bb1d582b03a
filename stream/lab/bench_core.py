"""The core by itself: what closing a bucket takes, and what a key's packed state weighs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from stream.core.bucket import OpenBucket
from stream.core.fields import fields_of
from stream.core.key import KeyState
from stream.core.keyring import Keyring
from stream.core.rules import Rules
from stream.core.shard import Shard
from stream.core.state import MODEL, SUMS, pack_model, pack_sums, unpack_model, unpack_sums
from stream.core.sums import add_to_bucket, micros
from stream.events import Arrival, Call
from stream.gateways.traits import reduce_traits
from stream.lab.bench_table import MOST_CLOSE_MICROSECONDS, MOST_KEY_BYTES, Row
from stream.lab.bench_traffic import Traffic
from stream.lab.simulate import BUCKET_SECONDS
from stream.partition import partition_of
from stream.settings import Settings

CLOSED_BUCKETS = 20_000
READINGS = 10_000

States = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Installation:
    """What the shards know after the history: the records of the state topic, partition by partition."""

    states: dict[int, States]

    @property
    def keys(self) -> int:
        """Keys of all shards."""
        return sum(name[:1] == SUMS for records in self.states.values() for name, _ in records)


def learn(traffic: Traffic, settings: Settings) -> Installation:
    """Let fresh shards learn the history. No offset is applied: a worker on these states reads its topic from 0."""
    partitions = settings.partitions
    shards = [
        Shard(partition, settings, partition_of=lambda key_id: partition_of(key_id, partitions))
        for partition in range(partitions)
    ]
    for hour in traffic.history():
        parts: list[list[Arrival]] = [[] for _ in shards]
        for call in hour:
            reduce_traits(call)
            parts[partition_of(call.key_id, partitions)].append((0, float(call.time), call))
        for shard, part in zip(shards, parts, strict=True):
            shard.observe(part, upto=-1)
    return Installation({shard.partition: shard.changes() for shard in shards})


def core_rows(traffic: Traffic, installation: Installation, settings: Settings) -> list[Row]:
    """Close and size."""
    rules = Rules(settings)
    keys = _unpacked(installation, rules)
    spent = sorted(_close(traffic, keys, rules))
    if not spent:
        raise ValueError("no bucket was closed: the traffic has too few keys")
    sizes = [len(pack_sums(key)) + len(pack_model(key)) for key in keys.values() if key.next_bucket >= 0]
    return [
        Row(
            "closed bucket, median", median(spent), "µs", bar=MOST_CLOSE_MICROSECONDS, at_most=True,
            note=f"p99 {spent[len(spent) * 99 // 100]:.0f} µs, {len(spent):,} buckets of {len(keys)} keys",
        ),
        Row(
            "packed key state, mean", sum(sizes) / len(sizes), "bytes", bar=MOST_KEY_BYTES, at_most=True,
            note=f"largest {max(sizes):,}, with an open bucket",
        ),
    ]  # fmt: skip


def _unpacked(installation: Installation, rules: Rules) -> dict[str, KeyState]:
    """The keys of all shards, their open buckets closed."""
    keys: dict[str, KeyState] = {}
    for records in installation.states.values():
        for name, value in records:
            if name[:1] in (SUMS, MODEL):
                key = keys.setdefault(name[1:].decode(), KeyState(name[1:].decode(), rules))
                (unpack_sums if name[:1] == SUMS else unpack_model)(value, key)
    for key in keys.values():
        for index in sorted(key.open):
            if key.next_bucket < 0:
                key.next_bucket = index
            key.catch_up(index, ())
            key.close(key.open.pop(index), index + 1)
    return keys


def _close(traffic: Traffic, keys: dict[str, KeyState], rules: Rules) -> list[float]:
    """Microseconds of every close of an active bucket after the history; most keys are left with one open bucket."""
    clock = time.thread_time_ns  # what others do on the machine is not in it
    overhead = _overhead()
    keyring = Keyring(rules)
    spent: list[float] = []
    for hour in traffic.calls(traffic.events):
        for call in hour:
            key = keys.get(call.key_id)
            if key is None:
                continue
            index = int(float(call.time) // BUCKET_SECONDS)
            for done in [i for i in key.open if i < index]:
                bucket = key.open.pop(done)
                begin = clock()
                key.close(bucket, done + 1)
                spent.append((clock() - begin - overhead) / 1000)
            reduce_traits(call)
            _add(keyring, key, key.open.get(index) or key.open_bucket(index, index, ()), call)
        if len(spent) >= CLOSED_BUCKETS:
            break
    return spent


def _add(keyring: Keyring, key: KeyState, bucket: OpenBucket, call: Call) -> None:
    add_to_bucket(
        bucket, call, call.calls, call.input_tokens, call.output_tokens, call.reasoning_tokens, micros(call.cost_usd)
    )
    bucket.links |= keyring.link(key, fields_of(call))


def _overhead() -> float:
    """Nanoseconds that reading the clock twice takes."""
    clock = time.thread_time_ns
    readings = []
    for _ in range(READINGS):
        begin = clock()
        readings.append(clock() - begin)
    return median(readings)
