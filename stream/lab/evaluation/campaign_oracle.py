"""The share of campaigns that nobody exceeds: an oracle that knows the members, what each of them gives, not when.

As the oracle of single keys (`attainable`) it knows each member's season and noise, measured day by day where nothing
happens, and the shape of what is added. Members are independent to it, so their evidence adds up: the joint shape is
the root of the sum of squares of theirs. It has no innocents among its members, which flatters it, and needs whole
days. Of accounts that have no past, of what is over within a day and of what takes nothing it says nothing.
"""

from __future__ import annotations

import numpy as np

from stream.lab.evaluation.attainable import DAY, MOST_STEPS, chance_of, noise_of, season
from stream.lab.worlds.campaigns.labels import Campaign
from stream.lab.worlds.campaigns.world import CampaignWorld
from stream.lab.worlds.draws import Floats
from stream.lab.worlds.tally import PER_DAY

LEAST_DAYS = 2.0


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

    def chance(self, campaign: Campaign) -> float | None:
        """How likely it finds a campaign before it ends; None where it knows nothing of it."""
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
        first, last = np.flatnonzero(added.sum(axis=0) > 0)[[0, -1]]
        return chance_of(np.sqrt(squares[first : last + 1][:MOST_STEPS]), self._per_day, self._rng)

    def _noise_of(self, place: int) -> tuple[Floats, float, float]:
        known = self._noise.get(place)
        if known is None:
            readings = self._tokens[:, place]
            known = self._noise[place] = noise_of(readings, season(len(readings), DAY))
        return known
