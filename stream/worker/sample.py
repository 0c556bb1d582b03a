"""What the calls at the end of a topic are like: late, double, without usage, by a clock that is off."""

from __future__ import annotations

from collections.abc import Sequence

from stream.core.quality import OUT_OF_ORDER_SECONDS
from stream.core.step import Step
from stream.core.sums import FIRST_FAILURE
from stream.core.windows import DUPLICATE, LATE, Windows
from stream.events import Arrival
from stream.settings import Settings
from stream.worker.faults import FAULTS, MISSING, Fault, flawed
from stream.worker.inspection import Finding
from stream.worker.instances import LEAST_RECORDS, Instances, limit_of, of_all, shown, skewed, skews

MAX_IDS = 50_000
"""Ids of one partition's open buckets that are remembered to find duplicates."""

WORDS = {
    "late": "too late", "missing_usage": "without token counts", "duplicates": "seen before",
    "zero_usage": "answered by no tokens",
}  # fmt: skip
"""How a line of shares calls each fault."""


class Sample:
    """Counts what a shard would count, by the same windows; memory is bounded."""

    def __init__(self, settings: Settings) -> None:
        self.counts = Step()
        self._settings = settings
        self._windows: dict[int, Windows] = {}
        self._instances: dict[int, Instances] = {}

    @property
    def events(self) -> int:
        """Calls that were looked at."""
        return self.counts.accepted + self.counts.duplicates + self.counts.late

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        """Look at the next calls of a partition."""
        settings, counts = self._settings, self.counts
        windows = self._windows.get(partition)
        if windows is None:
            lateness = settings.allowed_lateness_seconds
            windows = self._windows[partition] = Windows(settings.bucket_seconds, lateness, MAX_IDS, False)
        self._instances.setdefault(partition, Instances()).add(arrivals, windows.newest, 0.0)
        for position, time, call in arrivals:
            place = windows.place(time, hash((call.key_id, call.event_id)), position)
            if place == LATE:
                counts.late += 1
                continue
            if place == DUPLICATE:
                counts.duplicates += 1
                continue
            counts.accepted += 1
            counts.out_of_order += time < windows.newest - OUT_OF_ORDER_SECONDS
            if call.status is None or call.status < FIRST_FAILURE:
                missing = call.input_tokens is None or call.output_tokens is None
                counts.unmetered += missing
                counts.zero_usage += not missing and not call.input_tokens and not call.output_tokens
            if windows.see(time):
                windows.close()

    def findings(self, subject: str) -> list[Finding]:
        """What there is to say: one line of all shares, and a hint for each fault that would be an alert."""
        counts, events = self.counts, self.events
        found = list(zip(FAULTS, flawed(counts), strict=True))
        shares = [f"{count / events:.1%} {WORDS[fault.name]}" for fault, count in found if count]
        if counts.out_of_order:
            shares.append(f"{counts.out_of_order / events:.1%} out of order")
        text = f"of {events} events {', '.join(shares) or 'none is late, double or without usage'}"
        seen = of_all(list(self._instances.values()))
        if seen:
            text += f"; {len(seen)} gateways name themselves"
        findings = [Finding("ok", subject, text)]
        findings += [self._hint(subject, fault, count) for fault, count in found if count > fault.share * events]
        clocks = skews(seen)
        skew = skewed(clocks, limit_of(self._settings.allowed_lateness_seconds))
        if skew is not None:
            findings.append(Finding("hint", subject, skew.text, skew.action))
        poor = [
            f"{gateway} ({each.missing / each.records:.0%})"
            for gateway, each in shown(seen).items()
            if each.records >= LEAST_RECORDS and each.missing > MISSING.share * each.records
        ]
        if poor:
            text = f"without token counts come the answers of the gateways {', '.join(poor)}"
            findings.append(Finding("hint", subject, text, MISSING.action))
        return findings

    def _hint(self, subject: str, fault: Fault, count: int) -> Finding:
        finding = fault.finding(count, self.events)
        return Finding("hint", subject, finding.text, finding.action)
