"""Campaigns on real workers: whoever dies, what is said of groups is what one undisturbed `replay` says of the log."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from stream.core.evidencerecord import unpack_evidence
from stream.lab.chaos.topics import records_of
from stream.settings import Settings
from tests.kafka.workers import START, Start, Worker, applied_to_the_end, eventually, feed, overdraw

HOURS = 9 * 24
CAMPAIGN = HOURS - 40
KEYS = 12
CHANGES = {
    "partitions": 3,
    "bucket_seconds": 900,
    "allowed_lateness_seconds": 60.0,
    "false_alerts_per_1000_group_days": 100.0,
    "flush_seconds": 0.2,
    "session_timeout_seconds": 6.0,
}


def traffic() -> list[tuple[str, bytes]]:
    """Keys of two networks, in order of time; those of one use twice as much for a day near the end."""
    rng = random.Random(8)
    events: list[tuple[float, str, bytes]] = []
    for hour in range(HOURS):
        for number in range(KEYS):
            raised = CAMPAIGN <= hour < CAMPAIGN + 24 and number % 2 == 0
            for _ in range(3):
                moment = START + hour * 3600 + rng.random() * 3600
                content = {
                    "event_id": f"{number}-{moment}",
                    "time": moment,
                    "key_id": f"key-{number}",
                    "org_id": f"org-{number}",
                    "client_ip": "192.0.2.7" if number % 2 == 0 else f"198.51.{number}.7",
                    "model": "m",
                    "input_tokens": rng.randrange(4000, 6000) * (2 if raised else 1),
                    "output_tokens": rng.randrange(2000, 3000) * (2 if raised else 1),
                }
                events.append((moment, f"key-{number}", json.dumps(content).encode()))
    return [(key_id, value) for _, key_id, value in sorted(events)]


def said(alerts: list[dict[str, Any]], upto: str) -> list[tuple[Any, ...]]:
    """All that is said of groups up to a time, but for the lag and what it makes of severity."""
    return sorted(
        (
            a["alert_id"], a["sequence"], a["status"], a["kind"], a["started_at"], a["updated_at"], a["resolved_at"],
            a["observed"], a["expected"], a["excess_tokens"], a["score"], json.dumps(a["members"]), a["summary"],
        )
        for a in alerts
        if a["entity"]["type"] not in ("key", "partition") and a["window"]["end"] <= upto
    )  # fmt: skip


def keeper_of(workers: list[Worker]) -> Worker | None:
    """The worker that keeps the groups."""
    for worker in workers:
        status = worker.get("/api/status") or {}
        if (status.get("groups") or {}).get("live"):
            return worker
    return None


async def test_campaigns_are_those_of_a_replay_though_the_keeper_and_another_worker_are_killed(
    settings: Settings, start: Start, tmp_path: Any
) -> None:
    three = settings.model_copy(update=CHANGES)
    assert overdraw(three, "topics", "create").returncode == 0
    events = traffic()
    workers = [start(three, instance=f"worker-{i}") for i in range(3)]
    for worker in workers:
        worker.wait_ready()
    # hours do not wait for a partition that has had no record so far: here each has one before the first hour is over,
    # else what the last of them tells of its first hours comes too late for groups, as late calls do for buckets
    begun = sum(1 for _, value in events if json.loads(value)["time"] < START + 3600)
    await feed(three, events[:begun])
    await applied_to_the_end(three, workers)
    middle = len(events) * (CAMPAIGN + 6) // HOURS
    feeding = asyncio.create_task(feed(three, events[begun:middle]))
    keeper = await asyncio.to_thread(eventually, lambda: keeper_of(workers), 60, "a keeper")
    await feeding
    # in the middle of the campaign: while evidence of it is on its way
    await feed(three, events[middle : middle + 400])
    victims = [keeper, next(worker for worker in workers if worker is not keeper)]
    for victim in victims:
        victim.kill()
    await feed(three, events[middle + 400 :])
    rest = [worker for worker in workers if worker not in victims]
    back = [start(three, instance=victim.instance) for victim in victims]
    for worker in back:
        worker.wait_ready()
    running = [*rest, *back]
    await applied_to_the_end(three, running)

    def caught_up() -> dict[str, Any] | None:
        found = keeper_of(running)
        groups = (found.get("/api/status") or {}).get("groups") if found is not None else None
        told = asyncio.run(end_of_evidence(three))
        return groups if groups and groups["lag"] == 0 and groups["committed"] == told else None

    groups = await asyncio.to_thread(eventually, caught_up, 60, "the keeper has caught up")
    live = [json.loads(record.value) for record in await records_of(three, three.alert_topic)]
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"\n".join(value for _, value in events))
    done = overdraw(three, "replay", str(path), "--json")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert json.loads(last)["events"]["late"] == 0
    assert json.loads(last)["group_hours"]["incomplete"] == 0
    wanted = said([json.loads(line) for line in lines], groups["closed"])
    assert {row[2] for row in wanted} >= {"opened", "updated"}, "there is a campaign to compare"
    assert said(live, groups["closed"]) == wanted
    found = keeper_of(running)
    assert found is not None
    listed = found.get("/api/groups?top=5")
    assert {"network"} <= {group["type"] for group in listed["groups"]}
    other = next(worker for worker in running if worker is not found)
    assert "ask the one that does" in other.get("/api/groups")["error"]
    dumped = overdraw(three, "state", "dump", "--groups", "--json")
    assert dumped.returncode == 0, dumped.stderr
    views = {(view["type"], view["id"]): view for view in map(json.loads, dumped.stdout.splitlines())}
    assert views["network", "192.0.2.0/24"]["members"] == KEYS // 2


async def end_of_evidence(settings: Settings) -> int:
    """The offset of the last piece of evidence; each can be read."""
    one = settings.model_copy(update={"partitions": 1})
    records = await records_of(one, settings.group_evidence_topic)
    for record in records:
        unpack_evidence(record.value, settings.partitions)
    return max((record.offset for record in records), default=-1)
