"""Where a notifier stands in each of its partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from stream.worker.notifier.progress import Place, Progress, metadata_of


class Places:
    """What was committed, how far it has read, and what is told since, by partition."""

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}
        self._progress: dict[int, Progress] = {}
        self.positions: dict[int, int] = {}
        """The next offset to read."""
        self.dirty = True
        """Whether there is more to commit."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def partitions(self) -> list[int]:
        """What it reads."""
        return sorted(self._places)

    def assign(self, partition: int, place: Place, position: int) -> None:
        """Begin to read a partition at `position`, of which `place` was committed."""
        self._places[partition] = place
        self._progress[partition] = Progress(place.offset)
        self.positions[partition] = position

    def read(self, partition: int, offset: int) -> Place | None:
        """Note that a record was read; None if it is none of ours, or was read before."""
        place = self._places.get(partition)
        if place is None or offset < self.positions[partition]:
            return None
        self.positions[partition] = offset + 1
        self.dirty = self.dirty or offset >= place.offset
        return place

    def take(self, partition: int, offset: int, *, done: bool) -> None:
        """Take up a record; `done`: there is nothing to tell."""
        if offset >= self._places[partition].offset:
            self._progress[partition].take(offset, done=done)

    def finish(self, records: Iterable[tuple[int, int]]) -> None:
        """These records, as (partition, offset), were told or given up."""
        by_partition: dict[int, list[int]] = {}
        for partition, offset in records:
            by_partition.setdefault(partition, []).append(offset)
        for partition, offsets in by_partition.items():
            if (progress := self._progress.get(partition)) is not None:
                progress.finish(*offsets)
        self.dirty = True

    def to_commit(self, told: Callable[[int], Sequence[str] | None]) -> dict[int, tuple[int, str]]:
        """Offset and metadata by partition; `told` gives the incidents told one by one where not all of them were."""
        return {
            partition: (progress.offset, metadata_of(progress.done(), told(partition)))
            for partition, progress in self._progress.items()
            if self.positions[partition] >= self._places[partition].end  # else it does not know all that it told
        }
