"""What is true of a campaign, or of what only looks like one."""

from __future__ import annotations

from dataclasses import dataclass

from stream.lab.worlds.world import Sums

Link = tuple[str, str]
"""Type and id of a group, as an alert's entity names it."""


@dataclass(frozen=True, slots=True)
class Extra:
    """Tokens that a campaign takes: columns of equal length, one element a member and bucket of the branch.

    member: index into `Campaign.members`; bucket: from the world's start on
    """

    member: Sums
    bucket: Sums
    tokens: Sums


@dataclass(frozen=True, slots=True)
class Campaign:
    """Accounts that are drained together, or (`benign`) move together for a good reason.

    family: what it is; row: which row of a table it belongs to, within the family
    members: their keys; links: the groups that they have in common
    start, end: epoch seconds; world_start: from which buckets count
    curve: "flat", "own" (the member's own day) or "ramp"; empty where it has no such thing
    fresh: what links them came with the campaign, so that their group has no history
    heavy: one member uses more than all others together
    extra: what it takes of each; what moves, where nothing is taken (pivot); empty for a twin
    also: keys that belong to it, though nothing is taken through them (those that were blocked before a respawn)
    """

    family: str
    row: str
    benign: bool
    members: tuple[str, ...]
    links: tuple[Link, ...]
    start: float
    end: float
    world_start: float
    curve: str
    fresh: bool
    heavy: bool
    extra: Extra
    also: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """All that it takes."""
        return int(self.extra.tokens.sum())
