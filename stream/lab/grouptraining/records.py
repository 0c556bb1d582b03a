"""What the keys of a world told, recorded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stream.core.evidence import Evidence
from stream.core.evidencerecord import VERSION as EVIDENCE
from stream.core.evidencerecord import pack_evidence, unpack_evidence
from stream.core.groups import Groups, GroupStep
from stream.core.shard import Shard
from stream.lab.worlds.campaigns.families import LONG_BRANCH
from stream.lab.worlds.campaigns.world import HISTORY_DAYS, CampaignWorld
from stream.settings import Settings


@dataclass(frozen=True, slots=True)
class Record:
    """What the keys of a world told, in a file, and its first hour that counts.

    Its history teaches nothing: neither keys nor groups are known yet, and few days can be compared.
    """

    path: Path
    first_hour: int

    def evidence(self) -> Iterator[Evidence]:
        """In the order of time."""
        for data in msgspec.msgpack.decode(self.path.read_bytes(), type=list[bytes]):
            yield unpack_evidence(data, 1)

    def put_before(self, groups: Groups) -> Iterator[GroupStep]:
        """Let groups hear it; what happened as each part of it was complete."""
        groups.expect([0])
        for part in self.evidence():
            groups.take([part])
            if part.complete:
                yield groups.close()


def record(profile: str, seed: int, folder: Path) -> Record:
    """Take a world in which nothing happens through one shard, unless its evidence is in the folder."""
    world = CampaignWorld(seed, profile, days=LONG_BRANCH)
    told = Record(folder / f"{profile}-{seed}-{EVIDENCE}.evidence", int(world.start // 3600) + 24 * HISTORY_DAYS)
    if told.path.exists():
        return told
    shard = Shard(0, Settings(partitions=1), partition_of=lambda key_id: 0)
    parts: list[bytes] = []
    position = 0
    for day in (*world.history(), *world.branch(0, ()).days):
        calls = day.calls()
        log = [(position + number, float(call.time), call) for number, call in enumerate(calls)]
        position += len(log)
        parts += map(pack_evidence, shard.observe(log, position - 1).evidence)
    unfinished = told.path.with_suffix(".part")
    unfinished.write_bytes(msgspec.msgpack.encode(parts))
    unfinished.rename(told.path)
    return told
