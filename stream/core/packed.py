"""Keys that are not in use: as they lie in the state topic, and who must be woken when.

A shard may have a million keys of which a few thousand are in use, and an unpacked key takes ten times the memory of a
packed one: so a key is unpacked when it is seen, or when one of its buckets closes, and packed again after hours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stream.core.state import MODEL, SUMS, StateError, check_version, has_incident, has_open_bucket, open_buckets

Packed = tuple[bytes, bytes | None]
"""A key's sums and its model, as they lie in the state topic."""


class PackedKeys:
    """Packed keys by their ids.

    `take` is given the state topic's records in the order of the log; once all are there, `settle` looks through them,
    and only then the rest may be used.
    """

    __slots__ = ("_by_bucket", "_models", "_sums")

    def __init__(self) -> None:
        self._sums: dict[str, bytes] = {}
        self._models: dict[str, bytes] = {}
        self._by_bucket: dict[int, list[str]] = {}
        """Keys that had a record in an open bucket, whether or not they are still packed."""

    def __len__(self) -> int:
        return len(self._sums)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._sums

    def take(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take up records of keys; the last of a name holds, and one without a value deletes it.

        Raises StateError on a name that is no key's.
        """
        parts = {SUMS: self._sums, MODEL: self._models}
        for name, value in records:
            part = parts.get(name[:1])
            if part is None:
                continue
            try:
                key_id = name[1:].decode()
            except UnicodeDecodeError as error:
                raise StateError(f"the name of a key's record is damaged: {error}") from error
            if value is None:
                part.pop(key_id, None)
            else:
                part[key_id] = value

    def settle(self) -> list[str]:
        """Check what was taken up; returns the keys with an open incident.

        Raises StateError on a newer version, and on damage that shows without unpacking.
        """
        for key_id, sums in self._sums.items():
            check_version(sums, "a key's sums")
            if has_open_bucket(sums):
                for index in open_buckets(sums):
                    self._by_bucket.setdefault(index, []).append(key_id)
        alarmed = []
        for key_id, model in self._models.items():
            check_version(model, "a key's model")
            if has_incident(model) and key_id in self._sums:
                alarmed.append(key_id)
        return alarmed

    def get(self, key_id: str) -> Packed | None:
        """A packed key, which stays packed; None if there is none."""
        sums = self._sums.get(key_id)
        return None if sums is None else (sums, self._models.get(key_id))

    def items(self) -> Iterator[tuple[str, Packed]]:
        """All packed keys, which stay packed."""
        return ((key_id, (sums, self._models.get(key_id))) for key_id, sums in self._sums.items())

    def put(self, key_id: str, packed: Packed) -> None:
        """Take in a key without an open bucket, and without an incident."""
        self._sums[key_id], model = packed
        if model is not None:
            self._models[key_id] = model

    def pop(self, key_id: str) -> Packed | None:
        """A packed key, which is to be unpacked now; None if there is none."""
        sums = self._sums.pop(key_id, None)
        return None if sums is None else (sums, self._models.pop(key_id, None))

    def due(self, limit: int) -> list[str]:
        """Keys with an open bucket up to and including `limit`, each bucket only once; some may be awake by now."""
        return [key_id for index in [i for i in self._by_bucket if i <= limit] for key_id in self._by_bucket.pop(index)]
