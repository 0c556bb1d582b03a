"""What happened: the value that a shard returns from `observe`, `advance` and `skip`."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream.alerts import Alert
from stream.core.evidence import Evidence
from stream.events import Reject


@dataclass(slots=True)
class Step:
    """What a shard did with a batch: counts for the metrics, alerts for the topic, rejects for the dead letters.

    Token sums are over accepted records; `late_tokens` are those of late ones, and of shares whose bucket had closed.
    `missing_usage`, and among them `unmetered`, which had an answer, `out_of_order` and `zero_usage` are of the
    accepted: older than the newest one before them by more than a second; answered by no tokens, as the gateway says.
    """

    accepted: int = 0
    duplicates: int = 0
    late: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    late_tokens: int = 0
    missing_usage: int = 0
    unmetered: int = 0
    out_of_order: int = 0
    zero_usage: int = 0
    buckets_closed: int = 0
    alerts: list[Alert] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, ...]:
        """Accepted, duplicates, late, out of order, zero usage: what data quality is made of (`quality.Quality`)."""
        return self.accepted, self.duplicates, self.late, self.out_of_order, self.zero_usage

    def add(self, other: Step) -> None:
        """Take up another step's counts, alerts, evidence and rejects."""
        self.add_counts(other)
        self.alerts += other.alerts
        self.evidence += other.evidence
        self.rejects += other.rejects

    def add_counts(self, other: Step) -> None:
        """Take up another step's counts."""
        self.accepted += other.accepted
        self.duplicates += other.duplicates
        self.late += other.late
        self.calls += other.calls
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.late_tokens += other.late_tokens
        self.missing_usage += other.missing_usage
        self.unmetered += other.unmetered
        self.out_of_order += other.out_of_order
        self.zero_usage += other.zero_usage
        self.buckets_closed += other.buckets_closed
