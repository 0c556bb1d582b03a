"""The process around the app: signals, and an end that always comes."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

import faust

from stream.settings import Settings
from stream.worker import logs
from stream.worker.tools import EXIT_LOST

STOP_SECONDS = 9.0
"""From SIGTERM to the end at most; a supervisor's usual patience is 10 s and more."""
FAUST_STOP_SECONDS = 1.5
"""For what Faust still does once our shards are closed; alone it takes more than 6 s."""
COLLECTOR_THRESHOLDS = (100_000, 50, 100)
ECHO_SECONDS = 0.5
"""Some supervisors signal the process and then its group: that is one wish, not two."""

log = logging.getLogger(__name__)


class Exit:
    """Ends the process, whatever hangs. `clean` is set once everything of ours is written and closed."""

    def __init__(self) -> None:
        self.clean = False
        self.lost: str | None = None
        """The first thing that a log has lost."""
        self.losses = 0
        self.asked = False
        self.asked_at = 0.0
        self._armed = False

    def at_once(self, code: int) -> None:
        """End now."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # the reader has gone
                continue
        os._exit(code)

    def within(self, seconds: float) -> None:
        """End after this time at the latest: with 0 if it was asked for and all is closed by then."""
        timer = threading.Timer(seconds, self._late)
        timer.daemon = True
        timer.start()

    def arm(self) -> None:
        """Set the hard limit, once."""
        if not self._armed:
            self._armed = True
            self.within(STOP_SECONDS)

    def _late(self) -> None:
        if not self.clean:
            log.error("the stop took too long and is broken off: what was not written is read again at the next start")
        self.at_once(self.code)

    @property
    def code(self) -> int:
        """0 after a clean end that was asked for, EXIT_LOST if it has to be said that records were lost, else 1."""
        if not (self.clean and self.asked):
            return 1
        return EXIT_LOST if self.lost else 0

    def lose(self, message: str) -> None:
        """Remember that a log has lost something: the end will say so."""
        self.lost = self.lost or message
        self.losses += 1

    def closed(self) -> None:
        """Everything of ours is closed: Faust has a moment left."""
        self.clean = True
        if self.lost:
            more = f" (and {self.losses - 1} times more)" if self.losses > 1 else ""
            log.error("exit %d, for a log has lost records: %s%s", EXIT_LOST, self.lost, more)
        self.within(FAUST_STOP_SECONDS)

    def die(self, code: int, message: str) -> None:
        """Say why, and end now."""
        log.critical("%s", message)
        self.at_once(code)


def calm_the_collector() -> None:
    """Look for cyclic garbage seldom: records and states have no cycles and go by reference counting.

    At its usual pace the collector takes a third of the worker's time, looking through the same records and states.
    """
    gc.collect()
    gc.freeze()  # what is there by now stays: modules, classes, the app
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def worker_class(settings: Settings, ending: Exit) -> type[Any]:
    """Faust's worker with plain logs, a first signal that stops and a second one that ends."""

    class Worker(faust.Worker):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.spinner = None

        def _setup_logging(self) -> None:
            logs.set_up(settings)

        def _on_sigint(self) -> None:
            self._stop_or_end(signal.SIGINT)

        def _on_sigterm(self) -> None:
            self._stop_or_end(signal.SIGTERM)

        def _stop_or_end(self, number: signal.Signals) -> None:
            if ending.asked and time.monotonic() - ending.asked_at < ECHO_SECONDS:
                return
            if ending.asked:
                log.warning("a second %s: ending at once", number.name)
                ending.at_once(128 + number)
            ending.asked, ending.asked_at = True, time.monotonic()
            ending.arm()
            log.info("%s: stopping", number.name)
            self._schedule_shutdown(number)

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
