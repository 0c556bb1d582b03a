"""What the responder blocks by itself, told on the control topic: so the detector knows, and whoever goes on under
another key is looked for. What an operator has blocked was told there by the operator.

What was told is read back from the topic, and compared with what holds: so it is told whatever is killed, and again if
it does not come back.
"""  # noqa: D205

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiokafka.errors import KafkaError

from stream.control import Block, Message, Unblock, read_message, write_message
from stream.response.board import SYSTEM, Board
from stream.response.record import Response
from stream.worker.tools import line_of

LOOK_SECONDS = 0.5
PAUSE_SECONDS = 30.0
"""After a failure."""
AGAIN_SECONDS = 60.0
"""A word that has not been read back by then is told again."""

Said = TypeVar("Said", Block, Unblock)

log = logging.getLogger(__name__)


class Telling:
    """Tells of blocks, and of their end.

    told(): by key, the blocks that the control topic tells of; None: it is not known yet
    write(message): puts a word on it; may raise KafkaError
    """

    def __init__(
        self,
        board: Board,
        told: Callable[[], Mapping[str, Block] | None],
        write: Callable[[Message], Awaitable[object]],
        clock: Callable[[], float],
    ) -> None:
        self._board, self._told, self._write, self._clock = board, told, write, clock
        self._sent: dict[str, tuple[float, Block | Unblock]] = {}
        """By key, what was told and not read back yet, and when."""
        self._odd: set[str] = set()
        """Responses that cannot be told of."""

    async def run(self) -> None:
        """Tell until cancelled. What is done at the gateways never waits for this."""
        while True:
            try:
                await self.tell()
            except (KafkaError, TimeoutError, OSError) as error:
                log.warning("what was blocked is not told of, tried again: %s", line_of(error))
                await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def tell(self) -> None:
        """Tell what is new. Raises KafkaError; what was not told by then comes next time."""
        told = self._told()
        if told is None:
            return
        for message in self._due(told, self._clock()):
            await self._write(message)
            self._sent[message.key_id] = (self._clock(), message)

    def _due(self, told: Mapping[str, Block], now: float) -> list[Block | Unblock]:
        known = dict(told)
        for key_id, (at, sent) in list(self._sent.items()):
            heard = told.get(key_id)
            if now - at >= AGAIN_SECONDS or (heard == sent if isinstance(sent, Block) else heard is None):
                del self._sent[key_id]
            elif isinstance(sent, Block):
                known[key_id] = sent
            else:
                known.pop(key_id, None)
        blocks = self._board.blocks()
        found: list[Block | Unblock] = []
        for key_id, response in blocks.items():
            over = response.until is not None and response.until <= now
            block = None if over else self._block(response, now)
            if block is not None and _outlasts(block, known.get(key_id)):
                found.append(block)
        for key_id, before in known.items():
            # what ends by itself needs no word, and what another responder has told is not ours to take back
            lasts = before.until is None or before.until > now
            if key_id not in blocks and lasts and before.response_id in self._board.responses:
                found.append(_unblock(before, now))
        return found

    def _block(self, response: Response, now: float) -> Block | None:
        """The word, as it will be read; None if there is none, for the alert came with an id that no key has."""
        try:
            return _as_read(
                Block(
                    id=f"{response.response_id}-{now:.0f}", at=now, by=SYSTEM, why=response.steps[0].why,
                    key_id=response.entity.id, until=response.until, response_id=response.response_id,
                )
            )  # fmt: skip
        except ValueError:  # its text has the id
            if response.response_id not in self._odd:
                self._odd.add(response.response_id)
                log.warning("response %s cannot be told of: no key can have its id", response.response_id)
            return None


def _outlasts(block: Block, before: Block | None) -> bool:
    """Whether it tells more than what was told; that of one which ends sooner is taken back when it is over."""
    if before is None or before.until is None:
        return before is None
    return block.until is None or block.until > before.until


def _unblock(before: Block, now: float) -> Unblock:
    return _as_read(
        Unblock(
            id=f"{before.response_id}-{now:.0f}-end", at=now, by=SYSTEM, why="the response is over",
            key_id=before.key_id, response_id=before.response_id,
        )
    )  # fmt: skip


def _as_read(message: Said) -> Said:
    """What the topic will give back: times in it end at the millisecond."""
    read = read_message(write_message(message))
    assert isinstance(read, type(message))
    return read
