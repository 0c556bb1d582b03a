"""All open campaigns of an installation: which groups show one, and which of them join another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from stream.alerts import Alert, DataQuality, Status
from stream.core.campaign import HOUR, Campaign, alert_of, kind_of
from stream.core.course import Bars, go_on, regrade
from stream.core.evidence import ALL, USED, Cell
from stream.core.group import GroupState, Judged
from stream.core.grouppriors import GroupPriors
from stream.core.incidents import HOLD, Phase
from stream.core.links import Group
from stream.core.overlap import Overlap, of_campaign
from stream.core.suspects import Suspect, suspect
from stream.settings import Settings

MOST_JOINED = 16
PAGE_SHARE = 0.25
"""What groups may have of the false pages; the others are for single keys."""
SUSPECT_SCORE = 0.5
"""From this share of the score that opens, members are looked at one by one."""
MOST_SUSPECTED = 1_000
"""Groups without a campaign whose members are looked at."""
SUSPECT_HOURS = 24
"""A member that was silent for so long is looked at no more, unless its group shows a campaign."""
ACCEPT_HOURS = 7 * 24
"""What has lasted so long is learned as the new normal."""
UNKNOWN_QUALITY = DataQuality(missing_usage=0.0, late=0.0, duplicates=0.0, lag_seconds=0.0)


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
        bars = Bars(self.open_score, self.hold_score, self._page_score(groups))
        strong = [
            group
            for group, one in judged.items()
            if one.present and one.score >= self.open_score and self.of(group) is None
        ]
        strong.sort(key=lambda group: (-judged[group].score, -judged[group].said.sums[ALL], group))
        overlap = Overlap(hour, judged, spoken, self.open, strong, self.suspects)
        told: list[tuple[Campaign, Status]] = []
        older = sorted(self.open)
        for group in strong:
            main = overlap.same(group, self.hold_score)
            if main is not None:
                self._join(main, group)
            # asked again in an hour: once it stands out without them, too, it is one of its own
            elif not overlap.explained(group, self.hold_score, self.open_score):
                told.append((self._open(judged[group], hour, bars), "opened"))
        for group in older:
            campaign = self.open[group]
            clearest = states.get(campaign.clearest, states[group])
            status = go_on(campaign, hour, of_campaign(campaign, judged), clearest, bars)
            self.changed.add(group)
            if status is not None:
                told.append((campaign, status))
        alerts = []
        settled: set[Group] = set()
        for campaign, status in told:
            alerts.append(self._alert(campaign, status, hour, states, incomplete))
            if status == "resolved":
                ended = campaign.phase is Phase.QUIET  # else something else goes on in its groups
                for group in campaign.groups:
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
            suspects=campaign.among(self.suspects),
            members=states[campaign.group].members,
            share=self._priors.tail.share(campaign.score),
            settings=self._settings,
            digest=self.digest,
            quality=UNKNOWN_QUALITY,
            incomplete=incomplete,
        )

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
                since = held[group].started if group in held else None
                suspect(suspects, one.said.members, hour, others=one.others, since=since)
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

    def _join(self, main: Group, group: Group) -> None:
        campaign = self.open[main]
        self._joined[group] = main
        campaign.joined.append(group)
        if len(campaign.joined) > MOST_JOINED:
            del self._joined[campaign.joined.pop(campaign.joined[0] == campaign.best)]
        self.changed.add(main)

    def _open(self, one: Judged, hour: int, bars: Bars) -> Campaign:
        state = one.state
        group = state.group
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
            net=excess,
            excess_output=share * output,
            cost=share * spent,
            told_excess=excess,
            last_hour=one.said.sums[USED],
            channels=dict(one.speaking),
            reason=f"seen by {', '.join(name for name, _ in one.speaking)}",
            suspects=self.suspects.setdefault(group, {}),
            best=group,
            lead=one.lead,
        )
        campaign.count_owners(one.said)
        regrade(campaign, state, hour, bars)
        self.changed.add(group)
        return campaign

    def _end(self, campaign: Campaign) -> None:
        del self.open[campaign.group]
        self.suspects.pop(campaign.group, None)
        self.changed.add(campaign.group)
        for group in campaign.joined:
            self._joined.pop(group, None)
