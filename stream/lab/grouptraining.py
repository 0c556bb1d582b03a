"""`python -m stream.lab.grouptraining`: make the priors of groups that the package ships.

Over campaign worlds of tuning seeds in which nothing happens, once their history of three weeks is known: three weeks
more. What their keys tell is recorded once; with `--evidence DIR` it lies there, and is only read if it does already.
Groups read it once; the laws of the daily maxima, how often each statistic is exceeded, and how often the score that
they give together begins to exceed a value are worked out from what they showed. Then groups read it again at some
dials, for what opens a campaign also changes what is learned and what opens next: how many they do open, by what the
worlds of the other fold taught, is what the dial is marked by. Recording takes some minutes a world, all else as long.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core import grouppriors
from stream.core.arrivals import WEEK_HOURS
from stream.core.calibration import EULER, SD_OF_GUMBEL, TailLaw
from stream.core.campaign import HOUR
from stream.core.course import CALM_HOURS
from stream.core.evidence import Evidence
from stream.core.evidencerecord import VERSION as EVIDENCE
from stream.core.evidencerecord import pack_evidence, unpack_evidence
from stream.core.group import MEASURED, STATISTICS, GroupState
from stream.core.grouppriors import VERSION, GroupPriors
from stream.core.groups import Groups
from stream.core.hours import Hour
from stream.core.shard import Shard
from stream.lab.evaluation.campaigns import MERGE_SECONDS
from stream.lab.evaluation.scoring import merged
from stream.lab.worlds.campaigns.families import LONG_BRANCH
from stream.lab.worlds.campaigns.world import HISTORY_DAYS, CampaignWorld
from stream.settings import Settings

WORLDS = tuple(("BC"[(seed + 1) % 2], seed) for seed in range(11, 21))
"""Profile and seed; D is never tuned on."""
SHARES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0004)
DIALS = (0.5, 1.0, 3.0)
"""Openings in 1,000 group-days that are asked for by what the score alone says, to see how many there are."""
FOLDS = 2
LEAST_FALL = 0.8
"""Beyond the last point a tail goes on as between the last two: a chance count must not make it flat."""
OPENING_SHARES = tuple(share for share in SHARES if share <= 0.1)
"""Beyond lower scores there are fewer openings, not more: groups stay there for days."""
LEAST_COUNT = 8
"""Fewer group-days tell no share."""
LEAST_STEP = 0.02
LEAST_SPEAKING = 200
GUESS = (0.1, 0.3)
"""Location and scale of what hardly ever speaks where nothing happens."""
GUESSED_TAIL = ((1.0, 0.002), (8.0, 0.0001))
"""Tail of a statistic that never spoke: a decade of its own model counts for about as much."""
GUESSED_TAILS = dict.fromkeys(STATISTICS, GUESSED_TAIL)
MOST_DAYS = 1_000
"""No world is longer."""
FIRST_TAIL = ((3.5, 0.01), (4.5, 0.001))

Document = dict[str, Any]
Values = NDArray[np.float64]
Numbers = NDArray[np.int64]


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


@dataclass(frozen=True, slots=True)
class Readings:
    """What groups showed, hour by hour: columns of equal length, and MEASURED, or STATISTICS, of each hour.

    group: which one it is, from 0 on; learns: the hour counts for the group's own laws; counts: and for the priors
    """

    group: Numbers
    hour: Numbers
    learns: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    values: Values

    def peaks(self, column: Values) -> Values:
        """The highest of each group-day that counts."""
        days = self.group[self.counts] * MOST_DAYS + self.hour[self.counts] // 24 % MOST_DAYS
        _, place = np.unique(days, return_inverse=True)
        found = np.full(int(place.max()) + 1, -np.inf)
        np.maximum.at(found, place, column[self.counts])
        return found

    def openings(self, column: Values, value: float) -> int:
        """How often a group begins to exceed a value: hours that do count once until it has not for CALM_HOURS.

        Runs declustering: Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, 5.3.2.
        """
        over = self.counts & (column > value)
        group, hour = self.group[over], self.hour[over]
        order = np.lexsort((hour, group))
        group, hour = group[order], hour[order]
        goes_on = (np.diff(group) == 0) & (np.diff(hour) <= CALM_HOURS)
        return len(group) - int(goes_on.sum())

    def standardised(self, laws: Document) -> Readings:
        """By each group's own daily maxima, as a group does it, where nothing is open: STATISTICS."""
        moments = GroupPriors.from_json(json.dumps(document_of(laws, GUESSED_TAILS, FIRST_TAIL))).laws
        states: dict[int, GroupState] = {}
        found = np.empty((len(self.values), len(STATISTICS)))
        columns = (self.group.tolist(), self.hour.tolist(), self.learns.tolist(), self.values.tolist())
        for row, (group, hour, learns, values) in enumerate(zip(*columns, strict=True)):
            state = states.get(group)
            if state is None:
                state = states[group] = GroupState("", "", 0, 0)
                state.begin(moments)
            found[row] = state.standardised(values, hour, moments, learns)
        return replace(self, values=found)


