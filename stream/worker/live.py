"""A live shard: the pure core of one partition with what it still owes to the log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from stream.alerts import Alert
from stream.core.control import Heard
from stream.core.evidencerecord import evidence_records
from stream.core.shard import Shard
from stream.core.state import MODEL, SUMS
from stream.core.step import Step
from stream.events import Arrival, Reject
from stream.gateways.overdraw import parse
from stream.settings import Settings
from stream.worker.control.topic import Said
from stream.worker.deadletters import dead_letters
from stream.worker.faults import Shares
from stream.worker.feed import Feed, Finding
from stream.worker.idle import Hidden, Idle, quiet_needed
from stream.worker.instances import Instances
from stream.worker.journal import Journal, Record, Target
from stream.worker.keying import FUTURE_SECONDS, origins_of
from stream.worker.outbox import alert_record, as_found, follow
from stream.worker.rebuild import REBUILD_KEY, Rebuild
from stream.worker.recovery import FEED_KEY, OWNER_KEY, SOURCE_KEY
from stream.worker.sequencer import Sequencer
from stream.worker.source import Source

MAX_UNFLUSHED = 200_000
"""Records of a shard that may wait for their transaction; beyond it no more are read of its partition."""
FLUSH_BYTES = 4 << 20
"""Dead letters and alerts that are written at once and not at the usual pace: a flood of garbage makes 20 MB/s."""
MAX_OWED_BYTES = 32 << 20
"""Dead letters and alerts that may wait; beyond it no more records are read either."""
ALERT_BYTES = 4096
"""An alert in JSON, some more than usual."""
LARGE_BYTES = 16 << 20
"""Of a flush: at the close of a bucket every key of a shard is written, 180 MB for 125,000 of them."""
HANGING_SECONDS = 60.0
"""A producer's transaction ends by itself after 60 s, unless it asks for more (transaction.timeout.ms)."""
WEIGHED_RECORDS = 1000
WEIGHT = 0.01

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns a shard: the worker's stable name and when its process started."""

    instance: str
    started_ms: int

    def pack(self) -> bytes:
        """JSON for the state topic."""
        return json.dumps({"instance": self.instance, "started_ms": self.started_ms}).encode()

    @classmethod
    def unpack(cls, value: bytes) -> Owner:
        """The inverse of `pack`; raises ValueError on anything else."""
        try:
            content = json.loads(value)
            return cls(str(content["instance"]), int(content["started_ms"]))
        except (KeyError, TypeError) as error:
            raise ValueError("the owner's record on the state topic is damaged") from error


@dataclass(slots=True)
class Flush:
    """What one transaction writes, and what is told once it is committed."""

    records: dict[Target, list[Record]]
    step: Step
    alerts: list[Alert]
    reasons: list[str]
    acknowledge: list[Any]
    applied: int
    count: int
    size: int


@dataclass(slots=True)
class Pending:
    """What has been applied since the last flush."""

    step: Step = field(default_factory=Step)
    letters: list[Record] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    size: int = 0
    """Bytes of the dead letters and, estimated, of the alerts."""


