"""What alerts about groups are worth: which campaigns they found, whom they named, and what they said for nothing.

Definitions. A group is a value of a trait, or of several joined ones, that keys share; a group-day is a UTC day on
which at least three of its keys were active. An alert of a group belongs to a campaign if it opens between its start
and two hours after its end (groups are judged by the hour), and most of the keys that it names are members, or the
group is one of those that link them; or, from then on, once it says so between these times that the trait that shows
it most clearly is one of those. It is false if nothing that happened has a member in its group on that day or in
the two days before; those of one group within a day are one. Benign twins are on a line of their own.

A world's branches have one background, whose false alerts come again in each of them: they are counted once, in the
branch in which nothing happens, and what it says is left out of the others: of a group that shows no campaign within a
day, for what else happens moves the hour. What is left there and belongs to nothing is astray: about the wrong group,
or about some innocents of the right one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream.alerts import Alert, Entity
from stream.core.campaign import MOST_NAMED, entity_of
from stream.lab.evaluation.campaign_oracle import Attained
from stream.lab.evaluation.detector import PAGES
from stream.lab.evaluation.scoring import merged
from stream.lab.worlds.campaigns.labels import Campaign, Link
from stream.lab.worlds.campaigns.world import Branch
from stream.lab.worlds.draws import Floats
from stream.lab.worlds.tally import BUCKET_SECONDS

DAY = 86_400.0
LEAST_ACTIVE = 3
"""Keys that make a group-day."""
MERGE_SECONDS = DAY
GRACE_SECONDS = 2 * 3600.0
AFTER_DAYS = 2
"""So long what a campaign left in baselines may still speak."""
NAMED_SHARE = 0.5
"""An alert of which less of the named keys are members is about something else."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident of a group as its alerts told it; times in epoch seconds.

    links: the traits that its group is made of, one unless they are joined
    clearest: when it was told, and of each time those of the group that showed it most clearly
    named: the keys that were named last, before it was over or its campaign was; told: when that was
    paged: when it first was high or critical, None if it never was
    """

    entity: Link
    links: tuple[Link, ...]
    clearest: tuple[tuple[float, tuple[Link, ...]], ...]
    kind: str
    detected: float
    named: frozenset[str]
    told: float
    paged: float | None


@dataclass(frozen=True, slots=True)
class CampaignOutcome:
    """What became of one campaign.

    gone: tokens that it took before the first alert (all, if there was none); alone_gone: before each member's own
    delay_seconds: from its start to the first alert, None if it was not found
    alerts: incidents of groups that are about it, or name members of it
    named: of the members that had come by then, the share that was named (of those an alert can hold)
    innocents: of the named, the share that are no members; None where nobody was named
    alone: members with an alert of their own
    others: keys that share what links it and are no members, of the link that the fewest others share
    oracle: what an oracle attains, None if it knows nothing of such a thing
    """

    campaign: Campaign
    tokens: int
    gone: int
    delay_seconds: float | None
    kind: str | None
    alerts: int
    named: float | None
    innocents: float | None
    paged: bool
    alone: int
    alone_gone: int
    others: frozenset[str] = frozenset()
    oracle: Attained | None = None

    @property
    def found(self) -> bool:
        """An alert of a group was about it."""
        return self.delay_seconds is not None


@dataclass(frozen=True, slots=True)
class TwinOutcome:
    """What became of one benign twin: alerts of groups (merged), and whether one of them was a page."""

    family: str
    alerts: int
    paged: bool


@dataclass(frozen=True, slots=True)
class GroupLine:
    """Clean group-days, and what was said on them: alerts, pages; astray: see above, in the other branches."""

    group_days: int = 0
    alerts: int = 0
    pages: int = 0
    astray: int = 0

    def __add__(self, other: GroupLine) -> GroupLine:
        return GroupLine(
            self.group_days + other.group_days,
            self.alerts + other.alerts,
            self.pages + other.pages,
            self.astray + other.astray,
        )


@dataclass(frozen=True, slots=True)
class CampaignScores:
    """The counts of one branch, or of several."""

    line: GroupLine = GroupLine()
    campaigns: tuple[CampaignOutcome, ...] = ()
    twins: tuple[TwinOutcome, ...] = ()

    def __add__(self, other: CampaignScores) -> CampaignScores:
        return CampaignScores(self.line + other.line, self.campaigns + other.campaigns, self.twins + other.twins)


Members = dict[Link, frozenset[str]]
Known = Mapping[tuple[Link, float], frozenset[Link]]
"""Groups that alerts are about and when each was found, to the traits that they said to show it most clearly."""


def score_branch(
    branch: Branch,
    alerts: Sequence[Alert],
    composites: Sequence[tuple[str, ...]] = (),
    calm: Known | None = None,
) -> CampaignScores:
    """Count the alerts of a branch's days, those of keys and of groups; `composites`: what else makes groups.

    calm: what was said, and when, where nothing happens (`said`); None: this is where false alerts are counted
    """
    members = {day.number: day.members(composites) for day in branch.days}
    start = branch.start
    known: Known = {} if calm is None else calm
    told = incidents_of(alerts, branch.campaigns)
    incidents = [one for each in told if (one := _unsaid(each, known, branch.campaigns)) is not None]
    single = [alert for alert in alerts if alert.entity.type == "key" and alert.status == "opened"]
    touched = {
        number: _touched(branch.campaigns, start + (number - branch.first_day) * DAY, groups)
        for number, groups in members.items()
    }
    campaigns = [
        replace(_outcome(campaign, incidents, single), others=_others(branch, campaign, members))
        for campaign in branch.campaigns
        if not campaign.benign
    ]
    twins = [campaign for campaign in branch.campaigns if campaign.benign]
    free: list[Incident] = []
    of_twin: dict[int, list[Incident]] = {number: [] for number in range(len(twins))}
    astray = 0
    for incident in incidents:
        if any(concerns(incident, campaign) for campaign in branch.campaigns if not campaign.benign):
            continue
        day = branch.first_day + int((incident.detected - start) // DAY)
        mine = next((n for n, one in enumerate(twins) if _concerns_twin(incident, one, members.get(day, {}))), None)
        if mine is not None:
            of_twin[mine].append(incident)
        elif incident.entity in touched.get(day, frozenset()):
            astray += 1
        else:
            free.append(incident)
    if calm is not None:
        line = GroupLine(astray=astray + _merged(free))
    else:
        clean_days = sum(
            len(keys) >= LEAST_ACTIVE and group not in touched[number]
            for number, groups in members.items()
            for group, keys in groups.items()
        )
        pages = _merged(incident for incident in free if incident.paged is not None)
        line = GroupLine(clean_days, _merged(free), pages, astray)
    return CampaignScores(
        line,
        tuple(campaigns),
        tuple(
            TwinOutcome(one.family, _merged(of_twin[n]), any(i.paged is not None for i in of_twin[n]))
            for n, one in enumerate(twins)
        ),
    )


def _others(branch: Branch, campaign: Campaign, members: Mapping[int, Members]) -> frozenset[str]:
    """See CampaignOutcome."""
    true = {*campaign.members, *campaign.also}
    first, last = (int((time - branch.start) // DAY) + branch.first_day for time in (campaign.start, campaign.end - 1))
    days = [members[number] for number in range(first, last + 1) if number in members]
    sharing = [frozenset[str]().union(*(day.get(link, frozenset()) for day in days)) - true for link in campaign.links]
    return min(sharing, key=len, default=frozenset())


def said(alerts: Iterable[Alert]) -> Known:
    """What alerts are about, and when."""
    return {(one.entity, one.detected): _traits(one) for one in incidents_of(alerts)}


def _traits(incident: Incident) -> frozenset[Link]:
    return frozenset(link for _, links in incident.clearest for link in links)


def _unsaid(incident: Incident, known: Known, campaigns: Sequence[Campaign]) -> Incident | None:
    """What of an incident the background does not say anyway, at the same time, or within a day; None: nothing.

    What is open anyway may come to be about a campaign, and is then as if found when it says so. Beside a twin nothing
    is left out that comes at another time: it must not raise anything.
    """
    near = [
        traits
        for (entity, time), traits in known.items()
        if entity == incident.entity and abs(time - incident.detected) < MERGE_SECONDS
    ]
    if not near:
        return incident
    before = frozenset[Link]().union(*near)
    clearest = tuple(one for one in incident.clearest if before.isdisjoint(one[1]))
    left = replace(incident, clearest=clearest)
    if (incident.entity, incident.detected) not in known:
        return left if any(one.benign or belongs(left, one) for one in campaigns) else None
    times = [time for one in campaigns if not one.benign and (time := _says(left, one)) is not None]
    if not times:
        return None
    first = min(times)
    paged = None if incident.paged is None or incident.paged < first else incident.paged
    return replace(left, links=(), named=frozenset(), detected=first, paged=paged)


def incidents_of(alerts: Iterable[Alert], campaigns: Sequence[Campaign] = ()) -> list[Incident]:
    """Incidents of groups out of all alerts, in the order in which they were found."""
    by_id: dict[str, list[Alert]] = {}
    for alert in alerts:
        if alert.entity.type == "key":
            continue
        by_id.setdefault(alert.alert_id, []).append(alert)
    found = []
    for steps in by_id.values():
        steps.sort(key=lambda alert: alert.sequence)
        opened = steps[0]
        entity, links = _links_of(opened.entity)
        end = max(
            (
                one.end
                for one in campaigns
                if one.start <= steps[-1].updated_at and opened.detected_at < one.end + GRACE_SECONDS
            ),
            default=float("inf"),
        )
        telling = [step for step in steps if step.status != "resolved" and step.updated_at < end + GRACE_SECONDS]
        last = telling[-1] if telling else opened
        top = last.members.top if last.members is not None else []
        found.append(
            Incident(
                entity=entity,
                links=links,
                clearest=tuple(
                    (step.updated_at, _links_of(group)[1])
                    for step in steps
                    if step.status != "resolved" and (group := _clearest(step)) is not None
                ),
                kind=opened.kind,
                detected=opened.detected_at,
                named=frozenset(member.key_id for member in top),
                told=last.updated_at,
                paged=next((step.updated_at for step in steps if step.severity in PAGES), None),
            )
        )
    found.sort(key=lambda incident: (incident.detected, incident.entity))
    return found


def _clearest(alert: Alert) -> Entity | None:
    """The group that an alert says to show it most clearly: the first of what its members share."""
    shared = alert.members.shared_traits if alert.members is not None else {}
    return next((entity_of(group) for group in shared.items()), None)


def _links_of(entity: Entity) -> tuple[Link, tuple[Link, ...]]:
    """A group as worlds name it, and the traits that it is made of."""
    if entity.type != "composite":
        return (entity.type, entity.id), ((entity.type, entity.id),)
    kind, _, value = entity.id.partition(" ")
    # networks, systems, clients, templates and simulated organisations and models have no blanks in their names
    return (kind, value), tuple(zip(kind.split("+"), value.split(" "), strict=True))


def belongs(incident: Incident, campaign: Campaign) -> bool:
    """Whether an incident of a group is about a campaign: see the module."""
    return _told_of(incident, campaign) is not None


def _told_of(incident: Incident, campaign: Campaign) -> float | None:
    """When an incident first was about a campaign; None: it never was."""
    end = campaign.end + GRACE_SECONDS
    if campaign.start <= incident.detected < end:
        true = incident.named & {*campaign.members, *campaign.also}
        by_name = len(true) >= 2 and len(true) >= NAMED_SHARE * len(incident.named)
        if by_name or any(link in campaign.links for link in incident.links):
            return incident.detected
    return _says(incident, campaign)


def _says(incident: Incident, campaign: Campaign) -> float | None:
    """When it first said, while a campaign went on, that one of its links shows it most clearly; None: never."""
    return min(
        (
            time
            for time, links in incident.clearest
            if campaign.start <= time < campaign.end + GRACE_SECONDS and any(link in campaign.links for link in links)
        ),
        default=None,
    )


def concerns(incident: Incident, campaign: Campaign) -> bool:
    """Whether it is about a campaign, or came during it (and the days after) and names some of its members."""
    if belongs(incident, campaign):
        return True
    late = campaign.end + AFTER_DAYS * DAY
    return campaign.start <= incident.detected < late and not incident.named.isdisjoint(
        {*campaign.members, *campaign.also}
    )


def _concerns_twin(incident: Incident, twin: Campaign, members: Members) -> bool:
    """Whether an incident is about what a twin did, itself or to a group that has members of it.

    A twin without members happens to everybody.
    """
    if not twin.start <= incident.detected < twin.end + AFTER_DAYS * DAY:
        return False
    if not twin.members or any(link in twin.links for link in incident.links):
        return True
    return not members.get(incident.entity, frozenset()).isdisjoint(twin.members)


def _touched(campaigns: Sequence[Campaign], day: float, groups: Members) -> frozenset[Link]:
    """Groups that have a member of something that happened on a day, or on one of the days before."""
    now = [one for one in campaigns if one.start < day + DAY and day < one.end + AFTER_DAYS * DAY]
    if any(not one.members for one in now):
        return frozenset(groups)
    concerned = frozenset(key for one in now for key in (*one.members, *one.also))
    links = {link for one in now for link in one.links}
    return frozenset(group for group, keys in groups.items() if group in links or not concerned.isdisjoint(keys))


def _merged(incidents: Iterable[Incident]) -> int:
    """How many alerts are left where those of a group within a day are one."""
    by_entity: dict[Link, list[int]] = {}
    for incident in incidents:
        by_entity.setdefault(incident.entity, []).append(int(incident.detected))
    return sum(merged(times, int(MERGE_SECONDS)) for times in by_entity.values())


def _outcome(campaign: Campaign, incidents: Sequence[Incident], single: Sequence[Alert]) -> CampaignOutcome:
    told = [(time, incident) for incident in incidents if (time := _told_of(incident, campaign)) is not None]
    mine = [incident for _, incident in told]
    first, earliest = min(told, key=lambda pair: pair[0], default=(None, None))
    also = [incident for incident in incidents if incident not in mine and concerns(incident, campaign)]
    during = [incident for incident in also if incident.detected < campaign.end + GRACE_SECONDS]
    own: dict[str, float] = {}
    for alert in single:
        if campaign.start <= alert.detected_at < campaign.end + GRACE_SECONDS:
            own.setdefault(alert.entity.id, alert.detected_at)
    members = {key_id: number for number, key_id in enumerate(campaign.members)}
    alone = {members[key_id]: time for key_id, time in own.items() if key_id in members}
    # the tokens of the bucket in which an alert falls are gone too
    begun: Floats = np.float64(campaign.world_start) + campaign.extra.bucket * np.float64(BUCKET_SECONDS)
    limits = np.full(len(campaign.members), np.inf)
    for number, time in alone.items():
        limits[number] = time
    tokens = campaign.extra.tokens
    named, innocents = _named(campaign, mine, begun)
    return CampaignOutcome(
        campaign=campaign,
        tokens=campaign.tokens,
        gone=campaign.tokens if first is None else int(tokens[begun < first].sum()),
        delay_seconds=None if first is None else first - campaign.start,
        kind=None if earliest is None else earliest.kind,
        alerts=len(mine) + len(during),
        named=named,
        innocents=innocents,
        paged=any(incident.paged is not None for incident in mine),
        alone=len(alone),
        alone_gone=int(tokens[begun < limits[campaign.extra.member]].sum()),
    )


def _named(campaign: Campaign, mine: Sequence[Incident], begun: Floats) -> tuple[float | None, float | None]:
    """Shares of members that were named, and of innocents among the named."""
    if not mine:
        return None, None
    named = frozenset[str]().union(*(incident.named for incident in mine))
    told = max(incident.told for incident in mine)
    come = {campaign.members[number] for number in np.unique(campaign.extra.member[begun < told]).tolist()}
    share = len(named & come) / min(len(come), MOST_NAMED) if come else None
    true = {*campaign.members, *campaign.also}
    return None if share is None else min(share, 1.0), len(named - true) / len(named) if named else None
