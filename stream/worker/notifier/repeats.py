"""What a service has to be told again, as long as it lasts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from stream.alerts import Alert
from stream.notify.message import Message
from stream.notify.service import Request

if TYPE_CHECKING:
    from stream.worker.notifier.line import Line

FIRING_BATCH = 100

log = logging.getLogger(__name__)


async def say_again(line: Line, seconds: float) -> None:
    """Say all `seconds` what still fires, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        told = [known.fingerprint for known in line.desk.firing(line.clock())]
        for start in range(0, len(told), FIRING_BATCH):
            batch = set(told[start : start + FIRING_BATCH])
            if await line.deliverer.once(partial(_firing, line, batch)):
                line.told("resent")
        if line.desk.digested() and await line.deliverer.once(line.firing_digest):
            line.told("resent")


def _firing(line: Line, fingerprints: set[str]) -> Request | None:
    """Built when its turn has come: what has been resolved in the meantime is not said to fire."""
    now = line.clock()
    known = [one for one in line.desk.firing(now) if one.fingerprint in fingerprints and one.kept is not None]
    messages = [line.message(Alert.model_validate_json(one.kept or b""), one.source) for one in known]
    if not messages:
        return None
    try:
        return line.notifier.firing(messages, now)
    except Exception:  # one of them cannot be told, which was counted when it came
        sound = [message for message in messages if _can_be_told(line.request, message, line.name)]
        if len(sound) == len(messages):
            raise
        return line.notifier.firing(sound, now) if sound else None


def _can_be_told(request: Callable[[Message], Request], message: Message, name: str) -> bool:
    try:
        request(message)
    except Exception as error:
        log.debug("notifier %s: nothing can be said again of it: %s", name, type(error).__name__)
        return False
    return True
