"""What is shown of one group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stream.core.arrivals import DAY_HOURS
from stream.core.campaign import HOUR, Campaign, entity_of
from stream.core.group import GroupState
from stream.core.grouppriors import shipped_group_priors
from stream.core.grouprecord import CAMPAIGN, GROUP, group_of, unpack_group, unpack_written
from stream.core.links import Group

USED, USUAL, YOUNG_TOKENS = 0, 1, 5
"""Places in `GroupState.day`."""
DAY_SECONDS = DAY_HOURS * HOUR


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as people see it. Rates and the excess are of about a day, as of the last hour in which it was used.

    type, id: as in an alert's entity; score: 0 to 1, of its last judged hour; campaign: the kind of the open campaign
    that it shows, its own or another group's, None if there is none
    """

    type: str
    id: str
    members: int
    score: float
    tokens_per_second: float
    expected_tokens_per_second: float
    excess_tokens: float
    first_seen: float
    last_seen: float
    campaign: str | None


def view_of(state: GroupState, share: float, campaign: Campaign | None) -> GroupView:
    """What is shown of a group; share: openings beyond such a score for a clean group-day."""
    entity = entity_of(state.group)
    return GroupView(
        type=entity.type,
        id=entity.id,
        members=state.members,
        score=max(0.0, 1.0 - share) if state.score > 0 else 0.0,
        tokens_per_second=(state.day[USED] + state.day[YOUNG_TOKENS]) / DAY_SECONDS,
        expected_tokens_per_second=state.day[USUAL] / DAY_SECONDS,
        excess_tokens=state.excess(),
        first_seen=state.first * HOUR,
        last_seen=(state.last + 1) * HOUR,
        campaign=None if campaign is None else campaign.kind,
    )


def group_summaries(records: Iterable[tuple[bytes, bytes | None]]) -> Iterator[GroupView]:
    """Every group of three keys and more on the state topic of groups, in the order of their names.

    The priors of groups are the shipped ones. Raises StateError on a newer version or damage.
    """
    last = dict(records)
    priors = shipped_group_priors()
    campaigns: dict[Group, Campaign] = {}
    for name, value in last.items():
        if name[:1] == CAMPAIGN and value is not None and (campaign := unpack_written(value).campaign) is not None:
            campaigns.update(dict.fromkeys((group_of(name), *campaign.joined), campaign))
    for name, value in sorted(last.items()):
        if name[:1] == GROUP and value is not None:
            state = unpack_group(value, priors.laws)
            if not state.is_small:
                yield view_of(state, priors.tail.share(state.score), campaigns.get(state.group))
