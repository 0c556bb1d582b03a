"""Calls into the source topic: keyed and partitioned as Kafka's own clients do it, at a chosen pace."""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from stream.partition import partition_of
from stream.settings import Settings

Timed = tuple[float, str, bytes]
"""A record to send: its event time (epoch seconds), its key id, its value."""

LINGER_SECONDS = 0.05
"""Paced records are sent in steps of this length."""
BATCH_BYTES = 256 << 10


class ProduceError(Exception):
    """The broker cannot be reached or the topic is not what it should be; the message says what to do (exit 3)."""


class Producer:
    """Records into the source topic, by batches of our own: several times as fast as one `send` a record.

    Use it as an async context manager; leaving it waits until everything is acknowledged. Raises ProduceError if the
    broker is not there, or if the topic is missing or has another number of partitions than the settings say.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._batches: dict[int, Any] = {}
        self._sent: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> Producer:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it says is said below, with what to do
        topic, broker = self._settings.source_topic, self._settings.broker
        self._producer = AIOKafkaProducer(
            bootstrap_servers=broker, acks="all", max_batch_size=BATCH_BYTES, max_request_size=4 * BATCH_BYTES
        )
        try:
            await self._producer.start()
            await self._check_topic(topic)
        except KafkaError as error:
            await self._producer.stop()
            raise ProduceError(f"no Kafka at {broker} ({error}): start one with `overdraw broker`") from error
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def _check_topic(self, topic: str) -> None:
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.broker)
        await admin.start()
        try:
            # asking for one topic by its name would create it, with one partition
            if topic not in await admin.list_topics():
                raise ProduceError(f"there is no topic {topic}: make it with `overdraw topics create`")
        finally:
            await admin.close()
        there = len(await self._producer.partitions_for(topic))
        if there != self._settings.partitions:
            raise ProduceError(
                f"topic {topic} has {there} partitions, the setting partitions is {self._settings.partitions}: "
                f"say --set partitions={there}, or name another topic with --set source_topic=NAME"
            )

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._producer.stop()
            for future in self._sent:
                if future.done() and not future.cancelled():
                    future.exception()  # told already, by the first of them

    async def send(self, records: Iterable[Timed]) -> None:
        """Take records over, in their order; waits where the broker is slower."""
        partitions, batches = self._settings.partitions, self._batches
        for _, key, value in records:
            partition = partition_of(key, partitions)
            batch = batches.get(partition)
            if batch is None:
                batch = batches[partition] = self._producer.create_batch()
            if batch.append(timestamp=None, key=key.encode(), value=value) is None:
                await self._dispatch(partition)
                batch = batches[partition] = self._producer.create_batch()
                batch.append(timestamp=None, key=key.encode(), value=value)  # an empty batch takes any one record

    async def flush(self) -> None:
        """Send what is there and wait until it is acknowledged. Raises ProduceError if it is not."""
        from aiokafka.errors import KafkaError

        for partition in list(self._batches):
            await self._dispatch(partition)
        try:
            await asyncio.gather(*self._sent)
        except KafkaError as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> ProduceError:
        from aiokafka.errors import MessageSizeTooLargeError

        if isinstance(error, MessageSizeTooLargeError):
            return ProduceError("a record is longer than the broker takes: split it, or raise its message.max.bytes")
        return ProduceError(f"{self._settings.broker} took no more records ({error}): is it still up?")

    async def _dispatch(self, partition: int) -> None:
        from aiokafka.errors import KafkaError

        batch = self._batches.pop(partition)
        try:
            future = await self._producer.send_batch(batch, self._settings.source_topic, partition=partition)
        except KafkaError as error:
            raise self._refused(error) from error
        self._sent.add(future)
        done = {sent for sent in self._sent if sent.done() and not sent.cancelled() and sent.exception() is None}
        self._sent -= done


async def produce(
    settings: Settings,
    windows: Iterable[Sequence[Timed]],
    *,
    speed: float = 0.0,
    sent: Callable[[int], None] = lambda _: None,
) -> int:
    """Send windows of records, each in time order, and return how many; `sent` is told after every step.

    speed: event seconds per second of the clock; 0: as fast as it goes
    """
    loop = asyncio.get_running_loop()
    begin, first, total = loop.time(), None, 0
    async with Producer(settings) as producer:
        for window in windows:
            at = 0
            while at < len(window):
                if speed > 0:
                    first = window[0][0] if first is None else first
                    reached = first + (loop.time() - begin) * speed
                    upto = bisect.bisect_right(window, reached, lo=at, key=itemgetter(0))
                    if upto == at:
                        wait = (window[at][0] - reached) / speed
                        await asyncio.sleep(min(max(wait, LINGER_SECONDS), 1.0))
                        continue
                else:
                    upto = len(window)
                await producer.send(window[at:upto])
                if speed > 0:
                    await producer.flush()
                total += upto - at
                sent(upto - at)
                at = upto
            await asyncio.sleep(0)  # the sender's turn
    return total
