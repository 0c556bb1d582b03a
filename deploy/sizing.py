"""What an installation writes and holds: bytes a call on the state topic, memory a key in a worker.

    .venv/bin/python deploy/sizing.py
    .venv/bin/python deploy/sizing.py --held 1000000

No Kafka: simulated calls go through the detector's own shards, flushed at a worker's pace in event time, and what they
would write is counted. Then copies of these states are loaded, as by a worker that takes them over; each copy gets a
call, as of a key that is in use; and the process's memory is read before and after. Half a minute of CPU.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from stream.core.shard import Shard
from stream.core.state import MODEL, SHARD_KEY, SUMS
from stream.events import Arrival, Call
from stream.lab.bench_core import Installation
from stream.lab.bench_recovery import states_of
from stream.lab.simulate import simulate
from stream.partition import partition_of
from stream.settings import Settings

LIVE_SECONDS = 900.0
"""So long, at the end, everything is flushed at its pace: three buckets. What is before it only teaches."""
DAY_SECONDS = 86_400.0
LEARNED_CALLS = 20_000
KINDS = {
    SUMS: "sums of a key, once a flush in which it has calls",
    MODEL: "model of a key, once a closed bucket",
    SHARD_KEY[:1]: "a shard's own record, once a flush in which it has calls",
}


@dataclass(slots=True)
class Volume:
    """What was written in the live part, by kind of record, and the calls that caused it; sizes include the keys."""

    calls: int = 0
    records: Counter[bytes] = field(default_factory=Counter)
    sizes: Counter[bytes] = field(default_factory=Counter)

    def add(self, key: bytes, value: bytes | None) -> None:
        """Count a record."""
        self.records[key[:1]] += 1
        self.sizes[key[:1]] += len(key) + len(value or b"")

    def each(self, kind: bytes) -> float:
        """Mean size of a record, in bytes."""
        return self.sizes[kind] / self.records[kind]


class Detector:
    """All shards of an installation. With `anywhere` a shard takes any key: copies of keys have other names."""

    def __init__(self, settings: Settings, *, anywhere: bool = False) -> None:
        self.partitions = settings.partitions
        self.shards = {
            partition: Shard(
                partition, settings, partition_of=lambda key_id, own=partition: own if anywhere else self.home(key_id)
            )
            for partition in range(self.partitions)
        }
        self._offsets: Counter[int] = Counter()
        self._waiting: defaultdict[int, list[Arrival]] = defaultdict(list)

    def home(self, key_id: str) -> int:
        """The partition of a key."""
        return partition_of(key_id, self.partitions)

    def go_on(self, partition: int) -> None:
        """Take the next call of a loaded shard behind those that it knows."""
        self._offsets[partition] = self.shards[partition].applied + 1

    def take(self, partition: int, call: Call) -> None:
        """Let a call wait for `apply`."""
        self._waiting[partition].append((self._offsets[partition], float(call.time), call))
        self._offsets[partition] += 1

    def apply(self) -> None:
        """Take up all that waits."""
        for partition, arrivals in self._waiting.items():
            self.shards[partition].observe(arrivals, upto=self._offsets[partition] - 1)
        self._waiting.clear()


def volume_of(settings: Settings, keys: int, rate: float, days: float) -> tuple[Volume, Installation]:
    """What calm traffic writes in its last quarter of an hour, and the states of all keys after it."""
    simulation = simulate("calm", seed=5, keys=keys, days=days, rate=rate)
    live_from = simulation.start + days * DAY_SECONDS - LIVE_SECONDS
    detector, volume = Detector(settings), Volume()
    states: dict[int, dict[bytes, bytes]] = {partition: {} for partition in detector.shards}

    def flush(*, counted: bool) -> None:
        detector.apply()
        for partition, shard in detector.shards.items():
            for key, value in shard.changes():
                states[partition][key] = value
                if counted:
                    volume.add(key, value)

    due, waiting = live_from, 0
    for call in (call for hour in simulation for call in hour):
        time = float(call.time)
        if time < live_from:
            waiting = (waiting + 1) % LEARNED_CALLS
            if not waiting:
                detector.apply()
        elif time >= due:
            flush(counted=volume.calls > 0)  # the first one holds what was learned before
            due = time + settings.flush_seconds
        volume.calls += time >= live_from
        detector.take(detector.home(call.key_id), call)
    flush(counted=True)
    return volume, Installation({partition: list(own.items()) for partition, own in states.items()})


def memory_of(settings: Settings, installation: Installation, held: int) -> tuple[float, float]:
    """Bytes that a worker holds for a key: of one that is not in use, and of one that is.

    Measured in a fresh process: in this one, what was freed would take the keys up unseen.
    """
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        return fresh.apply(_memory_of, (settings, installation, held))


def _memory_of(settings: Settings, installation: Installation, held: int) -> tuple[float, float]:
    detector = Detector(settings, anywhere=True)
    transactions = states_of(installation, held)
    before = resident_bytes()
    for partition, batches in transactions.items():
        # each value is an object of its own, as from a broker: the copies would share one
        detector.shards[partition].load((key, bytes(bytearray(value))) for batch in batches for key, value, _ in batch)
    idle = resident_bytes()
    now = max(shard.newest for shard in detector.shards.values())
    for partition, batches in states_of(installation, held).items():
        detector.go_on(partition)
        names = (key[1:].decode() for batch in batches for key, _, _ in batch if key[:1] == SUMS)
        for number, name in enumerate(names, 1):
            detector.take(partition, Call(event_id=name, time=now, key_id=name, input_tokens=100, output_tokens=100))
            if not number % LEARNED_CALLS:
                detector.apply()
        detector.apply()
    return (idle - before) / held, (resident_bytes() - before) / held


def resident_bytes() -> int:
    """Memory that this process holds now (Linux)."""
    gc.collect()
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=60, help="simulated keys (default: 60)")
    parser.add_argument("--rate", type=float, default=1.0, help="calls a second of all of them (default: 1)")
    parser.add_argument("--days", type=float, default=2.0, help="days that they have behind them (default: 2)")
    parser.add_argument("--held", type=int, default=10_000, help="keys that a worker holds (default: 10000)")
    chosen = parser.parse_args()
    settings = Settings()
    volume, installation = volume_of(settings, chosen.keys, chosen.rate, chosen.days)
    if volume.records.keys() < KINDS.keys():
        parser.error("nothing was written: choose more --keys, --rate or --days")
    lines = [
        f"{words}: {volume.each(kind):,.0f} bytes ({volume.records[kind]:,} records of {volume.calls:,} calls)"
        for kind, words in KINDS.items()
    ]
    idle, used = memory_of(settings, installation, chosen.held)
    lines += [
        f"a key that is not in use, in memory: {idle:,.0f} bytes ({chosen.held:,} keys)",
        f"a key in use: {used:,.0f} bytes",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
