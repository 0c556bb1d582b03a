"""The life of a process without Faust: its tasks run until a signal asks for the end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterable

from stream.worker.ending import Exit

BEAT_SECONDS = 1.0

log = logging.getLogger(__name__)


def asked_to_stop(ending: Exit) -> asyncio.Event:
    """Set once `ending` hears a signal; from now on it does not end the process by itself."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def ask(_: signal.Signals) -> None:
        loop.call_soon_threadsafe(stop.set)

    ending.stop_with(ask)
    return stop


async def run_until(stop: asyncio.Event, tasks: Iterable[asyncio.Task[None]], ending: Exit) -> None:
    """Tell `ending` that the loop turns until it is to stop, then cancel the tasks and wait for their end."""
    while not stop.is_set():
        ending.beat()
        try:
            await asyncio.wait_for(stop.wait(), BEAT_SECONDS)
        except TimeoutError:
            continue
    log.info("stopping")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
