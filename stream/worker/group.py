"""The consumer group as the shards need it: what reaches into Faust's and aiokafka's insides for it is here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from stream.security import client_options
from stream.settings import Settings
from stream.worker.source import TopicState, topic_states

CALL_TIMEOUT_SECONDS = 5.0
LEAVE_TIMEOUT_SECONDS = 2.0
OFFSETS_TIMEOUT_SECONDS = 10.0
SEEK_TIMEOUT_SECONDS = 45.0
"""Longer than a request to a broker may take, so that it strikes only where the consumer's thread is dead."""


class Group(Protocol):
    """What the shards ask of the consumer group. Partitions are those of one topic, the source or the intake's."""

    def assignment(self) -> set[int]:
        """Partitions assigned to this worker now."""

    def pause(self, partition: int) -> None:
        """Fetch no more from a partition."""

    def resume(self, partition: int) -> None:
        """Fetch from a partition again."""

    def hold(self, partition: int) -> None:
        """Fetch no more from a partition for now; what is fetched already still comes."""

    def release(self, partition: int) -> None:
        """The end of `hold`."""

    async def seek(self, partition: int, offset: int) -> None:
        """Read on at `offset`; returns when the position stands."""

    async def is_member(self, partition: int) -> bool:
        """Ask the coordinator whether we are of the current generation and own the partition."""

    async def leave(self) -> None:
        """Leave the group, so that others take over at once and not after a session timeout."""

    async def ends(self) -> dict[int, int]:
        """The last stable offset of every partition of the topic, also of those that others own.

        What lies behind it belongs to transactions that have not ended, and cannot be read yet.
        """

    async def start(self, partition: int) -> int:
        """The first offset that the topic still holds."""

    async def committed(self, partition: int) -> int | None:
        """The group's offset in the source; None where it has none."""

    async def topics(self, names: Sequence[str]) -> dict[str, TopicState]:
        """Whether these topics are there, and which they are."""

    async def refresh(self) -> None:
        """Let the client look which topics there are: the group then gives out partitions that were missing."""

    def position_behind(self, partition: int, offset: int) -> int:
        """`offset`, or the position behind it if there is no record up to there."""

    def hidden(self, partition: int) -> int:
        """Offsets behind the last stable one of an own partition: an open transaction of somebody's hides them."""


class FaustGroup:
    """The group of a Faust app's consumer, as far as it is about one topic."""

    def __init__(self, app: Any, topic: str) -> None:
        self._app = app
        self._topic = topic

    def _tp(self, partition: int) -> Any:
        from faust.types import TP

        return TP(self._topic, partition)

    @property
    def _consumer(self) -> Any:
        return self._app.consumer

    def assignment(self) -> set[int]:
        """See `Group`."""
        if self._consumer._thread._consumer is None:
            return set()
        return {tp.partition for tp in self._consumer.assignment() if tp.topic == self._topic}

    def pause(self, partition: int) -> None:
        """See `Group`."""
        self._consumer.pause_partitions({self._tp(partition)})

    def resume(self, partition: int) -> None:
        """See `Group`."""
        self._consumer.resume_partitions({self._tp(partition)})

    def hold(self, partition: int) -> None:
        """See `Group`. What Faust does where a stream does not keep up."""
        self._consumer.on_buffer_full(self._tp(partition))

    def release(self, partition: int) -> None:
        """See `Group`."""
        self._consumer.on_buffer_drop(self._tp(partition))

    async def seek(self, partition: int, offset: int) -> None:
        """See `Group`."""
        await asyncio.wait_for(self._consumer.seek_wait({self._tp(partition): offset}), SEEK_TIMEOUT_SECONDS)

    async def is_member(self, partition: int) -> bool:
        """See `Group`."""
        thread = self._consumer._thread
        coordinator = thread._consumer._coordinator
        generation = coordinator.generation
        alive = await asyncio.wait_for(thread.call_thread(coordinator._do_heartbeat), CALL_TIMEOUT_SECONDS)
        return (
            bool(alive)
            and coordinator.generation == generation == self._app.consumer_generation_id
            and not coordinator._rejoin_needed_fut.done()
            and partition in self.assignment()
        )

    async def leave(self) -> None:
        """See `Group`. aiokafka sends no LeaveGroup for a static member."""
        from aiokafka.protocol.group import LeaveGroupRequest

        if self._app._consumer is None or self._consumer._thread._consumer is None:
            return  # stopped before Faust's consumer was there
        thread = self._consumer._thread
        coordinator = thread._consumer._coordinator
        if coordinator.generation < 0 or not coordinator.member_id:
            return

        async def goodbye() -> None:
            # without heartbeats nobody tells us that we are gone, which would make aiokafka join again
            await coordinator._stop_heartbeat_task()
            await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, coordinator.member_id))

        await asyncio.wait_for(thread.call_thread(goodbye), LEAVE_TIMEOUT_SECONDS)

    async def ends(self) -> dict[int, int]:
        """See `Group`."""
        from aiokafka import TopicPartition

        thread = self._consumer._thread
        consumer = thread._consumer
        if consumer is None:
            return {}
        partitions = [TopicPartition(self._topic, p) for p in consumer.partitions_for_topic(self._topic) or ()]
        if not partitions:
            return {}
        found = await asyncio.wait_for(thread.call_thread(consumer.end_offsets, partitions), OFFSETS_TIMEOUT_SECONDS)
        return {tp.partition: offset for tp, offset in found.items()}

    async def start(self, partition: int) -> int:
        """See `Group`."""
        tp = self._tp(partition)
        found = await asyncio.wait_for(self._consumer.earliest_offsets(tp), OFFSETS_TIMEOUT_SECONDS)
        return int(found[tp])

    async def committed(self, partition: int) -> int | None:
        """See `Group`."""
        from aiokafka import TopicPartition

        thread = self._consumer._thread
        question = thread.call_thread(thread._consumer.committed, TopicPartition(self._topic, partition))
        found = await asyncio.wait_for(question, OFFSETS_TIMEOUT_SECONDS)
        return None if found is None else int(found)

    async def topics(self, names: Sequence[str]) -> dict[str, TopicState]:
        """See `Group`."""
        thread = self._consumer._thread
        if thread._consumer is None:
            return {}
        question = thread.call_thread(topic_states, thread._consumer._client, names)
        return dict(await asyncio.wait_for(question, CALL_TIMEOUT_SECONDS))

    async def refresh(self) -> None:
        """See `Group`."""
        thread = self._consumer._thread

        async def update() -> None:
            await thread._consumer._client.force_metadata_update()

        if thread._consumer is not None:
            await asyncio.wait_for(thread.call_thread(update), CALL_TIMEOUT_SECONDS)

    def position_behind(self, partition: int, offset: int) -> int:
        """See `Group`."""
        return int(self._consumer.position_behind(self._tp(partition), offset))

    def hidden(self, partition: int) -> int:
        """See `Group`."""
        return int(self._consumer.hidden(self._tp(partition)))


async def ask_ends(settings: Settings) -> dict[int, int]:
    """The end offset of every partition of the source, by a connection of its own; raises if no broker tells them."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer: Any = AIOKafkaConsumer(
        **client_options(settings), enable_auto_commit=False, isolation_level="read_committed"
    )
    try:
        async with asyncio.timeout(OFFSETS_TIMEOUT_SECONDS):
            await consumer.start()
            partitions = [TopicPartition(settings.source_topic, p) for p in range(settings.partitions)]
            found = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return {tp.partition: offset for tp, offset in found.items()}
