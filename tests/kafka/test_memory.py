"""Days of history through one worker: its memory levels off, for nothing that it keeps grows with the calls."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from stream.settings import Settings
from stream.worker.topics import create_topics
from tests.kafka.workers import START, Worker, applied_to_the_end, feed

DAY = 86_400.0
DAYS = 3
CALLS_A_DAY = 80_000
KEYS = 400
ALLOWED_GROWTH = 1.15
"""Ids are held per open bucket, pending records per flush, metrics and top keys are capped, and every key is known
after the first day. What may still grow from day one to day three: 400 models of at most 1.5 kB (0.6 MB), and what
Python's allocator keeps of the largest chunk so far. One kept object of 100 bytes a call would be 16 MB."""


def day_of_traffic(day: int) -> Iterator[tuple[str, bytes]]:
    rnd = random.Random(day)
    for number in range(CALLS_A_DAY):
        key_id = f"key-{rnd.randrange(KEYS)}"
        row = {
            "event_id": f"{day}-{number}",
            "time": START + (day + number / CALLS_A_DAY) * DAY,
            "key_id": key_id,
            "input_tokens": rnd.randrange(500),
            "output_tokens": rnd.randrange(100),
        }
        yield key_id, json.dumps(row).encode()


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


async def test_memory_levels_off_while_days_of_history_are_replayed(settings: Settings, tmp_path: Path) -> None:
    await create_topics(settings)
    worker = Worker(settings, tmp_path)
    try:
        used = []
        for day in range(DAYS):
            await feed(settings, list(day_of_traffic(day)))
            await applied_to_the_end(settings, [worker])
            used.append(resident_bytes(worker.process.pid))
        assert used[-1] <= used[0] * ALLOWED_GROWTH, used
        assert worker.end()[0] == 0
    finally:
        worker.kill()
