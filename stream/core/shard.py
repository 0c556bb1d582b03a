"""One source partition: what the detector knows of it, and what each batch of calls does to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from stream.alerts import Alert, DataQuality, reading_order
from stream.control import Block
from stream.core.bucket import OpenBucket
from stream.core.control import Heard
from stream.core.evidence import NEVER, Evidence
from stream.core.feedback import follow
from stream.core.fields import (
    CALLS,
    COST_USD,
    EVENT_ID,
    INPUT_TOKENS,
    KEY_ID,
    ORG_ID,
    OUTPUT_TOKENS,
    PERIOD_SECONDS,
    REASONING_TOKENS,
    STATUS,
    fields_of,
)  # fmt: skip
from stream.core.holding import Holding
from stream.core.key import KeyState
from stream.core.origins import Origin
from stream.core.quality import OUT_OF_ORDER_SECONDS
from stream.core.reporting import open_early, settle
from stream.core.step import Step
from stream.core.sums import FIRST_FAILURE, add_shape, add_to_bucket, add_to_lifetime, micros, shares
from stream.core.windows import DUPLICATE, FUTURE, LATE
from stream.events import Arrival, Call, Reject

MAX_SKIPS: Final = 32
"""Outages that are remembered; a key silent since before the oldest takes that one for silence."""


class Shard(Holding):
    """The detector of one source partition; the worker, `replay` and the tests run this same class.

    Calls come in by `observe`, in log order; everything that happened is in the Step that it returns. Nothing here
    knows a clock: time is the calls' own. `partition_of` maps a key id to its partition: a call whose key belongs
    elsewhere becomes a `misrouted` reject. With `confirm_jumps` (files, whose records have no arrival time) a jump of
    more than a day moves the watermark only once a later record confirms it.
    """

    # ------------------------------------------------------------------ what it is told

    def observe(self, arrivals: Sequence[Arrival], upto: int, origins: Sequence[tuple[int, Origin]] = ()) -> Step:
        """Apply calls in log order; `upto` is the last position of the chunk, whatever became of its records.

        Positions not above `applied` are a re-reading after a restart: only their ids are remembered. `origins` are
        those of the positions that an intake wrote: replays of what was applied before count as duplicates.
        """
        step = Step()
        if origins:
            arrivals = self._without_replays(arrivals, origins, step)
        if arrivals and arrivals[0][0] <= self.applied:
            arrivals = self._remember(arrivals)
        keyring, windows = self._keys, self._windows
        held = keyring.held
        is_empty = self.is_empty
        total_calls = total_input = total_output = 0
        for position, time, call in arrivals:
            fields = fields_of(call)
            key_id: str = fields[KEY_ID]
            key = held.get(key_id) or keyring.wake(key_id)
            if key is None:
                reject = self._refusal(position, key_id)
                if reject is not None:
                    step.rejects.append(reject)
                    continue
                key = keyring.make(key_id)
            index = windows.place(time, hash((key_id, fields[EVENT_ID])), position)
            if index < 0:
                self._refuse(index, position, key, call, step)
                continue
            if self._frozen:
                self._thaw(index)
            if not key.calls:
                held[key_id] = key
            input_tokens: int | None = fields[INPUT_TOKENS]
            output_tokens: int | None = fields[OUTPUT_TOKENS]
            if input_tokens is None or output_tokens is None or fields[PERIOD_SECONDS] is not None:
                self._take(key, index, call, time, step)
                continue
            # what follows is `_take` for the usual call, written out: here the time of a busy shard goes
            if not output_tokens and not input_tokens:
                status: int | None = fields[STATUS]
                if status is None or status < FIRST_FAILURE:
                    step.zero_usage += 1
            if time > windows.newest:
                if windows.see(time):
                    self._close(step)
            elif time < windows.newest - OUT_OF_ORDER_SECONDS:
                step.out_of_order += 1
            bucket = key.open.get(index)
            if bucket is None:
                bucket = keyring.open_bucket(key, index, windows.first_open, self._skips)
            calls: int = fields[CALLS]
            bucket.calls += calls
            bucket.input_tokens += input_tokens
            bucket.output_tokens += output_tokens
            bucket.links |= keyring.link(key, fields)
            cost: float | None = fields[COST_USD]
            if cost:
                bucket.cost_micros += round(cost * 1e6)
            add_shape(bucket, fields, calls, input_tokens, output_tokens, fields[REASONING_TOKENS])
            if bucket.input_tokens + bucket.output_tokens >= bucket.threshold and index == windows.first_open:
                self._check_early(key, bucket, step)
            key.calls += calls
            key.input_tokens += input_tokens
            key.output_tokens += output_tokens
            if time > key.last_seen:
                key.last_seen = time
                org_id: str | None = fields[ORG_ID]
                if org_id is not None and org_id != key.org_id:
                    key.org_id = org_id
            if time < key.first_seen:
                key.first_seen = time
            step.accepted += 1
            total_calls += calls
            total_input += input_tokens
            total_output += output_tokens
            if not key.dirty:
                keyring.mark(key)
        if is_empty and not self.is_empty:
            step.evidence.insert(0, Evidence(self.partition, windows.began - 1, [], complete=True))
        step.calls += total_calls
        step.input_tokens += total_input
        step.output_tokens += total_output
        if upto > self.applied:
            self.applied = upto
            self._read_from = upto + 1
            self._changed = True
        self._totals.add_counts(step)
        return step

    def tell_empty(self) -> Step:
        """The log's end is reached, and there was no record: groups need not wait for this shard until one comes."""
        return Step(evidence=[Evidence(self.partition, NEVER, [], complete=True)] if self.is_empty else [])

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

    def instruct(self, heard: Sequence[Heard], log: str | None = None) -> list[Reject]:
        """Take up what operators say: it is announced for the next bucket boundary, and takes effect there.

        heard: messages of the control topic in the order of their offsets; those that were taken up before are passed
            over
        log: the id of that topic

        The next `changes` carries what was announced. Returns the messages that cannot be followed, by their offsets.
        """
        return self.control.instruct(
            heard,
            log,
            self._windows.first_open + 1,
            mine=lambda key_id: self._partition_of(key_id) == self.partition,
            known=lambda key_id: key_id in self._keys,
            tells=self.partition == 0,
        )

    def freeze(self) -> None:
        """Silence was an outage: the buckets from here to the next record's are skipped, not learned as zero."""
        if not self._frozen:
            self._frozen = self._changed = True

    def load(self, records: Iterable[tuple[bytes, bytes | None]]) -> Step:
        """Take up all of the state topic's records of this partition at once; see `taken_up`."""
        self.take_up(list(records))
        return self.taken_up()

    def taken_up(self) -> Step:
        """All records have been given to `take_up`; returns what an announced idle step did.

        Keys stay packed until they are seen again or have something to close. Raises StateError on a newer version,
        on damage, or when the settings have changed in a way that makes states incomparable.
        """
        self._settle()
        return self.advance() if self._idle is not None else Step()

    # ------------------------------------------------------------------ one call

    def _remember(self, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Remember the ids of calls that were applied before a restart; returns the calls behind them.

        Their keys stay packed: nothing of them changes.
        """
        held, packed, windows = self._keys.held, self._keys.packed, self._windows
        for number, (position, time, call) in enumerate(arrivals):
            if position > self.applied:
                return arrivals[number:]
            key_id = call.key_id
            if key_id in held or key_id in packed or self._refusal(position, key_id) is None:
                windows.place(time, hash((key_id, call.event_id)), position)
        return ()

    def _without_replays(
        self, arrivals: Sequence[Arrival], origins: Sequence[tuple[int, Origin]], step: Step
    ) -> Sequence[Arrival]:
        """Leave out what an intake wrote once more.

        What is read again after a restart passes, replays too: their ids are those of the records that they repeat.
        """
        applied, is_new = self.applied, self._origins.is_new
        replays = {position for position, origin in origins if position > applied and not is_new(origin)}
        if not replays:
            return arrivals
        kept = [arrival for arrival in arrivals if arrival[0] not in replays]
        step.duplicates += len(arrivals) - len(kept)
        return kept

    def _refusal(self, position: int, key_id: str) -> Reject | None:
        """Why a key that was never seen here cannot be taken, if so."""
        home = self._partition_of(key_id)
        if home != self.partition:
            text = (
                f"the key belongs to partition {home}, this is {self.partition}: key the topic by key_id with Kafka's "
                "default (murmur2) partitioner, or let the workers repartition it (intake_topic)"
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
        if time < self._windows.newest - OUT_OF_ORDER_SECONDS:
            step.out_of_order += 1
        if call.status is None or call.status < FIRST_FAILURE:
            if call.input_tokens is None or call.output_tokens is None:
                step.unmetered += 1
            elif not call.input_tokens and not call.output_tokens:
                step.zero_usage += 1
        if call.period_seconds is None:
            if self._windows.see(time):
                self._close(step)
            self._add(
                key, index, call, call.calls, call.input_tokens, call.output_tokens, call.reasoning_tokens,
                micros(call.cost_usd), step,
            )  # fmt: skip
        else:
            self._spread(key, call, time, step)
        add_to_lifetime(key, call, time, step)
        if not key.dirty:
            self._keys.mark(key)

    def _add(
        self, key: KeyState, index: int, call: Call, calls: int, input_tokens: int | None,
        output_tokens: int | None, reasoning_tokens: int | None, cost_micros: int, step: Step,
    ) -> None:  # fmt: skip
        """Add a call, or a share of one, to a bucket of its key."""
        windows = self._windows
        bucket = key.open.get(index)
        if bucket is None:
            bucket = self._keys.open_bucket(key, index, windows.first_open, self._skips)
        add_to_bucket(bucket, call, calls, input_tokens, output_tokens, reasoning_tokens, cost_micros)
        bucket.links |= self._keys.link(key, fields_of(call))
        if (input_tokens is None or output_tokens is None) and (call.status is None or call.status < FIRST_FAILURE):
            self._recent.miss(index, calls)
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
                key, share.bucket, call, share.calls, share.input_tokens, share.output_tokens, share.reasoning_tokens,
                share.cost_micros, step,
            )  # fmt: skip
        if windows.see(time):
            self._close(step)

    # ------------------------------------------------------------------ buckets

    def _close(self, step: Step) -> None:
        """Close what the watermark has passed; then see if the oldest open bucket is already over its threshold."""
        windows = self._windows
        first = windows.first_open
        limit = windows.close()
        self._keys.wake_due(limit)
        self._learn_activity(first, limit)
        self._learn_quality(first, limit, step)
        quality = self._quality(step)
        keys = len(self._keys) * self.settings.partitions
        for boundary in self.control.boundaries(limit):
            self._close_keys(boundary, quality, keys, step)
            self._follow(boundary, first, quality, step)
        self._close_keys(limit, quality, keys, step)
        self.control.forget(limit)
        step.evidence += self._gathering.hand_on(first, limit, self.rules.calendar.per_hour)
        for key in sorted(self._keys.touched.get(limit, ()), key=lambda key: key.key_id):
            self._check_early(key, key.open[limit], step)

    def _close_keys(self, limit: int, quality: DataQuality, keys: int, step: Step) -> None:
        """Close the buckets before `limit` of all keys that have something to close there."""
        alerts: list[Alert] = []
        for key in self._keys.due(limit):
            found, closed = settle(key, limit, self._skips, quality, keys)
            alerts += found
            step.buckets_closed += closed
            self._keys.mark(key)
        # keys are closed in no particular order; their alerts are reported in one
        alerts.sort(key=reading_order)
        step.alerts += alerts

    def _follow(self, boundary: int, first: int, quality: DataQuality, step: Step) -> None:
        """All before this boundary is closed, from bucket `first` on: what was announced for it takes effect."""
        for message in self.control.take(boundary):
            if isinstance(message, Block):
                blocked = self._keys.held.get(message.key_id) or self._keys.wake(message.key_id)
                if blocked is not None and boundary > first:  # else no bucket has closed that it could be told of
                    self._gathering.fall(blocked, boundary - 1)
                continue
            # whoever has an open incident is awake, and nobody else is concerned
            key = self._keys.held.get(message.key_id) or self._keys.make(message.key_id)
            alert = follow(key, message, boundary, quality)
            if alert is not None:
                self._keys.mark(key)
                step.alerts.append(alert)

    def _check_early(self, key: KeyState, bucket: OpenBucket, step: Step) -> None:
        # where the data are poor, the close judges by all that is known then
        if bucket.early or self._recent.caution or not bucket.is_over(self.settings.min_calls):
            return
        tokens = bucket.input_tokens + bucket.output_tokens
        if key.allows(bucket.index, key.tokens_in_hour(bucket.index) + tokens):
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

    def _learn_quality(self, first: int, limit: int, step: Step) -> None:
        """How far the data can be trusted, for all that is judged until the next close."""
        closing = {index: keys for index, keys in self._keys.touched.items() if index < limit}
        calls = {index: sum(key.open[index].calls for key in keys) for index, keys in closing.items()}
        self._recent.close(limit - first, calls, self._counts(step))

    def _thaw(self, index: int) -> None:
        """The first record after an outage: the buckets that were lost are those after the newest one's."""
        self._frozen = False
        if self._windows.newest == -math.inf:
            return
        begin = int(self._windows.newest // self._windows.bucket_seconds) + 1
        if begin < index:
            self._skips = [*self._skips, (begin, index)][-MAX_SKIPS:]
