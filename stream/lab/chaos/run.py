"""Running experiments, one after the other, each in a fresh world; and the rows of the table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from stream.broker import KAFKA_VERSION, EmbeddedCluster, EmbeddedKafka
from stream.lab.chaos.experiments import EXPERIMENTS, Experiment
from stream.lab.chaos.fleet import ChaosError
from stream.lab.chaos.topics import make_topic, share_kept
from stream.lab.chaos.verdict import Verdict, judge
from stream.lab.chaos.world import LONG, SHORT, Scale, Tell, settings_on, world_of
from stream.lab.produce import ProduceError
from stream.settings import Settings
from stream.worker.topics import create_topics

STOP_LIMIT_SECONDS = 10.0
"""What the end of a worker may take (it is told, and a fault beyond)."""

MOST_KEPT = 0.8
"""A log that was compacted again and again holds less than this share of its offsets; usual are 0.1 to 0.3."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one experiment; `back` are the seconds until records were processed again, by disturbance."""

    name: str
    kafka: str
    summary: str
    verdict: Verdict | None
    back: tuple[float, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether all was as if nothing had happened."""
        return self.verdict is not None and not self.faults

    def as_json(self) -> dict[str, Any]:
        """The row as plain data."""
        verdict = self.verdict
        return {
            "experiment": self.name,
            "kafka": self.kafka,
            "exact": self.exact,
            "disturbances": len(self.back),
            "records": verdict.records if verdict else None,
            "keys": verdict.keys if verdict else None,
            "incidents": verdict.incidents if verdict else None,
            "dead_letters": verdict.dead_letters if verdict else None,
            "gap": verdict.gap if verdict else None,
            "back_seconds": {"median": round(median(self.back), 2), "most": round(max(self.back), 2)}
            if self.back
            else None,
            "faults": list(self.faults),
            "notes": list(self.notes),
            "seconds": round(self.seconds, 1),
        }


async def run_all(
    names: Sequence[str], versions: Sequence[str], *, short: bool, seed: int, tell: Tell, show: Callable[[Row], None]
) -> list[Row]:
    """Carry out experiments on one Kafka release after the other; `show` takes each row as soon as it is there.

    Raises BrokerError when a Kafka cannot be started.
    """
    rows = []
    for version in versions:
        for name in names:
            row = await run_experiment(name, SHORT if short else LONG, version=version, seed=seed, tell=tell)
            rows.append(row)
            show(row)
    return rows


async def run_experiment(
    name: str,
    scale: Scale,
    *,
    version: str = KAFKA_VERSION,
    seed: int = 3,
    tell: Tell,
    experiment: Experiment | None = None,
) -> Row:
    """Carry out one experiment on brokers of its own; one that breaks off is a row without a verdict, which says why.

    experiment: what it is, if it is not one of EXPERIMENTS

    Raises BrokerError when its Kafka cannot be started.
    """
    experiment = experiment or EXPERIMENTS[name]
    begun = time.monotonic()
    tell(f"{name}: {experiment.summary}; {experiment.workers} workers, Kafka {version}")
    kafka = brokers(experiment.brokers, version, tell)
    try:
        await asyncio.to_thread(kafka.start)
        settings = settings_on(kafka.bootstrap, replication=min(3, experiment.brokers), **experiment.settings)
        row = await _carry_out(name, experiment, settings, scale, kafka, version, seed)
    except (ChaosError, ProduceError) as error:  # the second: its gateway got nothing through
        row = Row(name, version, experiment.summary, None, (), (str(error),), (), 0.0)
    finally:
        await asyncio.to_thread(kafka.close)
    row = replace(row, seconds=time.monotonic() - begun)
    tell(f"{name}: {'exact' if row.exact else 'NOT EXACT: ' + '; '.join(row.faults)}, {row.seconds:.0f} s")
    return row


def brokers(count: int, version: str, tell: Tell) -> EmbeddedKafka | EmbeddedCluster:
    """One broker, or a cluster of several."""
    if count == 1:
        return EmbeddedKafka(version=version, tell=tell)
    return EmbeddedCluster(count, version=version, tell=tell)


async def _carry_out(
    name: str, experiment: Experiment, settings: Settings, scale: Scale, kafka: EmbeddedKafka | EmbeddedCluster,
    version: str, seed: int,
) -> Row:  # fmt: skip
    if experiment.state is not None:
        await make_topic(settings, settings.state_topic, experiment.state)
    await create_topics(settings)
    workers, spoilt = experiment.workers, experiment.faults
    async with world_of(kafka, settings, scale, workers=workers, seed=seed, faults=spoilt) as world:
        await asyncio.sleep(scale.settled_seconds)
        await experiment.disturb(world)
        await asyncio.sleep(scale.settled_seconds)
        await world.settled()
        faults = await experiment.demand(world) if experiment.demand is not None else []
        faults += [
            f"{instance} ended with {ending.code} after {ending.seconds:.1f} s"
            for instance, ending in (await world.end_workers()).items()
            if ending.code != world.codes.get(instance, 0) or ending.seconds > STOP_LIMIT_SECONDS
        ]
        verdict, wrong = await judge(world)
        if experiment.state is not None:
            share = await share_kept(settings, settings.state_topic)
            world.notes.append(f"{share:.0%} of the state topic's offsets still held a record")
            faults += ["the state topic was never compacted"] * (share > MOST_KEPT)
    said = (*faults, *wrong)
    return Row(name, version, experiment.summary, verdict, tuple(world.back), said, tuple(world.notes), 0.0)


def exact(rows: Sequence[Row]) -> bool:
    """Whether every experiment was."""
    return all(row.exact for row in rows)
