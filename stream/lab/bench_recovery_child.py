"""A process that measures itself: a bare loop over the state topic, or a worker's shards that recover from it.

python -m stream.lab.bench_recovery_child read SETTINGS
python -m stream.lab.bench_recovery_child recover SETTINGS

SETTINGS are JSON; both end with one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from stream import collector
from stream.core.shard import Shard
from stream.lab.bench_child import peak_bytes
from stream.partition import partition_of
from stream.settings import Settings, load_settings
from stream.worker.metrics import Metrics
from stream.worker.recovery import FETCH_BYTES
from stream.worker.shards import Shards
from stream.worker.source import TopicState
from stream.worker.tools import Tools

PATIENCE_SECONDS = 300.0
POLL_SECONDS = 0.01


async def read(settings: Settings) -> dict[str, Any]:
    """What a consumer costs that reads the state topic to its end and looks at nothing; start-up is left out."""
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        settings.state_topic, bootstrap_servers=settings.broker, group_id=None, auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
    )  # fmt: skip
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        begin, records = time.process_time(), 0
        left = set(ends)
        while left:
            batches = await consumer.getmany(timeout_ms=1000)
            records += sum(len(batch) for batch in batches.values())
            left = {partition for partition in left if await consumer.position(partition) < ends[partition]}
        seconds = time.process_time() - begin
    finally:
        await consumer.stop()
    return {"cpu_seconds": seconds, "records": records}


async def recover(settings: Settings) -> dict[str, Any]:
    """All shards of the source in one worker, from their assignment until the last one is live."""
    every = range(settings.partitions)

    def core(partition: int) -> Shard:
        return Shard(partition, settings, partition_of=lambda key_id: partition_of(key_id, settings.partitions))

    collector.calm()
    before = peak_bytes()
    shards = Shards(
        Tools(settings, Alone(settings.partitions), Metrics(CollectorRegistry()), core=core, die=_die, lose=_lose)
    )
    begin, begun = time.process_time(), time.monotonic()
    shards.on_assigned(every)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not all(shards.ready(partition) for partition in every):  # noqa: ASYNC110 - the real shards, as they are
            await asyncio.sleep(POLL_SECONDS)
    result = {
        "cpu_seconds": time.process_time() - begin,
        "seconds": time.monotonic() - begun,
        "keys": sum(len(shard.core) for shard in shards.live.values()),
        "bytes": peak_bytes() - before,
    }
    await shards.stop()
    return result


class Alone:
    """A consumer group (`worker.group.Group`) whose one member owns everything and reads nothing of the source."""

    def __init__(self, partitions: int) -> None:
        self._mine = set(range(partitions))

    def assignment(self) -> set[int]:
        """See `Group`."""
        return set(self._mine)

    def pause(self, partition: int) -> None:
        """See `Group`."""

    def resume(self, partition: int) -> None:
        """See `Group`."""

    def hold(self, partition: int) -> None:
        """See `Group`."""

    def release(self, partition: int) -> None:
        """See `Group`."""

    async def committed(self, partition: int) -> int | None:
        """See `Group`."""
        return None

    async def topics(self, names: Sequence[str]) -> dict[str, TopicState]:
        """See `Group`."""
        return {}

    async def refresh(self) -> None:
        """See `Group`."""

    async def seek(self, partition: int, offset: int) -> None:
        """See `Group`."""

    async def is_member(self, partition: int) -> bool:
        """See `Group`."""
        return True

    async def leave(self) -> None:
        """See `Group`."""

    async def ends(self) -> dict[int, int]:
        """See `Group`."""
        return {}

    async def start(self, partition: int) -> int:
        """See `Group`."""
        return 0

    def position_behind(self, partition: int, offset: int) -> int:
        """See `Group`."""
        return offset

    def hidden(self, partition: int) -> int:
        """See `Group`."""
        return 0


def _lose(message: str) -> None:
    sys.exit(message)


def _die(_: int, message: str) -> None:
    sys.exit(message)


def main(arguments: list[str]) -> None:
    """Measure what is asked for."""
    what, told = arguments
    settings = load_settings(json.loads(told), environ={})
    result = asyncio.run((read if what == "read" else recover)(settings))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
