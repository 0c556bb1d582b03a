"""A campaign: many keys at once, as one incident of the group that shows it best; its members, and its alert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from stream.alerts import (
    Alert,
    ChannelScore,
    DataQuality,
    Entity,
    Links,
    Members,
    Status,
    Window,
    alert_id_of,
    fingerprint_of,
    printable,
    runbook_of,
)
from stream.alerts import Member as NamedMember
from stream.core.evidence import HAS_INCIDENT, USED, USUAL, YOUNG_TOKENS, YOUNG_USUAL
from stream.core.explain import (
    CRITICAL,
    CRITICAL_EXCESS_TOKENS,
    CRITICAL_RATE,
    HIGH,
    PAGE_EXCESS_TOKENS,
    SEVERITIES,
    WARNING,
    finite,
    short,
    span,
)
from stream.core.group import GroupState
from stream.core.hours import Hour
from stream.core.incidents import Phase, net_of
from stream.core.links import Group
from stream.core.suspects import Family, Suspect, named
from stream.settings import Settings

HOUR = 3600.0
MOST_NAMED = 100
"""Members that an alert names."""
ROUND_THE_CLOCK = 0.5
"""Evenness of a day's hours from which on nobody sleeps (`GroupState.evenness`): a class or an office does."""
SAID_CALM_HOURS = 6
"""Whoever is told of a campaign again hears that it may be over, long before it ends."""
MOSTLY = 0.5
LEAST_RISE = 0.1
"""Half of all keys take a few per cent more by chance: what is no larger a part of what is due wakes nobody."""
LEAST_ORGS = 3
"""What one organisation's keys do together is mostly its own business; nobody is woken for it."""
MOST_OWNERS = 32
INCOMPLETE = "; a shard has been missing, so the sums are incomplete"
OF_NEW_KEYS = ("newcomers", "respawn")


class Campaign(msgspec.Struct, array_like=True):
    """One open incident of a group. Hours are hours of event time since 1970; tokens are sums so far.

    group: whose incident it is; joined: other groups that show the same one; score: the highest, in decades; channels:
    the highest value of each statistic; orgs: tokens above the baselines by organisation, of the largest MOST_OWNERS;
    reason: why it was told last, for people; best: which of its groups has shown it best, by which statistic: lead
    """

    group: Group
    kind: str
    started: int
    detected_at: float
    last_anomalous: int
    phase: Phase = Phase.OPEN
    sequence: int = 0
    severity: int = WARNING
    severity_reason: str = ""
    updated: int = 0
    score: float = 0.0
    observed: float = 0.0
    expected: float = 0.0
    excess: float = 0.0
    excess_output: float = 0.0
    cost: float = 0.0
    told_excess: float = 0.0
    last_hour: float = 0.0
    channels: dict[str, float] = {}
    joined: list[Group] = []
    suspects: dict[str, Suspect] = {}
    orgs: dict[str, float] = {}
    reason: str = ""
    best: Group | None = None
    lead: str = ""
    net: float | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """All that show it, its own first."""
        return (self.group, *self.joined)

    @property
    def clearest(self) -> Group:
        """Which of its groups has shown it best; its own where a former version did not say."""
        return self.best or self.group

    @property
    def family(self) -> Family:
        """What it is of: what came back under new keys is of new ones, whatever leads."""
        return "new" if self.kind == "respawn" else family_of(self.lead)

    @property
    def is_of_new(self) -> bool:
        """Whether new keys show it, or what came back under new ones, and not old keys with some new ones beside."""
        return self.family == "new"

    def among(self, suspects: Mapping[Group, dict[str, Suspect]]) -> dict[str, Suspect]:
        """Those among whom its members are: of the group that has shown it best, while it does."""
        return suspects.get(self.clearest) or self.suspects

    def rescale(self) -> None:
        """What former versions wrote had scores of another scale; the first two did not say what leads."""
        self.score = 0.0
        if not self.lead:
            self.lead = max(self.channels, key=lambda name: (self.channels[name], name), default="")

    def own_share(self) -> float:
        """Which part of what it takes is the largest organisation's; 0 if nobody knows."""
        total = sum(self.orgs.values())
        return max(self.orgs.values()) / total if total > 0 else 0.0

    def count_owners(self, said: Hour) -> None:
        """Take up whose keys took how much in an hour: the new ones' tokens, if it is they."""
        for cell in said.cells:
            org, sums = cell.traits[0].org, cell.sums
            excess = sums[YOUNG_TOKENS] if self.is_of_new else sums[USED] - sums[USUAL] + sums[YOUNG_USUAL]
            if org is not None and excess > 0:
                self.orgs[org] = self.orgs.get(org, 0.0) + excess
        if len(self.orgs) > MOST_OWNERS:
            kept = sorted(self.orgs, key=lambda org: (-self.orgs[org], org))
            self.orgs = {org: self.orgs[org] for org in kept[:MOST_OWNERS]}


