"""One partition's journal: a transactional producer. What a flush writes becomes visible together, or never.

Its transactional id belongs to the partition, so opening it fences whoever owned the shard before, and aborts what
they had open. Any failure means: throw the shard away and read it again from the log. A shard has one, and so has a
partition of the intake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stream.security import client_options
from stream.settings import Settings

TRANSACTION_TIMEOUT_SECONDS = 60.0
"""After this the broker aborts a transaction by itself. Kafka's own default, so every cluster allows it; who takes a
shard over does not wait for it, and nobody else writes to the shard's partitions."""
WRITE_SECONDS = 50.0
"""A whole transaction: less than the broker allows, and than the watchdog's 60 s without progress."""
STALL_SECONDS = 10.0
"""Without an acknowledged batch for so long the broker is gone. A shard's states cannot be split over transactions, and
at the close of a bucket they may be hundreds of megabytes: as long as these go on being taken, all is well."""
INTAKE_TIMEOUT_SECONDS = 10.0
"""The same for the intake, whose transactions are small: a dead owner's open one hides what others write to the source
behind it."""
INTAKE_WRITE_SECONDS = 8.0
OPEN_TIMEOUT_SECONDS = 30.0
ABORT_TIMEOUT_SECONDS = 1.5
STOP_TIMEOUT_SECONDS = 2.0
BATCH_BYTES = 512 * 1024
"""Half of Kafka's usual limit for one produce request."""

Headers = Sequence[tuple[str, bytes]]
Record = tuple[bytes | None, bytes | None, Headers] | tuple[bytes | None, bytes | None, Headers, int]
"""Key, value and headers of a record to write, and perhaps its Kafka timestamp in milliseconds (else: now)."""
Target = str | tuple[str, int]
"""Where records go: to a topic's partition of the journal's own number, or to a topic and a partition."""
Offsets = Mapping[tuple[str, int], tuple[int, str]]
"""Offsets of the group by topic and partition, each with its metadata."""

INTAKE = "intake"
"""Middle part of the transactional ids of the intake's partitions: `<app_id>-intake-<partition>`."""
GROUPS = "groups"
"""The same of the one that keeps the groups: `<app_id>-groups-0`."""

log = logging.getLogger(__name__)


class JournalError(RuntimeError):
    """A record that cannot be written; the message says which."""


