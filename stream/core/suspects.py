"""The members of a group one by one: what each has shown, and who belongs to a campaign by that.

Hour by hour a key tells how far it is above what is usual for it; that is there at once, but a baseline that learns
makes it less, and it is not the same for keys that vary more. So each tells once a day, too, how far its last day lay
above those of the weeks before (see `days`): after a few days that says better who belongs to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from stream.core.days import WEEK, WEEKS
from stream.core.evidence import IS_YOUNG, REFUSED, Member

Family = Literal["more", "new", "moved"]
"""What a campaign is of: more of what there was, new accounts, another model."""
DAY_HOURS = 24
MOST_SUSPECTS = 512
"""Members that are looked at one by one; beyond them those with the least evidence are left out."""
EM_STEPS = 30
OWN_VARIANCE = 0.15
ALIKE_HOURS = 12
ALIKE_DAYS = 1.25
"""The variance of a mean of days, to what it were if days that follow each other had nothing in common."""
LEAST_PRECISION = 5.0
"""From then on days decide about a key: three or four of a usual one."""
KNOWN_SHARE = 0.5
"""Of the keys: of fewer days make no mixture."""
FADING = 0.8
"""Of what days told before there was a campaign, from day to day."""
LEAD_DAYS = 3
"""A campaign has mostly begun so long before it shows."""
LEAST_SHARE, MOST_SHARE = 0.02, 0.99
"""Of members, in a mixture: nobody's belonging is ruled out, or taken for granted."""


class Measure(NamedTuple):
    """What is known of a mixture of members and innocents before one is looked at.

    least: the mean of members, at least; weigh: they have about the same, so that those that are known better say more
    of it (a key's mean z is more of its own than its variance tells); either: keys that are taken to have been seen of
    either kind
    """

    least: float
    weigh: bool
    either: float


BY_HOUR = Measure(0.3, weigh=False, either=0.0)
BY_DAY = Measure(0.1, weigh=True, either=1.0)


