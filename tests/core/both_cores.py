"""Run by test_compiled.py as a program, once on the sources and once on what was compiled: what came of each stream."""

from __future__ import annotations

import json
import sys
import tomllib
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from core_streams import Run, calls, log_of, new_shard, shuffled  # noqa: E402
from test_scenarios import CHUNK, FOLDER, NOW, generate  # noqa: E402

from stream import native  # noqa: E402
from stream.core.evidencerecord import evidence_records, unpack_evidence  # noqa: E402
from stream.core.linksrecord import Traits  # noqa: E402
from stream.lab.replay import Replay  # noqa: E402
from stream.partition import partition_of  # noqa: E402
from stream.settings import Settings  # noqa: E402

SEEDS = range(3)
CHUNK_OF_CALLS = 97


def of_stream(seed: int) -> tuple[str, str, int]:
    """The state, flushed now and then, and the alerts of a random stream, with a crash in the middle of it."""
    run, log = Run(), log_of(shuffled(calls(seed, days=14), 800.0, seed))
    for number, upto in enumerate([*range(0, len(log) - 1, CHUNK_OF_CALLS), len(log) - 1]):
        run.observe(log, upto)
        if number % 3 == 0:
            run.flush()
        if number == len(log) // CHUNK_OF_CALLS // 2:
            run.crash()
    run.flush()
    state = sha256(b"".join(name + value for name, value in sorted(run.state.items())))
    return state.hexdigest(), _digest([alert.model_dump_json() for alert in run.alerts]), len(run.alerts)


def of_evidence(seed: int) -> tuple[str, str, int]:
    """What a shard tells of its keys as it is written, which can be read, and what is read of it."""
    log = log_of(shuffled(calls(seed, days=14), 800.0, seed))
    shard = new_shard()
    evidence = list(evidence_records(shard.observe(log, len(log) - 1).evidence))
    told = [unpack_evidence(value, 1) for _, value in evidence]
    assert all(type(traits) is Traits for one in told for cell in one.cells for traits in cell.traits)
    written = sha256(b"".join(name + value for name, value in evidence))
    return written.hexdigest(), _digest([repr(one) for one in told]), 0


def of_scenario(path: Path) -> tuple[str, str, int]:
    """The summary and the alerts of a scenario's replay."""
    scenario = tomllib.loads(path.read_text("utf-8"))
    replay = Replay(Settings(partitions=2, **scenario.get("settings", {})), partition_of=partition_of, now=NOW)
    values = generate(scenario).values
    for first in range(0, len(values), CHUNK):
        replay.feed(values[first : first + CHUNK])
    replay.finish()
    alerts = [alert.model_dump_json() for alert in replay.summary.step.alerts]
    return _digest([json.dumps(replay.summary.as_json(0.0))]), _digest(alerts), len(alerts)


def _digest(lines: list[str]) -> str:
    return sha256("\n".join(lines).encode()).hexdigest()


found = {f"stream {seed}": of_stream(seed) for seed in SEEDS}
found |= {f"evidence {seed}": of_evidence(seed) for seed in SEEDS}
found |= {path.stem: of_scenario(path) for path in sorted(FOLDER.glob("*.toml"))}
print(json.dumps({"core": native.core(), "found": found}))