def read(told: Record) -> Readings:
    """Put what was told before groups that know nothing of how rare it is."""
    numbers: dict[tuple[str, str], int] = {}
    group: list[int] = []
    hours: list[int] = []
    rows: list[Sequence[float]] = []

    def watch(
        state: GroupState, hour: int, _said: Hour, values: Sequence[float], _std: Sequence[float], _score: float
    ) -> None:
        group.append(numbers.setdefault(state.group, len(numbers)))
        hours.append(hour)
        rows.append(tuple(values))

    laws = {name: list(GUESS) for name in MEASURED}
    priors = GroupPriors.from_json(json.dumps(document_of(laws, GUESSED_TAILS, FIRST_TAIL)))
    groups = Groups(Settings(partitions=1), priors, watch=watch)
    groups.expect([0])
    for part in told.evidence():
        groups.take([part])
        if part.complete:
            groups.close()
    hour = np.array(hours)
    learns = hour >= groups.first_hour + WEEK_HOURS
    return Readings(np.array(group), hour, learns, hour >= told.first_hour, np.array(rows))


def _record(world: tuple[str, int, Path]) -> Record:
    return record(*world)


def document_of(laws: Document, tails: Document, tail: Sequence[Sequence[float]]) -> Document:
    """A priors file of groups."""
    return {"version": VERSION, "laws": laws, "tails": tails, "tail": [list(row) for row in tail]}


def laws_of(found: Readings) -> Document:
    """A Gumbel law for each statistic, by the moments of its maxima above zero, the spread by their quantiles."""
    laws: Document = {}
    for name, values in zip(MEASURED, found.values.T, strict=True):
        column = found.peaks(values)
        speaking = column[column > 0]
        if len(speaking) < LEAST_SPEAKING or name == "respawn":
            laws[name] = list(GUESS)
            continue
        low, high = np.quantile(speaking, (0.16, 0.84))
        spread = min(float(speaking.std()), 1.3 * float(high - low) / 2)
        scale = spread / SD_OF_GUMBEL
        laws[name] = [round(float(speaking.mean()) - EULER * scale, 3), round(scale, 3)]
    return laws


def tail_of(column: Values) -> list[list[float]]:
    """Values, rising, and the share of group-days that exceed each."""
    ordered = np.sort(column)[::-1]
    places = {share: int(share * len(ordered)) for share in SHARES}
    return _rising((float(ordered[place]), share) for share, place in places.items() if place >= LEAST_COUNT)


def _rising(points: Iterable[tuple[float, float]]) -> list[list[float]]:
    """The rows of a tail: points whose values rise by a step that counts."""
    rows: list[list[float]] = []
    for number, share in points:
        value = round(number, 3)
        if not rows or value > rows[-1][0] + LEAST_STEP:
            rows.append([value, share])
    return rows


def opening_tail(found: Readings, column: Values) -> list[list[float]]:
    """Values, rising, and how many openings beyond each there are for a group-day: at most so many.

    Taken to fall with the value, as they do where they are seldom.
    """
    peaks = found.peaks(column)
    values = np.unique(peaks[peaks >= np.quantile(peaks, 1 - SHARES[0])])

    def beyond(most: float) -> float:
        return float(values[bisect_left(values, True, key=lambda value: found.openings(column, value) <= most)])

    shares = [share for share in OPENING_SHARES if share * len(peaks) >= LEAST_COUNT]
    return _rising((beyond(share * len(peaks)), share) for share in shares)


