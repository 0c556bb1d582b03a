"""One group of keys: what is usual for it, and how far an hour of it is from that.

Some numbers an hour. Two are the mean z of its members, over 40 minutes and 4 hours. One says how far the calls of its
keys depart from what was due, over 6 hours, and three how far the tokens of the last day, three and seven days depart
from those of the same days of the weeks before; a key counts by the inverse of its own variance (see `pace` and
`days`), so that none outweighs the others. All of these are taken less the same of all other keys, and by how much they
usually vary for this group. Others count members that are elevated, new keys that are alike, a change of models, and
keys that take up what blocked ones had. The last two say by how much the days stand out together, now, and over a day:
chance moves one of them for a day, a campaign all of them for long.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from stream.core.arrivals import (
    DAY_HOURS,
    LEAST_KEYS,
    LONG_HOURS,
    RETURNED_HOURS,
    WEEK_HOURS,
    Fallen,
    follow_blocked,
    newcomers,
    respawn,
    usual_arrivals,
)
from stream.core.calibration import EULER, SCALE_FLOOR, SD_OF_GUMBEL, learned
from stream.core.evidence import (
    ALL,
    DEPARTURES,
    FIRST,
    KEYS,
    LENGTH,
    LENGTH_SQUARES,
    LEVEL,
    LEVEL_SQUARES,
    PACE,
    RECENT_HOURS,
    SHAPED,
    SPENT,
    USED,
    USED_OUTPUT,
    USUAL,
    WEIGHT,
    WEIGHTED_HOT,
    YOUNG,
    YOUNG_TOKENS,
    YOUNG_USUAL,
    Z_4H,
    Z_40M,
    Member,
)  # fmt: skip
from stream.core.hours import Hour
from stream.core.links import Group
from stream.core.priors import Normal
from stream.core.sketch import KEPT, count_of, joined

STATISTICS = (
    "level_40m", "level_4h", "calls_6h", "tokens_1d", "tokens_3d", "tokens_7d", "elevated", "newcomers", "pivot",
    "respawn", "days", "sustained",
)  # fmt: skip
LEVELS, FORMER_LEVELS = 6, 5
"""So many of them are levels: a value that is usual for the group, and how far it usually differs from that."""
ELEVATED, NEWCOMERS, PIVOT, RESPAWN, DAYS, SUSTAINED = range(LEVELS, len(STATISTICS))
OF_HOURS = (0, 1, 2, ELEVATED)
"""Those that look at hours alone, of levels and the elevated: a window of days remembers what is over."""
OF_DAYS = slice(3, 6)
"""Levels of days."""
YESTERDAY = 3
"""That of a single day."""
MEASURED = STATISTICS[:DAYS]
"""What an hour shows; the others are made of these."""
Z_LEVELS = 2
"""The first of them, of single keys' z; what follows are departures from their own paces and days."""
LEAST_INFORMATION = 10.0
"""A group of which less is known says nothing: sum of the inverse variances of its keys' departures."""
OTHERS_INFORMATION = 50.0
"""The mean departure of all other keys is taken as if of so much more it had been zero."""
LEAST_OTHERS = 0.5
"""A group of which all others together are a smaller part of this size has nobody to be compared with."""
LEAST_SPEAKERS = 5.0
"""Fewer keys in an hour have no mean to speak of."""
OTHERS = 20.0
"""The mean of the other keys is taken as if so many more had shown nothing."""
DAY = 24
USUAL_DAYS = 80.0
PRIOR_DAYS = 40.0
"""Days that what is usual for a group rests on, at most, and of these what holds for all groups counts for: from fewer
it would take up chance, and the first days of a campaign."""
PRIOR_SPREAD = (0.8, 0.9, 0.8, 0.4, 0.4, 0.4)
"""Variance of each level times the group's size (keys, or information), before it has shown its own."""
LEAST_SPREAD = 0.3
"""A spread never falls below this share of its prior."""
SUSTAINED_HOURS = 24.0
SUSTAINED_PRIOR_HOURS = 12.0
"""So many usual hours are added: a group that has just begun to speak has nothing that lasts."""
LEAST_TOGETHER, MOST_TOGETHER = -2.0, 4.0
"""What one of them, or an hour, counts at least and at most in a mean."""
COMMON_VARIANCE = 0.0005
"""What no size takes away: keys of a group have days in common."""
FREEZE_Z = 2.2
FREEZE_RATE = 0.05
INCIDENT_RATE = 0.15
CLIP_SD = 3.0
MAXIMUM_CLIP = 2.0
"""So many standard deviations of a day's maximum are learned at most: a campaign comes slowly."""
PRIOR_HOT = 0.08
"""Share of clean keys that are elevated."""
PRESENT_DAY = 1.0
"""So far yesterday has to stand out, standardised, for what lasts to go on."""
PRESENT_SHARE = 0.5
"""Hours in which young keys spoke within a day, for each that came within a week: with fewer they have gone."""
MOST_MODELS = 12
OTHER = ""
MIX_HOURS = 12.0
USUAL_MIX_HOURS = 240.0
LEAST_MIX_HOURS = 72
LEAST_PIVOT_KEYS = 4.0


