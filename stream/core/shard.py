"""One source partition: what the detector knows of it, and what each batch of calls does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from stream.alerts import Alert
from stream.core.step import Step
from stream.events import Arrival
from stream.settings import Settings


class Shard:
    """SKELETON for parallel work; the signatures hold.

    partition: number of the source partition
    applied: last position (offset) applied, -1 before the first
    newest: largest event time, -inf before the first; watermark: newest less the allowed lateness, or the idle step's
    partition_of: key id -> partition (murmur2); a call whose key belongs elsewhere becomes a `misrouted` reject
    confirm_jumps: True in a file: a jump of more than a day needs a later record to confirm it
    """

    def __init__(
        self, partition: int, settings: Settings, *, partition_of: Callable[[str], int], confirm_jumps: bool = False
    ) -> None:
        raise NotImplementedError

    def observe(self, arrivals: Sequence[Arrival], upto: int) -> Step:
        """Apply calls in log order; `upto` is the last position of the chunk, whatever became of its records.

        Positions <= `applied` are a re-reading after a restart: only their ids are remembered.
        """
        raise NotImplementedError

    @property
    def read_from(self) -> int:
        """First position to read after `load`: the oldest record of an open bucket, else applied + 1."""
        raise NotImplementedError

    def announce(self, watermark: float) -> None:
        """Plan an idle step: the next `changes` carries it; after that commit, `advance` takes effect."""
        raise NotImplementedError

    def advance(self) -> Step:
        """Take the announced step: move the watermark, close what it passes."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Plan: silence was an outage. Buckets from here to the next record's are skipped, not learned as zero."""
        raise NotImplementedError

    def expected_calls(self, seconds: float) -> float:
        """Calls that the shard would usually see in a stretch of time; 0 while it is too young to tell."""
        raise NotImplementedError

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Records (key, value) for the state topic since the last call; the shard's own record comes last.

        Empty when nothing changed. After a failed write the shard must be thrown away and loaded again.
        """
        raise NotImplementedError

    def load(self, records: Iterable[tuple[bytes, bytes | None]]) -> Step:
        """Take up the state topic's records of this partition; returns what an announced idle step did.

        Raises StateError (stream.core.state) on a newer version, a foreign digest, or a damaged record.
        """
        raise NotImplementedError

    def open_alerts(self) -> Iterator[Alert]:
        """The last alert of every open incident."""
        raise NotImplementedError
