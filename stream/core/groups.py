"""All groups of an installation: what shards tell of their keys goes in, hour by hour, and campaigns come out.

An hour closes when every shard has told that it is complete, and its cells are summed in the order of buckets and
shards: so neither the order in which shards arrive nor who runs them can matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from stream.alerts import Alert, DataQuality, reading_order
from stream.core.campaign import (
    CALM_HOURS,
    HOUR,
    SUSPECT_HOURS,
    UPDATE_HOURS,
    Campaign,
    Suspect,
    alert_of,
    grade,
    kind_of,
    suspect,
)
from stream.core.evidence import (
    ALL,
    FIRST,
    KEYS,
    SPENT,
    USED,
    USED_OUTPUT,
    USUAL,
    YOUNG_USUAL,
    Z_4H,
    Z_40M,
    Cell,
    Evidence,
    leaf_of,
)  # fmt: skip
from stream.core.group import STATISTICS, WEEK_HOURS, GroupState, Hour
from stream.core.grouppriors import LEAST_DECADES, GroupPriors, shipped_group_priors
from stream.core.incidents import HOLD, TRANSITIONS, Signal
from stream.core.links import Group, groups_of
from stream.core.priors import Priors, priors_of
from stream.core.sketch import joined
from stream.settings import Settings

OTHERS = 20.0
"""The mean of all other keys is taken as if so many more had shown nothing."""
SAME_SHARE = 0.5
"""Two groups of which so many keys are common show one campaign."""
MOST_JOINED = 16
MOST_ORGS = 16
SUSPECT_SCORE = 0.5
"""From this share of the score that opens, members are looked at one by one."""
ACCEPT_HOURS = 7 * 24
EVICTED_SHARE = 0.02

GroupWatch = Callable[[GroupState, int, Hour, Sequence[float], Sequence[float], float], None]
"""Hears every judgement: the group, the hour, what was said, statistics, the same standardised, the score."""


@dataclass(slots=True)
class GroupStep:
    """What happened to groups."""

    hours: int = 0
    alerts: list[Alert] = field(default_factory=list)
    stale: int = 0


class Groups:
    """All groups and their campaigns; `priors` are those of groups.

    `expect` names the shards whose word is waited for. `take` gives evidence, `close` closes the hours that are
    complete. `watch` hears every judgement.
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
        self.open_score = self.priors.tail.threshold(settings.false_alerts_per_1000_group_days / 1000)
        self.hold_score = HOLD * self.open_score
        self.digest = sha256(f"{settings.config_digest} {self.priors.digest}".encode()).hexdigest()[:16]
        self._expected: set[int] = set()
        self._done: dict[int, int] = {}
        """For each shard the first bucket that it has not told to be complete."""
        self._pending: dict[int, list[Evidence]] = {}
        """By hour, what was told of hours that are not closed."""
        self.next_hour = -1
        """The first hour that is not closed, -1 before the first."""
        self.first_hour = -1
        self._groups: dict[Group, GroupState] = {}
        self._all = self._new("all", "", 0)
        self._campaigns: dict[Group, Campaign] = {}
        self._joined: dict[Group, Group] = {}
        """Groups that show another one's campaign."""
        self._suspects: dict[Group, dict[str, Suspect]] = {}
        """Of groups that are close to a campaign, and of those with one."""

    # ------------------------------------------------------------------ what it is told

    def expect(self, shards: Iterable[int]) -> None:
        """Hours are to wait for these shards too."""
        self._expected.update(shards)

    def take(self, evidence: Iterable[Evidence]) -> int:
        """Take up what shards tell; returns how many parts were about hours that have closed."""
        stale = 0
        for part in evidence:
            self._expected.add(part.shard)
            if part.bucket // self._per_hour < self.next_hour and part.cells:
                stale += 1
            elif part.cells:
                self._pending.setdefault(part.bucket // self._per_hour, []).append(part)
            if part.complete:
                self._done[part.shard] = max(self._done.get(part.shard, 0), part.bucket + 1)
        return stale

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
            self.next_hour = self.first_hour = min(min(self._pending, default=limit), limit)
        while self.next_hour < limit:
            hour = self.next_hour
            if hour not in self._pending and not self._campaigns:
                # nobody spoke and nothing is open: on to the next hour with something in it
                self.next_hour = min(min(self._pending, default=limit), limit)
                continue
            self._close_hour(hour, self._pending.pop(hour, []), step, missing)
            self.next_hour = hour + 1
            step.hours += 1
        step.alerts.sort(key=reading_order)
        return step

    # ------------------------------------------------------------------ an hour

    def _close_hour(self, hour: int, parts: list[Evidence], step: GroupStep, incomplete: bool) -> None:
        cells = [cell for *_, cell in sorted(
            ((part.bucket, part.shard, _order(cell), cell) for part in parts for cell in part.cells),
            key=lambda item: item[:3],
        )]  # fmt: skip
        young = hour - self.first_hour < WEEK_HOURS
        everybody, said = Hour(), {}
        of_cell: list[tuple[Group, ...]] = []
        for cell in cells:
            if young:
                cell.sums[FIRST] = 0.0  # every key is new where nothing was known before
            everybody.add(cell)
            groups = groups_of(tuple(cell.traits), self._composites)
            of_cell.append(groups)
            for group in groups:
                hours = said.get(group)
                if hours is None:
                    hours = said[group] = Hour()
                hours.add(cell)
        if self._all.first == 0:
            self._all.first = self._all.last = hour
        if cells:
            self._all.take(hour, everybody)
        found: dict[Group, float] = {}
        decades_of: dict[Group, list[tuple[str, float]]] = {}
        for group in sorted(said):
            state = self._met(group, hour, said[group])
            if state is None:
                continue
            score, decades = self._judge(state, hour, said[group], everybody, young)
            found[group] = score
            decades_of[group] = decades
        self._follow(hour, cells, of_cell, said, found, decades_of, step, incomplete)
        if len(self._groups) > self.settings.max_groups:
            self._evict()

    def _new(self, kind: str, value: str, hour: int) -> GroupState:
        state = GroupState(kind, value, hour, hour)
        state.begin(self.priors.laws)
        return state

    def _met(self, group: Group, hour: int, said: Hour) -> GroupState | None:
        """The group, moved by an hour; None while it is too small to be one."""
        state = self._groups.get(group)
        if state is None:
            state = self._groups[group] = self._new(*group, hour)
        state.take(hour, said)
        state.orgs = joined(state.orgs, [leaf_of(org) for org in sorted(said.orgs)], MOST_ORGS)
        state.meet(hour, said.members)
        return None if state.is_small else state

    def _judge(
        self, state: GroupState, hour: int, said: Hour, everybody: Hour, young: bool
    ) -> tuple[float, list[tuple[str, float]]]:
        """Score of a group's hour, and the statistics that speak, the strongest first; then learn."""
        others = self._others(state, said, everybody)
        values = state.statistics(said, others, self._population, self._all.moved())
        in_campaign = state.group in self._campaigns or state.group in self._joined
        learning = not young and not in_campaign
        standardised = state.standardised(values, hour // 24, self.priors.laws, learning)
        decades = self.priors.decades(standardised)
        score = 0.0 if young else self.priors.score(decades)
        if self._watch is not None:
            self._watch(state, hour, said, values, standardised, score)
        campaign = self._campaigns.get(self._joined.get(state.group, state.group))
        accepted = campaign is not None and hour - campaign.started > ACCEPT_HOURS
        state.learn(values, said, others, (in_campaign and not accepted) or score >= self.hold_score)
        speaking = [(STATISTICS[i], d) for i, d in enumerate(decades) if d >= LEAST_DECADES]
        return score, sorted(speaking, key=lambda item: (-item[1], item[0]))

    def _others(self, state: GroupState, said: Hour, everybody: Hour) -> list[float]:
        """The mean z of all keys outside the group."""
        mine, all_ = said.sums, everybody.sums
        rest = max(all_[KEYS] - mine[KEYS], 0.0) + OTHERS
        others = [(all_[z] - mine[z]) / rest for z in (Z_40M, Z_4H)]
        recent, whole = state.recent, self._all.recent
        weight = max(whole[0] - recent[0], 0.0) + OTHERS
        return others + [(whole[i] - recent[i]) / weight for i in (1, 2)]

    # ------------------------------------------------------------------ campaigns

    def _follow(
        self,
        hour: int,
        cells: Sequence[Cell],
        of_cell: Sequence[tuple[Group, ...]],
        said: dict[Group, Hour],
        found: dict[Group, float],
        decades_of: dict[Group, list[tuple[str, float]]],
        step: GroupStep,
        incomplete: bool,
    ) -> None:
        """Open, continue and resolve campaigns by the scores of an hour."""
        self._suspect(hour, said, found)
        strong = [group for group, score in found.items() if score >= self.open_score and not self._is_known(group)]
        strong.sort(key=lambda group: (-found[group], -said[group].sums[ALL], group))
        common = _common(cells, of_cell, {*strong, *self._campaigns})
        alerts: list[tuple[Campaign, str]] = []
        for group in strong:
            main = self._same(group, said, common)
            if main is not None:
                self._join(main, group)
            else:
                campaign = self._open(group, hour, found[group], decades_of[group])
                alerts.append((campaign, "opened"))
        for group in sorted(self._campaigns):
            campaign = self._campaigns[group]
            if campaign.started == hour and campaign.sequence == 0:
                continue
            what = self._continue(campaign, hour, said, found, decades_of)
            if what is not None:
                alerts.append((campaign, what))
        at = (hour + 1) * HOUR + self.settings.allowed_lateness_seconds
        for campaign, status in alerts:
            state = self._groups[campaign.group]
            share = self.priors.tail.share(campaign.score)
            step.alerts.append(
                alert_of(
                    campaign, status, hour, at, members=state.members, share=share, settings=self.settings,  # type: ignore[arg-type]
                    digest=self.digest, quality=UNKNOWN_QUALITY, incomplete=incomplete,
                )
            )  # fmt: skip
            if status == "resolved":
                self._end(campaign)

    def _is_known(self, group: Group) -> bool:
        return group in self._campaigns or group in self._joined

    def _suspect(self, hour: int, said: dict[Group, Hour], found: dict[Group, float]) -> None:
        """Look at the members of groups that are close to a campaign one by one."""
        for group, score in found.items():
            suspects = self._suspects.get(group)
            if score >= SUSPECT_SCORE * self.open_score or group in self._campaigns:
                if suspects is None:
                    suspects = self._suspects[group] = {}
                suspect(suspects, said[group].members, hour)
        for group in [group for group in self._suspects if group not in self._campaigns]:
            suspects = self._suspects[group]
            for key_id in [key_id for key_id, one in suspects.items() if hour - one.seen >= SUSPECT_HOURS]:
                del suspects[key_id]
            if not suspects:
                del self._suspects[group]

    def _same(self, group: Group, said: dict[Group, Hour], common: dict[tuple[Group, Group], float]) -> Group | None:
        """The campaign that a group shows too."""
        for main in sorted(self._campaigns):
            if main not in said:
                continue
            least = min(said[group].sums[ALL], said[main].sums[ALL])
            if least > 0 and common.get(_pair(group, main), 0.0) >= SAME_SHARE * least:
                return main
        return None

    def _join(self, main: Group, group: Group) -> None:
        campaign = self._campaigns[main]
        self._joined[group] = main
        campaign.joined.append(group)
        if len(campaign.joined) > MOST_JOINED:
            del self._joined[campaign.joined.pop(0)]

    def _open(self, group: Group, hour: int, score: float, speaking: list[tuple[str, float]]) -> Campaign:
        state = self._groups[group]
        used, usual, output, spent, _, young_tokens = state.day[:6]
        excess = max(state.excess(), 0.0)
        share = excess / (used + young_tokens) if used + young_tokens > 0 else 0.0
        campaign = self._campaigns[group] = Campaign(
            group=group,
            kind=kind_of(speaking),
            started=hour,
            detected_at=(hour + 1) * HOUR + self.settings.allowed_lateness_seconds,
            last_anomalous=hour,
            updated=hour,
            score=score,
            observed=used + young_tokens,
            expected=usual,
            excess=excess,
            excess_output=min(share, 1.0) * output,
            cost=min(share, 1.0) * spent,
            channels=dict(speaking),
            suspects=self._suspects.get(group, {}),
        )
        campaign.told_excess = excess
        self._grade(campaign, hour)
        return campaign

    def _continue(
        self,
        campaign: Campaign,
        hour: int,
        said: dict[Group, Hour],
        found: dict[Group, float],
        decades_of: dict[Group, list[tuple[str, float]]],
    ) -> str | None:
        """One more hour of an open campaign; returns what is to be told, if anything."""
        group = campaign.group
        if group in said:
            self._add(campaign, said[group])
        shown = [one for one in (group, *campaign.joined) if one in found]
        score = max((found[one] for one in shown), default=0.0)
        known = set(campaign.channels)
        if score >= self.hold_score:
            campaign.score = max(campaign.score, score)
            for one in shown:
                for name, decades in decades_of[one]:
                    if found[one] >= self.open_score or name in known:
                        campaign.channels[name] = max(decades, campaign.channels.get(name, -math.inf))
        anomalous = score >= self.hold_score
        calm = hour - campaign.last_anomalous >= CALM_HOURS
        signal = Signal.ANOMALOUS if anomalous else Signal.CALM if calm else Signal.NORMAL
        campaign.phase, transition = TRANSITIONS[campaign.phase, signal]
        if transition == "resolved":
            campaign.sequence += 1
            return "resolved"
        if transition != "continued":
            return None
        campaign.last_anomalous = hour
        severity = campaign.severity
        self._grade(campaign, hour)
        news = campaign.severity > severity or campaign.excess >= 2 * max(campaign.told_excess, 1.0)
        if not news or hour - campaign.updated < (1 if campaign.severity > severity else UPDATE_HOURS):
            return None
        campaign.sequence += 1
        campaign.updated = hour
        campaign.told_excess = campaign.excess
        return "updated"

    def _add(self, campaign: Campaign, said: Hour) -> None:
        """Take an hour into a campaign's sums; what its keys lack is taken off again."""
        sums = said.sums
        used, usual = sums[USED], sums[USUAL] - sums[YOUNG_USUAL]
        campaign.observed += used
        campaign.expected += usual
        excess = used - usual
        before = campaign.excess
        campaign.excess = max(0.0, before + excess)
        if excess > 0 and used > 0:
            campaign.excess_output += sums[USED_OUTPUT] * min(excess / used, 1.0)
            campaign.cost += sums[SPENT] * min(excess / used, 1.0)
        elif before > 0:
            campaign.excess_output *= campaign.excess / before
            campaign.cost *= campaign.excess / before

    def _grade(self, campaign: Campaign, hour: int) -> None:
        """Severity may rise while a campaign is open, never fall."""
        state = self._groups[campaign.group]
        groups = max(1, sum(not one.is_small for one in self._groups.values()))
        share = min(self.settings.false_pages_per_week / (7 * groups), 0.1)
        page = max(self.priors.tail.threshold(share), self.open_score)
        severity, reason = grade(campaign, page, len(state.orgs), state.active.bit_count(), hour)
        if severity > campaign.severity or not campaign.severity_reason:
            campaign.severity, campaign.severity_reason = severity, reason

    def _end(self, campaign: Campaign) -> None:
        del self._campaigns[campaign.group]
        self._suspects.pop(campaign.group, None)
        for group in campaign.joined:
            self._joined.pop(group, None)

    def _evict(self) -> None:
        """Forget those with the fewest members, of those the longest silent; never one with a campaign."""
        free = [state for group, state in self._groups.items() if not self._is_known(group)]
        free.sort(key=lambda state: (len(state.leaves), state.last, state.kind, state.value))
        surplus = len(self._groups) - self.settings.max_groups
        for state in free[: surplus + int(EVICTED_SHARE * self.settings.max_groups)]:
            del self._groups[state.group]
            self._suspects.pop(state.group, None)


UNKNOWN_QUALITY = DataQuality(missing_usage=0.0, late=0.0, duplicates=0.0, lag_seconds=0.0)


def _order(cell: Cell) -> tuple[tuple[str, ...], ...]:
    """An order of a shard's cells in a bucket, of which no two have the same traits."""
    return tuple(tuple("" if value is None else str(value) for value in traits) for traits in cell.traits)


def _pair(one: Group, other: Group) -> tuple[Group, Group]:
    return (one, other) if one < other else (other, one)


def _common(
    cells: Sequence[Cell], of_cell: Sequence[tuple[Group, ...]], wanted: set[Group]
) -> dict[tuple[Group, Group], float]:
    """How many keys spoke that belong to both of two groups, of those that are wanted."""
    common: dict[tuple[Group, Group], float] = {}
    if len(wanted) < 2:
        return common
    for cell, groups in zip(cells, of_cell, strict=True):
        mine = [group for group in groups if group in wanted]
        for i, one in enumerate(mine):
            for other in mine[i + 1 :]:
                pair = _pair(one, other)
                common[pair] = common.get(pair, 0.0) + cell.sums[ALL]
    return common
