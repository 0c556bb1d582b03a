"""What nobody exceeds: an oracle that knows a campaign's members and what each of them gives, not when.

As the oracle of single keys (`attainable`) it knows each member's season and noise, measured day by day where nothing
happens, and the shape of what is added. Members are independent to it, so their evidence adds up: the joint shape is
the root of the sum of squares of theirs. It has no innocents among its members, which flatters it, and needs whole
days: what is taken on a day is gone before it is looked at. Of accounts that have no past, of what is over within a day
and of what takes nothing it says nothing.

Whom to name, it decides once all is over, key by key: it knows who shares what links the campaign, and takes each for
a member or not by the ratio of the likelihoods (J. Neyman and E. S. Pearson, On the problem of the most efficient tests
of statistical hypotheses, 1933), so that NAMED_SHARE of the members are named. Another key would have taken a part more
as large as the member's whose evidence is the median one; other keys that came later are left out, which flatters it.
Here it knows each key's noise and week, but has its level, as whoever watches, from the LEARNED_DAYS before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from stream.lab.evaluation.attainable import DAY, MOST_STEPS, found_at, noise_of, season
from stream.lab.worlds.campaigns.labels import Campaign
from stream.lab.worlds.campaigns.world import CampaignWorld
from stream.lab.worlds.draws import Floats
from stream.lab.worlds.tally import PER_DAY

LEAST_DAYS = 2.0
NAMED_SHARE = 0.8
LEARNED_DAYS = 21
"""The detector compares a day with as many weeks before."""
BISECTIONS = 60
LEAST_EVIDENCE = 1e-6
"""Of a key of which nothing is seen."""


class Attained(NamedTuple):
    """How likely the oracle finds a campaign before it ends, the median share of its tokens that is gone before, and
    the share of innocents among those whom it names.
    """  # noqa: D205

    chance: float
    gone: float
    innocents: float


class Oracle:
    """What can be attained in a world at so many false alerts per 1,000 group-days."""

    def __init__(self, world: CampaignWorld, false_per_1000_group_days: float, seed: int = 1) -> None:
        self._per_day = false_per_1000_group_days / 1000
        self._rng = np.random.default_rng(seed)
        self._places = {key_id: number for number, key_id in enumerate(world.background.book.key_ids)}
        self._noise: dict[int, tuple[Floats, float, float]] = {}
        self._tokens = np.zeros((world.days, len(self._places)))
        for day in range(world.days):
            records = world.day(day)
            np.add.at(self._tokens[day], records.key, records.tokens)

    def attained(self, campaign: Campaign, others: Collection[str] = ()) -> Attained | None:
        """What it attains on a campaign; None where it knows nothing of it.

        others: keys that share what links it, and are no members
        """
        places = [self._places.get(key_id) for key_id in campaign.members]
        extra = campaign.extra
        is_short = campaign.end - campaign.start < LEAST_DAYS * DAY
        if campaign.family == "pivot" or is_short or not len(extra.tokens) or None in places:
            return None
        added = np.zeros((len(places), len(self._tokens)))
        np.add.at(added, (extra.member, extra.bucket // PER_DAY), extra.tokens)
        rises = np.zeros(added.shape)
        squares = np.zeros(added.shape)
        shown: list[float] = []
        for number, (place, tokens) in enumerate(zip(places, added, strict=True)):
            assert place is not None
            rises[number] = np.log1p(np.maximum(tokens / self._noise_of(place)[0], 0.0))
            white = self._white(place, rises[number])
            squares[number] = white**2
            shown.append(above_level(white))
        taken = added.sum(axis=0)
        first, last = np.flatnonzero(taken > 0)[[0, -1]]
        shape = np.sqrt(squares.sum(axis=0)[first : last + 1][:MOST_STEPS])
        found = found_at(shape, self._per_day, self._rng)
        # by the end of each day; all, if it is found on none
        gone = np.append(np.cumsum(taken[first : first + len(shape)]), taken.sum()) / taken.sum()
        usual = rises[np.argsort(squares.sum(axis=1), kind="stable")[len(places) // 2]]
        known = [place for key_id in others if (place := self._places.get(key_id)) is not None]
        innocents = innocents_of(shown, [above_level(self._white(place, usual)) for place in known])
        return Attained(float(np.mean(found < len(shape))), float(np.median(gone[found])), innocents)

    def _white(self, place: int, rise: Floats) -> Floats:
        """What a rise adds to each reading of a key, made white, in units of its noise."""
        _, deviation, lag1 = self._noise_of(place)
        white = rise - lag1 * np.concatenate(([0.0], rise[:-1]))
        return np.asarray(white / (deviation * math.sqrt(1 - lag1 * lag1)), np.float64)

    def _noise_of(self, place: int) -> tuple[Floats, float, float]:
        known = self._noise.get(place)
        if known is None:
            readings = self._tokens[:, place]
            known = self._noise[place] = noise_of(readings, season(len(readings), DAY))
        return known


def above_level(rise: Floats) -> float:
    """How many deviations a rise shows above a level that is learned from the LEARNED_DAYS before it.

    rise: on each day, white, in units of the noise. What it has in common with a level that is as much higher all the
    time tells nothing, as far as the days before leave that open: its squares less those of the level that fits it.
    """
    days = np.flatnonzero(rise)
    if not len(days):
        return 0.0
    known = LEARNED_DAYS + int(days[-1] - days[0]) + 1
    return math.sqrt(max(float((rise**2).sum() - rise.sum() ** 2 / known), 0.0))


def innocents_of(members: Sequence[float], innocents: Sequence[float]) -> float:
    """The share of innocents among those who are named, if NAMED_SHARE of the members are.

    Of each key what a member's part adds to all its readings, in units of their noise: the log of its ratio of
    likelihoods is normal about half the square of that for a member, about minus that for an innocent, and has it as
    its deviation.
    """
    most = max(*members, *innocents, LEAST_EVIDENCE)
    low, high = -(most**2) - 10 * most, most**2 + 10 * most
    for _ in range(BISECTIONS):
        limit = (low + high) / 2
        low, high = (limit, high) if _beyond(members, 0.5, limit) > NAMED_SHARE * len(members) else (low, limit)
    wrong = _beyond(innocents, -0.5, low)
    return wrong / (wrong + _beyond(members, 0.5, low))


def _beyond(evidence: Sequence[float], sign: float, limit: float) -> float:
    """How many are expected to be beyond the limit."""
    normal = NormalDist()
    return sum(normal.cdf((sign * one * one - limit) / one) for one in (max(d, LEAST_EVIDENCE) for d in evidence))
