"""The new keys of a group: how unlikely so many are, how alike they are, and whom of the blocked ones they replace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from stream.core.evidence import NEW, REFUSED, Member
from stream.core.priors import Normal

DAY_HOURS = 24.0
WEEK_HOURS = 168.0
LONG_HOURS = 60 * 24.0
"""Memory of how many keys a group usually gains."""
LEAST_KEYS = 3
"""Fewer keys are no group."""
PRIOR_ARRIVALS = 0.5
ARRIVAL_PRIOR_DAYS = 4.0
"""A group that is just seen for the first time is taken to gain a key every other day, as if for so many days."""
HOMOGENEOUS = 0.05
LENGTH_SD = 1.3
"""Of the mean log length of answers, over the keys of the population (real clients: 1.6 over all, less per model)."""
MOST_DECADES = 30.0
FALLEN_DAYS = 14
MOST_FALLEN = 64
LEVEL_BELOW, LEVEL_ABOVE = 1.5, 3.5
"""How far a new key's level may be from a blocked one's: of a key's first minutes it is much too high."""
LENGTH_DISTANCE = 0.6
MATCHED = 0.3
"""Share of new keys that are like a blocked one by chance."""
RETURNED_HOURS = 72.0


class Fallen(msgspec.Struct, array_like=True):
    """A member that was blocked: since which hour, and what it was like."""

    key_id: str
    hour: int
    level: float
    length: float


def usual_arrivals(arrivals: Sequence[float], age: float) -> float:
    """New keys a day that a group gained before the last week.

    arrivals: new keys within a day, a week and LONG_HOURS, fading; age: days since it was seen first
    """
    _, week, long = arrivals
    age = min(age, LONG_HOURS / DAY_HOURS)
    return (ARRIVAL_PRIOR_DAYS * PRIOR_ARRIVALS + max(long - week, 0.0)) / (ARRIVAL_PRIOR_DAYS + max(age - 7, 0.0))


def newcomers(arrivals: Sequence[float], usual: float, young: Sequence[float], population: Normal) -> float:
    """How unlikely so many new keys are, and that they are so alike, in decades.

    Arrivals by a geometric law, for keys come in batches; likeness by the ratio of the likelihoods of their levels
    and lengths under their own spread and under the population's.

    usual: see `usual_arrivals`
    young: of the young keys of a day their number, tokens, level, its square, those with a known length, length and its
        square
    population: the law of ln tokens per second over all keys
    """
    today, week, _ = arrivals
    if week < LEAST_KEYS - 0.5:
        return 0.0
    decades = max(
        count * math.log10((1 + mean) / mean) for count, mean in ((today, usual), (week, usual * 7)) if mean > 0
    )
    n, _, level, level_squares, shaped, length, length_squares = young
    alike = 0.0
    if n >= LEAST_KEYS:
        alike += _likeness(n, level, level_squares, population.sd**2)
    if shaped >= LEAST_KEYS:
        alike += _likeness(shaped, length, length_squares, LENGTH_SD**2)
    # per key, for they speak many times a day
    return min(decades + min(week, n) * max(alike, 0.0) / math.log(10), MOST_DECADES)


def respawn(returned: float, usual: float) -> float:
    """How unlikely it is that so many new keys are like blocked ones by chance, in decades; usual: arrivals a day."""
    mean = usual * RETURNED_HOURS / DAY_HOURS * MATCHED
    return returned * math.log10((1 + mean) / mean)


def follow_blocked(fallen: list[Fallen], hour: int, members: Iterable[Member]) -> tuple[list[Fallen], int]:
    """The blocked ones after an hour in which members said this, and how many new keys are like one of them."""
    fallen = [one for one in fallen if hour - one.hour <= FALLEN_DAYS * DAY_HOURS]
    returned = 0
    for member in members:
        if member.notes & REFUSED:
            fallen = [one for one in fallen if one.key_id != member.key_id]
            fallen = [*fallen, Fallen(member.key_id, hour, member.level, member.length)][-MOST_FALLEN:]
        elif member.notes & NEW:
            like = next((one for one in fallen if _is_like(one, member)), None)
            if like is not None:
                fallen.remove(like)  # each is taken up once
                returned += 1
        else:
            # it is not blocked after all
            fallen = [one for one in fallen if one.key_id != member.key_id]
    return fallen, returned


def _likeness(n: float, total: float, squares: float, variance: float) -> float:
    """Per key, the log of how much better their own spread fits n values than the population's variance."""
    mean = total / n
    own = max(squares / n - mean * mean, 0.0) + HOMOGENEOUS * variance
    ratio = own / variance
    return 0.5 * (ratio - 1 - math.log(ratio)) if ratio < 1 else 0.0


def _is_like(fallen: Fallen, member: Member) -> bool:
    if member.length >= 0 and fallen.length >= 0 and abs(member.length - fallen.length) > LENGTH_DISTANCE:
        return False
    return -LEVEL_BELOW <= member.level - fallen.level <= LEVEL_ABOVE
