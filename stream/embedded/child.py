"""A child process that never outlives us, not even when we are killed with -9, and that can be asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

_LAUNCHER = """
import os, shutil, sys, time
pipe, remove, program = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
me = os.getpid()
if os.fork() == 0:
    if not os.read(pipe, 1):            # end of file, not a word: whoever started us is gone
        if os.getppid() == me:          # and the program is still there, and still our parent
            os.kill(me, 9)
        while os.getppid() == me:
            time.sleep(0.01)
        if remove:
            shutil.rmtree(remove, ignore_errors=True)
    os._exit(0)
os.close(pipe)
try:
    os.execv(program[0], program)
except OSError as error:
    print(f"cannot run {program[0]}: {error}", file=sys.stderr, flush=True)
    os._exit(127)
"""
# A guard that is the program's own child sees from its parent's id whether that still runs, so it can never kill a
# stranger with a reused number. PR_SET_PDEATHSIG would not do: it strikes when the starting *thread* ends.

_FOREIGN_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "KAFKA_OPTS")
"""Java reads these from the environment; they would change what we start, and spoil the class cache."""


class Child:
    """A running program, in a session of its own so that Ctrl-C at the terminal reaches only us."""

    def __init__(
        self, program: Sequence[str | Path], log: Path, *, keep_open: Sequence[int] = (), remove: Path | None = None
    ) -> None:
        """Start `program`; its output goes to the end of `log`.

        keep_open: file descriptors that the program holds as long as it lives (locks)
        remove: folder that goes away too if we die without saying so
        """
        read, self._word = os.pipe()
        try:
            with log.open("ab") as output:
                command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(read), str(remove or "")]
                self._process = subprocess.Popen(
                    [*command, *map(str, program)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[read, *keep_open],
                    start_new_session=True,
                    env={name: value for name, value in os.environ.items() if name not in _FOREIGN_OPTIONS},
                )
        except BaseException:
            os.close(self._word)
            raise
        finally:
            os.close(read)
        self._release = threading.Lock()

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._dismiss_guard()
        return code

    def wait(self, seconds: float) -> int | None:
        """Its return code, or None if it still runs after so long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return self.returncode

    def ask(self) -> None:
        """SIGTERM, without waiting. Harmless on one that has ended."""
        if self.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    def end(self, grace_seconds: float) -> int:
        """SIGTERM, then SIGKILL after the grace; returns its return code. Harmless on one that has ended."""
        self.ask()
        if self.wait(grace_seconds) is None:
            self.kill()
        return self._process.wait()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.returncode is None:
            self._process.kill()
            self._process.wait()
        self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        with self._release:
            if self._word < 0:
                return
            word, self._word = self._word, -1
        try:
            os.write(word, b".")
        except BrokenPipeError:  # the guard has gone already, such as by a SIGKILL to the whole session
            pass
        finally:
            os.close(word)
