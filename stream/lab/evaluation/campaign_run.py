"""The suite of campaigns: worlds, their branches, and the installation that each is put before."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

from stream import collector
from stream.lab.evaluation.branching import Calm
from stream.lab.evaluation.campaign_oracle import Oracle
from stream.lab.evaluation.campaign_rows import campaign_scores_json
from stream.lab.evaluation.campaigns import CampaignScores, said, score_branch
from stream.lab.evaluation.detector import leave_interrupts_to_the_parent
from stream.lab.evaluation.installation import Installation
from stream.lab.evaluation.run import Seen, Tell
from stream.lab.evaluation.suites import SuiteError, Wish, checked_seed, seen
from stream.lab.worlds.campaigns.families import (
    CALM_ROUNDS,
    LONG_BRANCH,
    ROUNDS,
    SHORT_BRANCH,
    SHORT_ROUNDS,
    TWIN_BRANCH,
    campaign_families,
    twin_families,
)
from stream.lab.worlds.campaigns.world import HISTORY_DAYS, KEYS, Branch, CampaignWorld
from stream.settings import Settings

SUITE = "campaigns"
TUNED_PROFILES = ("B", "C")
REPORTED_PROFILES = ("B", "C", "D")
"""D was never tuned on, whatever its seed, and must never be."""
WORLDS = 6
DAYS = HISTORY_DAYS + LONG_BRANCH
LEAST_DAYS = HISTORY_DAYS + 4
"""Shorter branches have no room for a campaign of days."""
MOST_NEW = 0.5
"""New accounts of one campaign, as a part of the established keys: a test of this size holds no more."""

Make = Callable[[Settings], Installation]


@dataclass(frozen=True, slots=True)
class CampaignCase:
    """A world to run: what it is made of (`days`: of a branch), and what tuning knew of it."""

    seed: int
    profile: str
    keys: int
    days: int
    seen: Seen

    def world(self) -> CampaignWorld:
        """The world."""
        return CampaignWorld(self.seed, self.profile, keys=self.keys, days=self.days)


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """What came out for some worlds of which tuning knew as much."""

    worlds: tuple[str, ...]
    seen: Seen
    scores: CampaignScores

    def as_json(self) -> dict[str, Any]:
        """The result as plain data."""
        return {"worlds": list(self.worlds), "seen": self.seen, **campaign_scores_json(self.scores)}


def campaign_cases(wish: Wish, worlds: int | None = None) -> list[CampaignCase]:
    """The worlds of the suite: of each profile by turns, with seeds that rise. Raises SuiteError on a bad wish."""
    seed = checked_seed(wish)
    if wish.data is not None:
        raise SuiteError("the suite campaigns makes its own traffic: leave --data out")
    days = wish.days or DAYS
    if days < LEAST_DAYS:
        raise SuiteError(f"--days {days}: a world needs {LEAST_DAYS}, three weeks of them warm-up")
    profiles = TUNED_PROFILES if wish.tuning else REPORTED_PROFILES
    cases = []
    for number in range(worlds or WORLDS):
        profile, own = profiles[number % len(profiles)], seed + number // len(profiles)
        if wish.tuning:
            checked_seed(Wish(own, tuning=True))
        cases.append(CampaignCase(own, profile, wish.keys or KEYS, days - HISTORY_DAYS, seen(profile, own)))
    return cases


def branches(world: CampaignWorld) -> Iterator[Branch]:
    """A world's branches: first the one in which nothing happens, then those with campaigns, then those with twins."""
    yield world.branch(0, ())
    most = round(MOST_NEW * world.keys)
    for number, rows in enumerate(ROUNDS, 1):
        yield world.branch(number, campaign_families(rows, most))
    for number, rows in enumerate(SHORT_ROUNDS, 1 + len(ROUNDS)):
        yield world.branch(number, campaign_families(rows, most), SHORT_BRANCH)
    for number, names in enumerate(CALM_ROUNDS, 101):
        yield world.branch(number, twin_families(names), TWIN_BRANCH)


def learned(world: CampaignWorld, settings: Settings, make: Make = Installation) -> Installation:
    """An installation that has known a world's history."""
    installation = make(settings)
    for day in world.history():
        installation.observe(day.calls())
    return installation


def scores_of(case: CampaignCase, settings: Settings, make: Make = Installation) -> CampaignScores:
    """A world, evaluated."""
    world = case.world()
    every = branches(world)
    first = next(every)
    with collector.calmed():
        calm = Calm(learned(world, settings, make), first)
        total = score_branch(first, calm.alerts, settings.composites)
        known = said(calm.alerts)
        oracle = Oracle(world, settings.false_alerts_per_1000_group_days)
        for branch in every:
            scores = score_branch(branch, calm.run(branch).alerts, settings.composites, known)
            outcomes = (replace(one, oracle=oracle.attained(one.campaign, one.others)) for one in scores.campaigns)
            total += replace(scores, campaigns=tuple(outcomes))
    return total


def evaluate_campaigns(
    cases: Sequence[CampaignCase], settings: Settings, tell: Tell, *, jobs: int = 1
) -> list[CampaignResult]:
    """The worlds' results, those of which tuning knew as much together; the same for any number of jobs."""
    found: dict[int, CampaignScores] = {}
    what = "campaigns: worlds"
    tell(what, 0, len(cases))
    for number, scores in _work(cases, settings, jobs):
        found[number] = scores
        tell(what, len(found), len(cases))
    results = []
    for kind in dict.fromkeys(case.seen for case in cases):
        mine = [number for number, case in enumerate(cases) if case.seen == kind]
        names = tuple(f"{cases[number].profile} {cases[number].seed}" for number in mine)
        results.append(CampaignResult(names, kind, sum((found[number] for number in mine), CampaignScores())))
    return results


def _work(cases: Sequence[CampaignCase], settings: Settings, jobs: int) -> Iterator[tuple[int, CampaignScores]]:
    if jobs == 1 or len(cases) < 2:
        for number, case in enumerate(cases):
            yield number, scores_of(case, settings)
        return
    # spawned, not forked: a fork in the midst of another library's threads can hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(cases)), context, initializer=leave_interrupts_to_the_parent)
    try:
        futures = {pool.submit(scores_of, case, settings): number for number, case in enumerate(cases)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
