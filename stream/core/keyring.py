"""The keys of a shard: packed until they are due, and which of them are touched, alarmed or not yet written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stream.core.bucket import OpenBucket
from stream.core.fields import ASN, CLIENT_IP, MODEL, ORG_ID, PROMPT_FINGERPRINT, USER_AGENT, Fields
from stream.core.key import KeyState, Skips
from stream.core.linksrecord import Traits
from stream.core.outlook import is_reachable
from stream.core.packed import Packed, PackedKeys
from stream.core.rules import Rules
from stream.core.state import MODEL as MODEL_RECORD
from stream.core.state import SUMS, pack_model, pack_sums, unpack_model, unpack_sums
from stream.core.view import KeyView

SLEEP_SECONDS: Final = 2 * 3600
"""A key that was silent for so long in event time is packed again: it takes a tenth of the memory then."""
SWEEP_SECONDS: Final = 900
"""How often the keys are looked through for such."""
MOST_TRAITS: Final = 50_000
PACKED_AT_ONCE: Final = 250
"""Some 10 ms of work between two batches."""

MakeKey = Callable[[str, Rules], KeyState]
"""What makes a key that was never seen before: a KeyState, or one that is watched."""


class Keyring:
    """All keys of one shard.

    `held` has those that are awake: seen within the last hours, or with something to close; `packed` the others.
    Of those awake, `touched` holds the keys with an open bucket, by bucket; `alarmed` the keys with an open incident;
    `dirty` those whose sums or model have changed since `changes`.
    """

    __slots__ = ("_make", "_sleepy", "_swept", "_traits", "alarmed", "dirty", "held", "packed", "rules", "touched")

    def __init__(self, rules: Rules, make: MakeKey = KeyState) -> None:
        self.rules = rules
        self._make = make
        self.held: dict[str, KeyState] = {}
        self.packed = PackedKeys()
        self.touched: dict[int, set[KeyState]] = {}
        self.alarmed: set[KeyState] = set()
        self.dirty: set[KeyState] = set()
        self._traits: dict[tuple[object, ...], Traits] = {}
        """Sets of traits, to be held once for all keys that share them."""
        self._sleepy: list[KeyState] = []
        self._swept = 0
        """The first open bucket when the keys were looked through last."""

    def __len__(self) -> int:
        return len(self.held) + len(self.packed)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self.held or key_id in self.packed

    def make(self, key_id: str) -> KeyState:
        """A key of which nothing is known yet; it is not held."""
        return self._make(key_id, self.rules)

    def wake(self, key_id: str) -> KeyState | None:
        """Unpack a packed key; None if there is none."""
        packed = self.packed.pop(key_id)
        if packed is None:
            return None
        key = self.held[key_id] = _unpacked(self.make(key_id), packed)
        for index in key.open:
            self.touched.setdefault(index, set()).add(key)
        if key.incident is not None:
            self.alarmed.add(key)
        return key

    def wake_due(self, limit: int) -> None:
        """Unpack the keys that have an open bucket up to and including `limit`."""
        for key_id in self.packed.due(limit):
            self.wake(key_id)

    def open_bucket(self, key: KeyState, index: int, sealed: int, skips: Skips) -> OpenBucket:
        """Open a bucket of a key; see `KeyState.open_bucket`."""
        touched = self.touched.get(index)
        if touched is None:
            touched = self.touched[index] = set()
        touched.add(key)
        return key.open_bucket(index, sealed, skips)

    def link(self, key: KeyState, fields: Fields) -> int:
        """Note the traits of a key's newest call; returns their bit in the mask of its bucket, 0: there is no place."""
        links = key.links
        traits = (
            fields[ORG_ID], fields[CLIENT_IP], fields[ASN], fields[USER_AGENT], fields[PROMPT_FINGERPRINT],
            fields[MODEL],
        )  # fmt: skip
        if traits == links.last:  # a look into the dictionary hashes six texts
            return links.last_bit
        bit = links.bits.get(traits)
        if bit is not None:
            links.last, links.last_bit = traits, bit
            return bit
        known = self._traits.get(traits)
        if known is None:
            if len(self._traits) >= MOST_TRAITS:
                self._traits.clear()
            known = self._traits[traits] = Traits(*traits)
        used = 0
        for bucket in key.open.values():
            used |= bucket.links
        if links.use(known, used):
            key.stale = True  # they lie with the model: unwritten, a bucket would name what nobody knows
        return links.bits.get(traits, 0)

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
                records.append((MODEL_RECORD + name, pack_model(key)))
        self.dirty.clear()
        return records

    def rest(self, sealed: int) -> None:
        """Pack some keys that have been silent for long; `sealed` is the first open bucket.

        Never while calls are applied: a key that is about to open a bucket must stay. Packing loses nothing, so it
        cannot matter when it is done. Keys that are watched stay awake, for what was seen of them is not packed.
        """
        if self._make is not KeyState and getattr(self._make, "stays_awake", True):
            return
        seconds = self.rules.settings.bucket_seconds
        if not self._sleepy and sealed - self._swept >= max(1, SWEEP_SECONDS // seconds):
            self._swept = sealed
            self._sleepy = [key for key in self.held.values() if self._may_sleep(key, sealed)]
        for key in self._sleepy[-PACKED_AT_ONCE:]:
            if self._may_sleep(key, sealed):
                self.packed.put(key.key_id, (pack_sums(key), pack_model(key)))
                del self.held[key.key_id]
        del self._sleepy[-PACKED_AT_ONCE:]

    def _may_sleep(self, key: KeyState, sealed: int) -> bool:
        silent = sealed - key.next_bucket
        return (
            silent * self.rules.settings.bucket_seconds >= SLEEP_SECONDS
            and not key.open
            and key.incident is None
            and not key.dirty
            and self.held.get(key.key_id) is key
        )

    def settle(self) -> None:
        """Look through the packed keys once all are there, and unpack those with an open incident.

        They are closed in every bucket, seen or not. Raises StateError on a newer version or on damage.
        """
        for key_id in self.packed.settle():
            self.wake(key_id)

    def check(self) -> None:
        """Unpack every key that is still packed, and throw the result away; raises StateError on damage."""
        for key_id, packed in self.packed.items():
            _unpacked(self.make(key_id), packed)

    def view(self, key_id: str, sealed: int) -> KeyView | None:
        """What is known of a key, which stays packed if it was; None if it was never seen.

        A key that was not used in the last closed bucket, the one before `sealed`, has no rate.
        """
        key = self.held.get(key_id)
        if key is None:
            packed = self.packed.get(key_id)
            if packed is None:
                return None
            key = _unpacked(self.make(key_id), packed)
        return _view(key, sealed)

    def top(self, count: int, sealed: int) -> list[KeyView]:
        """The `count` keys with the highest rate in the last closed bucket, and all with an open incident.

        After a recovery a key is among them once it is awake: seen again, or closed.
        """
        awake = (key for key in self.held.values() if key.next_bucket >= sealed or key.incident is not None)
        order = sorted(awake, key=lambda key: (key.incident is None, -key.last_tokens))
        return [_view(key, sealed) for key in order[: max(count, len(self.alarmed))]]


def _unpacked(key: KeyState, packed: Packed) -> KeyState:
    sums, model = packed
    unpack_sums(sums, key)
    if model is not None:
        unpack_model(model, key)
    return key


def _view(key: KeyState, sealed: int) -> KeyView:
    seconds = key.rules.settings.bucket_seconds
    used = key.next_bucket >= sealed
    upper = (
        key.last_upper if is_reachable(key, key.last_upper, max(key.last_expected, key.baseline.level.value)) else None
    )
    return KeyView(
        key_id=key.key_id,
        calls=key.calls,
        input_tokens=key.input_tokens,
        output_tokens=key.output_tokens,
        first_seen=key.first_seen,
        last_seen=key.last_seen,
        tokens_per_second=key.last_tokens / seconds if used else 0.0,
        expected_tokens_per_second=key.last_expected / seconds,
        upper_tokens_per_second=None if upper is None else upper / seconds,
        score=max(0.0, 1.0 - key.rules.law.share(key.score)) if used else 0.0,
        open_incidents=[key.incident.kind] if key.incident is not None else [],
        blocked=key.rules.control.is_blocked(key.key_id, sealed),
    )
