"""The members of a group one by one: what each has shown, and who belongs to a campaign by that."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from stream.core.evidence import IS_YOUNG, REFUSED, Member

MOST_SUSPECTS = 512
"""Members that are looked at one by one; beyond them those with the least evidence are left out."""
LEAST_SHIFT = 0.3
EM_STEPS = 20
OWN_VARIANCE = 0.15
ALIKE_HOURS = 12


class Suspect(msgspec.Struct, array_like=True):
    """What a group's member has shown: sum of its z and how often, tokens above its baseline, and its notes.

    seen: the hour in which it spoke last
    """

    z: float
    times: int
    excess: float
    notes: int
    seen: int

    @property
    def mean(self) -> float:
        """Its mean z."""
        return self.z / self.times

    @property
    def variance(self) -> float:
        """Of the mean: the day's level of half a day later is another one, and a part of it is the key's own."""
        return OWN_VARIANCE + (1 - OWN_VARIANCE) / (1 + (self.times - 1) / ALIKE_HOURS)


def suspect(suspects: dict[str, Suspect], members: Iterable[Member], hour: int) -> None:
    """Take up what a group's members said in an hour."""
    for member in members:
        if member.notes & REFUSED and member.z == 0.0 and member.excess == 0.0:
            continue  # that it was blocked says nothing of what it took
        known = suspects.get(member.key_id)
        if known is None:
            suspects[member.key_id] = Suspect(member.z, 1, member.excess, member.notes, hour)
        else:
            known.z += member.z
            known.times += 1
            known.excess += member.excess
            known.notes |= member.notes
            known.seen = hour
    if len(suspects) > MOST_SUSPECTS:
        kept = sorted(suspects, key=lambda key_id: (-suspects[key_id].notes, -suspects[key_id].mean, key_id))
        for key_id in kept[MOST_SUSPECTS:]:
            del suspects[key_id]


def named(suspects: dict[str, Suspect], new: bool) -> list[str]:
    """Those that belong to it more likely than not, the strongest first.

    new: it is a campaign of new accounts: they are all named. Else the mean z of members is taken as a mixture of two
    normal laws, innocents about 0 and members about what the upper half shows; a few steps of expectation and
    maximisation find their shares. A mean's variance falls with the time that it covers, as far as hours are not alike.
    """
    if new:
        chosen = [key_id for key_id, one in suspects.items() if one.notes & IS_YOUNG]
    else:
        means = sorted(((one.mean, one.variance) for one in suspects.values()), reverse=True)
        if not means:
            return []
        upper = means[: max(1, len(means) // 2)]
        shift, share = max(sum(z for z, _ in upper) / len(upper), LEAST_SHIFT), 0.5
        for _ in range(EM_STEPS):
            odds = [_odds(z, variance, shift, share) for z, variance in means]
            total = sum(odds)
            share = min(max(total / len(means), 0.02), 0.99)
            shift = max(sum(o * z for o, (z, _) in zip(odds, means, strict=True)) / max(total, 1e-9), LEAST_SHIFT)
        chosen = [key_id for key_id, one in suspects.items() if _odds(one.mean, one.variance, shift, share) >= 0.5]
    return sorted(chosen, key=lambda key_id: (-suspects[key_id].excess, key_id))


def _odds(z: float, variance: float, shift: float, share: float) -> float:
    """Probability of being a member."""
    against = (1 - share) / share * math.exp(max(-50.0, min(50.0, (shift * shift / 2 - shift * z) / variance)))
    return 1 / (1 + against)
