"""The demo's traffic: three weeks of steady products, then a live part up to now in which an attack begins."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from stream.gateways.errors import InputError, guess
from stream.lab.parameters import STEADY
from stream.lab.produce import Timed
from stream.lab.scenarios import STRANGER_TOKENS, Attack, Strike, account_strikes
from stream.lab.simulate import Label, Simulation, simulate
from stream.lab.simulate_output import records

HISTORY_DAYS = 21
"""Three weeks: what a key needs to outweigh what is assumed of keys that nobody knows."""
PLAY_SECONDS = 48.0
"""How long the live part takes at `speed`."""
CALM_SHARE = 3 / 13
"""Of the live part, what comes before the attack: 15 minutes of 65, long enough to look at."""
GRID_SECONDS = 300
KEYS = 40
HISTORY_CALLS = 200_000
"""Calls of the history, however long it is: what can be made, sent and learned in some ten seconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a demo scenario does to one key: its use becomes `times` its mean; or what a campaign is made of.

    accounts: so many new accounts, each with calls_per_day, in place of a key
    usual: tokens per second of the key that is wanted as the victim
    live_hours: length of the live part. Of an attack that is found within minutes it is little more than an hour, so
        that the find is no backlog; one that takes hours is shown in hours, played faster
    """

    summary: str
    family: str = "surge"
    times: float = 1.0
    usual: float = 0.0
    mimic: bool = False
    live_hours: float = 65 / 60
    accounts: int = 0
    calls_per_day: float = 0.0


PLANS = {
    "surge": Plan("one key at thirty times its use", times=30.0, usual=15.0),
    "leaked-key": Plan("one small key at fifty times its use, from a stranger's network", times=50.0, usual=15.0),
    "drift": Plan(
        "one key at eight times its use for half a day, its requests as ever", "drift", 8.0, 60.0, True, 13.0
    ),
    "campaign": Plan(
        "eighty new accounts of sixty calls a day, each below the line: one network, one client",
        "new_accounts",
        live_hours=13.0,
        accounts=80,
        calls_per_day=60.0,
    ),
    "calm": Plan("no attack"),
}
"""Name of a demo scenario (`overdraw demo --scenario`) to its plan."""


def plan_of(scenario: str) -> Plan:
    """The plan of a demo scenario; raises InputError on an unknown one."""
    if scenario not in PLANS:
        raise InputError(f"unknown demo scenario {scenario!r}: {guess(scenario, PLANS)}Known are {', '.join(PLANS)}")
    return PLANS[scenario]


@dataclass(frozen=True, slots=True)
class DemoWindow:
    """Records in time order, all before `until` (epoch seconds); `live`: to be played at the demo's pace."""

    until: float
    live: bool
    records: list[Timed]


class DemoTraffic:
    """Traffic up to `now`: iterate it for its windows, the history first (an hour each), then the live part.

    live_start: end of the history, a multiple of five minutes
    history_days: length of the history; the longer, the fewer calls a day
    step_seconds: length of a live window in event time; None: half a second at `speed`
    speed: event seconds per second at which the live part takes PLAY_SECONDS
    attacked: what is attacked or attacks, in words; members: its keys, none in `calm`; attack_start: when it begins

    The victim is the key whose usual tokens per second come nearest to what the plan wants, so that the alert needs
    minutes of event time and not hours. No record is later than `now`. Raises InputError on an unknown scenario.

    >>> demo = DemoTraffic(now=1_767_571_200.0)
    >>> (demo.attack_start - demo.live_start) / 60, demo.live_start % 300
    (15.0, 0.0)
    """

    def __init__(
        self,
        now: float,
        scenario: str = "surge",
        *,
        seed: int = 7,
        step_seconds: float | None = None,
        history_days: int = HISTORY_DAYS,
    ) -> None:
        self.now = now
        self.plan = plan_of(scenario)
        live = self.plan.live_hours * 3600
        self.live_start = math.floor((now - live) / GRID_SECONDS) * float(GRID_SECONDS)
        self.attack_start = self.live_start + live * CALM_SHARE
        self.speed = (now - self.live_start) / PLAY_SECONDS
        self.step_seconds = self.speed / 2 if step_seconds is None else step_seconds
        start = self.live_start - history_days * 86_400
        rate = HISTORY_CALLS / (history_days * 86_400)
        days = (now - start) / 86_400
        calm = simulate("calm", seed=seed, keys=KEYS, days=days, rate=rate, start=start, profile=STEADY)
        strikes = self._register(calm, seed) if self.plan.accounts else self._choose(calm)
        self._run = calm.with_strikes(strikes) if strikes else calm
        key_ids = calm.population.key_ids
        self.members = frozenset(strike.account or key_ids[strike.key] for strike in strikes)

    @property
    def attacked(self) -> str | None:
        """The attacked key's id, or how many accounts there are in the campaign."""
        return f"{self.plan.accounts} new accounts" if self.plan.accounts else next(iter(self.members), None)

    @property
    def labels(self) -> list[Label]:
        """The attack's label; its sums are complete once the windows have been read."""
        return self._run.labels

    def _register(self, calm: Simulation, seed: int) -> list[Strike]:
        plan, length = self.plan, self.now - self.attack_start
        attack = Attack(
            "new_accounts", length / 3600, via="accounts", accounts=plan.accounts, calls_per_day=plan.calls_per_day
        )
        rng = np.random.default_rng([seed, 7])
        return account_strikes(attack, 0, rng, calm.population, self.attack_start, length, self.now)

    def _choose(self, calm: Simulation) -> list[Strike]:
        plan, p = self.plan, calm.population
        if plan.times <= 1:
            return []
        (inputs, _), (outputs, _) = p.token_moments()
        usual = p.rate * (inputs + outputs)
        key = int(np.argmin(np.abs(np.log(usual / plan.usual))))
        tokens = float(inputs[key] + outputs[key]) if plan.mimic else sum(STRANGER_TOKENS)
        strike = Strike(
            key=key,
            family=plan.family,
            start=self.attack_start,
            end=self.now,
            calls=(plan.times - 1) * float(usual[key]) / tokens,
            intensity=plan.times,
            mimic=plan.mimic,
            curve="flat",
            group=-1,
            via="",
        )
        return [strike]

    def __iter__(self) -> Iterator[DemoWindow]:
        time = self._run.start
        for hour in self._run:
            end = min(time + 3600, self.now)
            made = records(hour)
            if time < self.live_start:
                yield DemoWindow(end, False, made)
            else:
                yield from self._steps(time, end, made)
            time = end

    def _steps(self, time: float, end: float, made: list[Timed]) -> Iterator[DemoWindow]:
        at = 0
        while time < end:
            time = min(time + self.step_seconds, end)
            upto = bisect_left(made, time, lo=at, key=itemgetter(0))
            yield DemoWindow(time, True, made[at:upto])
            at = upto
