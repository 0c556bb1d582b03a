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
    """

    accepted: int = 0
    duplicates: int = 0
    late: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    late_tokens: int = 0
    missing_usage: int = 0
    buckets_closed: int = 0
    alerts: list[Alert] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, ...]:
        """Accepted, duplicates, late, missing usage: what data quality is made of."""
        return self.accepted, self.duplicates, self.late, self.missing_usage

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
        self.buckets_closed += other.buckets_closed
