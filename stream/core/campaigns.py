"""All open campaigns: which groups show one, which show the same one, and what an hour does to each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

import msgspec

from stream.alerts import Alert, DataQuality, Status
from stream.core.campaign import (
    CALM_HOURS,
    HOUR,
    OF_NEW_KEYS,
    STILL_HOURS,
    SUSPECT_HOURS,
    UPDATE_HOURS,
    Campaign,
    Suspect,
    alert_of,
    family_of,
    grade,
    kind_of,
    named,
    suspect,
)
from stream.core.evidence import ALL, SPENT, USED, USED_OUTPUT, USUAL, YOUNG, YOUNG_USUAL, Cell
from stream.core.explain import SEVERITIES, short, span
from stream.core.group import GroupState
from stream.core.grouppriors import GroupPriors
from stream.core.hours import Hour
from stream.core.incidents import DOUBLED, HOLD, TRANSITIONS, Phase, Signal
from stream.core.links import Group
from stream.settings import Settings

SAME_SHARE = 0.5
"""Two groups of which so many keys are common show one campaign."""
JOIN_HOURS = 12
"""So long whatever shows in a part of a campaign's keys is the same one; later a part that stands out further than the
whole is one of its own: a group of many that once was unusual must not swallow all that happens in it."""
COMMON = (ALL, YOUNG)
"""What two groups may have in common: all keys, and new ones."""
MOST_JOINED = 16
PAGE_SHARE = 0.25
"""What groups may have of the false pages; the others are for single keys."""
SUSPECT_SCORE = 0.5
"""From this share of the score that opens, members are looked at one by one."""
MOST_SUSPECTED = 1_000
"""Groups without a campaign whose members are looked at."""
ACCEPT_HOURS = 7 * 24
"""What has lasted so long is learned as the new normal."""
UNKNOWN_QUALITY = DataQuality(missing_usage=0.0, late=0.0, duplicates=0.0, lag_seconds=0.0)

Speaking = list[tuple[str, float]]
"""The statistics that speak for a campaign in an hour, in decades, the strongest first."""


class Judged(msgspec.Struct):
    """What an hour showed of one group."""

    state: GroupState
    said: Hour
    score: float
    speaking: Speaking
    present: bool
    """The last hours show it too: a window of days remembers a campaign that is over."""


class Campaigns:
    """The open campaigns of an installation; at most one for each group, and one for all groups that show the same."""

    def __init__(self, settings: Settings, priors: GroupPriors) -> None:
        self._settings = settings
        self._priors = priors
        self.open_score = priors.tail.threshold(settings.false_alerts_per_1000_group_days / 1000)
        self.hold_score = HOLD * self.open_score
        self.digest = sha256(f"{settings.config_digest} {priors.digest}".encode()).hexdigest()[:16]
        self.open: dict[Group, Campaign] = {}
        self._joined: dict[Group, Group] = {}
        """Groups that show another one's campaign."""
        self.suspects: dict[Group, dict[str, Suspect]] = {}
        """Of groups that are close to a campaign, and of those with one."""
        self.changed: set[Group] = set()
        """Groups whose campaign or suspects have changed since they were last written."""

    def of(self, group: Group) -> Campaign | None:
        """The campaign that a group shows, its own or another one's."""
        return self.open.get(self._joined.get(group, group))

    def take_up(self, group: Group, campaign: Campaign | None, suspects: dict[str, Suspect]) -> None:
        """Take up what was written of a group."""
        self.suspects[group] = suspects
        if campaign is not None:
            self.open[group] = campaign
            self._joined.update(dict.fromkeys(campaign.joined, group))

    def is_accepted(self, group: Group, hour: int) -> bool:
        """True if the group's campaign has lasted so long that it is the new normal."""
        campaign = self.of(group)
        return campaign is not None and hour - campaign.started > ACCEPT_HOURS

    def follow(
        self,
        hour: int,
        judged: Mapping[Group, Judged],
        spoken: Sequence[tuple[Cell, tuple[Group, ...]]],
        states: Mapping[Group, GroupState],
        *,
        groups: int,
        incomplete: bool,
    ) -> tuple[list[Alert], set[Group]]:
        """Open, continue and resolve campaigns by what an hour showed.

        spoken: the hour's cells, each with its groups
        groups: how many groups there are

        Returns the alerts, and the groups whose windows have begun anew.
        """
        self._suspect(hour, judged)
        page = self._page_score(groups)
        strong = [
            group
            for group, one in judged.items()
            if one.present and one.score >= self.open_score and self.of(group) is None
        ]
        strong.sort(key=lambda group: (-judged[group].score, -judged[group].said.sums[ALL], group))
        common = _common(spoken, {*strong, *self.open, *self._joined})
        told: list[tuple[Campaign, Status]] = []
        names: dict[Group, set[str]] = {}
        older = sorted(self.open)
        for group in strong:
            main = self._same(group, hour, judged, common, names)
            if main is None:
                told.append((self._open(group, hour, judged[group], page), "opened"))
            else:
                self._join(main, group)
        for group in older:
            status = self._continue(self.open[group], hour, judged, states, page)
            if status is not None:
                told.append((self.open[group], status))
        alerts = []
        settled: set[Group] = set()
        for campaign, status in told:
            alerts.append(self._alert(campaign, status, hour, states, incomplete))
            if status == "resolved":
                ended = campaign.phase is Phase.QUIET  # else something else goes on in its groups
                for group in (campaign.group, *campaign.joined):
                    if ended and group in states:
                        states[group].settle()
                        settled.add(group)
                self._end(campaign)
        return alerts, settled

    def open_alerts(self, hour: int, states: Mapping[Group, GroupState]) -> Iterator[Alert]:
        """Every open campaign as of the hour that was closed last."""
        for group in sorted(self.open):
            campaign = self.open[group]
            yield self._alert(campaign, "updated" if campaign.sequence else "opened", hour, states, False)

    def _alert(
        self, campaign: Campaign, status: Status, hour: int, states: Mapping[Group, GroupState], incomplete: bool
    ) -> Alert:
        return alert_of(
            campaign,
            status,
            hour,
            (hour + 1) * HOUR + self._settings.allowed_lateness_seconds,
            suspects=self._among(campaign),
            members=states[campaign.group].members,
            share=self._priors.tail.share(campaign.score),
            settings=self._settings,
            digest=self.digest,
            quality=UNKNOWN_QUALITY,
            incomplete=incomplete,
        )

    def _among(self, campaign: Campaign) -> dict[str, Suspect]:
        """Those among whom a campaign's members are: of the group that has shown it best, while it does."""
        return self.suspects.get(campaign.clearest) or campaign.suspects

    def _page_score(self, groups: int) -> float:
        """The score beyond which at most PAGE_SHARE of `false_pages_per_week` open where nothing is wrong."""
        share = PAGE_SHARE * self._settings.false_pages_per_week / (7 * max(1, groups))
        return max(self._priors.tail.threshold(min(share, 0.1)), self.open_score)

    def _suspect(self, hour: int, judged: Mapping[Group, Judged]) -> None:
        """Look one by one at the members of groups that are close to a campaign; of one that calms down, no more."""
        held = {campaign.clearest: campaign for campaign in self.open.values()} | self.open
        for group, one in judged.items():
            suspects = self.suspects.get(group)
            if group in held and held[group].phase is Phase.COOLING:
                continue
            if group in held or one.score >= SUSPECT_SCORE * self.open_score:
                if suspects is None:
                    if len(self.suspects) - len(self.open) >= MOST_SUSPECTED:
                        continue
                    suspects = self.suspects[group] = {}
                suspect(suspects, one.said.members, hour)
                self.changed.add(group)
        for group in [group for group in self.suspects if group not in held]:
            suspects = self.suspects[group]
            old = [key_id for key_id, one in suspects.items() if hour - one.seen >= SUSPECT_HOURS]
            for key_id in old:
                del suspects[key_id]
            if old:
                self.changed.add(group)
            if not suspects:
                del self.suspects[group]

    def _same(
        self,
        group: Group,
        hour: int,
        judged: Mapping[Group, Judged],
        common: Mapping[tuple[Group, Group], Sequence[float]],
        names: dict[Group, set[str]],
    ) -> Group | None:
        """The campaign that a group shows too: most keys of the one are in the other, or most new keys, if it is they
        that it shows, or most of those that it would name; of each of the two, if the campaign is older and stands out
        less. `names`: whom open campaigns name in this hour, as far as that was asked for.
        """  # noqa: D205
        one = judged[group]
        is_of_new = bool(one.speaking) and one.speaking[0][0] in OF_NEW_KEYS
        parts = COMMON if is_of_new else COMMON[:1]
        mine = {*named(self.suspects.get(group, {}), is_of_new)}
        for main in sorted(self.open):
            campaign = self.open[main]
            is_fresh = hour - campaign.started <= JOIN_HOURS
            shown = self._showing(main, judged)
            for other in shown:
                shared = common.get(_pair(group, other))
                if shared is None:
                    continue
                which = min if is_fresh or one.score <= judged[other].score else max
                for part, count in zip(parts, shared, strict=False):
                    size = which(one.said.sums[part], judged[other].said.sums[part])
                    if size > 0 and count >= SAME_SHARE * size:
                        return main
            if not mine:
                continue
            if main not in names:
                names[main] = {*named(self._among(campaign), campaign.is_of_new)}
            theirs = names[main]
            stands_out = not is_fresh and all(one.score > judged[other].score for other in shown)
            size = max(len(mine), len(theirs)) if stands_out else len(mine)
            if len(mine & theirs) >= SAME_SHARE * size:
                return main
        return None

    def _showing(self, main: Group, judged: Mapping[Group, Judged]) -> list[Group]:
        """The groups that show a campaign in this hour: its own one, and those that joined it and still do.

        A client's networks have no key in common, but each has with the client.
        """
        shown = _of_campaign(self.open[main], judged)
        return [one.state.group for one in shown if one.state.group == main or one.score >= self.hold_score]

    def _join(self, main: Group, group: Group) -> None:
        campaign = self.open[main]
        self._joined[group] = main
        campaign.joined.append(group)
        if len(campaign.joined) > MOST_JOINED:
            del self._joined[campaign.joined.pop(campaign.joined[0] == campaign.best)]
        self.changed.add(main)

    def _open(self, group: Group, hour: int, one: Judged, page: float) -> Campaign:
        state = one.state
        used, usual, output, spent, _, young_tokens = state.day[:6]
        observed = used + young_tokens
        excess = max(state.excess(), 0.0)
        share = min(excess / observed, 1.0) if observed > 0 else 0.0
        campaign = self.open[group] = Campaign(
            group=group,
            kind=kind_of(one.speaking),
            started=hour,
            detected_at=(hour + 1) * HOUR + self._settings.allowed_lateness_seconds,
            last_anomalous=hour,
            updated=hour,
            score=one.score,
            observed=observed,
            expected=usual,
            excess=excess,
            excess_output=share * output,
            cost=share * spent,
            told_excess=excess,
            last_hour=one.said.sums[USED],
            channels=dict(one.speaking),
            reason=f"seen by {', '.join(name for name, _ in one.speaking)}",
            suspects=self.suspects.setdefault(group, {}),
            best=group,
            lead=one.speaking[0][0] if one.speaking else "",
        )
        campaign.count_owners(one.said)
        _grade(campaign, page, state, hour)
        self.changed.add(group)
        return campaign

    def _something_else(self, campaign: Campaign, shown: Sequence[Judged]) -> str:
        """The statistic by which its groups show something else by now, and further than they ever showed this.

        New accounts, say, where a few keys had changed their model: one is over, the other opens in the next hour.
        Empty: nothing else.
        """
        best = max((one for one in shown if one.present and one.speaking), key=lambda one: one.score, default=None)
        if best is None or best.score <= max(campaign.score, self.open_score):
            return ""
        lead = best.speaking[0][0]
        return "" if family_of(lead) == family_of(campaign.lead) else lead

    def _continue(
        self,
        campaign: Campaign,
        hour: int,
        judged: Mapping[Group, Judged],
        states: Mapping[Group, GroupState],
        page: float,
    ) -> Status | None:
        """One more hour of an open campaign; returns what is to be told, if anything.

        It is graded by the group that shows it best: a vendor's accounts are of one organisation, those of the cloud
        that they come from of many.
        """
        self.changed.add(campaign.group)
        shown = _of_campaign(campaign, judged)
        if lead := self._something_else(campaign, shown):
            campaign.sequence += 1
            campaign.reason = f"it shows something else by now: {lead}"
            return "resolved"
        if campaign.group in judged:
            _add(campaign, judged[campaign.group].said)
        score = max((one.score for one in shown if one.present), default=0.0)
        anomalous = score >= self.hold_score
        known = set(campaign.channels)
        if anomalous:
            for one in shown:
                if one.present and one.score > campaign.score:
                    campaign.score, campaign.best = one.score, one.state.group
                    campaign.lead = one.speaking[0][0] if one.speaking else campaign.lead
            for one in shown:
                for name, decades in one.speaking:
                    if one.score >= self.open_score or name in known:
                        campaign.channels[name] = max(decades, campaign.channels.get(name, -math.inf))
        calm = hour - campaign.last_anomalous >= CALM_HOURS
        signal = Signal.ANOMALOUS if anomalous else Signal.CALM if calm else Signal.NORMAL
        campaign.phase, transition = TRANSITIONS[campaign.phase, signal]
        if transition == "resolved":
            campaign.sequence += 1
            campaign.reason = f"nothing unusual for {span(CALM_HOURS * HOUR)}"
            return "resolved"
        severity = campaign.severity
        if transition == "continued":
            campaign.last_anomalous = hour
            _grade(campaign, page, states.get(campaign.clearest, states[campaign.group]), hour)
        reason = _news(campaign, hour, severity)
        if not reason:
            return None
        campaign.reason = reason
        campaign.sequence += 1
        campaign.updated = hour
        campaign.told_excess = campaign.excess
        return "updated"

    def _end(self, campaign: Campaign) -> None:
        del self.open[campaign.group]
        self.suspects.pop(campaign.group, None)
        self.changed.add(campaign.group)
        for group in campaign.joined:
            self._joined.pop(group, None)


