"""One source partition: what the detector knows of it, and what each batch of calls does to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from stream.alerts import Alert, DataQuality
from stream.core.activity import Activity
from stream.core.bucket import OpenBucket
from stream.core.calibration import Priors
from stream.core.key import KeyState
from stream.core.keyring import Keyring
from stream.core.reporting import last_alert, open_early, settle
from stream.core.rules import Rules
from stream.core.state import MODEL, SHARD_KEY, SUMS, VERSION, ShardRecord, StateError, pack_shard, unpack_shard
from stream.core.step import Step
from stream.core.sums import add_to_bucket, add_to_lifetime, micros, shares
from stream.core.view import KeyView
from stream.core.windows import DUPLICATE, FUTURE, LATE, Windows
from stream.events import Arrival, Call, Reject
from stream.settings import Settings

MAX_SKIPS = 32
"""Outages that are remembered; a key silent since before the oldest takes that one for silence."""


class Shard:
    """The detector of one source partition; the worker, `replay` and the tests run this same class.

    Calls come in by `observe`, in log order; everything that happened is in the Step that it returns. Nothing here
    knows a clock: time is the calls' own. `partition_of` maps a key id to its partition: a call whose key belongs
    elsewhere becomes a `misrouted` reject. With `confirm_jumps` (files, whose records have no arrival time) a jump of
    more than a day moves the watermark only once a later record confirms it.
    """

    def __init__(
        self,
        partition: int,
        settings: Settings,
        *,
        partition_of: Callable[[str], int],
        confirm_jumps: bool = False,
        priors: Priors | None = None,
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
        self._keys = Keyring(self.rules)
        self._max_keys = max(1, -(-settings.max_keys // settings.partitions))
        self._changed = False
        self._idle: float | None = None
        self._read_from = 0
        self._frozen = False
        self._skips: list[tuple[int, int]] = []
        self._activity = Activity()
        self._totals = Step()

    # ------------------------------------------------------------------ what it is asked

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def newest(self) -> float:
        """Largest event time, -inf before the first."""
        return self._windows.newest

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

    def expected_calls(self, seconds: float) -> float:
        """Calls that the shard would usually see in a stretch of time; 0 while it is too young to tell."""
        return self._activity.expected(seconds / self.settings.bucket_seconds, self.rules.calendar.per_hour)

    # ------------------------------------------------------------------ what it is told

    def observe(self, arrivals: Sequence[Arrival], upto: int) -> Step:
        """Apply calls in log order; `upto` is the last position of the chunk, whatever became of its records.

        Positions not above `applied` are a re-reading after a restart: only their ids are remembered.
        """
        step = Step()
        applied = self.applied
        keyring, windows = self._keys, self._windows
        held, place, see = keyring.held, windows.place, windows.see
        total_calls = total_input = total_output = 0
        for position, time, call in arrivals:
            key_id = call.key_id
            key = held.get(key_id)
            if type(key) is not KeyState:
                if key is None:
                    reject = self._refusal(position, key_id)
                    if reject is not None:
                        if position > applied:
                            step.rejects.append(reject)
                        continue
                    key = KeyState(key_id, self.rules)
                else:
                    key = keyring[key_id]
            index = place(time, hash((key_id, call.event_id)), position)
            if position <= applied:
                continue
            if index < 0:
                self._refuse(index, position, key, call, step)
                continue
            if self._frozen:
                self._thaw(index)
            if not key.calls:
                held[key_id] = key
            input_tokens, output_tokens = call.input_tokens, call.output_tokens
            if input_tokens is None or output_tokens is None or call.period_seconds is not None:
                self._take(key, index, call, time, step)
                continue
            # what follows is `_take` for the usual call, written out: here the time of a busy shard goes
            if time > windows.newest and see(time):
                self._close(step)
            bucket = key.open.get(index)
            if bucket is None:
                bucket = keyring.open_bucket(key, index, windows.first_open, self._skips)
            calls = call.calls
            bucket.calls += calls
            bucket.input_tokens += input_tokens
            bucket.output_tokens += output_tokens
            cost = call.cost_usd
            if cost:
                bucket.cost_micros += round(cost * 1e6)
            if bucket.input_tokens + bucket.output_tokens >= bucket.threshold and index == windows.first_open:
                self._check_early(key, bucket, step)
            key.calls += calls
            key.input_tokens += input_tokens
            key.output_tokens += output_tokens
            if time > key.last_seen:
                key.last_seen = time
            if time < key.first_seen:
                key.first_seen = time
            step.accepted += 1
            total_calls += calls
            total_input += input_tokens
            total_output += output_tokens
            if not key.dirty:
                keyring.mark(key)
        step.calls += total_calls
        step.input_tokens += total_input
        step.output_tokens += total_output
        if upto > self.applied:
            self.applied = upto
            self._read_from = upto + 1
            self._changed = True
        self._totals.add_counts(step)
        return step

    def announce(self, watermark: float) -> None:
        """Plan an idle step: the next `changes` carries it; after that commit, `advance` takes effect."""
        self._idle = watermark
        self._changed = True

    def advance(self) -> Step:
        """Take the announced step: move the watermark, close what it passes. Without one, nothing happens."""
        step = Step()
        watermark, self._idle = self._idle, None
        if watermark is not None and not self._frozen and self._windows.raise_watermark(watermark):
            self._close(step)
        self._changed = True
        return step

    def freeze(self) -> None:
        """Silence was an outage: the buckets from here to the next record's are skipped, not learned as zero."""
        if not self._frozen:
            self._frozen = self._changed = True

    # ------------------------------------------------------------------ state

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Records (key, value) for the state topic since the last call; the shard's own record comes last.

        Empty when nothing changed. After a failed write the shard must be thrown away and loaded again.
        """
        records = self._keys.changes()
        if not records and not self._changed:
            return []
        self._changed = False
        records.append((SHARD_KEY, pack_shard(self._record())))
        return records

    def load(self, records: Iterable[tuple[bytes, bytes | None]]) -> Step:
        """Take up the state topic's records of this partition; returns what an announced idle step did.

        Keys stay packed until they are seen again. Raises StateError on a newer version, on damage, or when the
        settings have changed in a way that makes states incomparable.
        """
        held: dict[bytes, dict[str, bytes]] = {SUMS: {}, MODEL: {}}
        shard: ShardRecord | None = None
        for name, value in records:
            if name == SHARD_KEY:
                shard = unpack_shard(value, self.settings.state_digest) if value is not None else None
            elif name[:1] in held:
                try:
                    key_id = name[1:].decode()
                except UnicodeDecodeError as error:
                    raise StateError(f"the name of a key's record is damaged: {error}") from error
                if value is None:
                    held[name[:1]].pop(key_id, None)
                else:
                    held[name[:1]][key_id] = value
        if shard is None:
            if held[SUMS]:
                raise StateError("there are keys but no shard record: the state topic is damaged")
            return Step()
        self._restore(shard)
        self._keys.load(held[SUMS], held[MODEL])
        return self.advance() if self._idle is not None else Step()

    def _record(self) -> ShardRecord:
        windows, totals = self._windows, self._totals
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
        self._activity = Activity(record.active_buckets, record.calls_per_bucket)

    # ------------------------------------------------------------------ one call

    def _refusal(self, position: int, key_id: str) -> Reject | None:
        """Why a key that was never seen here cannot be taken, if so."""
        home = self._partition_of(key_id)
        if home != self.partition:
            text = (
                f"the key belongs to partition {home}, this is {self.partition}: key the topic by key_id with Kafka's "
                "default (murmur2) partitioner, or repartition it"
            )
            return Reject(position, "misrouted", text)
        if len(self._keys) >= self._max_keys:
            text = f"this shard holds {self._max_keys} keys, its part of max_keys: raise max_keys"
            return Reject(position, "too_many_keys", text)
        return None

    def _refuse(self, index: int, position: int, key: KeyState, call: Call, step: Step) -> None:
        """Count a late or duplicate record, or reject one beyond too many unconfirmed jumps."""
        if index == LATE:
            step.late += 1
            step.late_tokens += (call.input_tokens or 0) + (call.output_tokens or 0)
            if key.calls:
                key.late += 1
                self._keys.mark(key)
        elif index == DUPLICATE:
            step.duplicates += 1
        elif index == FUTURE:
            text = "the time is more than a day beyond all others, which no later record confirms: mend the clock"
            step.rejects.append(Reject(position, "future", text))

    def _take(self, key: KeyState, index: int, call: Call, time: float, step: Step) -> None:
        """Apply an accepted call, whatever it says of its period and its usage."""
        if call.period_seconds is None:
            if self._windows.see(time):
                self._close(step)
            self._add(key, index, call, call.calls, call.input_tokens, call.output_tokens, micros(call.cost_usd), step)
        else:
            self._spread(key, call, time, step)
        add_to_lifetime(key, call, time, step)
        if not key.dirty:
            self._keys.mark(key)

    def _add(
        self, key: KeyState, index: int, call: Call, calls: int, input_tokens: int | None,
        output_tokens: int | None, cost_micros: int, step: Step,
    ) -> None:  # fmt: skip
        """Add a call, or a share of one, to a bucket of its key."""
        windows = self._windows
        bucket = key.open.get(index)
        if bucket is None:
            bucket = self._keys.open_bucket(key, index, windows.first_open, self._skips)
        add_to_bucket(bucket, call, calls, input_tokens, output_tokens, cost_micros)
        if bucket.input_tokens + bucket.output_tokens >= bucket.threshold and index == windows.first_open:
            self._check_early(key, bucket, step)

    def _spread(self, key: KeyState, call: Call, time: float, step: Step) -> None:
        """A sum over a period: its shares come in order of time, each moving the watermark like a call of its own.

        A share of a bucket that has closed is late, though the record is not.
        """
        windows = self._windows
        far = windows.is_far(time)
        for share in shares(call, time, windows.bucket_seconds, windows.first_open):
            if share.bucket < windows.first_open:
                step.late_tokens += share.tokens
                continue
            if not far and windows.see(share.end):
                self._close(step)
            self._add(
                key, share.bucket, call, share.calls, share.input_tokens, share.output_tokens, share.cost_micros, step
            )
        if windows.see(time):
            self._close(step)

    # ------------------------------------------------------------------ buckets

    def _close(self, step: Step) -> None:
        """Close what the watermark has passed; then see if the oldest open bucket is already over its threshold."""
        windows = self._windows
        first = windows.first_open
        limit = windows.close()
        self._learn_activity(first, limit)
        quality = self._quality(step)
        keys = len(self._keys) * self.settings.partitions
        alerts: list[Alert] = []
        for key in self._keys.due(limit):
            found, closed = settle(key, limit, self._skips, quality, keys)
            alerts += found
            step.buckets_closed += closed
            self._keys.mark(key)
        # keys are closed in no particular order; their alerts are reported in one
        alerts.sort(key=lambda alert: (alert.updated_at, alert.fingerprint, alert.sequence))
        step.alerts += alerts
        for key in sorted(self._keys.touched.get(limit, ()), key=lambda key: key.key_id):
            self._check_early(key, key.open[limit], step)

    def _check_early(self, key: KeyState, bucket: OpenBucket, step: Step) -> None:
        if bucket.early or not bucket.is_over(self.settings.min_calls):
            return
        alert = open_early(key, bucket, self._windows.now, self._skips, self._quality(step))
        self._keys.mark(key)
        if alert is not None:
            step.alerts.append(alert)

    def _learn_activity(self, first: int, limit: int) -> None:
        """Calls per bucket of the shard; after a long gap its last week is enough."""
        for index in range(max(first, limit - 7 * self.rules.calendar.per_day), limit):
            if not any(begin <= index < end for begin, end in self._skips):
                self._activity.learn(sum(key.open[index].calls for key in self._keys.touched.get(index, ())))

    def _thaw(self, index: int) -> None:
        """The first record after an outage: the buckets that were lost are those after the newest one's."""
        self._frozen = False
        if self._windows.newest == -math.inf:
            return
        begin = int(self._windows.newest // self._windows.bucket_seconds) + 1
        if begin < index:
            self._skips = [*self._skips, (begin, index)][-MAX_SKIPS:]

    def _quality(self, step: Step | None = None) -> DataQuality:
        """Shares of all records so far, those of the step under way included: chunks must not matter."""
        total = self._totals.counts
        if step is not None:
            total = tuple(a + b for a, b in zip(total, step.counts, strict=True))
        accepted, duplicates, late, missing = total
        seen = max(1, accepted + late + duplicates)
        return DataQuality(
            missing_usage=missing / max(1, accepted), late=late / seen, duplicates=duplicates / seen, lag_seconds=0.0
        )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
