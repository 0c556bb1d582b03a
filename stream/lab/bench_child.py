"""A process that measures itself: the raw consumer loop, or `overdraw replay`. It ends with one line of JSON.

python -m stream.lab.bench_child raw BROKER TOPIC EVENTS
python -m stream.lab.bench_child replay FILE
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import runpy
import sys
import time
from typing import Any


async def raw(broker: str, topic: str, events: int) -> dict[str, Any]:
    """What a consumer costs that only decodes: `getmany` and `orjson.loads` of every value, start-up left out."""
    import orjson
    from aiokafka import AIOKafkaConsumer

    loads = orjson.loads
    # uncommitted, nothing to commit, default sizes: the quickest loop that aiokafka has
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        for partition in consumer.assignment():
            await consumer.position(partition)
        begin, seen = time.process_time(), 0
        while seen < events:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    loads(record.value)
                seen += len(records)
        seconds = time.process_time() - begin
    finally:
        await consumer.stop()
    return {"events": seen, "cpu_seconds": seconds}


def replay(path: str) -> dict[str, Any]:
    """`overdraw replay` itself: the CPU time and the peak memory of all its life."""
    sys.argv = ["overdraw", "replay", path, "--json"]
    code: Any = 0
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            runpy.run_module("stream", run_name="__main__")
        except SystemExit as end:
            code = end.code
    if code:
        sys.exit(code)
    return {"cpu_seconds": time.process_time(), "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has had.

    `getrusage` says on Linux at least what the parent had when it started us, so the kernel's own figure comes first.
    """
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(arguments: list[str]) -> None:
    """Measure what is asked for."""
    what, *rest = arguments
    result = replay(*rest) if what == "replay" else asyncio.run(raw(rest[0], rest[1], int(rest[2])))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
