"""The operators' word on a real Kafka: said by the commands, followed at its boundary, whatever is killed around it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from click import ClickException
from click.testing import CliRunner

from stream.__main__ import cli
from stream.control import MESSAGE
from stream.core.control import CONTROL_KEY, Control, Heard
from stream.core.shard import Shard
from stream.core.state import SUMS
from stream.gateways.overdraw import parse
from stream.lab.chaos.topics import records_of
from stream.lab.chaos.verdict import said_of
from stream.partition import partition_of
from stream.settings import Settings
from stream.worker.control.topic import read_all, write
from stream.worker.keying import FUTURE_SECONDS
from stream.worker.recovery import read_state
from stream.worker.topics import create_topics
from tests.kafka.workers import HOUR, START, Start, applied_to_the_end, eventually, feed, traffic

EVENTS = traffic(keys=6, attacked=(0, 1))
CUT = START + (10 * 24 - 10) * HOUR
"""Event time, two hours into the attack."""
BEFORE = [event for event in EVENTS if json.loads(event[1])["time"] < CUT]


async def alerts_of(settings: Settings) -> list[Any]:
    return [json.loads(record.value) for record in await records_of(settings, settings.alert_topic)]


async def announced(settings: Settings, partition: int) -> list[tuple[int, Any]]:
    """What a partition's state says of the words that wait for their boundary."""
    state = await read_state(settings, partition, stable=True)
    control = Control(settings.bucket_seconds)
    if (packed := state.states.get(CONTROL_KEY)) is not None:
        control.unpack(packed)
    return control.announced


def command(settings: Settings, *arguments: str, code: int = 0) -> str:
    """Run a command in this process; what it printed, or what it complained of if it has to fail."""
    changed = settings.model_dump(include={"broker", "alert_topic", "control_topic", "partitions"})
    options = [part for name, value in changed.items() for part in ("--set", f"{name}={value}")]
    done = CliRunner().invoke(cli, [*arguments, *options], standalone_mode=False)
    if code:
        assert isinstance(done.exception, ClickException), done.output
        assert done.exception.exit_code == code
        return done.exception.message
    assert done.exception is None, (arguments, done.output, done.exception)
    return done.stdout


async def until(look: Callable[..., Awaitable[list[Any]]], *arguments: Any) -> list[Any]:
    """The first thing that a look finds; polls with a deadline."""
    async with asyncio.timeout(60):
        while True:
            if found := await look(*arguments):
                return found
            await asyncio.sleep(0.1)


async def told(settings: Settings, boundaries: dict[int, int]) -> list[tuple[Any, ...]]:
    """What the core makes of the log, undisturbed, if it hears the same words before the same boundaries."""
    words = [Heard(said.offset, said.what) for said in await read_all(settings)]
    found = []
    for partition in range(settings.partitions):
        shard = Shard(partition, settings, partition_of=lambda key_id: partition_of(key_id, settings.partitions))
        log = [r for r in await records_of(settings, settings.source_topic) if r.partition == partition]
        calls, _ = parse([(r.offset, r.value, r.timestamp / 1000 + FUTURE_SECONDS) for r in log])
        boundary = boundaries.get(partition, 0)
        for arrival in calls:
            if boundary and shard.watermark >= (boundary - 1) * settings.bucket_seconds:
                shard.instruct(words)
                boundary = 0
            found += shard.observe([arrival], arrival[0]).alerts
    return sorted((said_of(alert.model_dump(mode="json")) for alert in found), key=str)


async def test_a_word_is_followed_at_its_boundary_though_the_worker_is_killed_before_it(
    settings: Settings, start: Start
) -> None:
    changes: dict[str, Any] = {
        "bucket_seconds": 3600, "min_excess_tokens": 1000.0, "flush_seconds": 0.2, "session_timeout_seconds": 6.0,
    }  # fmt: skip
    settings = settings.model_copy(update=changes)
    await create_topics(settings)
    first = start(settings).wait_ready()
    await feed(settings, BEFORE)
    await applied_to_the_end(settings, [first])
    (alert,) = [a for a in await alerts_of(settings) if a["entity"]["id"] == "key-0" and a["status"] == "opened"]

    said = ("expected", "--by", "ann\x1b[31m", "--why", "launch")
    words = await asyncio.to_thread(command, settings, "alerts", "feedback", alert["alert_id"], *said)
    assert words.startswith("expected: the incident of key key-0; ")
    block = MESSAGE.validate_python(
        {"kind": "block", "id": "b1", "at": time.time(), "by": "bob", "why": "drained", "key_id": "key-1"}
    )
    last = await write(settings, block, b'{"kind": "shout"}')
    last = await write(settings, block, MESSAGE.dump_json(block))
    homes = {partition_of(key_id, settings.partitions) for key_id in ("key-0", "key-1")}
    boundaries = {home: (await until(announced, settings, home))[0][0] for home in homes}
    letters = await until(records_of, settings, settings.dead_letter_topic)
    first.kill()

    await feed(settings, EVENTS[len(BEFORE) :])
    second = start(settings).wait_ready()
    await applied_to_the_end(settings, [second])

    def heard() -> bool:  # what was announced holds from the start; what was said is read again beside the calls
        return [row["heard"] for row in second.partitions().values()] == [last] * settings.partitions

    await asyncio.to_thread(eventually, heard, 30, "all that was said has been heard again")
    for key_id, blocked in (("key-0", False), ("key-1", True)):
        assert second.get(f"/api/keys/{key_id}")["blocked"] is blocked
    assert (await asyncio.to_thread(second.end))[0] == 0, second.said()

    alerts = await alerts_of(settings)
    assert sorted(map(said_of, alerts), key=str) == await told(settings, boundaries)
    (end,) = [a for a in alerts if a["alert_id"] == alert["alert_id"] and a["status"] == "resolved"]
    assert end["status_reason"] == r"expected, says ann\x1b[31m: launch"
    assert end["window"]["end"] == end["resolved_at"]
    assert [json.loads(letter.value)["reason"] for letter in letters] == ["control_kind"]
    assert len(await records_of(settings, settings.dead_letter_topic)) == 1, "told once, by one shard"

    trail = await asyncio.to_thread(command, settings, "control", "log")
    assert [("launch" in line, "shout" in line, "drained" in line) for line in trail.splitlines()] == [
        (True, False, False), (False, True, False), (False, False, True),
    ]  # fmt: skip
    assert "\x1b" not in trail