def grade(campaign: Campaign, page: float, state: GroupState, hour: int) -> tuple[int, str]:
    """Severity and its reason. A page needs a score that the dial of pages allows, size, that also as a part of what is
    usual, and not to be one organisation's own doing: what its keys do together, a launch say, is seen by it first.
    """  # noqa: D205
    if campaign.score < page:
        return WARNING, f"score {campaign.score:.1f} is below {page:.1f}, the page threshold"
    excess = net_of(campaign)
    if excess < PAGE_EXCESS_TOKENS:
        return WARNING, f"excess is below {short(PAGE_EXCESS_TOKENS)} tokens, too little for a page"
    if not campaign.is_of_new and excess < LEAST_RISE * campaign.expected:
        share = excess / campaign.expected
        return WARNING, f"excess is {share:.0%} of what its keys usually take, too little for a page"
    orgs = len(state.orgs)
    if orgs < LEAST_ORGS and campaign.kind != "respawn":
        return WARNING, f"its keys are of {orgs or 'no known'} organisation{'s' * (orgs != 1)}: mostly its own doing"
    own = campaign.own_share()
    if own > MOSTLY:
        return WARNING, f"{own:.0%} of it is one organisation's: mostly its own doing"
    if campaign.kind == "pivot":
        return WARNING, "its keys use another model: mostly a new release"
    if "newcomers" in campaign.channels and campaign.kind != "respawn":
        if state.young_share < MOSTLY:
            return WARNING, "new keys among many that are not: a group that everybody joins"
        if state.evenness < ROUND_THE_CLOCK:
            return WARNING, "its keys are new and have quiet hours: people sleep, so may these"
    hours = max(hour + 1 - campaign.started, 1)
    rate = excess / hours
    if excess >= CRITICAL_EXCESS_TOKENS or rate >= CRITICAL_RATE:
        return CRITICAL, f"{short(excess)} tokens above the baselines, {short(rate)} an hour"
    return HIGH, f"score {campaign.score:.1f} over {page:.1f}, {short(excess)} tokens above the baselines"


def entity_of(group: Group) -> Entity:
    """What an alert calls a group: of joined traits, a composite that names them.

    >>> entity_of(("network+client", "192.0.2.0/24 curl-1")).id
    'network+client 192.0.2.0/24 curl-1'
    """
    kind, value = group
    return Entity(type="composite", id=f"{kind} {value}") if "+" in kind else Entity(type=kind, id=value)


