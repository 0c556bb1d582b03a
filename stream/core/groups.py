"""All groups of an installation: what shards tell of their keys goes in, hour by hour, and campaigns come out.

An hour closes when every shard has told that it is complete, and its cells are summed in the order of buckets and
shards: so neither the order in which shards arrive nor who runs them can matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from stream.alerts import Alert, reading_order
from stream.core.arrivals import WEEK_HOURS
from stream.core.campaigns import Campaigns
from stream.core.evidence import FIRST, NEVER, REFUSALS, Evidence, leaf_of
from stream.core.group import STATISTICS, GroupState, Judged
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
from stream.core.groupview import GroupView, view_of
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
    """What happened: hours that were closed, those of them that lack evidence, alerts; and how much evidence was taken,
    and how much was stale, about hours that had closed before.
    """  # noqa: D205

    hours: int = 0
    incomplete: int = 0
    taken: int = 0
    stale: int = 0
    alerts: list[Alert] = field(default_factory=list)

    def add(self, other: GroupStep) -> None:
        """Take up what another step did."""
        self.hours += other.hours
        self.incomplete += other.incomplete
        self.taken += other.taken
        self.stale += other.stale
        self.alerts += other.alerts


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
        """For each shard the first bucket that it has not told to be complete, beyond NEVER if it has no record."""
        self._lacking = 0
        """Hours before this one lack evidence that was deleted before it was read."""
        self._pending: dict[int, list[Evidence]] = {}
        """By hour, what was told of hours that are not closed."""
        self._cells = 0
        """How many cells that is."""
        self._resume = False
        """An announced step has been taken up, and what it is about is still to be read again."""
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

    def top(self, count: int) -> list[GroupView]:
        """The `count` groups with the highest score, and all with an open campaign; the highest first."""
        campaigns = self.campaigns
        order = sorted(self, key=lambda state: (-state.score, -state.excess(), state.group))
        named = {state.group for state in order[:count]} | {*campaigns.open}
        shown = [state for state in order if state.group in named]
        return [view_of(state, self.priors.tail.share(state.score), campaigns.of(state.group)) for state in shown]

    def open_alerts(self) -> Iterator[Alert]:
        """Every open campaign as it stands after the last closed hour."""
        return self.campaigns.open_alerts(self.next_hour - 1, self._groups)

    @property
    def front(self) -> int:
        """The first hour that no shard has told to be complete, 0 before the first."""
        return max((done for done in self._done.values() if done <= NEVER), default=0) // self._per_hour

    @property
    def oldest(self) -> int:
        """The hour that is to be closed next, 0 as long as nobody knows."""
        return self.next_hour if self.next_hour >= 0 else min(self._pending, default=0)

    @property
    def waiting(self) -> int:
        """Cells of hours that are not closed: what waiting for a shard costs."""
        return self._cells

    def behind(self) -> dict[int, int]:
        """The shards that the next hour waits for while others have come further, each with the first bucket that it
        has not told to be complete (0: it has told nothing).
        """  # noqa: D205
        front, hour = self.front, self.oldest
        if hour >= front:
            return {}
        done = {shard: self._done.get(shard, 0) for shard in sorted(self._expected)}
        return {shard: bucket for shard, bucket in done.items() if bucket // self._per_hour <= hour}

    def done_without(self, shards: Iterable[int]) -> int:
        """The first hour that cannot be closed even if nobody waits for these shards any more."""
        others = self._expected.difference(shards)
        buckets = [done for shard in others if (done := self._done.get(shard, 0)) <= NEVER]
        return min(buckets, default=self.front * self._per_hour) // self._per_hour

    # ------------------------------------------------------------------ what it is told

    def expect(self, shards: Iterable[int]) -> None:
        """Hours are to wait for these shards too."""
        self._expected.update(shards)

    def observe(self, evidence: Iterable[tuple[int, Evidence]], upto: int) -> GroupStep:
        """Apply evidence in the order of its topic, each with its position; `upto` is the last position of the chunk.

        Positions not above `applied` are a re-reading after a restart: what they tell of closed hours was taken.
        """
        step = GroupStep()
        for position, part in evidence:
            is_new = position > self.applied
            if is_new and self._resume:
                step.add(self.advance())
            is_stale = self._take(part, position)
            step.taken += is_new and not is_stale
            step.stale += is_new and is_stale
        if self._resume and upto >= self.applied:
            step.add(self.advance())
        if upto > self.applied:
            self.applied = upto
            self._changed = True
        step.add(self.close())
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
            self._cells += len(part.cells)
        if part.complete and position > self.applied:  # what is read again may be older than what is known
            before = self._done.get(part.shard, 0)
            self._done[part.shard] = part.bucket + 1 if before > NEVER else max(before, part.bucket + 1)
        return stale

    def read_on_at(self, position: int) -> None:
        """The log of evidence is no longer what was applied, or has lost what was not read: go on at `position`."""
        self.applied = position - 1
        self._pending.clear()
        self._positions.clear()
        self._cells = 0
        self.lack()

    def lack(self) -> None:
        """Evidence was deleted before it was read: hours that anybody has told of so far are incomplete."""
        self._lacking = max(self._lacking, self.front + 1)
        self._changed = True

    def announce(self, hour: int) -> None:
        """Plan to close all hours before `hour` though shards are missing: the next `changes` carries it."""
        self._ahead = hour
        self._changed = True

    def advance(self) -> GroupStep:
        """Do what was announced; without that, nothing happens."""
        ahead, self._ahead = self._ahead, None
        self._changed, self._resume = True, False
        return GroupStep() if ahead is None else self.close(to=ahead)

    def close(self, *, to: int | None = None) -> GroupStep:
        """Close the hours that every expected shard has told to be complete, or all before hour `to`, come what may."""
        step = GroupStep()
        limit = to
        if limit is None:
            if not self._expected or any(shard not in self._done for shard in self._expected):
                return step
            if (first := min(self._done[shard] for shard in self._expected)) > NEVER:
                return step
            limit = first // self._per_hour
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
            parts = self._pending.pop(hour, [])
            self._cells -= sum(len(part.cells) for part in parts)
            end = (hour + 1) * self._per_hour
            incomplete = hour < self._lacking or any(self._done.get(shard, 0) < end for shard in self._expected)
            step.incomplete += incomplete
            step.alerts += self._close_hour(hour, parts, incomplete)
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
        records += [(name_of(GROUP, group), pack(self._groups[group])) for group in sorted(self._dirty)]
        for group in sorted(campaigns.changed):
            campaign, suspects = campaigns.open.get(group), campaigns.suspects.get(group)
            written = None if campaign is None and not suspects else pack(Written(campaign, suspects or {}))
            records.append((name_of(CAMPAIGN, group), written))
        self._dirty.clear()
        self._gone.clear()
        campaigns.changed.clear()
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
            lacking=self._lacking,
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

        If something is to be read again before it can be done, it is done by `observe`.

        Raises StateError on a newer version, on damage, or when settings have changed that make states incomparable.
        """
        records, self._records = self._records, {}
        packed = records.pop(HEAD_KEY, None)
        if packed is None:
            if records:
                raise StateError("there are groups but no head: the state topic of groups is damaged")
            return GroupStep()
        head = unpack_head(packed, self.priors.laws)
        if head.digest != self.settings.state_digest:
            raise StateError(
                "the groups were learned with another number of partitions or another bucket length: set it back, or "
                "start with --rebuild to begin anew: their open campaigns are then never resolved"
            )
        self.applied, self.next_hour, self.first_hour = head.applied, head.next_hour, head.first_hour
        self._done, self._all, self._ahead = head.done, head.everybody, head.ahead
        self._lacking = head.lacking
        self._expected.update(head.expected)
        for name, value in records.items():
            if name[:1] == GROUP:
                state = unpack_group(value, self.priors.laws)
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
        if head.read_from > head.applied:
            return self.advance() if self._ahead is not None else GroupStep()
        self._positions = {head.next_hour: head.read_from}
        self._resume = self._ahead is not None
        return GroupStep()

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
        alerts, settled = self.campaigns.follow(
            hour, judged, said.spoken, self._groups, groups=len(self), incomplete=incomplete
        )
        self._dirty |= settled
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
        standardised = state.standardised(values, hour, self.priors.laws, not young and campaign is None)
        decades = self.priors.decades(standardised)
        weighed = self.priors.weighed(decades)
        score = 0.0 if young else self.priors.score(weighed)
        state.score = score
        if score >= SPOILT_SCORE * campaigns.open_score:
            state.spoilt = hour // 24
        if self._watch is not None:
            self._watch(state, hour, said, values, standardised, score)
        guarded = campaign is not None and not campaigns.is_accepted(state.group, hour)
        if not young:  # so long the keys' own baselines are not settled
            state.learn(values, levels, guarded or score >= campaigns.hold_score)
        order = sorted(range(len(STATISTICS)), key=lambda i: (-weighed[i], STATISTICS[i]))
        speaking = [(STATISTICS[i], decades[i]) for i in order if decades[i] >= LEAST_DECADES]
        present = state.is_present(order[0], standardised)
        return Judged(state, said, score, speaking, present, state.yesterday_of_others(self._all))

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