def opened(told: Record, document: Document, dial: float) -> int:
    """Campaigns that groups open where nothing happens, those of one group within a day once, as a report counts."""
    settings = Settings(partitions=1, false_alerts_per_1000_group_days=dial)
    groups = Groups(settings, GroupPriors.from_json(json.dumps(document)))
    groups.expect([0])
    hours: dict[tuple[str, str], list[int]] = {}
    for part in told.evidence():
        groups.take([part])
        if part.complete:
            for alert in groups.close().alerts:
                hour = int(alert.detected_at // HOUR)
                if alert.status == "opened" and hour >= told.first_hour:
                    hours.setdefault((alert.entity.type, alert.entity.id), []).append(hour)
    return sum(merged(found, int(MERGE_SECONDS // HOUR)) for found in hours.values())


def realised_tail(tail: TailLaw, opened_at: Mapping[float, float]) -> list[list[float]]:
    """Scores, rising, and how many campaigns open beyond each, for a group-day, at most.

    tail: by which the dials were; opened_at: of each dial, what opened for a group-day. Where that is less than was
    asked for, what was asked for stands: fewer may be chance, and a dial promises no more. What is seen more often than
    at the highest dial is taken to open as much more often as there.
    """
    highest = max(opened_at)
    ratio = max(opened_at[highest] / (highest / 1000), 1.0)
    often = [(score, math.exp(log)) for score, log in zip(tail.scores, tail.logs, strict=True)]
    points = [(score, round(share * ratio, 6)) for score, share in often if share > highest / 1000 * (1 + 1e-9)]
    for dial in sorted(opened_at, reverse=True):
        share = max(opened_at[dial], dial / 1000)
        if not points or share <= LEAST_FALL * points[-1][1]:
            points.append((tail.threshold(dial / 1000), round(share, 6)))
    return _rising(points)


def scores_of(found: Readings, tails: Document) -> Values:
    """The score of each hour, as `Groups` work it out."""
    laws = {name: list(GUESS) for name in MEASURED}
    rules = GroupPriors.from_json(json.dumps(document_of(laws, tails, FIRST_TAIL)))
    return np.array([rules.score(rules.weighed(rules.decades(row))) for row in found.values.tolist()])


def train(parts: Sequence[Readings]) -> Document:
    """The priors of groups from what those of some worlds showed."""
    first = np.cumsum([0, *(int(part.group.max()) + 1 for part in parts)])
    found = Readings(
        np.concatenate([part.group + before for part, before in zip(parts, first, strict=False)]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("hour", "learns", "counts", "values")),
    )
    laws = laws_of(found)
    standardised = found.standardised(laws)
    tails: Document = {}
    for name, column in zip(STATISTICS, standardised.values.T, strict=True):
        rows = tail_of(standardised.peaks(column))
        tails[name] = rows if len(rows) >= 3 else [list(row) for row in GUESSED_TAIL]
    return document_of(laws, tails, opening_tail(standardised, scores_of(standardised, tails)))


def mark(document: Document, parts: Sequence[Readings], records: Sequence[Record], pool: Executor) -> Document:
    """The same priors, with a dial that says what groups open in worlds that they did not learn from."""
    tail = TailLaw(document["tail"])
    group_days = sum(len(part.peaks(part.values[:, 0])) for part in parts)
    # worlds of two profiles take turns: each fold has both
    folds = [number // 2 % FOLDS for number in range(len(parts))]
    taught = [train([part for part, its in zip(parts, folds, strict=True) if its != fold]) for fold in range(FOLDS)]
    tasks = [(told, taught[fold], dial) for dial in DIALS for told, fold in zip(records, folds, strict=True)]
    counts = pool.map(opened, *zip(*tasks, strict=True))
    found = dict.fromkeys(DIALS, 0)
    for (_, _, dial), count in zip(tasks, counts, strict=True):
        found[dial] += count
    for dial, count in found.items():
        sys.stderr.write(f"at {dial:g} in 1,000 group-days {count} of {dial * group_days / 1000:.1f} open\n")
    return {**document, "tail": realised_tail(tail, {dial: count / group_days for dial, count in found.items()})}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = Path(grouppriors.__file__).parent / "group_priors.json"
    parser.add_argument("--out", type=Path, default=shipped, help="the file to write (default: the package's own)")
    parser.add_argument("--evidence", type=Path, metavar="DIR", help="where evidence lies, or is put")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    arguments = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = arguments.evidence or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
            records = list(pool.map(_record, [(*world, folder) for world in WORLDS]))
            parts = list(pool.map(read, records))
            document = mark(train(parts), parts, records, pool)
    arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    score, share = document["tail"][-1]
    sys.stdout.write(f"{arguments.out}: {share} openings beyond a score of {score} for a clean group-day\n")


if __name__ == "__main__":
    main()
