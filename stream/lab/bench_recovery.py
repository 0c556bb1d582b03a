"""How long a worker takes to know its keys again: states of many keys on a broker, read until every shard is live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from stream.core.state import SHARD_KEY, SUMS, pack_shard, unpack_shard
from stream.lab.bench_core import Installation
from stream.lab.bench_runs import BenchError, child
from stream.lab.bench_table import Row, most_recovery_seconds
from stream.lab.workers import STOP_SECONDS
from stream.settings import Settings
from stream.worker.journal import Journal, Record
from stream.worker.topics import create_topics

KEYS = 100_000
"""They are always measured; 150 MB on the broker."""
MOST_KEYS = 2_000_000
"""3 GB on the broker, and 4 GB in the worker."""
CHILD = "stream.lab.bench_recovery_child"
TRANSACTION_RECORDS = 20_000
"""Some 15 MB, which take well under a second."""


def states_of(installation: Installation, keys: int) -> dict[int, Iterator[list[Record]]]:
    """Records for the state topic, transaction by transaction: copies of the installation's keys under other names.

    Every partition holds as many of the `keys` as any other, and its shard's own record.
    """
    known = {
        partition: records
        for partition, records in installation.states.items()
        if any(name[:1] == SUMS for name, _ in records)
    }
    shares = {partition: keys // len(known) + (place < keys % len(known)) for place, partition in enumerate(known)}
    return {partition: _transactions(known[partition], count) for partition, count in shares.items()}


def _transactions(records: list[tuple[bytes, bytes]], keys: int) -> Iterator[list[Record]]:
    by_key: dict[bytes, list[tuple[bytes, bytes]]] = {}
    batch: list[Record] = []
    for name, value in records:
        if name == SHARD_KEY:
            shard = msgspec.structs.replace(unpack_shard(value), keys=keys)
            batch.append((name, pack_shard(shard), ()))
        else:
            by_key.setdefault(name[1:], []).append((name, value))
    originals = [pair for pair in by_key.values() if any(name[:1] == SUMS for name, _ in pair)]
    for copy in range(keys):
        suffix = b"-%d" % copy
        batch += [(name + suffix, value, ()) for name, value in originals[copy % len(originals)]]
        if len(batch) >= TRANSACTION_RECORDS:
            yield batch
            batch = []
    if batch:
        yield batch


async def write_states(settings: Settings, installation: Installation, keys: int) -> None:
    """Fill the state topic through the worker's own journals."""
    await create_topics(settings)
    for partition, transactions in states_of(installation, keys).items():
        journal = Journal(settings, partition)
        await journal.open()
        try:
            while (batch := await asyncio.to_thread(next, transactions, None)) is not None:
                await journal.write({settings.state_topic: batch})
        finally:
            await asyncio.wait_for(journal.close(), STOP_SECONDS)


async def recovery_rows(settings: Settings, installation: Installation, keys: int, repeats: int) -> list[Row]:
    """Write the states of so many keys; then in turns a bare loop reads them, and a worker's shards recover them."""
    name = f"bench-recovery-{keys}"
    chosen = settings.model_copy(
        update={
            "app_id": name,
            "source_topic": f"{name}-calls",
            "alert_topic": f"{name}-alerts",
            "dead_letter_topic": f"{name}-dead",
            "state_topic": f"{name}-state",
            "group_evidence_topic": f"{name}-evidence",
            "group_state_topic": f"{name}-groups",
        }
    )
    await write_states(chosen, installation, keys)
    told = json.dumps(chosen.model_dump(mode="json", exclude={"web_token"}))
    bare, ours = [], []
    for _ in range(repeats):
        bare.append(await child("read", told, module=CHILD))
        ours.append(await child("recover", told, module=CHILD))
        if ours[-1]["keys"] != keys:
            raise BenchError(f"{ours[-1]['keys']:,} of {keys:,} keys were recovered")
    return rows_of(bare, ours)


def rows_of(bare: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows of one measurement, from what its processes said of themselves in every turn."""
    loop, recovery = (sorted(turns, key=lambda turn: turn["cpu_seconds"])[len(turns) // 2] for turns in (bare, ours))
    keys, seconds = recovery["keys"], recovery["cpu_seconds"]
    note = (
        f"{seconds / loop['cpu_seconds']:.2f} of the bare loop, {recovery['bytes'] / keys / 1000:.1f} kB of memory a "
        f"key, live after {recovery['seconds']:.1f} s"
    )
    return [
        Row(f"bare loop, states of {keys:,} keys", loop["cpu_seconds"], "CPU·s", note=f"{loop['records']:,} records"),
        Row(f"recovery of {keys:,} keys", seconds, "CPU·s", bar=most_recovery_seconds(keys), at_most=True, note=note),
    ]
