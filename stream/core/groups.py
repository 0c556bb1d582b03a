"""All groups of an installation: what shards tell of their keys goes in, hour by hour, and campaigns come out.

An hour closes when every shard has told that it is complete, and its cells are summed in the order of buckets and
shards: so neither the order in which shards arrive nor who runs them can matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from stream.alerts import Alert, reading_order
from stream.core.campaigns import Campaigns, Judged
from stream.core.evidence import FIRST, REFUSALS, Evidence, leaf_of
from stream.core.group import STATISTICS, WEEK_HOURS, GroupState
from stream.core.grouppriors import LEAST_DECADES, GroupPriors, shipped_group_priors
from stream.core.grouprecord import (
    CAMPAIGN,
    GROUP,
    HEAD_KEY,
    GroupHead,
    Written,
    group_of,
    name_of,
    pack,
    unpack_group,
    unpack_head,
    unpack_written,
)
from stream.core.hours import Hour, Said
from stream.core.links import Group
from stream.core.priors import Priors, priors_of
from stream.core.shardrecord import StateError
from stream.core.sketch import joined
from stream.settings import Settings

MOST_ORGS = 16
SPOILT_SCORE = 0.75
"""A day with so much of the score that opens a campaign teaches nothing about usual days."""
EVICTED_SHARE = 0.02

GroupWatch = Callable[[GroupState, int, Hour, Sequence[float], Sequence[float], float], None]
"""Hears every judgement: the group, the hour, what was said, statistics, the same standardised, the score."""


@dataclass(slots=True)
class GroupStep:
    """What happened: hours that were closed, alerts, and how much evidence was about hours that had closed before."""

    hours: int = 0
    stale: int = 0
    alerts: list[Alert] = field(default_factory=list)


class Groups:
    """All groups and their campaigns; `priors` are those of groups.

    `expect` names the shards whose word is waited for; evidence comes in by `observe`, or by `take` and `close` where
    nothing is stored. `watch` hears every judgement.
    """

    def __init__(
        self,
        settings: Settings,
        priors: GroupPriors | None = None,
        *,
        key_priors: Priors | None = None,
        watch: GroupWatch | None = None,
    ) -> None:
        self.settings = settings
        self.priors = priors or shipped_group_priors()
        self._population = (key_priors or priors_of(settings)).population["level"]
        self._watch = watch
        self._per_hour = 3600 // settings.bucket_seconds
        self._composites = settings.composites
        self.campaigns = Campaigns(settings, self.priors)
        self.applied = -1
        """Last position of the evidence topic that was taken, -1 before the first."""
        self._positions: dict[int, int] = {}
        """By hour, the first position of what was told of it."""
        self._ahead: int | None = None
        self._dirty: set[Group] = set()
        self._gone: set[Group] = set()
        self._changed = False
        self._records: dict[bytes, bytes] = {}
        """What is being taken up."""
        self._expected: set[int] = set()
        self._done: dict[int, int] = {}
        """For each shard the first bucket that it has not told to be complete."""
        self._pending: dict[int, list[Evidence]] = {}
        """By hour, what was told of hours that are not closed."""
        self.next_hour = -1
        """The first hour that is not closed, -1 before the first."""
        self.first_hour = -1
        self._groups: dict[Group, GroupState] = {}
        self._all = GroupState("all", "", 0, 0)
        self._all.begin(self.priors.laws)

    # ------------------------------------------------------------------ what it is asked

    def __len__(self) -> int:
        return sum(not state.is_small for state in self._groups.values())

    def __iter__(self) -> Iterator[GroupState]:
        """The groups that are large enough to be watched."""
        return (state for state in self._groups.values() if not state.is_small)

    @property
    def read_from(self) -> int:
        """First position to read after `taken_up`: the oldest evidence of an hour that is not closed."""
        return min([self.applied + 1, *self._positions.values()])

    def behind(self) -> dict[int, int]:
        """The expected shards that hours wait for, each with the first bucket that it has not told to be complete."""
        front = max(self._done.values(), default=0) // self._per_hour
        return {
            shard: self._done.get(shard, 0)
            for shard in sorted(self._expected)
            if self._done.get(shard, 0) // self._per_hour < front
        }

    # ------------------------------------------------------------------ what it is told

    def expect(self, shards: Iterable[int]) -> None:
        """Hours are to wait for these shards too."""
        self._expected.update(shards)

    def observe(self, evidence: Iterable[tuple[int, Evidence]], upto: int) -> GroupStep:
        """Apply evidence in the order of its topic, each with its position; `upto` is the last position of the chunk.

        Positions not above `applied` are a re-reading after a restart: what they tell of closed hours was taken.
        """
        stale = 0
        for position, part in evidence:
            stale += self._take(part, position) and position > self.applied
        if upto > self.applied:
            self.applied = upto
            self._changed = True
        step = self.close()
        step.stale = stale
        return step

    def take(self, evidence: Iterable[Evidence]) -> None:
        """Take up what shards tell, where nothing is stored."""
        for part in evidence:
            self._take(part, 0)

    def _take(self, part: Evidence, position: int) -> bool:
        """Take up what a shard tells; True if it is about an hour that has closed."""
        self._expected.add(part.shard)
        hour = part.bucket // self._per_hour
        stale = bool(part.cells) and hour < self.next_hour
        if part.cells and not stale:
            self._pending.setdefault(hour, []).append(part)
            self._positions[hour] = min(position, self._positions.get(hour, position))
        if part.complete:
            self._done[part.shard] = max(self._done.get(part.shard, 0), part.bucket + 1)
        return stale

    def announce(self, hour: int) -> None:
        """Plan to close all hours before `hour` though shards are missing: the next `changes` carries it."""
        self._ahead = hour
        self._changed = True

    def advance(self) -> GroupStep:
        """Do what was announced; without that, nothing happens."""
        ahead, self._ahead = self._ahead, None
        self._changed = True
        return GroupStep() if ahead is None else self.close(to=ahead)

    def close(self, *, to: int | None = None) -> GroupStep:
        """Close the hours that every expected shard has told to be complete, or all before hour `to`, come what may."""
        step = GroupStep()
        limit = to
        if limit is None:
            if not self._expected or any(shard not in self._done for shard in self._expected):
                return step
            limit = min(self._done[shard] for shard in self._expected) // self._per_hour
        missing = any(self._done.get(shard, 0) < limit * self._per_hour for shard in self._expected)
        if self.next_hour < 0:
            if not self._pending and not self._done:
                return step
            self.next_hour = self.first_hour = min(min(self._pending, default=limit), limit)
        while self.next_hour < limit:
            hour = self.next_hour
            if hour not in self._pending and not self.campaigns.open:
                # nobody spoke and nothing is open: on to the next hour with something in it
                self.next_hour = min(min(self._pending, default=limit), limit)
                continue
            self._positions.pop(hour, None)
            step.alerts += self._close_hour(hour, self._pending.pop(hour, []), missing)
            self.next_hour = hour + 1
            self._changed = True
            step.hours += 1
        step.alerts.sort(key=reading_order)
        return step

    # ------------------------------------------------------------------ state

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """Records (key, value) for the state topic since the last call, None: it is gone; the head comes last.

        Empty when nothing changed. After a failed write the object must be thrown away and loaded again.
        """
        if not self._changed:
            return []
        self._changed = False
        records: list[tuple[bytes, bytes | None]] = [(name_of(GROUP, group), None) for group in sorted(self._gone)]
        campaigns = self.campaigns
        self._dirty |= campaigns.settled
        records += [(name_of(GROUP, group), pack(self._groups[group])) for group in sorted(self._dirty)]
        for group in sorted(campaigns.changed):
            campaign, suspects = campaigns.open.get(group), campaigns.suspects.get(group)
            written = None if campaign is None and not suspects else pack(Written(campaign, suspects or {}))
            records.append((name_of(CAMPAIGN, group), written))
        self._dirty.clear()
        self._gone.clear()
        campaigns.changed.clear()
        campaigns.settled.clear()
        records.append((HEAD_KEY, pack(self._head())))
        return records

    def _head(self) -> GroupHead:
        return GroupHead(
            digest=self.settings.state_digest,
            applied=self.applied,
            read_from=self.read_from,
            next_hour=self.next_hour,
            first_hour=self.first_hour,
            done=self._done,
            expected=sorted(self._expected),
            everybody=self._all,
            groups=len(self._groups),
            ahead=self._ahead,
        )

    def take_up(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take up the next records of the state topic: the last of each name holds."""
        for name, value in records:
            if value is None:
                self._records.pop(name, None)
            else:
                self._records[name] = value

    def taken_up(self) -> GroupStep:
        """All records have been given to `take_up`; returns what an announced step did.

        Raises StateError on a newer version, on damage, or when settings have changed that make states incomparable.
        """
        records, self._records = self._records, {}
        packed = records.pop(HEAD_KEY, None)
        if packed is None:
            if records:
                raise StateError("there are groups but no head: the state topic of groups is damaged")
            return GroupStep()
        head = unpack_head(packed)
        if head.digest != self.settings.state_digest:
            raise StateError(
                "the groups were learned with another number of partitions or another bucket length: set it back, or "
                "begin anew with another group_state_topic"
            )
        self.applied, self.next_hour, self.first_hour = head.applied, head.next_hour, head.first_hour
        self._done, self._all, self._ahead = head.done, head.everybody, head.ahead
        self._expected.update(head.expected)
        for name, value in records.items():
            if name[:1] == GROUP:
                state = unpack_group(value)
                self._groups[state.group] = state
            elif name[:1] == CAMPAIGN:
                written = unpack_written(value)
                if written.campaign is not None:
                    written.campaign.suspects = written.suspects
                self.campaigns.take_up(group_of(name), written.campaign, written.suspects)
        if len(self._groups) != head.groups:
            raise StateError(
                f"the state topic of groups holds {len(self._groups)} of {head.groups} groups: it was deleted, cut or "
                "not compacted but expired"
            )
        self._positions = {} if head.read_from > head.applied else {head.next_hour: head.read_from}
        return self.advance() if self._ahead is not None else GroupStep()

    # ------------------------------------------------------------------ an hour

    def _close_hour(self, hour: int, parts: list[Evidence], incomplete: bool) -> list[Alert]:
        young = hour - self.first_hour < WEEK_HOURS
        said = Said(parts, self._composites)
        if said.spoken:
            if self._all.first == 0:
                self._all.first = self._all.last = hour
            self._all.take(hour, _without_first(said.everybody, young))
        judged: dict[Group, Judged] = {}
        for group in sorted(said.groups):
            own = _without_first(said.groups[group], young)
            state = self._met(group, hour, own)
            if state is not None:
                judged[group] = self._judge(state, hour, own, said.everybody, young)
        alerts = self.campaigns.follow(hour, judged, said.spoken, self._groups, groups=len(self), incomplete=incomplete)
        if len(self._groups) > self.settings.max_groups:
            self._evict()
        return alerts

    def _met(self, group: Group, hour: int, said: Hour) -> GroupState | None:
        """The group, moved by an hour; None while it is too small to be one."""
        state = self._groups.get(group)
        if state is None:
            state = self._groups[group] = GroupState(*group, hour, hour)
            self._gone.discard(group)
            self._dirty.add(group)
        if state.is_small:
            if state.meet(hour, said):
                self._dirty.add(group)
            if state.is_small:
                return None
            state.begin(self.priors.laws)
            said.sums[FIRST] = 0.0  # they have been counted
        state.take(hour, said)
        if len(state.orgs) < MOST_ORGS:
            state.orgs = joined(state.orgs, [leaf_of(org) for org in sorted(said.orgs)], MOST_ORGS)
        if state.fallen or said.sums[REFUSALS]:
            state.follow(hour, said.members)
        self._dirty.add(group)
        return state

    def _judge(self, state: GroupState, hour: int, said: Hour, everybody: Hour, young: bool) -> Judged:
        """Judge a group's hour, then learn it."""
        levels = state.levels(said, self._all, everybody)
        values = state.statistics(said, levels, self._all, self._population)
        campaigns = self.campaigns
        campaign = campaigns.of(state.group)
        standardised = state.standardised(values, hour // 24, self.priors.laws, not young and campaign is None)
        decades = self.priors.decades(standardised)
        score = 0.0 if young else self.priors.score(decades)
        if score >= SPOILT_SCORE * campaigns.open_score:
            state.spoilt = hour // 24
        if self._watch is not None:
            self._watch(state, hour, said, values, standardised, score)
        guarded = campaign is not None and not campaigns.is_accepted(state.group, hour)
        if not young:  # so long the keys' own baselines are not settled
            state.learn(values, levels, guarded or score >= campaigns.hold_score)
        speaking = [(STATISTICS[i], rarity) for i, rarity in enumerate(decades) if rarity >= LEAST_DECADES]
        present = state.is_present(values)
        return Judged(state, said, score, sorted(speaking, key=lambda item: (-item[1], item[0])), present)

    def _evict(self) -> None:
        """Forget those with the fewest members, of those the longest silent; never one with a campaign."""
        free = [state for group, state in self._groups.items() if self.campaigns.of(group) is None]
        free.sort(key=lambda state: (len(state.leaves), state.last, state.kind, state.value))
        surplus = len(self._groups) - self.settings.max_groups
        for state in free[: surplus + int(EVICTED_SHARE * self.settings.max_groups)]:
            group = state.group
            del self._groups[group]
            self._dirty.discard(group)
            self._gone.add(group)
            if self.campaigns.suspects.pop(group, None) is not None:
                self.campaigns.changed.add(group)


def _without_first(said: Hour, young: bool) -> Hour:
    """Where nothing was known before, every key is new: none counts as that."""
    if young:
        said.sums[FIRST] = 0.0
    return said
