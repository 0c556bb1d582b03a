"""What the responder blocks by itself, told on the control topic: so the detector knows, and whoever goes on under
another key is looked for. What an operator has blocked was told there by the operator.

What was told is read back from the topic, and compared with what holds: so nothing is lost, whatever is killed.
"""  # noqa: D205

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from aiokafka.errors import KafkaError

from stream.control import Block, Unblock
from stream.response.board import SYSTEM
from stream.response.record import Response
from stream.worker.tools import line_of

PAUSE_SECONDS = 30.0
"""After a failure."""

log = logging.getLogger(__name__)


class Telling:
    """Tells of blocks, and of their end. `write(message)` puts one on the control topic; it may raise KafkaError."""

    def __init__(self, write: Callable[[Block | Unblock], Awaitable[object]]) -> None:
        self._write = write
        self._sent: dict[str, Block | Unblock] = {}
        """By key, what was told and not read back yet."""
        self._again = 0.0

    async def __call__(self, blocks: Mapping[str, Response], told: Mapping[str, Block], now: float) -> None:
        """Tell what is new; `blocks`: what holds, by key; `told`: what the topic says of it, as far as it was read."""
        if now < self._again:
            return
        for message in self._due(blocks, told, now):
            try:
                await self._write(message)
            except KafkaError as error:  # what is done at the gateways does not wait for this
                self._again = now + PAUSE_SECONDS
                log.warning("what was blocked is not told of, tried again: %s", line_of(error))
                return
            self._sent[message.key_id] = message

    def _due(self, blocks: Mapping[str, Response], told: Mapping[str, Block], now: float) -> list[Block | Unblock]:
        known = dict(told)
        for key_id, sent in list(self._sent.items()):
            heard = told.get(key_id)
            if heard == sent if isinstance(sent, Block) else heard is None:
                del self._sent[key_id]
            elif isinstance(sent, Block):
                known[key_id] = sent
            else:
                known.pop(key_id, None)
        found: list[Block | Unblock] = []
        for key_id, response in blocks.items():
            before = known.get(key_id)
            if before is None or before.response_id != response.response_id or before.until != response.until:
                found.append(_block(response, now))
        for key_id, before in known.items():
            # what ends by itself needs no word
            if key_id not in blocks and (before.until is None or before.until > now):
                found.append(_unblock(before, now))
        return found


def _block(response: Response, now: float) -> Block:
    return Block(
        id=f"{response.response_id}-{now:.0f}", at=now, by=SYSTEM, why=response.steps[0].why,
        key_id=response.entity.id, until=response.until, response_id=response.response_id,
    )  # fmt: skip


def _unblock(before: Block, now: float) -> Unblock:
    return Unblock(
        id=f"{before.response_id}-{now:.0f}-end", at=now, by=SYSTEM, why="the response is over", key_id=before.key_id,
        response_id=before.response_id,
    )  # fmt: skip
