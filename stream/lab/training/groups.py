"""`python -m stream.lab.training.groups`: make the priors of groups that the package ships.

Over campaign worlds of tuning seeds in which nothing happens: their history from its second week on, and a week more.
Four passes over the same evidence: the laws of the daily maxima, then how often each statistic is exceeded, then the
same of the score that they give together. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.core import grouppriors
from stream.core.calibration import EULER, SD_OF_GUMBEL
from stream.core.evidence import Evidence
from stream.core.group import STATISTICS, GroupState
from stream.core.grouppriors import VERSION, GroupPriors
from stream.core.groups import Groups
from stream.core.hours import Hour
from stream.core.shard import Shard
from stream.lab.worlds.campaigns.world import CampaignWorld
from stream.settings import Settings

WORLDS = (("B", 11), ("C", 12), ("B", 13), ("C", 14))
"""Profile and seed; D is never tuned on."""
WARM_DAYS = 10
"""The first days of a world teach nothing: neither keys nor groups are known yet."""
SHARES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0004)
LEAST_COUNT = 8
"""Fewer group-days tell no share."""
LEAST_STEP = 0.02
LEAST_SPEAKING = 200
GUESS = (0.1, 0.3)
"""Location and scale of what hardly ever speaks where nothing happens."""
GUESSED_TAIL = ((1.0, 0.002), (8.0, 0.0001))
"""Tail of a statistic that never spoke: a decade of its own model counts for about as much."""
FIRST_TAIL = ((3.5, 0.01), (4.5, 0.001))

Document = dict[str, Any]
Peaks = NDArray[np.float64]
"""Group-days x (STATISTICS and the score): the highest of each."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the keys of a world told: evidence in the order of time, and its first hour that counts."""

    evidence: tuple[Evidence, ...]
    first_hour: int


def record(profile: str, seed: int) -> Record:
    """Take a world in which nothing happens through one shard."""
    world = CampaignWorld(seed, profile)
    shard = Shard(0, Settings(partitions=1), partition_of=lambda key_id: 0)
    evidence: list[Evidence] = []
    position = 0
    for day in (*world.history(), *world.branch(0, ()).days):
        calls = day.calls()
        log = [(position + number, float(call.time), call) for number, call in enumerate(calls)]
        position += len(log)
        evidence += shard.observe(log, position - 1).evidence
    return Record(tuple(evidence), int(world.start // 3600) + 24 * WARM_DAYS)


def peaks(told: Record, document: Document, raw: bool) -> Peaks:
    """The highest values of every group and day: of the statistics themselves, or standardised."""
    found: dict[tuple[str, str, int], list[float]] = {}

    def watch(
        state: GroupState, hour: int, _said: Hour, values: Sequence[float], std: Sequence[float], score: float
    ) -> None:
        if hour >= told.first_hour:
            row = [*(values if raw else std), score]
            day = (state.kind, state.value, hour // 24)
            known = found.get(day)
            found[day] = row if known is None else list(map(max, known, row))

    groups = Groups(Settings(partitions=1), GroupPriors.from_json(json.dumps(document)), watch=watch)
    groups.expect([0])
    for part in told.evidence:
        groups.take([part])
        if part.complete:
            groups.close()
    return np.array([found[day] for day in sorted(found)])


def _task(arguments: tuple[Record, Document, bool]) -> Peaks:
    return peaks(*arguments)


def _record(world: tuple[str, int]) -> Record:
    return record(*world)


def document_of(laws: Document, tails: Document, tail: Sequence[Sequence[float]]) -> Document:
    """A priors file of groups."""
    return {"version": VERSION, "laws": laws, "tails": tails, "tail": [list(row) for row in tail]}


def laws_of(found: Peaks) -> Document:
    """A Gumbel law for each statistic, by the moments of its maxima above zero, the spread by their quantiles."""
    laws: Document = {}
    for name, column in zip(STATISTICS, found.T, strict=False):
        speaking = column[column > 0]
        if len(speaking) < LEAST_SPEAKING or name == "respawn":
            laws[name] = list(GUESS)
            continue
        low, high = np.quantile(speaking, (0.16, 0.84))
        spread = min(float(speaking.std()), 1.3 * float(high - low) / 2)
        scale = spread / SD_OF_GUMBEL
        laws[name] = [round(float(speaking.mean()) - EULER * scale, 3), round(scale, 3)]
    return laws


def tail_of(column: Peaks) -> list[list[float]]:
    """Values, rising, and the share of group-days that exceed each."""
    ordered = np.sort(column)[::-1]
    rows: list[list[float]] = []
    for share in SHARES:
        place = int(share * len(ordered))
        if place < LEAST_COUNT:
            continue
        value = round(float(ordered[place]), 3)
        if not rows or value > rows[-1][0] + LEAST_STEP:
            rows.append([value, share])
    return rows


def train(records: Sequence[Record], jobs: int = 1) -> Document:
    """The priors of groups from what some worlds told."""

    def found(document: Document, raw: bool = False) -> Peaks:
        tasks = [(told, document, raw) for told in records]
        if jobs == 1:
            return np.concatenate([_task(task) for task in tasks])
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            return np.concatenate(list(pool.map(_task, tasks)))

    laws: Document = {name: list(GUESS) for name in STATISTICS}
    tails: Document = {name: [list(row) for row in GUESSED_TAIL] for name in STATISTICS}
    tail: Sequence[Sequence[float]] = FIRST_TAIL
    laws = laws_of(found(document_of(laws, tails, tail), raw=True))
    standardised = found(document_of(laws, tails, tail))
    for name, column in zip(STATISTICS, standardised.T, strict=False):
        rows = tail_of(column)
        tails[name] = rows if len(rows) >= 3 else [list(row) for row in GUESSED_TAIL]
    for _ in range(2):  # what opens a campaign changes what is learned behind it
        tail = tail_of(found(document_of(laws, tails, tail))[:, -1])
    return document_of(laws, tails, tail)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = Path(grouppriors.__file__).parent / "group_priors.json"
    parser.add_argument("--out", type=Path, default=shipped, help="the file to write (default: the package's own)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        records = list(pool.map(_record, WORLDS))
    document = train(records, jobs=arguments.jobs)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    score, share = document["tail"][-1]
    sys.stdout.write(f"{arguments.out}: {share} of clean group-days exceed a score of {score}\n")


if __name__ == "__main__":
    main()