class GroupState(msgspec.Struct, array_like=True):
    """What is known of one group. Hours are hours of event time since 1970; memories fade exponentially.

    leaves, orgs: sketches of its members, ever, and of their organisations
    judged: hours in which keys of it spoke; usual, spread: of each level its mean, of departures none, and its variance
    times the size
    windows: over 8 hours, for each departure, the information of keys, and their departures weighted by it
    recent: over 8 hours, weights of keys, and of those elevated
    day: sums over a day: tokens, expected and output tokens and dollars of established keys; of young ones their
    number, tokens, level, its square, those with a known length, length and its square; all keys that spoke
    arrivals: new keys within a day, a week and 60 days
    mix: for each model its share of keys within half a day and within ten days; hours: how many that rests on
    maxima: for each statistic mean and variance of its daily maxima, today's, and the days behind that; law_day: today;
    spoilt: the last day that is not to be learned from
    clock: how many young keys spoke in each hour of UTC when it came last
    sustained: over SUSTAINED_HOURS, sum of what the days show together, hours, and the last of them
    score: of the last hour in which it had enough keys, in decades
    """

    kind: str
    value: str
    first: int
    last: int
    leaves: list[int] = []
    orgs: list[int] = []
    judged: int = 0
    usual: list[float] = []
    spread: list[float] = []
    windows: list[float] = []
    recent: list[float] = []
    hot: float = PRIOR_HOT
    day: list[float] = []
    arrivals: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0, 0.0])
    mix: dict[str, list[float]] = {}
    mix_hours: int = 0
    maxima: list[list[float]] = []
    law_day: int = 0
    spoilt: int = -1
    fallen: list[Fallen] = []
    returned: float = 0.0
    clock: list[float] = []
    score: float = 0.0
    sustained: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0, 0.0])

    @property
    def group(self) -> Group:
        """Its type and value."""
        return self.kind, self.value

    @property
    def members(self) -> int:
        """How many keys were ever in it, about."""
        return count_of(self.leaves)

    @property
    def is_small(self) -> bool:
        """True while it had too few members to be watched."""
        return len(self.leaves) < LEAST_KEYS

    @property
    def evenness(self) -> float:
        """How much of a day's use by young keys falls into its quietest eight hours: 1 if a third does, 0 if none."""
        total = sum(self.clock)
        return 3 * sum(sorted(self.clock)[: DAY // 3]) / total if total else 0.0

    @property
    def young_share(self) -> float:
        """Which part of those that spoke within a day are in their first week."""
        return self.day[4] / self.day[11] if self.day[11] > 0 else 0.0

    def fade(self, hour: int) -> None:
        """Let the memories fade to `hour`."""
        passed = hour - self.last
        self.last = hour
        if passed <= 0:
            return
        recent, day, week, long, returned = _decays(passed)
        a, b, c = self.arrivals
        self.arrivals = [a * day, b * week, c * long]
        if not self.windows:
            return
        for gone in range(max(hour - DAY, hour - passed + 1), hour + 1):
            self.clock[gone % DAY] = 0.0
        self.recent = [value * recent for value in self.recent]
        self.windows = [value * recent for value in self.windows]
        self.day = [value * day for value in self.day]
        self.returned *= returned

    def begin(self, laws: Sequence[tuple[float, float]]) -> None:
        """Make room for what is learned; `laws`: mean and variance of the daily maximum of each statistic."""
        self.usual = [0.0] * LEVELS
        self.spread = list(PRIOR_SPREAD)
        self.windows = [0.0] * 2 * DEPARTURES
        self.recent = [0.0] * 2
        self.day = [0.0] * 12
        self.clock = [0.0] * DAY
        self.maxima = [[mean, variance, 0.0, 0.0] for mean, variance in laws]

    def renew_levels(self, laws: Sequence[tuple[float, float]], *, forgotten: Sequence[int] = ()) -> None:
        """What a former version had learned of departures was of other ones: those begin anew.

        laws: see `begin`; forgotten: places of its statistics that there are no more, beyond those of departures
        """
        if not self.windows:
            return
        self.windows = [0.0] * 2 * DEPARTURES
        self.sustained = [0.0, 0.0, 0.0]
        self.usual[Z_LEVELS:] = [0.0] * DEPARTURES
        self.spread[Z_LEVELS:] = PRIOR_SPREAD[Z_LEVELS:]
        for place in forgotten:
            del self.maxima[place]
        self.maxima[Z_LEVELS:FORMER_LEVELS] = [[mean, variance, 0.0, 0.0] for mean, variance in laws[Z_LEVELS:LEVELS]]

    def meet(self, hour: int, said: Hour) -> bool:
        """Take up who spoke, while there are too few to be a group; True if anything of it has to be written."""
        leaves = joined(self.leaves, said.leaves)
        first = said.sums[FIRST]
        changed = leaves != self.leaves or first > 0 or hour // DAY_HOURS != self.last // DAY_HOURS
        if changed:
            self.fade(hour)
            self.leaves = leaves
            self.arrivals = [value + first for value in self.arrivals]
        return changed

    def take(self, hour: int, said: Hour) -> None:
        """Move the windows by an hour in which keys spoke."""
        self.fade(hour)
        sums = said.sums
        self.recent = [self.recent[0] + sums[WEIGHT], self.recent[1] + sums[WEIGHTED_HOT]]
        self.windows = [value + sums[i] for i, value in enumerate(self.windows, PACE)]
        used, usual = sums[USED] - sums[YOUNG_TOKENS], sums[USUAL] - sums[YOUNG_USUAL]
        for i, value in enumerate((
            used, usual, sums[USED_OUTPUT], sums[SPENT], sums[YOUNG], sums[YOUNG_TOKENS], sums[LEVEL],
            sums[LEVEL_SQUARES], sums[SHAPED], sums[LENGTH], sums[LENGTH_SQUARES], sums[ALL],
        )):  # fmt: skip
            self.day[i] += value
        self.arrivals = [value + sums[FIRST] for value in self.arrivals]
        self.clock[hour % DAY] = sums[YOUNG]
        known = self.leaves
        last = known[-1] if len(known) >= KEPT else math.inf
        if any(leaf < last and leaf not in known for leaf in said.leaves):
            self.leaves = joined(known, said.leaves)
        self._mix(said.models)

    def _mix(self, models: dict[str, float]) -> None:
        count = sum(models.values())
        if count <= 0:
            return
        quick = 1 - math.exp(-min(count, LEAST_PIVOT_KEYS) / LEAST_PIVOT_KEYS / MIX_HOURS)
        slow = max(1 - math.exp(-1 / USUAL_MIX_HOURS), 1 / (self.mix_hours + 1))
        if self.mix_hours < MIX_HOURS:
            quick = max(quick, 1 / (self.mix_hours + 1))
        self.mix_hours += 1
        mix = self.mix
        for name in [*mix, *(name for name in models if name not in mix)]:
            share = models.get(name, 0.0) / count
            pair = mix.setdefault(name, [0.0, 0.0])
            pair[0] += quick * (share - pair[0])
            pair[1] += slow * (share - pair[1])
        if len(mix) > MOST_MODELS:
            kept = sorted(mix, key=lambda name: (name != OTHER, -max(mix[name]), name))
            rest = mix.setdefault(OTHER, [0.0, 0.0])
            for name in kept[MOST_MODELS:]:
                if name != OTHER:
                    gone = mix.pop(name)
                    rest[0] += gone[0]
                    rest[1] += gone[1]

    def moved(self) -> float:
        """The share of its use that has moved between models, against what is usual: half the sum of differences."""
        return sum(abs(quick - slow) for quick, slow in self.mix.values()) / 2

    def excess(self) -> float:
        """Tokens above the baselines within a day; all that young keys took is."""
        used, usual = self.day[0], self.day[1]
        return used - usual + self.day[5]

    def statistics(
        self, said: Hour, levels: Sequence[tuple[float, float]], everybody: GroupState, population: Normal
    ) -> list[float]:
        """MEASURED of the hour that was taken last; 0 where there is nothing to say.

        levels: see there; everybody: all keys
        population: the law of ln tokens per second over all keys
        """
        values = [0.0] * len(MEASURED)
        for i, (x, size) in enumerate(levels):
            if size:
                values[i] = (x - self.usual[i]) / self._width(i, size)
        if self.kind != "model":  # who uses most models uses most, and new keys take to a model because it is new
            weight, hot = self.recent
            if weight >= LEAST_KEYS:
                p = self.hot
                values[ELEVATED] = (hot - p * weight) / math.sqrt(p * (1 - p) * weight + 1 + (0.3 * p * weight) ** 2)
            values[NEWCOMERS] = newcomers(self.arrivals, self._usual_arrivals(), self.day[4:11], population)
        active = min(said.sums[ALL], count_of(self.leaves))
        if self.mix_hours >= LEAST_MIX_HOURS and active >= LEAST_PIVOT_KEYS:
            values[PIVOT] = 10 * max(0.0, self.moved() - everybody.moved()) * min(1.0, active / 10) ** 0.5
        if self.returned > 0.5:
            values[RESPAWN] = respawn(self.returned, self._usual_arrivals())
        return values

    def levels(self, said: Hour, everybody: GroupState, all_said: Hour) -> list[tuple[float, float]]:
        """Each level, less that of all other keys, and the size it rests on; 0: too small to say anything.

        everybody, all_said: all keys, and what they said
        """
        if self.kind == "model":  # who uses most models in a day is who uses most
            return [(0.0, 0.0)] * LEVELS
        return list(self._levels(said, everybody, all_said))

    def is_present(self, lead: int, standardised: Sequence[float]) -> bool:
        """Whether an hour is unusual itself, by its STATISTICS, of which `lead` stands out most.

        Of levels those of hours stand out together, as the highest of a day do; where it is days that do, yesterday
        does; new keys that have come count for as long as they are used. Others are of now anyway.
        """
        if lead in (NEWCOMERS, RESPAWN):
            return sum(self.clock) >= PRESENT_SHARE * self.arrivals[1]
        if lead in (DAYS, SUSTAINED):
            return standardised[YESTERDAY] > PRESENT_DAY
        return lead == PIVOT or _together([standardised[i] for i in OF_HOURS]) > 0

    def settle(self) -> None:
        """A campaign is over: what it left in the windows must not open another one.

        Its keys tell of its last days for a week; but yesterday has to stand out for days to open anything.
        """
        self.windows[1::2] = [0.0] * DEPARTURES
        self.recent[1] = self.hot * self.recent[0]
        self.sustained = [0.0, 0.0, 0.0]

    def _levels(self, said: Hour, everybody: GroupState, all_said: Hour) -> Iterator[tuple[float, float]]:
        mine, whole = said.sums, all_said.sums
        n = mine[KEYS]
        rest = max(whole[KEYS] - n, 0.0)
        speaks = n >= LEAST_SPEAKERS and rest >= LEAST_OTHERS * n
        for z in (Z_40M, Z_4H):
            yield (mine[z] / n - (whole[z] - mine[z]) / (rest + OTHERS), n) if speaks else (0.0, 0.0)
        for i in range(0, 2 * DEPARTURES, 2):
            size, others = self.windows[i], self._others(i, everybody)
            if size < LEAST_INFORMATION or others is None:
                yield 0.0, 0.0
            else:
                yield self.windows[i + 1] / size - others, size

    def yesterday_of_others(self, everybody: GroupState) -> float:
        """How far yesterday's tokens of all other keys depart; 0 where these are too few to say."""
        return self._others(2 * (YESTERDAY - Z_LEVELS), everybody) or 0.0

    def _others(self, i: int, everybody: GroupState) -> float | None:
        """The mean of all other keys' departures, what all do being nobody's own; None where these are too few."""
        size = max(everybody.windows[i] - self.windows[i], 0.0)
        if size < LEAST_OTHERS * self.windows[i]:
            return None
        return (everybody.windows[i + 1] - self.windows[i + 1]) / (size + OTHERS_INFORMATION)

    def _width(self, i: int, size: float) -> float:
        return math.sqrt(self.spread[i] / size + COMMON_VARIANCE)

    def _usual_arrivals(self) -> float:
        return usual_arrivals(self.arrivals, (self.last - self.first) / DAY_HOURS)

    def learn(self, values: Sequence[float], levels: Sequence[tuple[float, float]], incident: bool) -> None:
        """Take up what `statistics` has judged; `incident`: one is open, little may be learned from it."""
        self.judged += 1
        rate = 1 / (DAY_HOURS * min(PRIOR_DAYS + self.judged / DAY_HOURS, USUAL_DAYS))
        if incident:
            rate *= INCIDENT_RATE
        for i, (x, size) in enumerate(levels):
            if not size:
                continue
            own = rate * FREEZE_RATE if values[i] > FREEZE_Z else rate
            limit = CLIP_SD * self._width(i, size)
            deviation = max(-limit, min(limit, x - self.usual[i]))
            if i < Z_LEVELS:  # of departures, weeks tell no mean that would be worth its noise
                self.usual[i] += own * deviation
            spread = self.spread[i] + own * (deviation * deviation * size - self.spread[i])
            self.spread[i] = max(spread, LEAST_SPREAD * PRIOR_SPREAD[i])
        weight, hot = self.recent
        if weight >= LEAST_KEYS:
            own = rate * FREEZE_RATE if values[ELEVATED] > FREEZE_Z else rate
            self.hot += own * (min(max(hot / weight, 0.02), 0.5) - self.hot)

    def standardised(
        self, values: Sequence[float], hour: int, laws: Sequence[tuple[float, float]], learns: bool
    ) -> list[float]:
        """An hour's numbers by the group's own daily maxima, by a Gumbel law as in `DailyMaximum`; then its days.

        values: MEASURED; laws: see `begin`
        learns: the numbers count for today's maxima, if they are above zero

        Returns STATISTICS. What days show together stands as it is; each hour counts once for what lasts.
        """
        maxima, day = self.maxima, hour // DAY
        if day != self.law_day:
            for law, prior in zip(maxima, laws, strict=True):
                if self.spoilt == self.law_day:
                    law[2] = 0.0
                _learn_day(law, prior[1])
            self.law_day = day
        found = []
        for value, law in zip(values, maxima, strict=True):
            mean, variance, peak, _ = law
            scale = math.sqrt(variance) / SD_OF_GUMBEL
            found.append((value - mean) / scale + EULER)
            if learns and value > peak:
                law[2] = value
        of_days = values[OF_DAYS]
        together = sum(of_days) / len(of_days)
        return [*found, together, self._sustained(hour, together)]

    def _sustained(self, hour: int, together: float) -> float:
        """How far the days have stood out together of late, one more hour taken up."""
        total, hours, before = self.sustained
        kept = math.exp((before - hour) / SUSTAINED_HOURS)
        total = total * kept + max(LEAST_TOGETHER, min(MOST_TOGETHER, together))
        hours = hours * kept + 1.0
        self.sustained = [total, hours, float(hour)]
        return total / (hours + SUSTAINED_PRIOR_HOURS)

    def follow(self, hour: int, members: Iterable[Member]) -> None:
        """Note who was blocked, and count the new keys that are like one of those."""
        self.fallen, returned = follow_blocked(self.fallen, hour, members)
        self.returned += returned


def _together(levels: Sequence[float]) -> float:
    """The mean of standardised levels, of which each counts within limits."""
    return sum(max(LEAST_TOGETHER, min(MOST_TOGETHER, value)) for value in levels) / len(levels)


def _learn_day(law: list[float], prior: float) -> None:
    """Take up the day's maximum, and begin a new day; a day without one teaches nothing."""
    mean, variance, peak, days = law
    law[2] = 0.0
    if peak <= 0:
        return
    law[0], law[1] = learned(mean, variance, peak, days, clip=MAXIMUM_CLIP, floor=SCALE_FLOOR**2 * prior)
    law[3] = days + 1


@lru_cache(maxsize=256)
def _decays(passed: int) -> tuple[float, float, float, float, float]:
    """What is left after so many hours: of recent, a day, a week, the long memory, and what returned."""
    recent, day, week, long, returned = (
        math.exp(-passed / memory) for memory in (RECENT_HOURS, DAY_HOURS, WEEK_HOURS, LONG_HOURS, RETURNED_HOURS)
    )
    return recent, day, week, long, returned


Speaking = list[tuple[str, float]]
"""The statistics that speak for a campaign in an hour, in decades, the strongest first."""


class Judged(msgspec.Struct):
    """What an hour showed of one group."""

    state: GroupState
    said: Hour
    score: float
    speaking: Speaking
    present: bool
    """The last hours, or yesterday, show it too: a window of days remembers a campaign that is over."""
    others: float = 0.0
    """See `GroupState.yesterday_of_others`."""

    @property
    def lead(self) -> str:
        """The statistic that speaks most, empty if none does."""
        return self.speaking[0][0] if self.speaking else ""