async def test_every_command_of_operators_writes_what_it_says_and_takes_it_back(settings: Settings) -> None:
    await create_topics(settings)

    async def runs(*commands: tuple[str, ...]) -> list[str]:
        return [await asyncio.to_thread(command, settings, *arguments) for arguments in commands]

    why = ("--why", "because", "--by", "ann")
    await runs(
        ("alerts", "mute", "key-1", "--for", "4h", *why),
        ("maintenance", "add", "--org", "acme", "--for", "6h", *why),
        ("allow", "add", "--pattern", "batch-*", "--tokens-per-hour", "5000", *why),
        ("block", "key-1", "--for", "2h", *why),
    )
    (held,) = await runs(("control", "list", "--json"))
    kinds = {json.loads(line)["kind"]: json.loads(line) for line in held.splitlines()}
    assert list(kinds) == ["mute", "maintenance", "allow", "block"]
    await runs(
        ("alerts", "unmute", "key-1"),
        ("maintenance", "remove", kinds["maintenance"]["id"]),
        ("allow", "remove", kinds["allow"]["id"]),
        ("unblock", "key-1"),
    )
    assert await runs(("control", "list")) == ["nothing holds\n"]
    said = [one.message for one in await read_all(settings)]
    assert [one.kind for one in said if one is not None][4:] == ["unmute", "remove", "remove", "unblock"]
    error = await asyncio.to_thread(command, settings, "alerts", "ack", "0" * 32, *why, code=2)
    assert "holds no alert" in error
    error = await asyncio.to_thread(command, settings, "alerts", "unmute", "key-l", code=2)
    assert "key key-l is not muted: `overdraw control list`" in error
    error = await asyncio.to_thread(command, settings, "allow", "remove", "nothing", code=2)
    assert "no allow rule" in error


async def test_what_is_said_of_a_key_that_was_never_seen_holds_and_is_noted(settings: Settings) -> None:
    await create_topics(settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.broker)
    await producer.start()
    for key_id, value in (("key-1", b"of any version"), ("gone", None)):
        home = partition_of(key_id, settings.partitions)
        await producer.send_and_wait(settings.state_topic, value, SUMS + key_id.encode(), partition=home)
    await producer.stop()
    names = {"broker", "control_topic", "state_topic", "partitions"}
    options = [f"{name}={value}" for name, value in settings.model_dump(include=names).items()]

    async def notes(*arguments: str, state_topic: str = settings.state_topic) -> str:
        changed = [*options, f"state_topic={state_topic}"]
        words = [*arguments, "--by", "ann", "--why", "x", *(part for one in changed for part in ("--set", one))]
        done = await asyncio.to_thread(CliRunner().invoke, cli, words, standalone_mode=False)
        assert done.exception is None, (done.output, done.exception)
        assert done.stdout.count("\n") == 1, "what was said, and no more"
        return done.stderr

    unseen = "note: nothing was seen of key typo\\x1b so far, by"
    for arguments in (
        ("block", "typo\x1b"),
        ("block", "typo\x1b", "--json"),
        ("alerts", "mute", "typo\x1b", "--for", "1h"),
        ("allow", "add", "--key", "typo\x1b", "--tokens-per-hour", "5"),
        ("maintenance", "add", "--key", "typo\x1b", "--for", "1h"),
    ):
        assert (await notes(*arguments)).startswith(unseen), arguments
    assert "`overdraw control list` shows what is blocked" in await notes("unblock", "typo\x1b")
    assert "nothing was seen of key gone" in await notes("block", "gone")
    for arguments in (
        ("block", "key-1"),
        ("unblock", "key-1"),
        ("allow", "add", "--org", "o", "--tokens-per-hour", "5"),
    ):
        assert await notes(*arguments) == ""
    blind = await notes("block", "key-1", state_topic=f"{settings.app_id}-none")
    assert blind.startswith("note: key key-1 was not looked up, for ")
    said = [one.message for one in await read_all(settings)]
    assert len(said) == 11, "a note holds nothing up"
    assert None not in said


async def test_a_control_topic_that_forgets_or_has_no_order_is_a_problem(settings: Settings) -> None:
    from stream.worker.cluster import cluster
    from stream.worker.topics import check_topics

    async with cluster(settings) as kafka:
        await kafka.create(settings.control_topic, 2, 1, {"retention.ms": "1000"})
    await create_topics(settings)
    problems = await check_topics(settings)
    assert [problem.code for problem in problems] == ["partition_count", "expires"]
