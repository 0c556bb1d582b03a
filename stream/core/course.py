"""The course of one campaign: what an hour adds to it, whether it goes on, and what of that is news."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from stream.alerts import Status
from stream.core.campaign import HOUR, Campaign, family_of, grade
from stream.core.evidence import SPENT, USED, USED_OUTPUT, USUAL, YOUNG_USUAL
from stream.core.explain import SEVERITIES, short, span
from stream.core.group import GroupState, Judged
from stream.core.hours import Hour
from stream.core.incidents import DOUBLED, TRANSITIONS, UPDATE_SECONDS, Signal, rise

CALM_HOURS = 72
"""A weekend, or days in which nobody new came, must not end a campaign that goes on behind them."""
UPDATE_HOURS = 6
STILL_HOURS = UPDATE_SECONDS // 3600
"""What goes on is told again after so long: who belongs to it shows with time."""


class Bars(NamedTuple):
    """Scores from which on a campaign opens, stays open, and is a page."""

    open: float
    hold: float
    page: float


def go_on(campaign: Campaign, hour: int, shown: Sequence[Judged], clearest: GroupState, bars: Bars) -> Status | None:
    """One more hour of an open campaign; returns what is to be told, if anything.

    shown: what the hour showed of its groups
    clearest: the group that has shown it best before this hour

    It is graded by the group that shows it best: a vendor's accounts are of one organisation, those of the cloud that
    they come from of many.
    """
    if lead := _something_else(campaign, shown, bars):
        campaign.sequence += 1
        campaign.reason = f"it shows something else by now: {lead}"
        return "resolved"
    if shown and shown[0].state.group == campaign.group:
        _add(campaign, shown[0].said)
    anomalous = max((one.score for one in shown if one.present), default=0.0) >= bars.hold
    if anomalous:
        clearest = _mark(campaign, shown, bars) or clearest
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
        regrade(campaign, clearest, hour, bars)
    reason = _news(campaign, hour, severity)
    if not reason:
        return None
    campaign.reason = reason
    campaign.sequence += 1
    campaign.updated = hour
    campaign.told_excess = campaign.excess
    return "updated"


def regrade(campaign: Campaign, state: GroupState, hour: int, bars: Bars) -> None:
    """Severity may rise while a campaign is open, never fall; its reason is the newest of the same severity.

    state: of the group that shows it best
    """
    severity, reason = grade(campaign, bars.page, state, hour)
    if severity >= campaign.severity:
        campaign.severity, campaign.severity_reason = severity, reason


def _something_else(campaign: Campaign, shown: Sequence[Judged], bars: Bars) -> str:
    """The statistic by which its groups show something else by now, and further than they ever showed this.

    New accounts, say, where a few keys had changed their model: one is over, the other opens in the next hour. Not the
    other way round: whoever comes, or takes more, brings models along, and would end and begin by turns with them.
    Empty: nothing else.
    """
    best = max((one for one in shown if one.present and one.speaking), key=lambda one: one.score, default=None)
    if best is None or best.score <= max(campaign.score, bars.open) or _is_aside(best, campaign):
        return ""
    return "" if family_of(best.lead) == family_of(campaign.lead) else best.lead


def _is_aside(one: Judged, campaign: Campaign) -> bool:
    """Whether a group shows a move between models most, which is beside the point of a campaign of another family."""
    return family_of(one.lead) == "moved" != family_of(campaign.lead)


def _mark(campaign: Campaign, shown: Sequence[Judged], bars: Bars) -> GroupState | None:
    """Note who shows it best, and by which statistics; returns the group that does so further than any before.

    That models are left as well makes no campaign of new accounts, or of more, one of those who leave models.
    """
    known = set(campaign.channels)
    clearest = None
    for one in shown:
        if one.present and one.score > campaign.score and not _is_aside(one, campaign):
            campaign.score, campaign.best = one.score, one.state.group
            campaign.lead = one.lead or campaign.lead
            clearest = one.state
        for name, decades in one.speaking:
            if one.score >= bars.open or name in known:
                campaign.channels[name] = max(decades, campaign.channels.get(name, -math.inf))
    return clearest


def _add(campaign: Campaign, said: Hour) -> None:
    """Take an hour into a campaign's sums."""
    campaign.count_owners(said)
    sums = said.sums
    used, usual = sums[USED], sums[USUAL] - sums[YOUNG_USUAL]
    campaign.observed += used
    campaign.last_hour = used
    campaign.expected += usual
    more = rise(campaign, used, usual)
    if more:
        share = min(more / used, 1.0) if used > 0 else 0.0
        campaign.excess_output += sums[USED_OUTPUT] * share
        campaign.cost += sums[SPENT] * share


def _news(campaign: Campaign, hour: int, severity: int) -> str:
    """What has changed so much that it has to be told; `severity` is what it was before this hour."""
    if campaign.severity > severity:
        return f"it is {SEVERITIES[campaign.severity]} now, and was {SEVERITIES[severity]}"
    silent = hour - campaign.updated
    if silent >= UPDATE_HOURS and campaign.excess >= DOUBLED * max(campaign.told_excess, 1.0):
        return f"the excess has doubled since it was told last: {short(campaign.excess)} tokens"
    return f"still open after {span((hour + 1 - campaign.started) * HOUR)}" if silent >= STILL_HOURS else ""
