"""What of a key's links is packed, and told in evidence: records, whose fields msgspec has to see at run time."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Traits(NamedTuple):
    """What one call shares with those of other keys; None where the gateway did not say. All of it is untrusted."""

    org: str | None = None
    network: str | None = None
    asn: int | None = None
    client: str | None = None
    template: str | None = None
    model: str | None = None


class PackedLinks(msgspec.Struct, array_like=True):
    """What is packed of a key's links: of its sets of traits each value once, and which of them make each set.

    A number above any of an autonomous system is the hash that a prompt template is named by. `known` has the places of
    each set's values, one set behind the other; `seen` the bucket in which the newest of them was used, and by how many
    buckets each was used before that. `models` has a model that is among the values by its place. A former version had
    a list of the sets, one of the buckets, and the models' names.
    """

    values: list[str | int]
    known: bytes | list[bytes]
    seen: list[int]
    used: bool
    turn: int
    refused: bool
    spoke: bool
    since: bytes
    models: dict[str | int, int]
