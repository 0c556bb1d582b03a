"""What nobody exceeds: an oracle that knows a campaign's members and what each of them gives, not when.

As the oracle of single keys (`attainable`) it knows each member's season and noise, measured day by day where nothing
happens, and the shape of what is added. Members are independent to it, so their evidence adds up: the joint shape is
the root of the sum of squares of theirs. It has no innocents among its members, which flatters it, and needs whole
days: what is taken on a day is gone before it is looked at. Of accounts that have no past, of what is over within a day
and of what takes nothing it says nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream.lab.evaluation.attainable import DAY, MOST_STEPS, found_at, noise_of, season
from stream.lab.worlds.campaigns.labels import Campaign
from stream.lab.worlds.campaigns.world import CampaignWorld
from stream.lab.worlds.draws import Floats
from stream.lab.worlds.tally import PER_DAY

LEAST_DAYS = 2.0


class Attained(NamedTuple):
    """How likely the oracle finds a campaign before it ends, and the median share of its tokens that is gone before."""

    chance: float
    gone: float


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

    def attained(self, campaign: Campaign) -> Attained | None:
        """What it attains on a campaign; None where it knows nothing of it."""
        places = [self._places.get(key_id) for key_id in campaign.members]
        extra = campaign.extra
        is_short = campaign.end - campaign.start < LEAST_DAYS * DAY
        if campaign.family == "pivot" or is_short or not len(extra.tokens) or None in places:
            return None
        added = np.zeros((len(places), len(self._tokens)))
        np.add.at(added, (extra.member, extra.bucket // PER_DAY), extra.tokens)
        squares = np.zeros(len(self._tokens))
        for place, tokens in zip(places, added, strict=True):
            assert place is not None
            level, deviation, lag1 = self._noise_of(place)
            rise = np.log1p(np.maximum(tokens / level, 0.0))
            white = rise - lag1 * np.concatenate(([0.0], rise[:-1]))
            squares += white**2 / (deviation**2 * (1 - lag1 * lag1))
        taken = added.sum(axis=0)
        first, last = np.flatnonzero(taken > 0)[[0, -1]]
        shape = np.sqrt(squares[first : last + 1][:MOST_STEPS])
        found = found_at(shape, self._per_day, self._rng)
        # by the end of each day; all, if it is found on none
        gone = np.append(np.cumsum(taken[first : first + len(shape)]), taken.sum()) / taken.sum()
        return Attained(float(np.mean(found < len(shape))), float(np.median(gone[found])))

    def _noise_of(self, place: int) -> tuple[Floats, float, float]:
        known = self._noise.get(place)
        if known is None:
            readings = self._tokens[:, place]
            known = self._noise[place] = noise_of(readings, season(len(readings), DAY))
        return known
