"""A worker as a process of its own, for whoever shows or measures one: started, watched, and always stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from stream.native import PURE
from stream.settings import Settings

STOP_SECONDS = 12.0
"""A worker ends by itself 9 s after SIGTERM at the latest."""
LAST_LINES = 12


class WorkerDied(Exception):
    """The worker ended by itself; the message holds its exit code and what it said last."""


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A running worker and the file that holds its log."""

    process: asyncio.subprocess.Process
    log: Path

    async def death(self) -> None:
        """Raise WorkerDied as soon as the worker ends."""
        code = await self.process.wait()
        said = await asyncio.to_thread(self.log.read_text, "utf-8", "replace")
        lines = deque(said.splitlines(), maxlen=LAST_LINES)
        raise WorkerDied(f"the worker ended with exit code {code}:\n" + "\n".join(lines))


async def launch(settings: Settings, instance: str, log: Path) -> asyncio.subprocess.Process:
    """`overdraw worker` as a child that is told its settings by its environment; what it says goes to the end of `log`.

    Whoever launches it stops it.
    """
    values = settings.model_dump(mode="json", exclude={"web_token", "instance_id"}, exclude_none=True)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OVERDRAW_") or name == PURE}
    environ |= {f"OVERDRAW_{name.upper()}": str(value) for name, value in values.items()}
    environ["OVERDRAW_INSTANCE_ID"] = instance
    with log.open("ab") as out:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "stream", "worker", env=environ, stdout=out, stderr=out,
            stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


@contextlib.asynccontextmanager
async def worker_process(settings: Settings, instance: str) -> AsyncIterator[WorkerProcess]:
    """A worker, stopped at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="overdraw-worker-") as folder:
        log = Path(folder) / "worker.log"
        process = await launch(settings, instance, log)
        try:
            yield WorkerProcess(process, log)
        finally:
            await stop(process)


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a child with SIGTERM, or with SIGKILL when that takes too long."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def events_applied(metrics: str) -> int:
    r"""Events that a worker has dealt with and written, whatever became of them, by the text of its `/metrics`.

    >>> events_applied('overdraw_events_total{outcome="late"} 2.0\noverdraw_events_total{outcome="accepted"} 3.0\n')
    5
    """
    values = (line.rsplit(" ", 1)[1] for line in metrics.splitlines() if line.startswith("overdraw_events_total{"))
    return int(sum(float(value) for value in values))
