"""What is left after an experiment against what should be: sums, incidents, dead letters, and the log lines."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream.core.shard import Shard
from stream.core.state import summaries
from stream.gateways.overdraw import parse
from stream.lab.chaos.topics import records_of
from stream.lab.chaos.world import World
from stream.partition import partition_of
from stream.settings import Settings
from stream.worker.keying import FUTURE_SECONDS, origins_of
from stream.worker.recovery import read_state

SHOWN = 3
"""Differences of one sort that are shown."""

Incident = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How much was compared: records sent, keys, incidents that were opened, dead letters."""

    records: int
    keys: int
    incidents: int
    dead_letters: int
    gap: int = 0
    """Offsets that were deleted before they were read, and counted as such."""


def said_of(alert: dict[str, Any]) -> Incident:
    """What an alert says that two runs over the same log must agree on."""
    return tuple(
        alert[name] for name in ("alert_id", "sequence", "status", "kind", "started_at", "resolved_at", "fingerprint")
    )


async def undisturbed(settings: Settings, gone: Sequence[Any] = ()) -> tuple[list[Incident], int]:
    """What the pure core makes of the source's log: one shard after the other, no worker, no failure.

    gone: records that were applied before the log lost them

    Returns what the alerts say, and how many calls came too late. What an intake wrote twice counts once.
    """
    logs: dict[int, list[Any]] = defaultdict(list)
    for record in [*gone, *await records_of(settings, settings.source_topic)]:
        logs[record.partition].append(record)
    said, late = [], 0
    for partition, log in logs.items():
        shard = Shard(partition, settings, partition_of=lambda key_id: partition_of(key_id, settings.partitions))
        calls, _ = parse([(record.offset, record.value, record.timestamp / 1000 + FUTURE_SECONDS) for record in log])
        step = shard.observe(calls, log[-1].offset, origins_of(log))
        said += [said_of(alert.model_dump(mode="json")) for alert in step.alerts]
        late += step.late
    return sorted(said, key=str), late


async def stored_sums(settings: Settings) -> dict[str, list[int]]:
    """Calls, input and output tokens of every key, from the state topic."""
    found = {}
    for partition in range(settings.partitions):
        state = await read_state(settings, partition, stable=True)
        for view in summaries(state.states.items()):
            found[view.key_id] = [view.calls, view.input_tokens, view.output_tokens]
    return found


async def judge(world: World) -> tuple[Verdict, list[str]]:
    """Compare everything that the topics hold with what was sent and with the core's own judgement.

    The second value says what is wrong; it is empty when all is as if nothing had happened.
    """
    settings, truth = world.settings, world.traffic.truth
    alerts = [json.loads(record.value) for record in await records_of(settings, settings.alert_topic)]
    refused = [json.loads(record.value) for record in await records_of(settings, settings.dead_letter_topic)]
    letters = Counter(letter["reason"] for letter in refused)
    places = Counter((letter["topic"], letter["partition"], letter["offset"], letter["element"]) for letter in refused)
    said = [said_of(alert) for alert in alerts if alert["kind"] != "feed"]
    (expected, late), sums = await undisturbed(settings, world.gone), await stored_sums(settings)
    faults = compare(sums, truth.sums, said, expected, letters, truth.dead_letters)
    faults += [f"{count} dead letters of {place}" for place, count in places.items() if count > 1]
    if late and settings.intake_topic is not None:
        faults.append(f"{late} calls were late: the intake let its partitions run too far ahead of each other")
    elif not truth.late <= late <= truth.late + truth.repeated:
        faults.append(
            f"{late} calls were late by the order of the source, {truth.late} are late by their making, and "
            f"{truth.repeated} were repeated"
        )
    faults += [f"{worker.instance}: {count} tracebacks" for worker in world.workers if (count := worker.tracebacks())]
    opened = sum(row[2] == "opened" for row in said)
    gap = sum(world.lost.values())
    return Verdict(truth.records, len(truth.sums), opened, letters.total(), gap), faults


def compare(
    sums: Mapping[str, list[int]],
    true_sums: Mapping[str, list[int]],
    said: Sequence[Incident],
    expected: Sequence[Incident],
    letters: Counter[str],
    true_letters: Counter[str],
) -> list[str]:
    """What is wrong with sums by key, incident steps and dead letters by reason; each is found, then expected."""
    twice = [(row[:2], count) for row, count in Counter(said).items() if count > 1]
    faults = [
        *_sum_faults(sums, true_sums),
        *(f"alert {pair} was written {count} times" for pair, count in twice),
        *_missing("incident step", expected, said),
        *_missing("dead letter", sorted(true_letters.elements()), sorted(letters.elements())),
    ]
    if not expected:
        faults.append("the traffic held no incident, so nothing was compared")
    return faults


def _sum_faults(found: Mapping[str, list[int]], expected: Mapping[str, list[int]]) -> list[str]:
    wrong = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    shown = [f"{key}: {found.get(key)} instead of {expected.get(key)}" for key in wrong[:SHOWN]]
    return [f"{len(wrong)} keys have wrong sums: {'; '.join(shown)}"] if wrong else []


def _missing(what: str, expected: Sequence[Any], found: Sequence[Any]) -> list[str]:
    lacking, surplus = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    texts = []
    for word, rows in (("lacks", lacking), ("has a surplus of", surplus)):
        if rows:
            texts.append(f"the topic {word} {rows.total()} × {what}, such as {list(rows)[:SHOWN]}")
    return texts
