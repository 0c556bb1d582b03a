"""Random streams of calls for the properties of the core: hours for buckets, so that a week is quick."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import settings
from made_priors import made_priors

from stream.alerts import Alert
from stream.core.shard import Shard
from stream.core.step import Step
from stream.events import Arrival, Call
from stream.settings import Settings

START = 1_772_323_200.0  # 2026-03-01T00:00:00Z, a Sunday
HOUR = 3600.0

SETTINGS = Settings(
    partitions=1,
    bucket_seconds=3600,
    allowed_lateness_seconds=900,
    min_excess_tokens=500,
    min_calls=2,
    false_alerts_per_1000_key_days=1000,
)
# priors that let much through, so that short streams have incidents to compare
PRIORS = made_priors(tail=((1.2, 1.0), (1.3, 0.9999), (8.0, 1e-6)), law=(0.1, 0.15))


few = settings(max_examples=24)
"""For properties whose every example is some streams."""


def calls(seed: int, days: int = 5, keys: int = 2) -> list[tuple[float, Call]]:
    """Calls of a few keys in time order: a daily season, attacks on some of them, missing usage, duplicates, sums."""
    rng = random.Random(seed)
    out: list[tuple[float, Call]] = []
    for k in range(keys):
        attack = rng.randrange(70, days * 24) if rng.random() < 0.8 else 10**9
        length = rng.randrange(1, 20)
        silent = rng.randrange(0, days * 24) if rng.random() < 0.4 else 10**9
        for hour in range(days * 24):
            if silent <= hour < silent + 30:
                continue
            n = rng.randrange(0, 4)
            if attack <= hour < attack + length:
                n = n * 3 + 6
            for i in range(n):
                time = START + hour * HOUR + rng.random() * HOUR
                call = Call(
                    event_id=f"{hour}-{i}",
                    time=time,
                    key_id=f"key-{k}",
                    calls=rng.choice((1, 1, 1, 5)),
                    input_tokens=rng.choice((None, rng.randrange(0, 900))),
                    output_tokens=rng.choice((None, rng.randrange(0, 400), rng.randrange(0, 400))),
                    max_output_tokens=rng.choice((None, 300)),
                    period_seconds=rng.choice((None, None, None, None, 5400.0)),
                    cost_usd=rng.choice((None, 0.25)),
                )
                out.append((time, call))
                if rng.random() < 0.05:
                    out.append((time, call))
    out.sort(key=lambda item: item[0])
    return out


def log_of(stream: list[tuple[float, Call]]) -> list[Arrival]:
    return [(position, time, call) for position, (time, call) in enumerate(stream)]


def new_shard() -> Shard:
    return Shard(0, SETTINGS, partition_of=lambda key_id: 0, priors=PRIORS)


def shuffled(stream: list[tuple[float, Call]], lateness: float, seed: int) -> list[tuple[float, Call]]:
    """The same calls in another order that makes none of them late."""
    rng = random.Random(seed)
    return [item for _, item in sorted((item[0] + rng.random() * lateness, item) for item in stream)] if stream else []


@dataclass
class Run:
    """A shard with what it has committed: the state topic and the alert topic."""

    shard: Shard = field(default_factory=new_shard)
    state: dict[bytes, bytes] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    pending: list[Alert] = field(default_factory=list)
    totals: Step = field(default_factory=Step)

    def observe(self, log: list[Arrival], upto: int) -> None:
        """Read up to a position, wherever the shard stands."""
        first = min(self.shard.read_from, self.shard.applied + 1)
        step = self.shard.observe([a for a in log if first <= a[0] <= upto], upto)
        self.pending += step.alerts
        self.totals.add(step)

    def flush(self) -> None:
        """One transaction: states and alerts."""
        self.state.update(self.shard.changes())
        self.alerts += self.pending
        self.pending = []

    def crash(self) -> None:
        """All that was not flushed is gone; another owner takes the shard over."""
        self.shard, self.pending = new_shard(), []
        step = self.shard.load(self.state.items())
        self.pending += step.alerts


def whole(log: list[Arrival]) -> Run:
    """The undisturbed run, in one chunk."""
    run = Run()
    run.observe(log, len(log) - 1)
    run.flush()
    return run


def equality(alerts: list[Alert]) -> list[tuple[object, ...]]:
    """What two runs have to agree on."""
    resolved = {a.alert_id: a for a in alerts if a.status == "resolved"}
    rows = []
    for alert in alerts:
        if alert.status == "opened":
            end = resolved.get(alert.alert_id)
            values = (end.observed, end.expected, end.excess_tokens, end.resolved_at) if end else ()
            rows.append((alert.fingerprint, alert.alert_id, alert.started_at, alert.kind, *values))
    return sorted(rows)
