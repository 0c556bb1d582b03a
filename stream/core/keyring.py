"""The keys of a shard: packed until they are seen, and which of them are touched, alarmed or not yet written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from stream.core.bucket import OpenBucket
from stream.core.key import KeyState, Skips
from stream.core.rules import Rules
from stream.core.state import MODEL, SUMS, is_awake, pack_model, pack_sums, unpack_model, unpack_sums
from stream.core.view import KeyView

Packed = tuple[bytes, bytes | None]
"""A key's sums and its model, as they lie in the state topic."""


class Keyring:
    """All keys of one shard.

    `touched` holds the keys with an open bucket, by bucket; `alarmed` the keys with an open incident; `dirty` those
    whose sums or model have changed since `changes`.
    """

    __slots__ = ("alarmed", "dirty", "held", "rules", "touched")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.held: dict[str, KeyState | Packed] = {}
        self.touched: dict[int, set[KeyState]] = {}
        self.alarmed: set[KeyState] = set()
        self.dirty: set[KeyState] = set()

    def __len__(self) -> int:
        return len(self.held)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self.held

    def __getitem__(self, key_id: str) -> KeyState:
        """The key's state, unpacked if need be; raises KeyError if it was never seen."""
        held = self.held[key_id]
        if isinstance(held, KeyState):
            return held
        key = self.held[key_id] = _unpacked(key_id, held, self.rules)
        for index in key.open:
            self.touched.setdefault(index, set()).add(key)
        if key.incident is not None:
            self.alarmed.add(key)
        return key

    def open_bucket(self, key: KeyState, index: int, sealed: int, skips: Skips) -> OpenBucket:
        """Open a bucket of a key; see `KeyState.open_bucket`."""
        touched = self.touched.get(index)
        if touched is None:
            touched = self.touched[index] = set()
        touched.add(key)
        return key.open_bucket(index, sealed, skips)

    def mark(self, key: KeyState) -> None:
        """The key has changed: it has to be written, and may have become alarmed or calm."""
        key.dirty = True
        self.dirty.add(key)
        if key.incident is not None:
            self.alarmed.add(key)
        else:
            self.alarmed.discard(key)

    def due(self, limit: int) -> set[KeyState]:
        """Keys with something to close before `limit`; those with an incident are closed in every bucket."""
        keys = set(self.alarmed)
        for index in [index for index in self.touched if index < limit]:
            keys |= self.touched.pop(index)
        return keys

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Records of the keys that changed since the last call."""
        records = []
        for key in self.dirty:
            name = key.key_id.encode()
            key.dirty = False
            records.append((SUMS + name, pack_sums(key)))
            if key.stale:
                key.stale = False
                records.append((MODEL + name, pack_model(key)))
        self.dirty.clear()
        return records

    def load(self, sums: Mapping[str, bytes], models: Mapping[str, bytes]) -> None:
        """Take up packed keys; what is open or alarmed is unpacked, for it has to close without being seen again."""
        for key_id, packed in sums.items():
            model = models.get(key_id)
            self.held[key_id] = (packed, model)
            if is_awake(packed, model):
                self[key_id]

    def check(self) -> None:
        """Unpack every key that is still packed, and throw the result away; raises StateError on damage."""
        for key_id, held in self.held.items():
            if not isinstance(held, KeyState):
                _unpacked(key_id, held, self.rules)

    def view(self, key_id: str, sealed: int) -> KeyView | None:
        """What is known of a key, which stays packed if it was; None if it was never seen.

        A key that was not used in the last closed bucket, the one before `sealed`, has no rate.
        """
        held = self.held.get(key_id)
        if held is None:
            return None
        return _view(held if isinstance(held, KeyState) else _unpacked(key_id, held, self.rules), sealed)

    def top(self, count: int, sealed: int) -> list[KeyView]:
        """The `count` keys with the highest rate in the last closed bucket, and all with an open incident."""
        awake: Iterable[KeyState] = (
            key
            for key in self.held.values()
            if isinstance(key, KeyState) and (key.next_bucket >= sealed or key.incident is not None)
        )
        order = sorted(awake, key=lambda key: (key.incident is None, -key.last_tokens))
        return [_view(key, sealed) for key in order[: max(count, len(self.alarmed))]]


def _unpacked(key_id: str, packed: Packed, rules: Rules) -> KeyState:
    key = KeyState(key_id, rules)
    sums, model = packed
    unpack_sums(sums, key)
    if model is not None:
        unpack_model(model, key)
    return key


def _view(key: KeyState, sealed: int) -> KeyView:
    seconds = key.rules.settings.bucket_seconds
    used = key.next_bucket >= sealed
    return KeyView(
        key_id=key.key_id,
        calls=key.calls,
        input_tokens=key.input_tokens,
        output_tokens=key.output_tokens,
        first_seen=key.first_seen,
        last_seen=key.last_seen,
        tokens_per_second=key.last_tokens / seconds if used else 0.0,
        expected_tokens_per_second=key.last_expected / seconds,
        upper_tokens_per_second=key.last_upper / seconds if math.isfinite(key.last_upper) else None,
        score=max(0.0, 1.0 - key.rules.law.share(key.score)) if used else 0.0,
        open_incidents=[key.incident.kind] if key.incident is not None else [],
    )
