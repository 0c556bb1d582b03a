"""A key's links as they are packed: a record of msgspec's, whose fields have to be seen at run time."""

from __future__ import annotations

import msgspec


class PackedLinks(msgspec.Struct, array_like=True):
    """What is packed of a key's links: of its sets of traits each value once, and which of them make each set."""

    values: list[str | int]
    known: list[bytes]
    seen: list[int]
    used: bool
    turn: int
    refused: bool
    spoke: bool
    since: bytes
    models: dict[str, int]
