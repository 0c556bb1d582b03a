"""The disturbances: what breaks, when, and how long it takes until every partition is processed again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from stream.lab.chaos.fleet import ChaosError, Worker, until
from stream.lab.chaos.losses import gap_is_told, lost_records
from stream.lab.chaos.topics import is_replicated
from stream.lab.chaos.world import World

REPLICATION_SECONDS = 60.0
FULL_DISK_SECONDS = 30.0

COMPACTED_AT_ONCE = {
    "cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "1000", "delete.retention.ms": "100",
}  # fmt: skip
"""Segments are closed, compacted and replaced all the time, also under a reader; markers and tombstones go soon."""


UNKEYED: Mapping[str, object] = {"intake_topic": "api-calls-unkeyed", "allowed_lateness_seconds": 6 * 3600.0}
"""At the experiments' rate an hour passes in a fraction of a second, and partitions wait for each other by half of the
lateness: with 10 minutes of it they would hardly do anything else."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A disturbance and the world that it needs.

    `disturb` returns when the disturbance is over and all partitions are processed again. `faults`: the gateway's
    records have them too; `settings`: other than the usual ones; `state`: the same for the state topic. `demand` looks
    at the workers before they end, says what else is wrong, and may ask for other exit codes than 0.
    """

    summary: str
    disturb: Callable[[World], Awaitable[None]]
    workers: int = 3
    brokers: int = 1
    faults: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)
    state: Mapping[str, str] | None = None
    demand: Callable[[World], Awaitable[list[str]]] | None = None


async def kills(world: World) -> None:
    """Kill workers with -9 at random moments, in the middle of a recovery too, and start each again at once."""
    await _kill(world, world.scale.kills)


async def half_the_kills(world: World) -> None:
    """The same with half as many kills."""
    await _kill(world, max(3, world.scale.kills // 2))


async def _kill(world: World, kills: int) -> None:
    for number in range(kills):
        await asyncio.sleep(world.random.uniform(0.3, 2.6))
        worker = world.random.choice(world.workers)
        if number % 5 == 4:  # once more while it starts or recovers
            await worker.kill()
            await worker.start()
            await asyncio.sleep(world.random.uniform(0.2, 3.0))
        await _killed_and_back(world, worker)
    await world.all_at_work()


async def _killed_and_back(world: World, worker: Worker) -> None:
    begun = time.monotonic()
    await worker.kill()
    await worker.start()
    await world.at_work(worker)
    world.back.append(time.monotonic() - begun)


async def join_and_leave(world: World) -> None:
    """A worker leaves by SIGTERM and joins again, then another one."""
    joining, leaving = world.workers[-1], world.workers[0]
    ending = await joining.end()
    world.notes.append(f"left within {ending.seconds:.1f} s with {ending.code}")
    world.back.append(await world.all_at_work())
    await asyncio.sleep(world.scale.settled_seconds)
    await joining.start()
    world.back.append(await world.at_work(joining))
    await world.all_at_work()
    ending = await leaving.end()
    world.back.append(await world.all_at_work())
    await leaving.start()
    await world.at_work(leaving)
    await world.all_at_work()


async def failover(world: World) -> None:
    """A worker is killed and does not come back: after the session timeout others go on with its partitions."""
    gone = world.workers[0]
    begun = time.monotonic()
    await gone.kill()
    await world.all_at_work()
    world.back.append(time.monotonic() - begun)


async def stopped_worker(world: World) -> None:
    """SIGSTOP for longer than the session: others take over, then the ghost wakes up in the middle of its work."""
    for number in range(max(1, world.scale.kills // 7)):
        ghost = world.workers[number % len(world.workers)]
        begun = time.monotonic()
        ghost.pause()
        await world.all_at_work()
        world.back.append(time.monotonic() - begun)
        await asyncio.sleep(world.scale.settled_seconds)
        ghost.resume()
        await world.at_work(ghost)
        await world.all_at_work()


async def broker_killed(world: World) -> None:
    """The only broker is killed with -9 and is back soon."""
    await _without_broker(world, world.kafka.kill, min(10.0, world.scale.outage_seconds))


async def broker_restarted(world: World) -> None:
    """The only broker is stopped by SIGTERM and started again at once."""
    await _without_broker(world, world.kafka.stop, 0.0)


async def broker_gone(world: World) -> None:
    """The only broker is away for a minute; the workers stay and wait."""
    await _without_broker(world, world.kafka.kill, world.scale.outage_seconds)


async def _without_broker(world: World, end: Callable[[], None], seconds: float) -> None:
    await asyncio.to_thread(end)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.kafka.start)
    world.back.append(await world.all_at_work())


async def full_disk(world: World) -> None:
    """The only broker finds its disk full, dies of it, and is started again when there is room."""
    node = world.kafka.nodes[0]
    node.fill_disk()

    async def dead() -> bool:
        return node.pid is None

    await until(dead, FULL_DISK_SECONDS, "the broker ends on its full disk")
    await asyncio.sleep(min(10.0, world.scale.outage_seconds))
    await asyncio.to_thread(node.start)
    world.back.append(await world.all_at_work())


async def bad_gateway(world: World) -> None:
    """The gateway repeats, mixes and delays its records and sends broken ones, while workers are killed."""
    for _ in range(max(2, world.scale.kills // 4)):
        await asyncio.sleep(world.random.uniform(0.5, 3.0))
        await _killed_and_back(world, world.random.choice(world.workers))
    await world.all_at_work()


async def leader_killed(world: World) -> None:
    """One of three brokers after the other is killed with -9: leaders and coordinators move, the rest goes on."""
    for number in range(max(1, world.scale.kills // 7)):
        node = world.kafka.nodes[number % len(world.kafka.nodes)]
        begun = time.monotonic()
        await asyncio.to_thread(node.kill)
        await world.all_at_work()
        world.back.append(time.monotonic() - begun)
        await asyncio.to_thread(node.start)
        await until(lambda: is_replicated(world.settings), REPLICATION_SECONDS, "the broker catches up")
        await world.all_at_work()


EXPERIMENTS = {
    "kills": Experiment("kill -9 of workers at random moments", kills),
    "failover": Experiment("kill -9 of a worker that stays away", failover),
    "join-leave": Experiment("workers leave by SIGTERM and join", join_and_leave),
    "stopped-worker": Experiment("SIGSTOP of a worker beyond its session, then SIGCONT", stopped_worker),
    "broker-killed": Experiment("kill -9 of the broker", broker_killed),
    "broker-restarted": Experiment("restart of the broker by SIGTERM", broker_restarted),
    "broker-gone": Experiment("the broker is away for a minute", broker_gone),
    "full-disk": Experiment("the broker's disk is full, and has room again", full_disk),
    "leader-killed": Experiment("kill -9 of one of three brokers", leader_killed, brokers=3),
    "compaction": Experiment("kill -9 while the state topic is compacted every second", kills, state=COMPACTED_AT_ONCE),
    "bad-gateway": Experiment(
        "repeated, mixed, late, future and broken records, and kill -9", bad_gateway, faults=True
    ),
    "unkeyed": Experiment(
        "a topic without keys, bad records too, and kill -9", half_the_kills, faults=True, settings=UNKEYED
    ),
    "lost-records": Experiment("records are deleted before they are read", lost_records, demand=gap_is_told),
}
"""Name of an experiment to what it does."""


def in_turn(*names: str) -> Experiment:
    """Several experiments that need the same world, one after the other in one.

    Most of the time of a short form goes into making a world and judging it. One that leaves a worker away has to be
    the last.

    Raises ValueError if they need different ones; `disturb` raises ChaosError if one has disturbed nothing.
    """
    chosen = [EXPERIMENTS[name] for name in names]
    first = chosen[0]
    if any(replace(one, summary=first.summary, disturb=first.disturb) != first for one in chosen):
        raise ValueError(f"they need different worlds: {', '.join(names)}")

    async def disturb(world: World) -> None:
        for one in chosen:
            before = len(world.back)
            await one.disturb(world)
            if len(world.back) == before:
                raise ChaosError(f"nothing was disturbed: {one.summary}")
            await asyncio.sleep(world.scale.settled_seconds)

    return replace(first, summary="; ".join(one.summary for one in chosen), disturb=disturb)
