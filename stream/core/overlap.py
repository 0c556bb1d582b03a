"""Which groups show one and the same campaign: what they have in common, in keys and in names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from stream.core.campaign import Campaign, family_of
from stream.core.evidence import ALL, YOUNG, Cell
from stream.core.group import Judged
from stream.core.links import Group
from stream.core.suspects import Suspect, named

SAME_SHARE = 0.5
"""Two groups of which so many keys are common show one campaign."""
JOIN_HOURS = 12
"""So long whatever shows in a part of a campaign's keys is the same one; later a part that stands out further than the
whole is one of its own: a group of many that once was unusual must not swallow all that happens in it."""
COMMON = (ALL, YOUNG)
"""What two groups may have in common: all keys, and new ones."""


class Overlap:
    """What groups had in common in one hour.

    judged: what the hour showed of each group
    spoken: the hour's cells, each with its groups
    campaigns: the open ones, by their own groups
    asked: the other groups that are asked for
    suspects: of each group that is close to a campaign, or shows one, its members one by one
    """

    def __init__(
        self,
        hour: int,
        judged: Mapping[Group, Judged],
        spoken: Sequence[tuple[Cell, tuple[Group, ...]]],
        campaigns: Mapping[Group, Campaign],
        asked: Sequence[Group],
        suspects: Mapping[Group, dict[str, Suspect]],
    ) -> None:
        self._hour = hour
        self._judged = judged
        self._campaigns = campaigns
        showing = {group for campaign in campaigns.values() for group in campaign.groups}
        self._common = _common(spoken, showing.union(asked)) if asked else {}
        self._suspects = suspects
        self._named: dict[Group, set[str]] = {}
        """Whom open campaigns name, as far as that was asked for."""

    def same(self, group: Group, hold: float) -> Group | None:
        """The campaign that a group shows too: most keys of the one are in the other, or most new keys, if it is they
        that it shows, or most of those that it would name; of each of the two, if the campaign is older and stands out
        less. New accounts in a network are not why its old ones take more, nor the other way round, unless they are
        named alike.

        hold: the score from which on a group still shows a campaign
        """  # noqa: D205
        one = self._judged[group]
        family = family_of(one.lead)
        parts = COMMON if family == "new" else COMMON[:1]
        mine = {*named(self._suspects.get(group, {}), family)} if self._campaigns else set[str]()
        for main in sorted(self._campaigns):
            campaign = self._campaigns[main]
            is_fresh = self._hour - campaign.started <= JOIN_HOURS
            shown = [*self._showing(campaign, hold)]
            apart = {family, family_of(campaign.lead)} == {"more", "new"}
            for other in () if apart else shown:
                shared = self._common.get(_pair(group, other.state.group))
                if shared is None:
                    continue
                which = min if is_fresh or one.score <= other.score else max
                for part, count in zip(parts, shared, strict=False):
                    size = which(one.said.sums[part], other.said.sums[part])
                    if size > 0 and count >= SAME_SHARE * size:
                        return main
            if not mine:
                continue
            theirs = self._names(main)
            stands_out = not is_fresh and all(one.score > other.score for other in shown)
            size = max(len(mine), len(theirs)) if stands_out else len(mine)
            if len(mine & theirs) >= SAME_SHARE * size:
                return main
        return None

    def explained(self, group: Group, hold: float, opening: float) -> bool:
        """Whether a group would not be told of in this hour, were it not for those whom campaigns name that now stand
        out further.

        Decades are taken to grow with the square of what its members' z come to; those who are named have brought their
        part of that.

        hold: see `same`; opening: the score from which on a group is told of
        """  # noqa: D205
        one = self._judged[group]
        if family_of(one.lead) != "more":
            return False
        known = set[str]().union(
            *(
                self._names(main)
                for main, campaign in self._campaigns.items()
                if family_of(campaign.lead) == "more"
                and any(other.score >= one.score for other in self._showing(campaign, hold))
            )
        )
        if not known:
            return False
        # by this hour, and by all, not by whom it would name: many who take a little more each must not be hidden
        members = one.said.members
        total = math.fsum(member.z for member in members)
        theirs = math.fsum(member.z for member in members if member.key_id in known)
        if theirs <= 0 or total <= 0:
            return False
        left = max(1 - theirs / total, 0.0)
        return one.score * left * left < opening

    def _names(self, main: Group) -> set[str]:
        """Whom an open campaign names."""
        if main not in self._named:
            campaign = self._campaigns[main]
            self._named[main] = {*named(campaign.among(self._suspects), campaign.family)}
        return self._named[main]

    def _showing(self, campaign: Campaign, hold: float) -> Iterator[Judged]:
        """What the hour showed of a campaign's own group, and of those that joined it and still show it.

        A client's networks have no key in common, but each has with the client.
        """
        for one in of_campaign(campaign, self._judged):
            if one.state.group == campaign.group or one.score >= hold:
                yield one


def of_campaign(campaign: Campaign, judged: Mapping[Group, Judged]) -> list[Judged]:
    """What an hour showed of a campaign's groups, its own first."""
    return [judged[group] for group in campaign.groups if group in judged]


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