def _of_campaign(campaign: Campaign, judged: Mapping[Group, Judged]) -> list[Judged]:
    """What an hour showed of a campaign's groups, its own first."""
    return [judged[group] for group in (campaign.group, *campaign.joined) if group in judged]


def _news(campaign: Campaign, hour: int, severity: int) -> str:
    """What has changed so much that it has to be told; `severity` is what it was before this hour."""
    if campaign.severity > severity:
        return f"it is {SEVERITIES[campaign.severity]} now, and was {SEVERITIES[severity]}"
    silent = hour - campaign.updated
    if silent >= UPDATE_HOURS and campaign.excess >= DOUBLED * max(campaign.told_excess, 1.0):
        return f"the excess has doubled since it was told last: {short(campaign.excess)} tokens"
    return f"still open after {span((hour + 1 - campaign.started) * HOUR)}" if silent >= STILL_HOURS else ""


def _add(campaign: Campaign, said: Hour) -> None:
    """Take an hour into a campaign's sums; what its keys lack is taken off again."""
    campaign.count_owners(said)
    sums = said.sums
    used, usual = sums[USED], sums[USUAL] - sums[YOUNG_USUAL]
    campaign.observed += used
    campaign.last_hour = used
    campaign.expected += usual
    excess, before = used - usual, campaign.excess
    campaign.excess = max(0.0, before + excess)
    if excess > 0 and used > 0:
        campaign.excess_output += sums[USED_OUTPUT] * min(excess / used, 1.0)
        campaign.cost += sums[SPENT] * min(excess / used, 1.0)
    elif before > 0:
        campaign.excess_output *= campaign.excess / before
        campaign.cost *= campaign.excess / before


def _grade(campaign: Campaign, page: float, state: GroupState, hour: int) -> None:
    """Severity may rise while a campaign is open, never fall; its reason is the newest of the same severity."""
    severity, reason = grade(campaign, page, state, hour)
    if severity >= campaign.severity:
        campaign.severity, campaign.severity_reason = severity, reason


def _pair(one: Group, other: Group) -> tuple[Group, Group]:
    return (one, other) if one < other else (other, one)


def _common(
    spoken: Sequence[tuple[Cell, tuple[Group, ...]]], wanted: set[Group]
) -> dict[tuple[Group, Group], list[float]]:
    """How many keys spoke, of each of COMMON, that belong to both of two groups, of those that are wanted."""
    common: dict[tuple[Group, Group], list[float]] = {}
    if len(wanted) < 2:
        return common
    for cell, groups in spoken:
        mine = [group for group in groups if group in wanted]
        for i, one in enumerate(mine):
            for other in mine[i + 1 :]:
                shared = common.setdefault(_pair(one, other), [0.0] * len(COMMON))
                for place, part in enumerate(COMMON):
                    shared[place] += cell.sums[part]
    return common
