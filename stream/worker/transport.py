"""Batch transport: one Faust event is one fetched batch of a partition, which is what makes Faust quick enough.

Faust costs some 80 µs an event; here that is paid once for up to 5,000 records. The consumer keeps Faust's own life
(group, assignor, rebalances, flow control) and replaces what counts single messages: gaps, acknowledged offsets and
the read offset. Where reading goes on is the shards' business, never the group's committed offsets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import ConsumerMessage

from stream.worker.logs import likewise
from stream.worker.rights import is_denial

CHUNK_RECORDS = 5000
"""Records of one chunk at most: 20 ms of work, so that no partition waits long for its turn."""
FETCH_WAIT_MS = 200
"""How long a broker holds a fetch for which it has nothing. Faust's 1,500 ms were added to each step of a takeover
while the log is silent: a partition that goes live is fetched from only once the fetch under way has been answered."""
IDLE_POLL_SECONDS = 0.02
IDLE_POLLS = 50

log = logging.getLogger(__name__)
FAUST_LOG = logging.getLogger("faust.transport")
"""What Faust says through its services, which would else speak in the name of this module."""


class Chunk(list[Any]):
    """Records of one partition in log order. Between `begin` and the first of them the log holds no record."""

    __slots__ = ("begin",)

    def __init__(self, records: list[Any], begin: int) -> None:
        super().__init__(records)
        self.begin = begin


def split(records: list[Any], begin: int, size: int = CHUNK_RECORDS) -> list[Chunk]:
    """Records as chunks of at most `size`, each of which begins where its predecessor ended."""
    chunks = []
    for start in range(0, len(records), size):
        chunk = Chunk(records[start : start + size], begin)
        chunks.append(chunk)
        begin = chunk[-1].offset + 1
    return chunks


class Positions(Protocol):
    """What the transport asks the shards."""

    def next_offset(self, partition: int) -> int | None:
        """Where a live shard reads on; None while the partition has no live shard."""

    def committed_offset(self, partition: int) -> int | None:
        """The group's offset to show for a live shard; None: nothing to show."""

    async def denied(self, error: Exception) -> None:
        """Kafka refused to be read for want of a right; returns when it may be tried again."""


class BatchSchema(Schema):
    """Passes a chunk through undecoded."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        """Return Faust's decoder of a message: none at all."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, message.headers, message)

        return decode


class _NoReadOffset(dict[Any, Any]):
    """Faust drops messages below its read offset without a word; after a rewind that would be wrong."""

    def __getitem__(self, tp: Any) -> None:
        return None

    def __setitem__(self, tp: Any, offset: Any) -> None:
        pass


class BatchThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread: knows of each drained batch where its fetch began."""

    logger = FAUST_LOG

    def __post_init__(self) -> None:
        super().__post_init__()
        self._begins: dict[Any, tuple[Any, int]] = {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # gateways may write in transactions, and the intake does: what was aborted is not in the log. Faust would say
        # so only under its own exactly_once, which must not be used
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    @staticmethod
    def _assignment(consumer: Any) -> Any:
        return consumer._fetcher._subscriptions.subscription.assignment

    async def _seek_wait(self, consumer: Any, partitions: Mapping[Any, int]) -> None:
        for tp, offset in partitions.items():
            consumer.seek(tp, offset)
            # a new assignment forgets our seek and starts at the group's offset: it is another object
            self._begins[tp] = (self._assignment(consumer), offset)
        positions = asyncio.gather(*(consumer.position(tp) for tp in partitions))
        await asyncio.wait_for(positions, self.app.conf.broker_request_timeout)

    async def _fetch_records(self, consumer: Any, active: Any, timeout: Any = None, max_records: Any = None) -> Any:  # noqa: ASYNC109 - Faust's signature
        drained = await super()._fetch_records(consumer, active, timeout=timeout, max_records=max_records)
        batches = {}
        for tp, records in drained.items():  # no await from the draining to here: no seek can come between
            if not records:
                continue
            assignment = self._assignment(consumer)
            known, begin = self._begins.get(tp, (None, 0))
            batches[tp] = Chunk(records, begin if known is assignment else records[0].offset)
            self._begins[tp] = (assignment, records[-1].offset + 1)
        return batches

    def position_behind(self, tp: Any, offset: int) -> int:
        """`offset`, or what comes after it if the consumer knows that the log holds no record up to there.

        A transaction's marker takes an offset but is no record: without this a shard at its log's end would lag.
        """
        consumer = self._consumer
        assignment = self._assignment(consumer) if consumer is not None else None
        known, drained_to = self._begins.get(tp, (None, 0))
        if assignment is None or known is not assignment or drained_to > offset:
            return offset
        try:
            return max(offset, assignment.state_value(tp)._position or 0)
        except (AttributeError, KeyError, TypeError):
            return offset

    def hidden(self, tp: Any) -> int:
        """Offsets at the log's end that somebody's open transaction hides, by the last fetch; 0: none, or not known.

        Between the last stable offset and the high watermark there is at least one transaction that has not ended.
        """
        consumer = self._consumer
        assignment = self._assignment(consumer) if consumer is not None else None
        try:
            state = assignment.state_value(tp)  # type: ignore[union-attr]
            return int(max(0, state.highwater - state.lso))
        except (AttributeError, KeyError, TypeError):  # not assigned, or not fetched from yet
            return 0

    async def _commit(self, offsets: Mapping[Any, int]) -> bool:
        """Commit the group's offsets: they show the lag to other tools, so a failure is a line, not a crash."""
        try:
            known = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
            wanted = {driver.ensure_aiokafka_TP(tp): driver.OffsetAndMetadata(o, "") for tp, o in known.items()}
            await asyncio.wait_for(self._ensure_consumer().commit(wanted), self.app.conf.broker_request_timeout)
        except Exception as error:
            why = type(error).__name__
            log.info("the group's offsets were not committed (for display only): %s", why, extra={"seldom": why})
            return False
        return True

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Faust's check for stuck partitions counts messages: the worker's watchdog looks at offsets instead."""


class BatchConsumer(driver.Consumer):
    """Faust's consumer on batches; its `positions` are, by topic, the partitions in this worker's hands."""

    logger = FAUST_LOG
    positions: Mapping[str, Positions]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._read_offset = _NoReadOffset()

    def _new_consumer_thread(self) -> Any:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's signature
        try:
            fetched = await super()._getmany(active_partitions, timeout)
        except Exception as error:
            if not is_denial(error):
                raise
            # what else Faust does with it is to end in tracebacks; one looks at the rights for all topics
            await next(iter(self.positions.values())).denied(error)
            return {}
        return {tp: split(batch, batch.begin) for tp, batch in fetched.items()}

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's signature
        # Faust sleeps a whole second where no partition is active yet: that is a second of every takeover
        for _ in range(IDLE_POLLS):
            if not self.flow_active or self._get_active_partitions():
                break
            await asyncio.sleep(IDLE_POLL_SECONDS)
        return await super()._wait_next_records(timeout)

    def _to_message(self, tp: Any, record: Any) -> Any:
        last = record[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0 if last.timestamp is not None else None,
            last.timestamp_type,
            (),
            None,
            record,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """No gaps: the sequencer of the shard minds them."""

    def _new_offset(self, tp: Any) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self.positions[tp.topic].committed_offset(tp.partition)

    async def perform_seek(self) -> None:
        """Called by Faust before every resume: live partitions go to their own next offset, others wait paused."""
        for tp in self.assignment():
            if tp.topic not in self.positions:
                continue
            offset = self.positions[tp.topic].next_offset(tp.partition)
            if offset is None:
                self.pause_partitions({tp})
                continue
            try:
                await self.seek_wait({tp: offset})
            except Exception as error:  # the sequencer asks again for what this seek did not reach
                why = type(error).__name__
                log.warning(
                    "%s-%d: no seek to %d: %s", tp.topic, tp.partition, offset, why,
                    extra=likewise(tp.partition, f"no seek: {why}", f"{tp.topic} partition"),
                )  # fmt: skip

    def position_behind(self, tp: Any, offset: int) -> int:
        """See `BatchThread.position_behind`."""
        thread: BatchThread = self._thread
        return thread.position_behind(tp, offset)

    def hidden(self, tp: Any) -> int:
        """See `BatchThread.hidden`."""
        thread: BatchThread = self._thread
        return thread.hidden(tp)


def install(app: Any, positions: Mapping[str, Positions]) -> dict[str, Any]:
    """Give a Faust app the batch transport for the topics in `positions`; returns the topics to iterate, by name."""

    class Consumer(BatchConsumer):
        logger = FAUST_LOG

    Consumer.positions = positions

    class Transport(driver.Transport):
        logger = FAUST_LOG

    Transport.Consumer = Consumer
    app.transport = Transport(app.conf.broker_consumer, app, loop=None)
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    return {name: app.topic(name, schema=BatchSchema(**raw)) for name in positions}
