"""What a shard holds: its windows, its keys, its place in the log; how it is asked, stored and taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from stream.alerts import Alert, DataQuality
from stream.core.activity import Activity
from stream.core.control import CONTROL_KEY, Control
from stream.core.gathering import Gathering
from stream.core.key import KeyState
from stream.core.keyring import Keyring, MakeKey
from stream.core.origins import Origins
from stream.core.priors import Priors
from stream.core.reporting import last_alert
from stream.core.rules import Rules
from stream.core.state import SHARD_KEY, VERSION, ShardRecord, StateError, pack_shard, unpack_shard
from stream.core.step import Step
from stream.core.view import KeyView
from stream.core.windows import Windows
from stream.settings import Settings

FOREVER: Final = 2**62
"""A bucket that never comes."""
_REBUILD = ". Start with --rebuild to learn again from what the source topic still holds"


class Holding:
    """The state of one shard, without what calls do to it: that is `Shard`."""

    def __init__(
        self,
        partition: int,
        settings: Settings,
        *,
        partition_of: Callable[[str], int],
        confirm_jumps: bool = False,
        priors: Priors | None = None,
        make_key: MakeKey = KeyState,
    ) -> None:
        self.partition = partition
        self.settings = settings
        self.rules = Rules(settings, priors)
        self.applied = -1
        """Last position (offset or line) that was applied, -1 before the first."""
        self._partition_of = partition_of
        self._windows = Windows(
            settings.bucket_seconds, settings.allowed_lateness_seconds, settings.max_ids, confirm_jumps
        )
        self._keys = Keyring(self.rules, make_key)
        self._gathering = self.rules.gathering = Gathering(partition)
        self._max_keys = max(1, -(-settings.max_keys // settings.partitions))
        self._changed = False
        self._idle: float | None = None
        self._read_from = 0
        self._frozen = False
        self._skips: list[tuple[int, int]] = []
        self._activity = Activity()
        self._totals = Step()
        self._recent = self.rules.quality
        self._packed: bytes | None = None
        """The shard's record while it is being taken up."""
        self._packed_control: bytes | None = None
        self._fault: StateError | None = None
        self._origins = Origins()

    # ------------------------------------------------------------------ what it is asked

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def unwritten(self) -> int:
        """Keys that have changed since the last `changes`."""
        return len(self._keys.dirty)

    @property
    def newest(self) -> float:
        """Largest event time, -inf before the first."""
        return self._windows.newest

    @property
    def is_empty(self) -> bool:
        """True as long as no record has moved the watermark."""
        return self._windows.watermark == -math.inf

    @property
    def watermark(self) -> float:
        """Event time up to which buckets are closed, -inf before the first call."""
        return self._windows.watermark

    @property
    def read_from(self) -> int:
        """First position to read after `load`: the oldest record of an open bucket, else applied + 1."""
        oldest = self._windows.oldest_position()
        return self._read_from if oldest is None else min(oldest, self._read_from)

    def key(self, key_id: str) -> KeyView | None:
        """What is known of a key; None if it was never seen here."""
        return self._keys.view(key_id, self._windows.first_open)

    def top(self, count: int) -> list[KeyView]:
        """The `count` keys with the highest rate in the last closed bucket, and all with an open incident."""
        return self._keys.top(count, self._windows.first_open)

    def open_alerts(self) -> Iterator[Alert]:
        """Every open incident as it stands at the last closed bucket."""
        quality = self._quality()
        for key in sorted(self._keys.alarmed, key=lambda key: key.key_id):
            alert = last_alert(key, quality)
            if alert is not None:
                yield alert

    def quality(self) -> DataQuality:
        """How far the records of the last hour or so can be trusted; without a lag, which only a clock can tell."""
        return self._quality()

    def expected_calls(self, seconds: float) -> float:
        """Calls that the shard would usually see in a stretch of time; 0 while it is too young to tell."""
        return self._activity.expected(seconds / self.settings.bucket_seconds, self.rules.calendar.per_hour)

    @property
    def control(self) -> Control:
        """What operators have told the shard; `Shard.instruct` tells it more."""
        return self.rules.control

    # ------------------------------------------------------------------ state

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Records (key, value) for the state topic since the last call; the shard's own record comes last.

        Empty when nothing changed. After a failed write the shard must be thrown away and loaded again.
        """
        records = self._keys.changes()
        self._keys.rest(self._windows.first_open)
        if not records and not self._changed and not self.control.changed:
            return []
        if self.control.changed:
            records.append((CONTROL_KEY, self.control.pack()))
        self._changed = self.control.changed = False
        records.append((SHARD_KEY, pack_shard(self._record())))
        return records

    def take_up(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Take up the next records of this partition of the state topic: the last of each name holds.

        Nothing is looked at before `Shard.taken_up`, so that reading can go on piece by piece.
        """
        for name, value in records:
            if name == SHARD_KEY:
                self._packed = value
            elif name == CONTROL_KEY:
                self._packed_control = value
        try:
            self._keys.packed.take(records)
        except StateError as error:  # told by `Shard.taken_up`, like all else that is wrong
            self._fault = self._fault or error

    def _settle(self) -> None:
        """Unpack what `take_up` was given: the shard's record, and the keys that cannot wait."""
        packed, self._packed = self._packed, None
        if self._fault is not None:
            raise self._fault
        if packed is None:
            if len(self._keys):
                raise StateError(f"there are keys but no shard record: the state topic is damaged{_REBUILD}")
            return
        record = unpack_shard(packed, self.settings.state_settings, self.settings.state_digest)
        self._restore(record)
        if self._packed_control is not None:
            self.control.unpack(self._packed_control)
            self._packed_control = None
        self._keys.settle()
        if record.keys is not None and record.keys != len(self._keys):
            raise StateError(
                f"the state topic holds {len(self._keys)} of {record.keys} keys: it was deleted, cut or not compacted "
                f"but expired{_REBUILD}"
            )

    def check(self) -> None:
        """Unpack every key once, some 20 µs each; raises StateError on the first that is damaged."""
        self._keys.check()

    def read_on_at(self, position: int, *, same_log: bool) -> None:
        """The log is no longer what was applied: another one (not `same_log`), or cut off at `position`; go on there.

        What is known of the keys stays, and so do their open buckets. The ids that were seen in those are known only
        from what the log still holds: a record that is sent again across the break counts again.
        """
        self.applied = position - 1
        self._read_from = min(self._read_from, position) if same_log else position
        self._windows.forget_ids(position if same_log else 0)
        self._changed = True

    def follow(self, sequence: int, upto: float) -> None:
        """Take the place of an older state, whose alerts have gone out.

        Incidents that start up to event time `upto` (inf: all from now on) are numbered from `sequence` on.
        """
        if upto == -math.inf:
            self.rules.taken = None
        else:
            last = FOREVER if upto == math.inf else int(upto // self.settings.bucket_seconds)
            self.rules.taken = (last, sequence)
        self._changed = True

    def _record(self) -> ShardRecord:
        windows, totals = self._windows, self._totals
        recent, counted, unmetered = self._recent.pack()
        return ShardRecord(
            version=VERSION,
            digest=self.settings.state_digest,
            applied=self.applied,
            newest=_finite(windows.newest),
            watermark=_finite(windows.watermark),
            first_open=windows.first_open,
            read_from=self.read_from,
            idle=self._idle,
            frozen=self._frozen,
            skips=self._skips,
            accepted=totals.accepted,
            duplicates=totals.duplicates,
            late=totals.late,
            missing=totals.missing_usage,
            late_tokens=totals.late_tokens,
            calls_per_bucket=self._activity.mean.get(),
            active_buckets=self._activity.buckets,
            origins=self._origins.pack(),
            settings=self.settings.state_settings,
            keys=len(self._keys),
            taken=self.rules.taken,
            out_of_order=totals.out_of_order,
            zero_usage=totals.zero_usage,
            recent=recent,
            counted=counted,
            unmetered=unmetered,
        )

    def _restore(self, record: ShardRecord) -> None:
        windows, totals = self._windows, self._totals
        self.applied = record.applied
        windows.newest = -math.inf if record.newest is None else record.newest
        windows.watermark = -math.inf if record.watermark is None else record.watermark
        windows.first_open = record.first_open
        self._read_from = record.read_from
        self._idle, self._frozen, self._skips = record.idle, record.frozen, record.skips
        totals.accepted, totals.duplicates, totals.late = record.accepted, record.duplicates, record.late
        totals.missing_usage, totals.late_tokens = record.missing, record.late_tokens
        totals.out_of_order, totals.zero_usage = record.out_of_order, record.zero_usage
        self._recent.restore(record.recent, record.counted, record.unmetered, totals.counts)
        self._activity = Activity(record.active_buckets, record.calls_per_bucket)
        self._origins = Origins(record.origins)
        self.rules.taken = record.taken

    def _quality(self, step: Step | None = None) -> DataQuality:
        """Shares of the last hour or so, the step under way included: chunks must not matter."""
        return self._recent.shares(self._counts(step))

    def _counts(self, step: Step | None) -> tuple[int, ...]:
        total = self._totals.counts
        return total if step is None else tuple(a + b for a, b in zip(total, step.counts, strict=True))


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
