"""Calls into the source topic: keyed and partitioned as Kafka's own clients do it, at a chosen pace."""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from stream.partition import key_bytes, partition_of
from stream.settings import Settings

Timed = tuple[float, str, bytes]
"""A record to send: its event time (epoch seconds), its key id, its value."""
Sendable = tuple[float, str | None, bytes]
"""The same, where the key id may be missing: such a record goes to any partition, without a key."""

LINGER_SECONDS = 0.05
"""Paced records are sent in steps of this length."""
BATCH_BYTES = 256 << 10
OVERHEAD_BYTES = 256
"""More than a batch adds to the value and key of its only record."""
DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
STOP_SECONDS = 3.0
PATIENCE_SECONDS = 30.0
"""A broker that restarts is back sooner. An idempotent producer of aiokafka's alone would wait for ever."""


class ProduceError(Exception):
    """The broker cannot be reached or the topic is not what it should be; the message says what to do (exit 3)."""


class Producer:
    """Records into the source topic, by batches of our own: several times as fast as one `send` a record.

    Use it as an async context manager; leaving it waits until everything is acknowledged. It is idempotent: whatever
    it repeats, the log holds once, in order. What waits is at most two batches a partition. Raises ProduceError if the
    broker is not there, or if the topic is missing or has another number of partitions than the settings say.

    patience_seconds: so long it waits for a broker that does not answer; None: PATIENCE_SECONDS
    """

    def __init__(self, settings: Settings, *, patience_seconds: float | None = None) -> None:
        self._settings = settings
        self._patience = PATIENCE_SECONDS if patience_seconds is None else patience_seconds
        self._producer: Any = None
        self._batches: dict[int, Any] = {}
        self._sent: set[asyncio.Future[Any]] = set()
        self._turn = 0
        self._max_message_bytes = DEFAULT_MAX_MESSAGE_BYTES
        self.acknowledged = 0
        """Records that the broker has confirmed."""

    async def __aenter__(self) -> Producer:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError

        from stream.security import client_options

        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it says is said below, with what to do
        await self._check_topic(self._settings.source_topic)
        broker = self._settings.broker
        self._producer = AIOKafkaProducer(
            **client_options(self._settings),
            enable_idempotence=True,
            max_batch_size=min(BATCH_BYTES, self._max_message_bytes),
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            if isinstance(error, ClusterAuthorizationFailedError):  # so it is for who may write to no topic at all
                raise self._no_right() from error
            raise ProduceError(f"no Kafka at {broker} ({error}): start one with `overdraw broker`") from error
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def _check_topic(self, topic: str) -> None:
        from stream.worker.cluster import BrokerUnreachable, cluster
        from stream.worker.topics import NO_TOPIC_RIGHT

        try:
            async with cluster(self._settings) as kafka:
                facts = (await kafka.topics([topic]))[topic]
                if facts.error == NO_TOPIC_RIGHT:
                    raise self._no_right()
                if facts.error:
                    raise ProduceError(f"there is no topic {topic}: make it with `overdraw topics create`")
                if facts.partitions != self._settings.partitions:
                    raise ProduceError(
                        f"topic {topic} has {facts.partitions} partitions, the setting partitions is "
                        f"{self._settings.partitions}: say --set partitions={facts.partitions}, or name another topic "
                        "with --set source_topic=NAME"
                    )
                _, values = (await kafka.topic_settings([topic]))[topic]
                self._max_message_bytes = int(values.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))
        except BrokerUnreachable as error:
            raise ProduceError(str(error)) from error

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            try:
                async with asyncio.timeout(STOP_SECONDS if kind else None):
                    await self._producer.stop()
            except TimeoutError:  # it waits for a broker that has gone; the caller knows already
                await self._give_up()
            for future in self._sent:
                if future.done() and not future.cancelled():
                    future.exception()  # told already, by the first of them

    async def _give_up(self) -> None:
        """End what a stop that was broken off has left: its tasks would be said to be destroyed while they wait."""
        producer = self._producer
        sender = producer._sender.sender_task
        sender.cancel()
        await asyncio.wait({sender}, timeout=STOP_SECONDS)
        producer._message_accumulator.fail_all(ConnectionError("the broker has gone"))
        await producer.client.close()

    def fits(self, record: Sendable) -> bool:
        """Whether the topic takes a record of this length."""
        key_length = len(key_bytes(record[1])) if record[1] is not None else 0
        return len(record[2]) + key_length + OVERHEAD_BYTES <= self._max_message_bytes

    async def send(self, records: Iterable[Sendable]) -> None:
        """Take records over, in their order; waits where the broker is slower. Each must fit."""
        partitions, batches = self._settings.partitions, self._batches
        for record in records:
            _, key_id, value = record
            if key_id is None:
                self._turn = partition = (self._turn + 1) % partitions
                key = None
            else:
                partition, key = partition_of(key_id, partitions), key_bytes(key_id)
            batch = batches.get(partition)
            if batch is None:
                batch = batches[partition] = self._producer.create_batch()
            if batch.append(timestamp=None, key=key, value=value) is None:
                await self._dispatch(partition)
                batch = batches[partition] = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value)  # a batch takes its first record, however long

    async def push(self) -> None:
        """Send what is there without waiting for its acknowledgement."""
        for partition in list(self._batches):
            await self._dispatch(partition)

    async def flush(self) -> None:
        """Send what is there and wait until it is acknowledged. Raises ProduceError if it is not."""
        from aiokafka.errors import KafkaError

        await self.push()
        try:
            async with asyncio.timeout(self._patience):
                await asyncio.gather(*self._sent)
        except (KafkaError, TimeoutError) as error:
            raise self._refused(error) from error
        self._sent.clear()

    async def _dispatch(self, partition: int) -> None:
        from aiokafka.errors import KafkaError

        batch = self._batches.pop(partition)
        count = batch.record_count()
        try:
            for future in [future for future in self._sent if future.done()]:
                future.result()  # a batch was lost: nothing behind it may go ahead of it
                self._sent.discard(future)
            async with asyncio.timeout(self._patience):
                future = await self._producer.send_batch(batch, self._settings.source_topic, partition=partition)
        except (KafkaError, TimeoutError) as error:
            raise self._refused(error) from error
        self._sent.add(future)
        future.add_done_callback(lambda done: self._count(done, count))

    def _count(self, done: asyncio.Future[Any], count: int) -> None:
        if not done.cancelled() and done.exception() is None:
            self.acknowledged += count

    def _no_right(self) -> ProduceError:
        from stream.worker.topics import grant

        topic = self._settings.source_topic
        return ProduceError(f"{topic}: we lack the right Write: {grant(self._settings, ['Write'], f'--topic {topic}')}")

    def _refused(self, error: Exception) -> ProduceError:
        from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

        if isinstance(error, TopicAuthorizationFailedError):
            return self._no_right()
        if isinstance(error, MessageSizeTooLargeError):
            return ProduceError("a record is longer than the broker takes: split it, or raise its message.max.bytes")
        why = str(error) or f"no answer for {self._patience:.0f} s"
        return ProduceError(f"{self._settings.broker} took no more records ({why}): is it still up?")


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
