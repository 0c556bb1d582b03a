"""What a detector's alarms are worth on a labelled world: false alerts by key-day, and what became of each attack.

Definitions. A key-day is a UTC day with at least one accepted call, after the key's seventh day and the warm-up of the
world, that no attack of the key (nor the two days after it) and no look-alike (nor the day after it) touches. Alarms of
a key within six hours of its last one are one alert. An attack is found if an incident of its key opens between its
start and one hour after its end; one that had been open before the start finds nothing, however long it lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream.lab.evaluation.detector import Alarm
from stream.lab.evaluation.keydays import AFTER_LOOKALIKE_DAYS, KeyDays, Kind, key_days
from stream.lab.worlds.world import Episode, World

MERGE_SECONDS = 6 * 3600
"""Whoever looked at an alert does not look again so soon."""
GRACE_SECONDS = 3600
"""An attack is still worth finding so long after its end."""


@dataclass(frozen=True, slots=True)
class Line:
    """Key-days of one kind, and the alerts and pages on them, each merged over MERGE_SECONDS."""

    key_days: int = 0
    alerts: int = 0
    pages: int = 0

    def __add__(self, other: Line) -> Line:
        return Line(self.key_days + other.key_days, self.alerts + other.alerts, self.pages + other.pages)


@dataclass(frozen=True, slots=True)
class Lookalike:
    """What became of one look-alike: its alerts (merged), and whether one of them was a page."""

    family: str
    alerts: int
    paged: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attack.

    tokens, gone: what it took, and how much of that before its first alert (all, if it was not found)
    delay_seconds: from its start to the first alert, None if it was not found
    alerts: incidents that opened during it, as a user got them, not merged
    paged: one of its incidents became high or critical
    covered: an earlier incident was still open at its start
    chance: the same key, not attacked, has an alert at that time; None where that was not tried
    attainable: the chance that an oracle finds it; None where none is known
    by_days: whether its days show it, by what is known then; None where that was not tried
    """

    episode: Episode
    tokens: int
    gone: int
    delay_seconds: float | None
    alerts: int
    paged: bool
    covered: bool
    chance: bool | None = None
    attainable: float | None = None
    by_days: bool | None = None

    @property
    def found(self) -> bool:
        """An incident opened in time."""
        return self.delay_seconds is not None


@dataclass(frozen=True, slots=True)
class Scores:
    """The counts of one detector on one world, or on several."""

    clean: Line
    young: Line
    lookalikes: tuple[Lookalike, ...]
    attacks: tuple[Outcome, ...]

    def __add__(self, other: Scores) -> Scores:
        return Scores(
            self.clean + other.clean,
            self.young + other.young,
            self.lookalikes + other.lookalikes,
            self.attacks + other.attacks,
        )


def score(world: World, alarms: Sequence[Alarm], twin_alarms: Sequence[Alarm] | None = None) -> Scores:
    """Count a world's alarms; `twin_alarms` are those of its attacked keys in the same world without the attacks."""
    days = key_days(world)
    by_key = _by_key(alarms)
    twin = None if twin_alarms is None else _by_key(twin_alarms)
    return Scores(
        clean=line(world, days, alarms, Kind.CLEAN),
        young=line(world, days, alarms, Kind.YOUNG),
        lookalikes=tuple(
            _lookalike(world, days, episode, by_key.get(episode.key, []))
            for episode in world.lookalikes
            if episode.first >= world.first_day * world.per_day
        ),
        attacks=tuple(
            outcome(world, episode, by_key.get(episode.key, []), None if twin is None else twin.get(episode.key, []))
            for episode in counted(world)
        ),
    )


def counted(world: World) -> tuple[Episode, ...]:
    """The attacks behind the warm-up, in the world's order."""
    return tuple(episode for episode in world.attacks if episode.first >= world.first_day * world.per_day)


def line(world: World, days: KeyDays, alarms: Iterable[Alarm], kind: Kind) -> Line:
    """The key-days of a kind, and what fell on them."""
    alerts: dict[int, list[int]] = {}
    pages: dict[int, list[int]] = {}
    for alarm in alarms:
        if days.kind(alarm.detected, alarm.key) == kind:
            alerts.setdefault(alarm.key, []).append(alarm.detected)
        if alarm.paged is not None and days.kind(alarm.paged, alarm.key) == kind:
            pages.setdefault(alarm.key, []).append(alarm.paged)
    gap = MERGE_SECONDS // world.bucket_seconds
    return Line(
        days.count(kind),
        sum(merged(rows, gap) for rows in alerts.values()),
        sum(merged(rows, gap) for rows in pages.values()),
    )


def merged(rows: Iterable[int], gap: int) -> int:
    """How many alerts are left where those within `gap` of the last one, shown or not, are one with it.

    >>> merged([0, 50, 100, 200], gap=72)
    2
    """
    last, count = -np.inf, 0
    for row in sorted(rows):
        count += row - last > gap
        last = row
    return count


def outcome(world: World, episode: Episode, alarms: Sequence[Alarm], twin: Sequence[Alarm] | None) -> Outcome:
    """What became of one attack, by the alarms of its key."""
    taken = world.attack_tokens[episode.first : episode.last, episode.key]
    end = episode.last + GRACE_SECONDS // world.bucket_seconds
    during = [alarm for alarm in alarms if episode.first <= alarm.detected < end]
    first = min((alarm.detected for alarm in during), default=None)
    total = int(taken.sum())
    return Outcome(
        episode=episode,
        tokens=total,
        gone=total if first is None else int(taken[: first - episode.first + 1].sum()),
        delay_seconds=None if first is None else float((first + 1 - episode.first) * world.bucket_seconds),
        alerts=len(during),
        paged=any(alarm.paged is not None and alarm.paged < end for alarm in during),
        covered=any(a.detected < episode.first and (a.resolved is None or a.resolved >= episode.first) for a in alarms),
        chance=None if twin is None else any(episode.first <= alarm.detected < end for alarm in twin),
    )


def with_attainable(scores: Scores, chances: Sequence[float | None], by_days: Sequence[bool | None]) -> Scores:
    """The same, with what an oracle attains of each attack, and what its days show, in their order."""
    beside = zip(scores.attacks, chances, by_days, strict=True)
    return replace(scores, attacks=tuple(replace(found, attainable=c, by_days=seen) for found, c, seen in beside))


def _lookalike(world: World, days: KeyDays, episode: Episode, alarms: Sequence[Alarm]) -> Lookalike:
    end = min(episode.last + AFTER_LOOKALIKE_DAYS * world.per_day, len(world.calls))
    during = [
        alarm
        for alarm in alarms
        if episode.first <= alarm.detected < end and days.kind(alarm.detected, episode.key) == Kind.LOOKALIKE
    ]
    rows = (alarm.detected for alarm in during)
    return Lookalike(
        episode.family, merged(rows, MERGE_SECONDS // world.bucket_seconds), any(a.paged is not None for a in during)
    )


def _by_key(alarms: Iterable[Alarm]) -> dict[int, list[Alarm]]:
    found: dict[int, list[Alarm]] = {}
    for alarm in alarms:
        found.setdefault(alarm.key, []).append(alarm)
    return found