class LiveShard:
    """One partition in this worker's hands, from its recovery until it is dropped.

    `turn` is held while records or an idle step are applied, `flushing` while a transaction is under way. `rebuild`: up
    to its offset the shard learns without a word. `holes`: stretches of offsets [first, next) without records that
    nobody has looked into yet; `told`: findings that were logged since the shard last was at its log's end. `source`:
    the log that it reads; `ground` has another value where offsets begin anew (`takeover.Ground`).
    """

    def __init__(
        self,
        partition: int,
        core: Shard,
        journal: Journal,
        settings: Settings,
        owner: Owner,
        *,
        next_offset: int,
        last_feed: Alert | None = None,
        source: Source | None = None,
        source_kept: bool = True,
        ground: str = "",
        rebuild: Rebuild | None = None,
        watch: Callable[[Sequence[float], float], None] | None = None,
    ) -> None:
        self.partition = partition
        self.core = core
        self.journal = journal
        self.sequencer = Sequencer(next_offset)
        self.feed = Feed(partition, settings, last_feed)
        self.idle = Idle(settings.bucket_seconds, quiet_needed(settings.allowed_lateness_seconds))
        self.hidden = Hidden(HANGING_SECONDS)
        self.findings: dict[str, Finding] = self.feed.still()
        self.shares = Shares(self.findings)
        self.instances = Instances()
        self.live = False
        self.broken = False
        self.frozen = False
        self.held = False
        """No more is read of the partition until a flush has made room; see `Shards.hold`."""
        self.turn = asyncio.Lock()
        self.flushing = asyncio.Lock()
        self.committed = core.applied
        self.applied_records = 0
        self.unflushed = 0
        self.owed_bytes = 0
        self.open: dict[str, Alert] = {}
        self.owner_due = True
        self.rebuild = rebuild
        self.heard: tuple[str | None, int] | None = None
        """Up to where it was told what operators say: the id of the control topic, and an offset; None: nothing."""
        self.holes: list[tuple[int, int]] = []
        self.source = source
        self.ground = ground
        self.told: set[str] = set()
        self._source_due = not source_kept
        self._told_empty = False
        self._rebuilt = False
        self.recovery_seconds = 0.0
        self.state_bytes = 0.0
        self._mean_bytes: dict[bytes, float] = {}
        self._weighed: dict[bytes, int] = {}
        self._settings = settings
        self._owner = owner
        self._pending = Pending()
        self._in_flight = 0
        self._watch = watch

    def owe(self, step: Step) -> None:
        """Take up a step that came from no record: recovery's, or an idle step's."""
        self._pending.step.add(step)

    def apply(self, records: Sequence[Any], now: float) -> None:
        """Apply a slice of Kafka records in log order; `now` is the wall clock in epoch seconds."""
        if self.rebuild is not None:
            records = self._learn_silently(records, now, self.rebuild.until)
            if not records:
                return
        known, newest = self.core.applied, self.core.newest
        arrivals, rejects = _parsed(records, now)
        upto = records[-1].offset
        step = self.core.observe(arrivals, upto, origins_of(records))
        if upto > known:
            if rejects or step.rejects:
                self._refuse([r for r in rejects if r.position > known] + step.rejects, records)
            if self._watch is not None:
                self._watch([time for position, time, _ in arrivals if position > known], now)
            self.instances.add(arrivals, newest, now)
            for name, finding in self.shares.add(step, now).items():
                self.find(name, finding)
            self.applied_records += len(records)
            self.frozen = False
        step.rejects = []
        self._owe_bytes(len(step.alerts) * ALERT_BYTES)
        self._pending.step.add(step)
        self._moved(upto, len(records))

    def _moved(self, upto: int, records: int) -> None:
        self.sequencer.applied(upto)
        self.unflushed += records

    def _learn_silently(self, records: Sequence[Any], now: float, until: int) -> Sequence[Any]:
        """Apply the records before `until` and say nothing of what they show; returns the rest."""
        silent = [record for record in records if record.offset < until]
        if silent:
            upto, known = silent[-1].offset, self.core.applied
            self.core.observe(_parsed(silent, now)[0], upto, origins_of(silent))
            if upto > known:
                self.applied_records += len(silent)
                self.frozen = False
            self._moved(upto, len(silent))
        if self.core.applied + 1 >= until or len(silent) < len(records):
            self.speak_again()
        return records[len(silent) :]

    def speak_again(self) -> None:
        """A rebuild has come to where the old state was: what is still open is opened, and the rest goes as always."""
        if self.rebuild is None:
            return
        newest = self.core.newest if self.rebuild.newest is None else max(self.core.newest, self.rebuild.newest)
        self.core.follow(self.rebuild.sequence, newest)
        opened = [alert.model_copy(update={"status": "opened"}) for alert in self.core.open_alerts()]
        self._pending.step.add(Step(alerts=opened))
        self.rebuild, self._rebuilt = None, True

    def tell_empty(self) -> None:
        """The end of the log is reached: if it holds nothing so far, groups need not wait; each owner says so once."""
        if not self._told_empty:
            self._told_empty = True
            self.owe(self.core.tell_empty())

    def instruct(self, said: Sequence[Said], topic_id: str | None) -> None:
        """Tell the shard what operators say, in the order of the topic; what cannot be followed is a dead letter."""
        rejects = self.core.instruct([Heard(one.offset, one.what) for one in said], topic_id)
        by_offset = {one.offset: one.record for one in said} if rejects else {}
        topic = self._settings.control_topic
        for letter in dead_letters(rejects, by_offset, topic, canonical=False):
            self._pending.letters.append(letter)
            self._owe_bytes(len(letter[1] or b""))
        for reject in rejects:
            log.warning(
                "partition %d: what stands at offset %d of %s is not followed: %s",
                self.partition, reject.position, topic, reject.message, extra={"seldom": reject.position},
            )  # fmt: skip
        self._pending.reasons += [reject.reason for reject in rejects]

    def _refuse(self, rejects: Sequence[Reject], records: Sequence[Any]) -> None:
        by_offset = {record.offset: record for record in records}
        for letter in dead_letters(rejects, by_offset, self._settings.source_topic):
            self._pending.letters.append(letter)
            self._owe_bytes(len(letter[1] or b""))
        self._pending.reasons += [reject.reason for reject in rejects]

    def _owe_bytes(self, size: int) -> None:
        self._pending.size += size
        self.owed_bytes += size

    @property
    def is_pressing(self) -> bool:
        """Whether what is pending should be written at once: much, or the first of a partition just taken over.

        Those records have waited for the takeover already, and the flush shows whether the epoch is ours.
        """
        return self.owner_due or self._pending.size >= FLUSH_BYTES

    @property
    def is_large(self) -> bool:
        """Whether the next flush is so large that it should be the only one: packed, it is in memory twice."""
        return self.core.unwritten * sum(self._mean_bytes.values()) > LARGE_BYTES

    @property
    def is_full(self) -> bool:
        """Whether too much waits for its transaction to apply more."""
        return self.unflushed > MAX_UNFLUSHED or self.owed_bytes > MAX_OWED_BYTES

    def find(self, name: str, finding: Finding | None) -> None:
        """Say that the feed has this fault now, or (None) no longer."""
        if finding is None:
            self.findings.pop(name, None)
        else:
            self.findings[name] = finding

    def acknowledge_later(self, event: Any) -> None:
        """Acknowledge the event of a chunk once the transaction that holds it is committed."""
        self._pending.events.append(event)

    def snapshot(self, now: float) -> Flush | None:
        """Everything that is owed, packed; None if that is nothing. No await within: it is one moment of the shard."""
        pending, self._pending = self._pending, Pending()
        moment = self.core.newest if self.core.newest > 0 else now
        said = self.feed.judge(self.findings, moment, self.core.quality())
        found = pending.step.alerts + ([said] if said is not None else [])
        alerts = [as_found(alert, now, self._settings.backlog_seconds) for alert in found]
        changes = self.core.changes()
        states: list[Record] = [(key, value, ()) for key, value in changes]
        self.weigh(changes)
        flush = Flush(
            records={},
            step=pending.step,
            alerts=alerts,
            reasons=pending.reasons,
            acknowledge=pending.events,
            applied=self.core.applied,
            count=self.unflushed - self._in_flight,
            size=pending.size,
        )
        if self.owner_due:
            self.owner_due = False
            states.insert(0, (OWNER_KEY, self._owner.pack(), ()))
        if said is not None:
            states.insert(0, (FEED_KEY, said.model_dump_json().encode(), ()))
        if self._source_due and self.source is not None:
            states.insert(0, (SOURCE_KEY, self.source.pack(), ()))
            self._source_due = False
        if self._rebuilt:
            states.insert(0, (REBUILD_KEY, None, ()))
            self._rebuilt = False
        written = {
            self._settings.alert_topic: [alert_record(a, self._settings.app_id, self.partition) for a in alerts],
            self._settings.dead_letter_topic: pending.letters,
            self._settings.state_topic: states,
        }
        flush.records.update({topic: records for topic, records in written.items() if records})
        evidence: list[Record] = [(key, value, ()) for key, value in evidence_records(pending.step.evidence)]
        if evidence:
            flush.records[self._settings.group_evidence_topic, 0] = evidence
        if not flush.records and not flush.acknowledge:
            return None  # of what is only read again, and its chunk goes on
        self._in_flight += flush.count
        return flush

    def written(self, flush: Flush) -> None:
        """A flush is committed: only now its events may be acknowledged."""
        self.committed = flush.applied
        self.unflushed -= flush.count
        self._in_flight -= flush.count
        self.owed_bytes -= flush.size
        for event in flush.acknowledge:
            event.ack()
        follow(self.open, flush.alerts)

    def weigh(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep an estimate of the keys' packed state from some records: mean sizes of a key's two, times keys."""
        for key, value in islice(records, WEIGHED_RECORDS):
            kind, size = key[:1], len(key) + len(value)
            if kind not in (SUMS, MODEL):
                continue
            weighed = self._weighed[kind] = self._weighed.get(kind, 0) + 1
            mean = self._mean_bytes.get(kind, 0.0)
            self._mean_bytes[kind] = mean + (size - mean) * max(WEIGHT, 1 / weighed)
        self.state_bytes = sum(self._mean_bytes.values()) * len(self.core)


def _parsed(records: Sequence[Any], now: float) -> tuple[list[Arrival], list[Reject]]:
    """Kafka records as arrivals and rejects; a record without a timestamp may not be ahead of `now` either."""
    ahead, no_timestamp = FUTURE_SECONDS, now + FUTURE_SECONDS
    return parse(
        [
            (r.offset, r.value, stamp * 0.001 + ahead if (stamp := r.timestamp or 0) > 0 else no_timestamp)
            for r in records
        ]
    )