class Suspect(msgspec.Struct, array_like=True):
    """What a group's member has shown.

    z, times: the sum of its z, and how often it spoke; notes: of all that it said; excess: the most that its tokens
    above its baseline, less those below it, have been; net: what they are now, None: the same
    seen: the hour in which it spoke last; day: the one (since 1970) in which it told the last of its days, -1: none;
    weighted, precision: sums of a least-squares fit to these, so that the one by the other is its mean departure
    """

    z: float
    times: int
    excess: float
    notes: int
    seen: int
    weighted: float = 0.0
    precision: float = 0.0
    day: int = -1
    net: float | None = None

    @property
    def mean(self) -> float:
        """Its mean z."""
        return self.z / self.times

    @property
    def variance(self) -> float:
        """Of the mean: the day's level of half a day later is another one, and a part of it is the key's own."""
        return OWN_VARIANCE + (1 - OWN_VARIANCE) / (1 + (self.times - 1) / ALIKE_HOURS)

    @property
    def standing(self) -> float:
        """How far it stands out, in standard deviations, by hours or by days."""
        return max(self.mean, self.weighted / math.sqrt(ALIKE_DAYS * self.precision) if self.precision > 0 else 0.0)

    def add_day(self, member: Member, day: int, others: float, since: int | None) -> None:
        """Take up how far its last day departs: it says so in each hour of a day, and that counts once.

        others: how far those of all other keys depart
        since: the day of its group's campaign, None: it has none, and what was weeks ago says nothing of one that comes

        After a week one of the three that a day is compared with has the rise of a campaign as well, so that a third of
        it shows no more, and after three weeks nothing: then all begins anew.
        """
        if member.precision <= 0 or day == self.day:
            return
        shows = 1.0
        if since is None:
            self.weighted *= FADING
            self.precision *= FADING
        else:
            # most begin some days before they show
            weeks, before = ((one - since + LEAD_DAYS) // WEEK for one in (day, self.day))
            if weeks // WEEKS > max(before, 0) // WEEKS:
                self.weighted = self.precision = 0.0
            shows = 1 - weeks % WEEKS / WEEKS
        self.day = day
        self.weighted += shows * member.precision * (member.departure - others)
        self.precision += shows * shows * member.precision


def suspect(
    suspects: dict[str, Suspect], members: Iterable[Member], hour: int, *, others: float = 0.0, since: int | None = None
) -> None:
    """Take up what a group's members said in an hour.

    others: how far yesterday's tokens of all other keys depart from what they are compared with
    since: the hour in which its campaign opened, None: it has none
    """
    since_day = None if since is None else since // DAY_HOURS
    for member in members:
        if member.notes & REFUSED and member.z == 0.0 and member.excess == 0.0:
            continue  # that it was blocked says nothing of what it took
        known = suspects.get(member.key_id)
        if known is None:
            known = suspects[member.key_id] = Suspect(member.z, 1, member.excess, member.notes, hour)
        else:
            known.z += member.z
            known.times += 1
            known.net = member.excess + (known.excess if known.net is None else known.net)
            known.excess = max(known.excess, known.net)
            known.notes |= member.notes
            known.seen = hour
        if not member.notes & REFUSED:  # of a day that a block has cut short nothing follows
            known.add_day(member, hour // DAY_HOURS, others, since_day)
    if len(suspects) > MOST_SUSPECTS:
        kept = sorted(suspects, key=lambda key_id: (-suspects[key_id].notes, -suspects[key_id].standing, key_id))
        for key_id in kept[MOST_SUSPECTS:]:
            del suspects[key_id]


def named(suspects: dict[str, Suspect], family: Family) -> list[str]:
    """Those that belong to it more likely than not; who took most above what is usual comes first.

    family: of a campaign of new accounts all of these are named. Where there is more of what there was, days decide
    about the keys of which enough are known, once these are KNOWN_SHARE of all and unless they name nobody, and the
    mean z about the others; of another model tokens tell little, so that is left to the hours. Either as a mixture, see
    `_members`.
    """
    if family == "new":
        chosen = [key_id for key_id, one in suspects.items() if one.notes & IS_YOUNG]
    else:
        by_day = {key_id: one for key_id, one in suspects.items() if one.precision >= LEAST_PRECISION}
        chosen = []
        if family == "more" and len(by_day) >= KNOWN_SHARE * len(suspects):
            means = [
                (key_id, one.weighted / one.precision, ALIKE_DAYS / one.precision) for key_id, one in by_day.items()
            ]
            chosen = _members(means, BY_DAY)
        if not chosen or len(by_day) < len(suspects):
            decided = by_day.keys() if chosen else ()
            means = [(key_id, one.mean, one.variance) for key_id, one in suspects.items()]
            chosen += [key_id for key_id in _members(means, BY_HOUR) if key_id not in decided]
    return sorted(chosen, key=lambda key_id: (-suspects[key_id].excess, key_id))


def _members(means: list[tuple[str, float, float]], measure: Measure) -> list[str]:
    """The keys that are members more likely than not.

    means: of each key its mean and the variance of that: a mixture of two normal laws, innocents about 0 and members
    about something above. Steps of expectation and maximisation (Dempster, Laird and Rubin 1977), begun at the mean of
    the upper half, find that and the share of members.
    """
    if not means:
        return []
    means = sorted(means)
    upper = sorted((mean for _, mean, _ in means), reverse=True)[: max(1, len(means) // 2)]
    shift, share = max(sum(upper) / len(upper), measure.least), 0.5
    for _ in range(EM_STEPS):
        total = weights = weighted = 0.0
        for _, mean, variance in means:  # in order: sums of floats depend on it
            odds = _odds(mean, variance, shift, share)
            weight = odds / variance if measure.weigh else odds
            total += odds
            weights += weight
            weighted += weight * mean
        share = (total + measure.either) / (len(means) + 2 * measure.either)
        share = min(max(share, LEAST_SHARE), MOST_SHARE)
        shift = max(weighted / max(weights, 1e-9), measure.least)
    return [key_id for key_id, mean, variance in means if _odds(mean, variance, shift, share) >= 0.5]


def _odds(mean: float, variance: float, shift: float, share: float) -> float:
    """Probability of being a member."""
    against = (1 - share) / share * math.exp(max(-50.0, min(50.0, (shift * shift / 2 - shift * mean) / variance)))
    return 1 / (1 + against)
