"""The operators' word on its way to the shards of a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from stream.control import is_responders
from stream.settings import Settings
from stream.worker.control.topic import ControlTopic, Said, consumer_of
from stream.worker.live import LiveShard
from stream.worker.shards import Shards

LOOK_SECONDS = 0.25
MAX_SUBJECTS = 50_000
"""Messages that are held for shards still to come: of each subject the last. Beyond it the oldest are let go."""
MAX_RESPONDED = 20_000
"""Of what a responder has told: machines may not push out what people have said."""
MAX_BROKEN = 1000
"""Records that are no messages, likewise."""

log = logging.getLogger(__name__)


class Word:
    """Hands each shard what was said since it listened last; one that is rebuilt hears it all once it speaks again."""

    def __init__(self, settings: Settings, shards: Shards, consumer: Callable[[Settings], Any] = consumer_of) -> None:
        self.topic = ControlTopic(settings, self._begin, self._hear, consumer)
        self._shards = shards
        self._said: dict[str, Said] = {}
        self._responded: dict[str, Said] = {}
        self._log: str | None = None
        self._complete = False
        self._full = False

    async def run(self) -> None:
        """Listen and hand on for ever."""
        listening = asyncio.create_task(self.topic.run())
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                await self.hand_on()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def _begin(self, topic_id: str | None) -> None:
        self._log, self._complete = topic_id, False
        self._said.clear()
        self._responded.clear()

    def _hear(self, batch: Sequence[Said], complete: bool) -> None:
        for said in batch:
            message = said.message
            held, most = (self._responded, MAX_RESPONDED) if is_responders(message) else (self._said, MAX_SUBJECTS)
            subject = message.subject if message is not None else f"broken {said.offset % MAX_BROKEN}"
            held.pop(subject, None)
            held[subject] = said
            if len(held) > most:
                del held[next(iter(held))]
                if held is self._said:
                    self._say_full()
        self._complete = complete

    def _say_full(self) -> None:
        if not self._full:
            self._full = True
            log.warning(
                "operators have said more than %d things that still hold: a shard that is new here will not hear the "
                "oldest of them", MAX_SUBJECTS,
            )  # fmt: skip

    async def hand_on(self) -> None:
        """Tell every live shard what it has not heard yet, once all that was there has been read."""
        if not self._complete:
            return
        for shard in list(self._shards.live.values()):
            if shard.rebuild is None and shard.heard != (self._log, self.topic.offset):
                await self._tell(shard)

    async def _tell(self, shard: LiveShard) -> None:
        async with shard.turn:  # an idle step that was announced takes effect as it was announced
            if not shard.live or not self._complete:
                return
            topic_id, upto = self._log, self.topic.offset
            known = shard.heard[1] if shard.heard is not None and shard.heard[0] == topic_id else -1
            held = [*self._said.values(), *self._responded.values()]
            new = sorted((said for said in held if said.offset > known), key=lambda said: said.offset)
            shard.instruct(new, topic_id)
            shard.heard = (topic_id, upto)