class Journal:
    """The transactional producer of one partition; not to be used again after a failure.

    `role` tells the journals of a partition of the intake, and of the groups, from those of shards.
    """

    def __init__(self, settings: Settings, partition: int, role: str = "") -> None:
        self.partition = partition
        shared = role == INTAKE
        self._timeout = INTAKE_TIMEOUT_SECONDS if shared else TRANSACTION_TIMEOUT_SECONDS
        self._write_seconds = INTAKE_WRITE_SECONDS if shared else WRITE_SECONDS
        self._name = "-".join(part for part in (settings.app_id, role, str(partition)) if part)
        self._settings = settings
        self._producer: Any = None
        self._boot: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect and fence: returns when the former owner's open transaction is aborted."""
        from aiokafka import AIOKafkaProducer

        name = self._name
        self._producer = AIOKafkaProducer(
            **client_options(self._settings),
            transactional_id=name,
            transaction_timeout_ms=int(self._timeout * 1000),
            client_id=f"{name}-journal",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            retry_backoff_ms=30,
        )
        # producer.start() in two steps: a cancel in the middle of bootstrap() would leak its connection
        self._boot = asyncio.create_task(self._producer.client.bootstrap())
        await asyncio.wait_for(asyncio.shield(self._boot), OPEN_TIMEOUT_SECONDS)
        await asyncio.wait_for(self._producer._sender.start(), OPEN_TIMEOUT_SECONDS)

    @property
    def epoch(self) -> int:
        """The producer's epoch: it rises by one with every owner."""
        return int(self._producer._txn_manager.producer_epoch)

    async def write(self, records: Mapping[Target, Sequence[Record]], offsets: Offsets | None = None) -> None:
        """Write records by target in one transaction, in the order given; raises whatever went wrong.

        What is named by its topic alone goes to the partition of the same number: an open transaction of a dead owner
        hides what others committed behind it, so every shard has its own. `offsets` are committed with it, as the
        group's.
        """
        await asyncio.wait_for(self._write(records, offsets), self._write_seconds)

    async def _write(self, records: Mapping[Target, Sequence[Record]], offsets: Offsets | None) -> None:
        producer = self._producer
        await producer.begin_transaction()
        acknowledgements: list[Any] = []
        failure: BaseException | None = None
        try:
            for target, batch in records.items():
                topic, partition = (target, self.partition) if isinstance(target, str) else target
                for built in self._batches(topic, batch):
                    # returns once the partition's batch before it has been sent
                    sending = producer.send_batch(built, topic, partition=partition)
                    acknowledgements.append(await asyncio.wait_for(sending, STALL_SECONDS))
            if offsets:
                await asyncio.wait_for(self._send_offsets(offsets), STALL_SECONDS)
        except Exception as error:
            failure = error
        # all of them are awaited, else asyncio reports futures whose error nobody fetched
        everything = asyncio.gather(*acknowledgements, return_exceptions=True)
        for result in await asyncio.wait_for(everything, STALL_SECONDS):
            if isinstance(result, BaseException):
                failure = failure or result
        if failure is not None:
            raise failure
        await asyncio.wait_for(producer.commit_transaction(), STALL_SECONDS)

    async def _send_offsets(self, offsets: Offsets) -> None:
        from aiokafka import TopicPartition
        from aiokafka.structs import OffsetAndMetadata

        wanted = {TopicPartition(*place): OffsetAndMetadata(*said) for place, said in offsets.items()}
        await self._producer.send_offsets_to_transaction(wanted, self._settings.app_id)

    def _batches(self, topic: str, records: Sequence[Record]) -> Iterator[Any]:
        """Records as batches, each built when it is wanted."""
        batch: Any = None  # an empty batch is never sent: it hangs
        now = int(time.time() * 1000)
        for record in records:
            key, value, headers = record[:3]
            stamp = record[3] if len(record) == 4 else now
            row: dict[str, Any] = {"key": key, "value": value, "timestamp": stamp, "headers": list(headers)}
            if batch is not None and batch.append(**row) is not None:
                continue
            if batch is not None:
                yield batch
            batch = self._producer.create_batch()
            if batch.append(**row) is None:
                raise JournalError(f"a record of {len(value or b'')} bytes for {topic} fits into no batch")
        if batch is not None:
            yield batch

    async def close(self, *, fast: bool = False) -> None:
        """Abort what is open and disconnect, within some 5 s and without a word; `fast`: no abort."""
        if self._producer is None:
            return
        if self._boot is not None:
            await asyncio.gather(self._boot, return_exceptions=True)
        producer, manager = self._producer, self._producer._txn_manager
        self._consume()
        if not fast and manager.state.name in ("IN_TRANSACTION", "ABORTABLE_ERROR"):
            with contextlib.suppress(Exception):  # the next owner's fence aborts it as well
                await asyncio.wait_for(producer.abort_transaction(), ABORT_TIMEOUT_SECONDS)
            self._consume()
        sender = producer._sender.sender_task
        if fast and sender is not None and not sender.done():
            sender.cancel()
        try:
            await asyncio.wait_for(producer.stop(), STOP_TIMEOUT_SECONDS)
        except Exception:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(producer.client.close(), 1.0)
        self._consume()

    def _consume(self) -> None:
        """Fetch the errors of aiokafka's own futures: a fenced producer would log a traceback for each."""
        accumulator = self._producer._message_accumulator
        manager = self._producer._txn_manager
        futures = [manager._transaction_waiter, *(future for _, _, future in manager._pending_txn_offsets)]
        for batch in [b for q in accumulator._batches.values() for b in q] + list(accumulator._pending_batches):
            futures += [batch.future, batch._drain_waiter]
        for future in futures:
            if future is not None and future.done() and not future.cancelled():
                future.exception()
