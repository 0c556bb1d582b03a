"""A log that loses records before they are read: what cannot be exact must be said, and how much it is."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from stream.core.shard import Shard
from stream.lab.chaos.fleet import until
from stream.lab.chaos.topics import delete_before, records_of
from stream.lab.chaos.world import World
from stream.settings import Settings
from stream.worker.recovery import StateLog, read_state
from stream.worker.tools import EXIT_LOST

LEAST, MOST = 20, 60
"""Records of a partition that are lost."""
UNREAD_SECONDS = 30.0
DELETED = 'overdraw_skipped_offsets_total{cause="deleted"}'


async def lost_records(world: World) -> None:
    """The workers are stopped, the oldest records that they had not read are deleted, and they are started again."""
    endings = await world.end_workers()
    world.notes.append(f"ended with {sorted(ending.code for ending in endings.values())}")
    applied = await applied_offsets(world.settings)
    half = sorted(applied)[::2]
    first = {partition: applied[partition] + 1 + world.random.randint(LEAST, MOST) for partition in half}
    log: list[Any] = []

    async def unread() -> bool:
        log[:] = await records_of(world.settings, world.settings.source_topic)
        last = {record.partition: record.offset for record in log}
        return all(last.get(partition, -1) > offset for partition, offset in first.items())

    await until(unread, UNREAD_SECONDS, "the gateway goes on while no worker runs")
    await delete_before(world.settings, world.settings.source_topic, first)
    lost: Counter[int] = Counter()
    for record in log:
        if record.offset >= first.get(record.partition, 0):
            continue
        if record.offset <= applied[record.partition]:
            world.gone.append(record)
        else:
            world.traffic.truth.forget(record.value)
            lost[record.partition] += 1
    world.lost.update(lost)
    for worker in world.workers:
        await worker.start()
    world.back.append(await world.all_at_work())


async def applied_offsets(settings: Settings) -> dict[int, int]:
    """The last applied offset of every partition, from the state topic."""
    found = {}
    for partition in range(settings.partitions):
        shard = Shard(partition, settings, partition_of=lambda _: 0)
        await read_state(settings, partition, StateLog(shard.take_up), stable=True)
        shard.taken_up()
        found[partition] = shard.applied
    return found


async def gap_is_told(world: World) -> list[str]:
    """What is wrong with what the workers say of the gap: by their metrics, and by alerts on its partitions."""
    counted = {worker.instance: await worker.counted(DELETED) for worker in world.workers}
    world.codes.update({instance: EXIT_LOST for instance, offsets in counted.items() if offsets})
    lost, faults = sum(world.lost.values()), []
    if sum(counted.values()) != lost:
        faults.append(f"{lost} offsets were deleted unread, and the workers counted {counted}")
    alerts = [json.loads(record.value) for record in await records_of(world.settings, world.settings.alert_topic)]
    blind = {
        int(alert["entity"]["id"])
        for alert in alerts
        if alert["kind"] == "feed" and any(channel["name"] == "gap" for channel in alert["channels"])
    }
    if blind != set(world.lost):
        faults.append(f"partitions {sorted(world.lost)} lost records, and feed alerts say so of {sorted(blind)}")
    return faults
