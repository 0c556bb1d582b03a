"""The responder as processes on a real Kafka: it survives being killed, one acts at a time, and operators steer it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "response"))

from proxy import MASTER, Proxy, made_alert

from stream.control import Block
from stream.lab.chaos.topics import records_of
from stream.settings import Settings
from stream.worker.control.topic import read_all
from stream.worker.topics import create_topics
from tests.kafka.test_notifier import until, write
from tests.kafka.workers import environment, overdraw

FILE = """
mode = "apply"

[gateways.proxy]
type = "litellm"
url = "{url}"
key_env = "LITELLM_KEY"

[gateways.kafka]
type = "topic"

[gateways.list]
type = "file"
path = "{path}"
"""
Start = Callable[[], tuple["subprocess.Popen[bytes]", Path]]


@pytest.fixture
def chosen(settings: Settings, tmp_path: Path) -> Settings:
    topics = {"response_topic": f"{settings.app_id}-responses", "deny_list_topic": f"{settings.app_id}-deny"}
    file = tmp_path / "response.toml"
    return settings.model_copy(update={**topics, "response_file": str(file), "responder_port": 0})


@pytest.fixture
def start(chosen: Settings, tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> tuple[subprocess.Popen[bytes], Path]:
        log = tmp_path / f"responder-{len(started)}.log"
        more = {"LITELLM_KEY": MASTER, "OVERDRAW_SESSION_TIMEOUT_SECONDS": "6"}
        with log.open("w") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "stream", "responder"], env=environment(chosen, **more), stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )  # fmt: skip
        return started[-1], log

    yield begin
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


async def test_a_block_is_approved_applied_and_undone_whoever_is_killed(
    chosen: Settings, start: Start, tmp_path: Path
) -> None:
    proxy = Proxy("key-17", "b")
    await proxy.start()
    deny = tmp_path / "deny.json"
    (tmp_path / "response.toml").write_text(FILE.format(url=proxy.url, path=deny))

    async def seen(what: str, condition: Callable[[], Any], *logs: Path) -> None:
        try:
            await until(what, condition)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *(log.read_text() for log in logs)])) from None

    async def listed(*options: str) -> list[dict[str, Any]]:
        done = await asyncio.to_thread(overdraw, chosen, "response", "list", "--json", *options)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def said(*words: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(overdraw, chosen, "response", *words, "--why", "it's leaked", "--by", "ada")

    async def on_the_deny_list() -> dict[str, Any]:
        found: dict[str, Any] = {}
        one_partition = chosen.model_copy(update={"partitions": 1})
        for record in await records_of(one_partition, chosen.deny_list_topic):
            found[record.key.decode()] = None if record.value is None else json.loads(record.value)
        return found

    async def spoken(why: str, kinds: list[str]) -> None:
        """Wait until so much stands on the control topic."""
        found: list[str] = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(found) < len(kinds):
            found = [one.message.kind for one in await read_all(chosen) if one.message is not None]
            await asyncio.sleep(0.2)
        assert found == kinds, why

    try:
        await create_topics(chosen)
        now = time.time()
        alert = made_alert(severity="critical", at=now, started_at=now - 600)
        first, log = start()
        await write(chosen, alert, made_alert(key="b", severity="high", at=now, started_at=now - 600))
        await seen("both are recommended", lambda: log.read_text().count("proposed: ") == 2, log)
        second, spare = start()  # it stands by
        (block,) = [one for one in await listed() if one["action"] == "block"]
        assert (block["state"], block["entity"]["id"], proxy.requests) == ("proposed", "key-17", [])

        assert (await said("approve", block["response_id"])).returncode == 0
        await seen("it is blocked", lambda: proxy.keys["key-17"]["blocked"], log)
        await seen("that is kept", lambda: "active: " in log.read_text(), log, spare)
        assert [one["key_id"] for one in json.loads(deny.read_text())["denied"]] == ["key-17"]
        assert [one["action"] for one in (await on_the_deny_list())["key-17"]["denied"]] == ["block"]
        await spoken("so the groups know", ["block"])
        (word,) = [one.message for one in await read_all(chosen)]
        assert isinstance(word, Block)
        assert (word.key_id, word.response_id, word.by) == ("key-17", block["response_id"], "overdraw")
        again = await said("approve", block["response_id"])
        assert (again.returncode, "it is active" in again.stderr) == (2, True)

        first.send_signal(signal.SIGKILL)
        first.wait()
        await until(
            f"the other one takes over\n{spare.read_text()}", lambda: "at work: 2 responses" in spare.read_text()
        )
        over = made_alert(severity="critical", status="resolved", at=now + 1, started_at=now - 600)
        await write(chosen, over)
        await seen("it is free again", lambda: proxy.keys["key-17"]["blocked"] is False, spare)
        await seen("that is kept", lambda: "ended: " in spare.read_text(), spare)
        assert await on_the_deny_list() == {"key-17": None}
        await spoken("told once, whoever was killed", ["block", "unblock"])
        (block,) = [one for one in await listed("--all") if one["action"] == "block"]
        assert [(step["state"], step["by"]) for step in block["steps"]] == [
            ("proposed", "overdraw"), ("approved", "ada"), ("active", "overdraw"), ("ending", "overdraw"),
            ("ended", "overdraw"),
        ]  # fmt: skip
        assert proxy.asked() == ["/key/block", "/key/unblock"]
        shown = await asyncio.to_thread(overdraw, chosen, "response", "show", block["response_id"])
        assert "by ada: it's leaked" in shown.stdout
        second.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(second.wait, 20) == 0, spare.read_text()
        assert MASTER not in log.read_text() + spare.read_text()
    finally:
        await proxy.stop()
