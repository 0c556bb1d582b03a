"""The end of the process, which always comes: a thread of its own hears signals and watches the event loop.

Python runs signal handlers in the main thread and asyncio runs its own on the loop: neither is of use while the loop is
blocked. So the handlers do nothing; the interpreter's C code writes each signal's number into a pipe at once, and a
thread that waits there does the rest. That thread needs only the GIL, and nothing that it does may wait for anybody:
not for the log either, whose reader may have stopped reading.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

STOP_SECONDS = 9.0
"""From SIGTERM to the end at most; a supervisor's usual patience is 10 s and more."""
FAUST_STOP_SECONDS = 1.5
"""For what Faust still does after a failure of its own, once our shards are closed; alone it takes more than 6 s."""
ECHO_SECONDS = 0.5
"""Some supervisors signal the process and then its group: that is one wish, not two."""
LAST_WORDS_SECONDS = 0.5
"""For the last line and what is buffered: nobody may read it."""
BLOCKED_SECONDS = 70.0
"""An event loop that has not turned for so long will not: as long as a lag without progress lasts (see `monitor`)."""
EXIT_BLOCKED = 75
"""`tools.EXIT_STUCK`, whose module takes a second to import: so long nobody would hear a signal."""
EXIT_LOST = 3
"""`tools.EXIT_LOST`, for the same reason."""
TICK_SECONDS = 1.0
NO_SIGNAL = b"\0"

log = logging.getLogger(__name__)


class Exit:
    """Ends the process, whatever hangs.

    Exit codes: 0 stopped as asked, 1 the stop hung, 3 stopped as asked, and a log had lost records, 75 the loop is
    blocked. `clean` is set once everything of ours is written or given up, and closed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clean = False
        self.lost: str | None = None
        """The first thing that a log has lost."""
        self.losses = 0
        self.asked: signal.Signals | None = None
        """The first signal that asked for the end."""
        self._asked_at = 0.0
        self._clock = clock
        self._deadline: float | None = None
        self._stop: Callable[[signal.Signals], None] | None = None
        self._beats = 0
        self._seen = 0
        self._silent = 0.0
        self._ticked = clock()
        self._pipe: tuple[int, int] | None = None
        self._over = False

    # ------------------------------------------------------------------ who asks for the end

    def hear(self) -> None:
        """Take over SIGTERM and SIGINT, in the main thread and as early as can be; SIGUSR1 prints all stacks.

        As process 1 of a container the kernel drops a signal that has no handler.
        """
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__ or 2)
        _, write = self._watch()
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def stop_with(self, stop: Callable[[signal.Signals], None]) -> None:
        """From now on there is something to stop: the first signal calls this, in another thread."""
        self._stop = stop
        if self.asked is not None:
            stop(self.asked)

    def arm(self) -> None:
        """Set the hard limit, once."""
        if self._deadline is None:
            self._within(STOP_SECONDS)

    def closed(self) -> None:
        """Everything of ours is closed: Faust has a moment left."""
        self.clean = True
        if self.lost:
            more = f" (and {self.losses - 1} times more)" if self.losses > 1 else ""
            log.error("exit %d, for a log has lost records: %s%s", EXIT_LOST, self.lost, more)
        self._within(FAUST_STOP_SECONDS)

    def lose(self, message: str) -> None:
        """Remember that a log has lost something: the end will say so."""
        self.lost = self.lost or message
        self.losses += 1

    @property
    def code(self) -> int:
        """0 after a clean end that was asked for, EXIT_LOST if it has to be said that records were lost, else 1."""
        if not (self.clean and self.asked):
            return 1
        return EXIT_LOST if self.lost else 0

    def beat(self) -> None:
        """The event loop turns; from the first time on it is watched."""
        self._beats += 1

    def die(self, code: int, message: str) -> None:
        """Say why, and end now."""
        self.at_once(code, lambda: log.critical("%s", message))

    def at_once(self, code: int, words: Callable[[], None] | None = None) -> None:
        """End now, after these last words, which get a moment and no more."""

        def speak() -> None:
            if words is not None:
                words()
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError):  # the reader has gone
                    continue

        speaker = threading.Thread(target=speak, daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS_SECONDS)
        os._exit(code)

    # ------------------------------------------------------------------ the thread

    def _within(self, seconds: float) -> None:
        deadline = self._clock() + seconds
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        _, write = self._watch()
        os.write(write, NO_SIGNAL)

    def _watch(self) -> tuple[int, int]:
        """The pipe of the thread, which is started with it."""
        if self._pipe is None:
            self._pipe = read, write = os.pipe()
            os.set_blocking(write, False)
            threading.Thread(target=self._run, args=(read,), name="ending", daemon=True).start()
        return self._pipe

    def _run(self, read: int) -> None:
        while not self._over:
            now = self._clock()
            wait = TICK_SECONDS if self._deadline is None else min(TICK_SECONDS, max(0.0, self._deadline - now))
            ready, _, _ = select.select([read], [], [], wait)
            for number in os.read(read, 64) if ready else b"":
                if number:
                    self.signalled(signal.Signals(number), self._clock())
            self.tick(self._clock())

    def signalled(self, number: signal.Signals, now: float) -> None:
        """A signal came: the first asks for a stop, a second one ends at once."""
        if number not in (signal.SIGTERM, signal.SIGINT):
            return
        if self.asked is None:
            self.asked, self._asked_at = number, now
            if self._stop is None:  # nothing is under way yet
                self._end(0, lambda: log.info("%s: stopped before the start", number.name))
                return
            self._deadline = min(self._deadline or now + STOP_SECONDS, now + STOP_SECONDS)
            self._stop(number)
        elif now - self._asked_at >= ECHO_SECONDS:
            self._end(128 + number, lambda: log.warning("a second %s: ended at once", number.name))

    def tick(self, now: float) -> None:
        """Time has passed: see whether the stop took too long, or the loop is blocked."""
        # a process that was suspended wakes up late, which is nobody's fault: one tick counts as two at most
        passed, self._ticked = min(now - self._ticked, 2 * TICK_SECONDS), now
        if self._over:
            return
        if self._deadline is not None:
            if now >= self._deadline:
                self._late()
            return
        if self._beats != self._seen or not self._beats:
            self._seen, self._silent = self._beats, 0.0
            return
        self._silent += passed
        if self._silent > BLOCKED_SECONDS:
            where = _where_the_main_thread_is()
            self._end(
                EXIT_BLOCKED,
                lambda: log.critical("the event loop is blocked for %.0f s, at %s: ended", BLOCKED_SECONDS, where),
            )

    def _late(self) -> None:
        text = "the stop took too long and is broken off: what was not written is read again at the next start"
        self._end(self.code, None if self.clean else lambda: log.error(text))

    def _end(self, code: int, words: Callable[[], None] | None) -> None:
        self._over = True
        self.at_once(code, words)


def _where_the_main_thread_is() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    stack = traceback.extract_stack(frame)[-3:] if frame is not None else []
    return " < ".join(f"{entry.filename}:{entry.lineno} {entry.name}" for entry in reversed(stack))
