from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from stream.worker import ending as module
from stream.worker.app import build_app
from stream.worker.ending import BLOCKED_SECONDS, ECHO_SECONDS, EXIT_BLOCKED, STOP_SECONDS, TICK_SECONDS
from stream.worker.tools import EXIT_STUCK
from tests.worker.fakes import Clock, Kept, make_settings, until


def kept() -> tuple[Kept, Clock]:
    clock = Clock(100.0)
    return Kept(clock), clock


def test_a_blocked_loop_ends_as_a_stuck_worker_does() -> None:
    assert EXIT_BLOCKED == EXIT_STUCK


async def test_the_end_comes_even_if_everything_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.02)
    ending = Kept()
    ending.arm()
    ending.arm()
    await until(lambda: ending.codes == [1])


async def test_a_stop_that_was_asked_for_and_is_clean_ends_with_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAUST_STOP_SECONDS", 0.02)
    ending = Kept()
    ending.asked = signal.SIGTERM
    ending.closed()
    await until(lambda: ending.codes == [0])


def test_a_signal_before_there_is_anything_to_stop_ends_at_once() -> None:
    ending, clock = kept()
    ending.signalled(signal.SIGTERM, clock())
    assert ending.codes == [0]


def test_the_first_signal_stops_its_echo_is_no_second_wish_and_a_second_one_ends_at_once() -> None:
    ending, clock = kept()
    asked: list[signal.Signals] = []
    ending.stop_with(asked.append)
    ending.signalled(signal.SIGTERM, clock())
    ending.signalled(signal.SIGTERM, clock() + ECHO_SECONDS / 2)
    assert (asked, ending.codes) == ([signal.SIGTERM], [])
    ending.signalled(signal.SIGINT, clock() + ECHO_SECONDS)
    assert (asked, ending.codes) == ([signal.SIGTERM], [128 + 2])


def test_a_stop_that_hangs_is_broken_off() -> None:
    ending, clock = kept()
    ending.stop_with(lambda number: None)
    ending.signalled(signal.SIGTERM, clock())
    ending.tick(clock() + STOP_SECONDS - 0.1)
    assert ending.codes == []
    ending.tick(clock() + STOP_SECONDS)
    ending.tick(clock() + STOP_SECONDS + 1)
    assert ending.codes == [1]


def test_other_signals_are_not_minded() -> None:
    ending, clock = kept()
    ending.signalled(signal.SIGWINCH, clock())
    assert (ending.codes, ending.asked) == ([], None)


def test_a_loop_that_no_longer_turns_ends_the_process_and_says_where_it_hangs(caplog: pytest.LogCaptureFixture) -> None:
    ending, clock = kept()
    ending.beat()
    for second in range(int(BLOCKED_SECONDS) + 3):
        ending.tick(clock() + second)
        assert bool(ending.codes) == (second > BLOCKED_SECONDS)
    assert ending.codes == [EXIT_BLOCKED]
    assert "the event loop is blocked" in caplog.text
    assert __file__ in caplog.text


def test_a_loop_that_turns_is_left_alone_however_slowly() -> None:
    ending, clock = kept()
    for second in range(10 * int(BLOCKED_SECONDS)):
        if second % 60 == 0:
            ending.beat()
        ending.tick(clock() + second)
    assert ending.codes == []


def test_a_process_that_was_suspended_for_hours_is_not_blamed() -> None:
    ending, clock = kept()
    ending.beat()
    ending.tick(clock())
    ending.tick(clock() + 10_000)
    ending.tick(clock() + 10_000 + TICK_SECONDS)
    assert ending.codes == []


async def test_a_signal_stops_our_parts_without_waiting_for_fausts(monkeypatch: pytest.MonkeyPatch) -> None:
    ending = Kept()
    app = build_app(make_settings(), ending=ending)
    worker = app.Worker(loop=asyncio.get_running_loop())
    stops: list[str] = []

    async def stop() -> None:
        stops.append("ours")
        ending.clean = True

    monkeypatch.setattr(app.detector, "stop", stop)
    worker.install_signal_handlers()
    threading.Thread(target=ending.signalled, args=(signal.SIGTERM, 5.0)).start()
    await until(lambda: ending.codes == [0])
    assert stops == ["ours"]


