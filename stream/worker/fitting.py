"""Whether the states that there are fit these settings: a look before a worker joins the others.

A worker that finds out at a takeover has its partitions by then, and with it gone the others have them back only after
the session timeout. A shard's own record comes last in each of its transactions, so the end of the log shows it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from stream.core.shardrecord import SHARD_KEY, StateError, unpack_shard
from stream.security import client_options
from stream.settings import Settings

TAIL_OFFSETS = 2_000
"""Read from the end of a partition: markers, and what aborted transactions left, lie behind its shard's record."""
LOOK_SECONDS = 10.0

log = logging.getLogger(__name__)


async def misfit(settings: Settings) -> str | None:
    """Why none of the partitions' states can be used, as the first one says; None where one can, or none is found.

    Nearly always that is one partition's end to read. Where only some do not fit, for an upgrade or a rebuild is under
    way, each is judged when it is taken over, as is whatever does not show here, or not in time.
    """
    from aiokafka import AIOKafkaConsumer
    from aiokafka.errors import KafkaError

    consumer: Any = AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await consumer.start()
            return await _misfit(consumer, settings)
    except (KafkaError, OSError) as error:  # who takes the states over meets it again, and has more patience
        log.debug("the states were not looked at: %s", error)
        return None
    finally:
        await consumer.stop()


async def _misfit(consumer: Any, settings: Settings) -> str | None:
    from aiokafka import TopicPartition

    places = [TopicPartition(settings.state_topic, partition) for partition in range(settings.partitions)]
    # a question about a topic of which nothing is known yet fails first, and is asked again after a pause
    await consumer._client.set_topics([settings.state_topic])
    begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    found: str | None = None
    for place in places:
        packed = await _shard_record(consumer, place, max(begins[place], ends[place] - TAIL_OFFSETS), ends[place])
        if packed is None:
            continue
        try:
            unpack_shard(packed, settings.state_settings, settings.state_digest)
        except StateError as error:
            found = found or f"partition {place.partition} of {place.topic}: {error}"
        else:
            return None
    return found


async def _shard_record(consumer: Any, place: Any, first: int, end: int) -> bytes | None:
    """The last shard record of a partition within these offsets; None without one, or if it was deleted since."""
    if first >= end:
        return None
    consumer.assign([place])
    consumer.seek(place, first)
    packed: bytes | None = None
    # only the position proves that the end is reached: markers and aborted records are never delivered
    while await consumer.position(place) < end:
        for record in (await consumer.getmany(place, timeout_ms=200)).get(place, ()):
            if record.key == SHARD_KEY:
                packed = record.value
    return packed
