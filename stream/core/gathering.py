"""What a shard's keys say of themselves as their buckets close, and how that becomes evidence, bucket by bucket."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from stream.core.arrivals import FALLEN_DAYS
from stream.core.baseline import INCIDENT_RATE
from stream.core.channels.shape import CALLS, LOGS, NEWCOMER_DAYS, Shape
from stream.core.evidence import (
    ALARMED,
    ALL,
    COUNT,
    FIRST,
    HAS_INCIDENT,
    HOT_Z,
    IS_YOUNG,
    KEYS,
    LEAVES,
    LENGTH,
    LENGTH_SQUARES,
    LEVEL,
    LEVEL_SQUARES,
    MOST_MEMBERS,
    NEW,
    PACE,
    RECENT_HOURS,
    REFUSALS,
    REFUSED,
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
    Cell,
    Evidence,
    Member,
    Word,
    leaf_of,
)  # fmt: skip
from stream.core.links import NO_TRAITS
from stream.core.linksrecord import Traits
from stream.core.rules import SHAPE

if TYPE_CHECKING:
    from stream.core.key import KeyState

CLIP: Final = 3.0
"""Beyond this a member says no more: one heavy key must not make a group."""
LEAST_LEVEL: Final = 1e-3


class Gathering:
    """Evidence of a shard's keys, bucket by bucket, until it is handed on; `watch` hears every word and its bucket."""

    __slots__ = ("_words", "shard", "watch")

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.watch: Callable[[int, Word], None] | None = None
        self._words: dict[int, list[Word]] = {}

    def add(self, key: KeyState, bucket: int) -> None:
        """Take the word of a key whose `bucket` has just been judged, if it is due.

        A key that had no call since it last spoke has nothing to say.
        """
        links = key.links
        if not links.used or not (key.moment.hourly or links.due):
            return
        links.due = False
        # buckets of an older state name no traits, nor does a call for which no place was left
        traits = links.since_bucket(bucket - key.rules.calendar.per_day) or (NO_TRAITS,)
        word = _word(key, bucket, traits, not links.spoke)
        self._words.setdefault(bucket, []).append(word)
        if self.watch is not None:
            self.watch(bucket, word)
        links.spoken()

    def fall(self, key: KeyState, bucket: int) -> None:
        """Tell of a key that is said to be blocked since `bucket`, the last one that has closed: silence may follow.

        One that was never used, or not for so long that groups would have forgotten it, is nobody's to be replaced.
        """
        per_day = key.rules.calendar.per_day
        traits = key.links.latest(per_day)
        if not traits or bucket - key.links.newest > FALLEN_DAYS * per_day:
            return
        level, length = _likeness(key)
        sums = [0.0] * COUNT
        sums[REFUSALS] = 1.0
        word = Word(key.key_id, traits, sums, {}, Member(key.key_id, 0.0, 0.0, level, length, REFUSED))
        self._words.setdefault(bucket, []).append(word)
        if self.watch is not None:
            self.watch(bucket, word)

    def hand_on(self, first: int, limit: int, per_hour: int) -> list[Evidence]:
        """Everything of the buckets that have closed, [first, limit); where an hour has ended, that it is complete."""
        found = evidence_of(self.shard, self._words)
        self._words = {}
        if first // per_hour != limit // per_hour:
            if found and found[-1].bucket == limit - 1:
                found[-1].complete = True
            else:
                found.append(Evidence(self.shard, limit - 1, [], complete=True))
        return found


def evidence_of(shard: int, words: Mapping[int, Sequence[Word]]) -> list[Evidence]:
    """What the words of a shard's keys, by bucket, come to; in order of time."""
    return [Evidence(shard, bucket, _cells(words[bucket])) for bucket in sorted(words)]


