"""The responder at work: one of its group reads, decides and acts; the others stand by."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from stream.control import Block, Message, write_message
from stream.response.board import Board
from stream.response.config import ResponseConfig, TopicConfig
from stream.response.gateway import Gateway
from stream.response.record import Response
from stream.security import client_options
from stream.settings import Settings
from stream.worker.control.topic import write
from stream.worker.notifier.consumer import NO_IDLE_LIMIT_MS
from stream.worker.responder.acts import Acts
from stream.worker.responder.log import Log
from stream.worker.responder.orders import Orders
from stream.worker.responder.telling import Telling
from stream.worker.tools import line_of

TURN_MS = 250
RESTART_SECONDS = (1.0, 30.0)
STOP_SECONDS = 4.0

log = logging.getLogger(__name__)


class Responder:
    """Reads, decides, acts. `alert_partitions` is the number of the alert topic's."""

    def __init__(
        self,
        settings: Settings,
        config: ResponseConfig,
        gateways: Mapping[str, Gateway],
        alert_partitions: int,
        orders: Orders,
        *,
        stepped: Callable[[Response], None],
        failed: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.down: str | None = "not assigned yet"
        """Why it neither works nor stands by."""
        self.at_work = False
        self.board = Board(config)
        self._settings, self._config, self._gateways, self._clock = settings, config, gateways, clock
        self._alert_partitions, self._orders = alert_partitions, orders
        self._stepped, self._failed = stepped, failed

    async def run(self) -> None:
        """Work until cancelled; a failure of Kafka is told, and all is read again."""
        pause = RESTART_SECONDS[0]
        while True:
            begun = self._clock()
            try:
                await self._session()
            except Exception as error:  # whatever it was: all that matters stands in Kafka, and is read again
                self.down = line_of(error)
                log.warning("the responder begins anew: %s", self.down)
            self.at_work = False
            if self._clock() - begun > 2 * RESTART_SECONDS[1]:
                pause = RESTART_SECONDS[0]
            await asyncio.sleep(pause)
            pause = min(2 * pause, RESTART_SECONDS[1])

    async def _session(self) -> None:
        turn: Any = AIOKafkaConsumer(
            **client_options(self._settings),
            group_id=f"{self._settings.app_id}-responder",
            group_instance_id=self._settings.instance_id,
            partition_assignment_strategy=[StickyPartitionAssignor],  # who comes later stands by
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=int(self._settings.session_timeout_seconds * 1000),
            max_poll_interval_ms=NO_IDLE_LIMIT_MS,
        )
        kept: Log | None = None
        acts: Acts | None = None
        telling: asyncio.Task[None] | None = None
        try:
            await turn.start()
            turn.subscribe([self._settings.response_topic])
            while True:
                await turn.getmany(timeout_ms=TURN_MS)  # its records are read below: this is the place in the group
                if TopicPartition(self._settings.response_topic, 0) not in turn.assignment():
                    if kept is not None:
                        await self._leave(kept, telling)
                        kept = acts = telling = None
                        self.at_work = False
                    self.down = None
                    continue
                if kept is None or acts is None:
                    kept = await self._enter()
                    acts = Acts(
                        self._config, self.board, self._gateways, kept, stepped=self._stepped, failed=self._failed
                    )
                    await self._begin()
                    telling = asyncio.create_task(self._telling().run())
                    log.info("at work: %d responses, %d of them open", *self._counts())
                await kept.read()
                if telling is not None and telling.done():
                    telling.result()
                if not self._orders.complete:  # a key may be under an allow rule
                    self.down = f"what operators say is not known yet: {self._orders.topic.trouble}"
                    continue
                self.board.follow(self._orders.bans, self._orders.rules)
                await acts(self._clock())
                self.down, self.at_work = None, True
        finally:
            if kept is not None:
                await self._leave(kept, telling)
            await self._stop(turn)

    async def _enter(self) -> Log:
        self.board = Board(self._config)
        with_topic = any(isinstance(gateway, TopicConfig) for gateway in self._config.gateways.values())
        kept = Log(self._settings, self.board, deny_list=with_topic)
        try:
            await kept.open(self._alert_partitions, self._clock())
        except BaseException:
            await self._leave(kept, None)
            raise
        return kept

    async def _begin(self) -> None:
        for name, gateway in self._gateways.items():
            result = await gateway.begin(self.board.active())
            if result.verdict != "done":
                self._failed(name)
                log.warning("gateway %s: %s: brought in line with the next change", name, result.words)

    def _counts(self) -> tuple[int, int]:
        responses = self.board.responses.values()
        return len(responses), sum(response.open for response in responses)

    def _telling(self) -> Telling:
        def told() -> dict[str, Block] | None:
            return self._orders.told if self._orders.complete else None

        async def say(message: Message) -> None:
            # it may hang for as long as Kafka does: twice does no harm
            await write(self._settings, message, write_message(message), once=False)

        return Telling(self.board, told, say, self._clock)

    async def _leave(self, kept: Log, telling: asyncio.Task[None] | None) -> None:
        if telling is not None:
            for _ in range(2):  # a cancellation may be lost where something else ends at once
                telling.cancel()
                await asyncio.wait([telling], timeout=STOP_SECONDS)
        try:
            await asyncio.wait_for(kept.close(), STOP_SECONDS)
        except (KafkaError, TimeoutError) as error:
            log.debug("the clients' stop: %s", line_of(error))

    async def _stop(self, consumer: Any) -> None:
        try:
            await asyncio.wait_for(consumer.stop(), STOP_SECONDS)
        except (KafkaError, TimeoutError) as error:
            log.debug("the consumer's stop: %s", line_of(error))
