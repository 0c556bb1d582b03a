"""The process around the app: Faust's worker with our signals and logs."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

import faust
from faust.tables import TableManager

from stream.settings import Settings
from stream.worker import logs
from stream.worker.ending import Exit

log = logging.getLogger(__name__)


class NoTables(TableManager):
    """Faust's table manager, which begins with a second's wait for tables to be added: there are none."""

    logger = logging.getLogger("faust.tables")

    async def on_start(self) -> None:
        """Start at once: nothing is consumed before this is done."""
        await self._update_channels()
        await self.recovery.start()


def worker_class(settings: Settings, ending: Exit) -> type[Any]:
    """Faust's worker with plain logs and with `ending`'s signals.

    A signal stops our own parts, and then the process ends: Faust's way down may wait for whatever has crashed.
    """

    class Worker(faust.Worker):
        _ours: asyncio.Task[None] | None = None

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.spinner = None

        def _setup_logging(self) -> None:
            logs.set_up(settings)

        def install_signal_handlers(self) -> None:
            """Not asyncio's: they are deaf while the loop is blocked."""
            loop = self.loop
            ending.stop_with(lambda number: loop.call_soon_threadsafe(self.asked_to_stop, number))

        def asked_to_stop(self, number: signal.Signals) -> None:
            """On the loop: stop what is ours, then end."""
            log.info("%s: stopping", number.name)
            self._ours = self.loop.create_task(self._stop_and_end())

        async def _stop_and_end(self) -> None:
            try:
                await self.app.detector.stop()
            except Exception as error:
                log.error("the stop failed: what was not written is read again at the next start", exc_info=error)
                ending.at_once(1)
            ending.at_once(ending.code)

        def stop_and_shutdown(self) -> None:
            ending.arm()
            super().stop_and_shutdown()
            if ending.clean and ending.lost:
                ending.at_once(ending.code)

        def change_workdir(self, path: Any) -> None:
            """Stay where we are."""

        def _setproctitle(self, info: str, *, ident: str = "") -> None:
            """Keep the name that the process was started by."""

    return Worker