def _word(key: KeyState, bucket: int, traits: tuple[Traits, ...], new: bool) -> Word:
    sums = [0.0] * COUNT
    moment, since = key.moment, key.links.since
    tokens, expected, sums[USED_OUTPUT], sums[SPENT], calls = since
    sums[USED], sums[USUAL], sums[ALL] = tokens, expected, 1.0
    notes = 0
    z = departure = precision = 0.0
    usual = key.baseline.call_tokens.value
    pace, days = key.pace, key.days
    hour = bucket // key.rules.calendar.per_hour
    rate = 1.0 if key.incident is None else INCIDENT_RATE
    if usual > 0:
        pace.take(hour, expected / usual, calls)
    if moment.warm and moment.hourly:  # else nobody has asked the slow channels: what they hold is no state
        z = _clip(key.channels[1].z[1])
        weight = 1 / max(1.0, RECENT_HOURS * _hours_used(key))
        sums[KEYS], sums[Z_40M], sums[Z_4H] = 1.0, _clip(key.surge.z[1]), _clip(key.channels[1].z[0])
        sums[WEIGHT] = weight
        sums[WEIGHTED_HOT] = weight if z > HOT_Z else 0.0
        if usual > 0 and moment.age_days > NEWCOMER_DAYS:
            of_days = days.departures()
            place = PACE
            for above, variance in (pace.departure(), *of_days):
                sums[place] = weight / variance
                sums[place + 1] = weight * above / variance
                place += 2
            if of_days:
                yesterday, variance = of_days[0]
                z = max(z, yesterday / math.sqrt(variance))
                if days.day == bucket // key.rules.calendar.per_day:  # else it is of a day before that
                    departure, precision = yesterday, 1 / variance
            pace.learn(rate)
    if key.incident is not None:
        sums[ALARMED] = 1.0
        notes |= HAS_INCIDENT
    level, length = _likeness(key)
    if moment.age_days <= NEWCOMER_DAYS:
        notes |= IS_YOUNG
        sums[YOUNG] = 1.0
        if new:
            sums[FIRST] = 1.0
            notes |= NEW
        sums[YOUNG_TOKENS], sums[YOUNG_USUAL] = tokens, expected
        sums[LEVEL], sums[LEVEL_SQUARES] = level, level * level
        if length >= 0:
            sums[SHAPED], sums[LENGTH], sums[LENGTH_SQUARES] = 1.0, length, length * length
    if key.links.refused or key.rules.control.is_blocked(key.key_id, bucket):
        notes |= REFUSED
        sums[REFUSALS] = 1.0
    models = key.links.models
    total = sum(models.values())
    shares = {name: calls / total for name, calls in models.items()} if total else {}
    member = Member(key.key_id, z, tokens - expected, level, length, notes, departure, precision)
    return Word(key.key_id, traits, sums, shares, member)


def _likeness(key: KeyState) -> tuple[float, float]:
    """What a key is like: ln of its usual tokens per second, and the mean log length of its answers, -1 if unknown."""
    shape = key.channels[SHAPE]
    assert isinstance(shape, Shape)
    window = shape.windows[1]
    level = math.log(max(key.baseline.level.value / key.rules.settings.bucket_seconds, LEAST_LEVEL))
    return level, window[LOGS] / window[CALLS] if window[CALLS] > 0 else -1.0


def _hours_used(key: KeyState) -> float:
    """The share of hours in which the key is used, from the share of its buckets, as if those came at random."""
    used: float = 1 - (1 - min(key.presence.long_share, 1.0)) ** key.rules.calendar.per_hour
    return used


def _clip(z: float) -> float:
    return CLIP if z > CLIP else -CLIP if z < -CLIP else z


def _cells(words: Iterable[Word]) -> list[Cell]:
    """Keys with the same traits together, in an order of their own: keys are closed in none.

    Those that only tell of their block have cells of their own behind the others, since it counts from the bucket's end
    on; these name them all, for it is not told again.
    """
    used: dict[tuple[Traits, ...], list[Word]] = {}
    silent: dict[tuple[Traits, ...], list[Word]] = {}
    for word in sorted(words, key=lambda word: word.key_id):
        (used if word.sums[ALL] else silent).setdefault(word.traits, []).append(word)
    parts = [*used.items()]
    for traits, alike in silent.items():
        parts += [(traits, alike[at : at + MOST_MEMBERS]) for at in range(0, len(alike), MOST_MEMBERS)]
    return [_cell(number, traits, alike) for number, (traits, alike) in enumerate(parts)]


def _cell(number: int, traits: tuple[Traits, ...], words: list[Word]) -> Cell:
    sums = (
        words[0].sums
        if len(words) == 1
        else [math.fsum(values) for values in zip(*(w.sums for w in words), strict=True)]
    )
    members = [word.member for word in words]
    if len(members) > MOST_MEMBERS:
        members = _foremost(members)
    names = sorted({name for word in words for name in word.models})
    models = {name: math.fsum(word.models.get(name, 0.0) for word in words) for name in names}
    return Cell(number, list(traits), sums, models, sorted(leaf_of(word.key_id) for word in words)[:LEAVES], members)


def _foremost(members: list[Member]) -> list[Member]:
    """MOST_MEMBERS of them: the refused, the new, and the strongest; neither of the first two at the other's cost."""
    members.sort(key=lambda member: (-(member.notes & NEW), -member.z, member.key_id))
    refused = [member for member in members if member.notes & REFUSED]
    others = [member for member in members if not member.notes & REFUSED]
    refused = refused[: max(MOST_MEMBERS // 2, MOST_MEMBERS - len(others))]
    return [*refused, *others[: MOST_MEMBERS - len(refused)]]
