"""What is wrong with a share of the records: too late, without usage, sent twice, answered by nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from stream.alerts import Severity
from stream.core.step import Step
from stream.worker.feed import Finding

LEAST_RECORDS = 100
WINDOW_RECORDS = 10_000
WINDOW_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is worth an alert where more than `share` of the records have it.

    It is over at half of that: a share that swings around the limit must not open and resolve all day.
    """

    name: str
    share: float
    severity: Severity
    what: str
    action: str

    def finding(self, flawed: int, records: int) -> Finding:
        """The finding, of `flawed` among the last `records`."""
        text = f"{flawed / records:.1%} of the last {records} records {self.what}"
        expected = self.share * records
        return Finding(self.name, text, self.action, self.severity, float(flawed), expected, "records")


LATE = Fault(
    "late", 0.01, "warning", "came too late to be counted",
    "look for a gateway whose clock or delivery lags, or raise allowed_lateness_seconds",
)  # fmt: skip
MISSING = Fault(
    "missing_usage", 0.2, "warning", "were answered and say no token counts: their tokens are estimated",
    "have the gateway log the usage, of streamed answers too (stream_options.include_usage)",
)  # fmt: skip
DUPLICATES = Fault(
    "duplicates", 0.1, "info", "had been sent before and were counted once",
    "look for a callback or a log plugin that is set up twice, or a producer that sends again without idempotence",
)  # fmt: skip
ZERO = Fault(
    "zero_usage", 0.2, "warning", "were answered by no tokens at all, as the gateway says, and are taken at its word",
    "have the gateway leave the counts out (null) where it does not know them: then they are estimated",
)  # fmt: skip
FAULTS = (LATE, MISSING, DUPLICATES, ZERO)


def flawed(step: Step) -> tuple[int, ...]:
    """Of each of FAULTS, how many records of the step have it."""
    return step.late, step.unmetered, step.duplicates, step.zero_usage


class Shares:
    """The share of each fault among the last 10,000 records of a shard, or of the last hour; `now` is in seconds.

    found: the faults that were found before, as they are found again after a restart

    >>> Shares().add(Step(accepted=148, late=2), now=0.0)["late"].text
    '1.3% of the last 150 records came too late to be counted'
    """

    def __init__(self, found: Collection[str] = ()) -> None:
        self._parts: deque[tuple[float, int, tuple[int, ...]]] = deque()
        self._records = 0
        self._flawed = [0] * len(FAULTS)
        self._found = {fault.name for fault in FAULTS if fault.name in found}

    def add(self, step: Step, now: float) -> dict[str, Finding | None]:
        """Take up a step's counts; of each fault the finding while too many records have it."""
        records = step.accepted + step.duplicates + step.late
        if records:
            counts = flawed(step)
            self._parts.append((now, records, counts))
            self._count(records, counts, 1)
        while self._parts and (
            now - self._parts[0][0] > WINDOW_SECONDS or self._records - self._parts[0][1] >= WINDOW_RECORDS
        ):
            _, gone, gone_flawed = self._parts.popleft()
            self._count(gone, gone_flawed, -1)
        return {fault.name: self._judge(fault, count) for fault, count in zip(FAULTS, self._flawed, strict=True)}

    def _count(self, records: int, flawed: tuple[int, ...], sign: int) -> None:
        self._records += sign * records
        for place, count in enumerate(flawed):
            self._flawed[place] += sign * count

    def _judge(self, fault: Fault, flawed: int) -> Finding | None:
        share = flawed / self._records if self._records else 0.0
        enough = self._records >= LEAST_RECORDS
        known = fault.name in self._found
        found = not enough or share > fault.share / 2 if known else enough and share > fault.share
        (self._found.add if found else self._found.discard)(fault.name)
        return fault.finding(flawed, max(1, self._records)) if found else None