def alert_of(
    campaign: Campaign,
    status: Status,
    hour: int,
    at: float,
    *,
    suspects: dict[str, Suspect],
    members: int,
    share: float,
    settings: Settings,
    digest: str,
    quality: DataQuality,
    incomplete: bool,
) -> Alert:
    """The alert that reports a campaign as of the hour that has closed.

    suspects: those among whom its members are; members: how many keys the group has
    """
    entity = entity_of(campaign.group)
    started_at = campaign.started * HOUR
    window = Window(start=started_at, end=(hour + 1) * HOUR, horizon_seconds=(hour + 1 - campaign.started) * HOUR)
    names = named(suspects, campaign.family)
    alone = sum(bool(one.notes & HAS_INCIDENT) for one in suspects.values())
    top = [
        NamedMember(key_id=key_id, z=suspects[key_id].mean, excess_tokens=suspects[key_id].excess)
        for key_id in names[:MOST_NAMED]
    ]
    shared: dict[str, str] = {}
    for trait, its in (campaign.clearest, campaign.group, *campaign.joined):
        shared.setdefault(trait, its)
    channels = sorted(campaign.channels.items(), key=lambda item: (-item[1], item[0]))
    severity = SEVERITIES[campaign.severity]
    ratio = campaign.observed / campaign.expected if campaign.expected > 0 else None
    return Alert(
        alert_id=alert_id_of(entity, started_at),
        fingerprint=fingerprint_of(entity),
        sequence=campaign.sequence,
        status=status,
        status_reason=campaign.reason,
        severity=severity,
        severity_reason=campaign.severity_reason + (INCOMPLETE if incomplete else ""),
        kind=campaign.kind,
        entity=entity,
        started_at=started_at,
        detected_at=campaign.detected_at,
        updated_at=at,
        resolved_at=window.end if status == "resolved" else None,
        window=window,
        observed=finite(campaign.observed),
        expected=finite(campaign.expected),
        upper=finite(campaign.expected),
        ratio=None if ratio is None else finite(ratio),
        z=finite(channels[0][1] if channels else 0.0),
        score=1.0 - share,
        false_alarm_probability=share,
        excess_tokens=campaign.excess,
        excess_output_tokens=campaign.excess_output,
        excess_per_hour=campaign.excess / max(hour + 1 - campaign.started, 1),
        excess_cost_usd=campaign.cost or None,
        channels=[ChannelScore(name=name, z=finite(z)) for name, z in channels],
        members=Members(
            count=len(names),
            top=top,
            shared_traits=shared,
            alone=alone,
            tokens_per_hour=campaign.last_hour,
        ),
        data_quality=quality,
        summary=_summary(
            campaign, status, len(names), members, alone, window.horizon_seconds, hour - campaign.last_anomalous
        ),
        suggested_action=_action(status, severity),
        links=Links(dashboard=settings.dashboard_url, runbook=runbook_of(settings.runbook_url, campaign.kind)),
        config_digest=digest,
    )


WORDS = {
    "org": "organisation",
    "network": "network",
    "asn": "autonomous system",
    "client": "client",
    "template": "prompt template",
    "model": "model",
}


def _called(group: Group) -> str:
    kind, value = group
    return f"{' and '.join(WORDS[name] for name in kind.split('+'))} {printable(value)}"


def _summary(
    campaign: Campaign, status: Status, count: int, members: int, alone: int, seconds: float, calm: int
) -> str:
    """One line for people: who, what they share, how much, and how many would have been seen alone.

    calm: hours since the last one that was unusual
    """
    keys = f"{count} of {max(members, count)} keys" if count else f"keys, of {members},"
    verb = {"opened": "take", "updated": "still take", "resolved": "have stopped: they took"}[status]
    if status == "updated" and calm >= SAID_CALM_HOURS:
        verb = f"have shown nothing unusual for {span(calm * HOUR)}: they took"
    line = f"{keys} that share the {_called(campaign.group)} "
    if campaign.clearest != campaign.group:
        line += f"(most clearly those of the {_called(campaign.clearest)}) "
    if campaign.kind == "pivot":
        line += "have moved between models within a day" if status != "resolved" else "use their models as before"
    elif campaign.kind == "respawn":
        line += f"have taken up what blocked ones did: {short(campaign.excess)} tokens in {span(seconds)}"
    elif campaign.is_of_new:
        line += f"are new and alike, and {verb} {short(campaign.excess)} tokens in {span(seconds)}"
    else:
        line += f"{verb} {short(campaign.excess)} tokens more than usual in {span(seconds)}"
    return line + (f"; {alone} of them alone" if alone else "; none of them would have been seen alone")


def _action(status: Status, severity: str) -> str:
    if status == "resolved":
        return "Review what was taken; nothing is needed now."
    if severity in ("high", "critical"):
        return "Look at the members that are named; block those whose owners cannot tell you why, all at once."
    return "Look at what the members share; ask their owners if it goes on."


def family_of(statistic: str) -> Family:
    """What a statistic tells of."""
    return "new" if statistic in OF_NEW_KEYS else "moved" if statistic == "pivot" else "more"


def kind_of(values: Sequence[tuple[str, float]]) -> str:
    """The kind of a campaign whose statistics, the strongest first, are these: what came back is new as well."""
    if any(name == "respawn" for name, _ in values):
        return "respawn"
    return "pivot" if values and values[0][0] == "pivot" else "campaign"