async def test_a_stop_that_fails_is_told_and_is_no_success(caplog: pytest.LogCaptureFixture) -> None:
    ending = Kept()
    app = build_app(make_settings(), ending=ending)
    worker = app.Worker(loop=asyncio.get_running_loop())

    async def stop() -> None:
        raise ZeroDivisionError

    app.detector.stop = stop  # type: ignore[method-assign]
    worker.asked_to_stop(signal.SIGTERM)
    await until(lambda: bool(ending.codes))
    assert ending.codes[0] == 1
    assert "the stop failed" in caplog.text


async def test_two_stops_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build_app(make_settings(), ending=Kept()).detector
    stops: list[str] = []

    async def stop() -> bool:
        stops.append("shards")
        return True

    monkeypatch.setattr(detector.shards, "close", stop)
    await asyncio.gather(detector.stop(), detector.stop())
    assert stops == ["shards"]


# ---------------------------------------------------------------------- in processes of their own


class Script:
    """A Python process that hears signals; `body` runs in its main thread after `ready` was printed."""

    def __init__(self, body: str, prelude: str = "", **options: Any) -> None:
        text = (
            "import logging, sys, time\nfrom stream.worker import ending\n"
            f"{prelude}\nend = ending.Exit()\nend.hear()\nend.stop_with(lambda number: None)\n"
            f"print('ready', flush=True)\n{body}\n"
        )
        command = [sys.executable, "-c", text]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


BUSY = "while True: pass"


def test_a_main_thread_that_computes_for_ever_is_ended_in_time() -> None:
    with Script(BUSY, "ending.STOP_SECONDS = 0.3") as script:
        script.process.send_signal(signal.SIGTERM)
        assert script.process.wait(20) == 1


def test_a_second_signal_ends_a_main_thread_that_computes_for_ever() -> None:
    with Script(BUSY, "ending.ECHO_SECONDS = 0.0") as script:
        script.process.send_signal(signal.SIGTERM)
        script.process.send_signal(signal.SIGINT)
        assert script.process.wait(20) in (128 + 2, 128 + 15), "of two at once the kernel may hand out either first"


def test_a_main_thread_that_computes_for_ever_ends_by_itself_to_be_started_again() -> None:
    with Script(f"end.beat()\n{BUSY}", "ending.BLOCKED_SECONDS, ending.TICK_SECONDS = 0.5, 0.1") as script:
        assert script.process.wait(20) == EXIT_STUCK
        assert script.process.stderr is not None
        assert b"the event loop is blocked" in script.process.stderr.read()


def test_a_log_that_nobody_reads_cannot_keep_the_process(tmp_path: Any) -> None:
    body = "logging.basicConfig()\nlogging.error('x' * 10_000_000)"  # hangs for ever, and holds the lock of the log
    with Script(body, "ending.STOP_SECONDS = 0.3") as script:
        script.process.send_signal(signal.SIGTERM)
        assert script.process.wait(20) == 1


def test_usr1_prints_the_stacks_of_a_process_that_hangs() -> None:
    with Script("while True: time.sleep(100)") as script:
        script.process.send_signal(signal.SIGUSR1)
        assert script.process.stderr is not None
        assert any(b"most recent call first" in line for line in script.process.stderr)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="process namespaces need root")
def test_the_first_process_of_a_container_ends_by_a_signal() -> None:
    if subprocess.run(["unshare", "-fp", "--kill-child", "true"], capture_output=True).returncode != 0:
        pytest.skip("no process namespaces here")
    code = "import os, signal\nassert os.getpid() == 1\n"
    text = (
        f"{code}from stream.worker import ending\nend = ending.Exit()\nend.hear()\nprint('ready', flush=True)\n"
        "import time\nwhile True: time.sleep(100)"
    )
    outside = subprocess.Popen(["unshare", "-fp", "--kill-child", sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert outside.stdout is not None
    try:
        assert outside.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)
        assert outside.wait(20) == 0
    finally:
        outside.kill()
        outside.communicate()


def test_a_clean_end_after_a_loss_is_3_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    ending = Kept()
    ending.asked = signal.SIGTERM
    ending.lose("partition 3: 7 offsets were deleted")
    ending.lose("partition 4: the same")
    assert ending.code == 1, "not written yet: others may not take it for a clean end"
    ending.closed()
    assert ending.code == 3
    assert "a log has lost records: partition 3: 7 offsets were deleted (and 1 times more)" in caplog.text
