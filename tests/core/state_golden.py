"""The golden state of today's version: `python tests/core/state_golden.py` writes tests/state/v{VERSION}.json again.

Only a change of a version before its first release may do so; afterwards a new version gets a file of its own, and the
old ones have to load for ever.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from made_priors import made_priors

from stream.core.shard import Shard
from stream.core.state import VERSION
from stream.events import Call
from stream.settings import Settings

START = 1_772_323_200.0
GOLDEN_SETTINGS = Settings(partitions=1, bucket_seconds=3600, allowed_lateness_seconds=3600)
HOURS = 24 * 12
VIEWED = ("calls", "input_tokens", "output_tokens", "first_seen", "last_seen", "expected_tokens_per_second")


def golden_shard() -> Shard:
    """A steady key, one under attack at the end, one used once, and one that hides its usage; all with their shapes."""
    stream = []
    for hour in range(HOURS):
        for i in range(12):
            time = START + hour * 3600.0 + i * 300.0
            flood = 40 if hour >= HOURS - 4 else 1
            stream.append((time, "steady", 1, 900 + (7 * i + hour) % 100, 400))
            stream.append((time + 1, "attacked", flood, flood * (900 + (5 * i + hour) % 100), flood * 400))
            stream.append((time + 2, "hidden", 1, None, None))
    stream.append((START + HOURS * 3600.0, "once", 1, 5, 5))
    shard = Shard(0, GOLDEN_SETTINGS, partition_of=lambda key_id: 0, priors=made_priors())
    arrivals = [
        (
            position,
            time,
            Call(
                event_id=str(position),
                time=time,
                key_id=key,
                calls=n,
                input_tokens=given,
                output_tokens=taken,
                reasoning_tokens=position % 5,
                max_output_tokens=400 if key == "attacked" else None,
                model=f"model-{position % 10}",
                status=500 if position % 50 == 49 else 200,
            ),
        )
        for position, (time, key, n, given, taken) in enumerate(stream)
    ]
    shard.observe(arrivals, len(arrivals) - 1)
    return shard


def read_records(path: Path) -> list[tuple[bytes, bytes]]:
    """The records of a golden file."""
    document = json.loads(path.read_text("utf-8"))
    return [(base64.b64decode(name), base64.b64decode(value)) for name, value in document["records"]]


def write(path: Path) -> None:
    """Make the file."""
    shard = golden_shard()
    records = [[base64.b64encode(part).decode() for part in record] for record in sorted(shard.changes())]
    keys = ("steady", "attacked", "hidden", "once")
    document = {
        "applied": shard.applied,
        "open": [alert.kind for alert in shard.open_alerts()],
        "keys": {key: {name: getattr(shard.key(key), name) for name in VIEWED} for key in keys},
        "records": records,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent.parent / "state" / f"v{VERSION}.json")
