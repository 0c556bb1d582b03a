"""What `overdraw simulate` writes: calls as JSON lines, or as records for Kafka, and the labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from stream.events import Call
from stream.lab.files import written
from stream.lab.simulate import Simulation

_encoder = msgspec.json.Encoder()


def write_calls(run: Simulation, target: str) -> int:
    """Write the calls of a run as JSON lines to a file (packed if its name ends in .gz) or, for `-`, to stdout.

    Returns how many there are. Same run, same bytes.
    """
    count = 0
    with nullcontext(sys.stdout.buffer) if target == "-" else written(target) as out:
        for hour in run:
            out.write(_encoder.encode_lines(hour))
            count += len(hour)
        out.flush()
    return count


def write_labels(run: Simulation, path: Path) -> int:
    """Write the labels of a run that has been read to its end, a JSON line each; returns how many."""
    labels = run.labels
    path.write_bytes(_encoder.encode_lines(labels))
    return len(labels)


def records(calls: Sequence[Call]) -> list[tuple[float, str, bytes]]:
    """Calls as (event time, key id, JSON), as `stream.lab.produce` sends them."""
    encode = _encoder.encode
    return [(float(call.time), call.key_id, encode(call)) for call in calls]
