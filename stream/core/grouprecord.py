"""What is known of groups as bytes on their state topic: a head, the groups, and what is written of campaigns.

Each is MessagePack behind a version byte. No pickle: whoever can write the topic must not be able to run code.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream.core.campaign import Campaign
from stream.core.group import GroupState
from stream.core.links import Group
from stream.core.shardrecord import StateError
from stream.core.suspects import Suspect

VERSION = 4
"""1 held what calls were due instead of paces; 2 did not hold what lasts; 3 knew nothing of days."""
FIRST_STATISTICS = (6, 4)
"""Where version 1 had two more."""
HEAD_KEY = b"\x00groups"
GROUP, CAMPAIGN = b"g", b"c"
_START = bytes([VERSION])
Laws = Sequence[tuple[float, float]]


class GroupHead(msgspec.Struct):
    """What belongs to all groups together; positions are offsets of the evidence topic.

    digest: of the settings that make states incomparable; applied: the last position that was taken; read_from: the
    first one that is needed of hours that are not closed; done: for each shard the first bucket that it has not told to
    be complete; ahead: an hour up to which hours are to be closed though shards are missing, announced and not yet
    done; lacking: hours before it lack evidence that was deleted before it was read
    """

    digest: str
    applied: int
    read_from: int
    next_hour: int
    first_hour: int
    done: dict[int, int]
    expected: list[int]
    everybody: GroupState
    groups: int
    ahead: int | None = None
    lacking: int = 0


class Written(msgspec.Struct, array_like=True):
    """A group's open campaign, if there is one, and those of its members that are looked at."""

    campaign: Campaign | None
    suspects: dict[str, Suspect]


_encode = msgspec.msgpack.Encoder().encode
_head = msgspec.msgpack.Decoder(GroupHead).decode
_group = msgspec.msgpack.Decoder(GroupState).decode
_written = msgspec.msgpack.Decoder(Written).decode


def name_of(kind: bytes, group: Group) -> bytes:
    """The key of a group's record on the state topic."""
    return kind + f"{group[0]}\0{group[1]}".encode("utf-8", "surrogatepass")


def group_of(name: bytes) -> Group:
    """The group whose record has this key."""
    kind, _, value = name[1:].decode("utf-8", "surrogatepass").partition("\0")
    return kind, value


def pack(value: GroupHead | GroupState | Written) -> bytes:
    """The record's bytes."""
    return _START + _encode(value)


def unpack_head(data: bytes, laws: Laws) -> GroupHead:
    """The head; `laws` as for `GroupState.begin`. Raises StateError on a newer version or damage."""
    try:
        head = _head(_checked(data, "the head of the groups"))
    except msgspec.MsgspecError as error:
        raise StateError(f"the head of the groups is damaged: {error}") from error
    _renew(head.everybody, data[0], laws)
    return head


def unpack_group(data: bytes, laws: Laws) -> GroupState:
    """A group; `laws` as for `GroupState.begin`. Raises StateError on a newer version or damage."""
    try:
        state = _group(_checked(data, "a group"))
    except msgspec.MsgspecError as error:
        raise StateError(f"a group is damaged: {error}") from error
    _renew(state, data[0], laws)
    return state


def _renew(state: GroupState, version: int, laws: Laws) -> None:
    if version < VERSION:
        try:
            state.renew_levels(laws, forgotten=FIRST_STATISTICS if version == 1 else ())
        except IndexError as error:
            raise StateError("a group is damaged: it has too few statistics") from error


def unpack_written(data: bytes) -> Written:
    """A campaign; raises StateError on a newer version or damage."""
    try:
        written = _written(_checked(data, "a campaign"))
    except msgspec.MsgspecError as error:
        raise StateError(f"a campaign is damaged: {error}") from error
    if data[0] < VERSION and written.campaign is not None:
        written.campaign.rescale()
    return written


def _checked(data: bytes, what: str) -> memoryview:
    version = data[0] if data else 0
    if version > VERSION:
        raise StateError(
            f"{what} was written by a newer Overdraw (version {version}, this one reads up to {VERSION}): run the "
            "newer version; the state topic was left as it is"
        )
    if version < 1:
        raise StateError(f"{what} is damaged: there is no version {version}")
    return memoryview(data)[1:]
