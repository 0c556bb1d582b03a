"""A key that is watched while its records are replayed: what it held hour by hour, and why it was judged as it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from stream.core.bucket import OpenBucket, Verdict
from stream.core.explanation import Explanation
from stream.core.key import KeyState, Skips
from stream.core.residuals import HORIZONS
from stream.core.rules import Rules
from stream.core.why import explain, limits

MOST_HOURS = 24 * 120
"""What is kept for a picture: four months."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a window holds at the end of an hour, in tokens per hour; `band` and `upper` as in a WindowView."""

    observed: float
    expected: float
    band: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of UTC: its start in epoch seconds, what it took and was expected to take, and the windows (HORIZONS).

    Of an hour whose telemetry was lost in part, the sums are of the rest.
    """

    start: float
    tokens: float
    expected: float
    windows: tuple[Rate, ...]


class WatchedKey(KeyState):
    """A KeyState that does the same as any other, and notes it.

    at: event time up to which it is watched, None: to the end; keys: tells the size of the installation
    """

    __slots__ = ("_expected", "_tokens", "at", "at_that_time", "hours", "keys", "openings")

    def __init__(self, key_id: str, rules: Rules, keys: Callable[[], int], at: float | None = None) -> None:
        self.keys = keys
        self.at = at
        self.at_that_time: Explanation | None = None
        """As of the last bucket that ended by `at`, once a later one has closed."""
        self.openings: dict[int, Explanation] = {}
        """By the bucket that an incident starts with: why, as of its close."""
        self.hours: deque[Hour] = deque(maxlen=MOST_HOURS)
        self._tokens = self._expected = 0.0
        super().__init__(key_id, rules)

    def why(self) -> Explanation | None:
        """Why, at the time that was asked for; None if no bucket had closed by then."""
        if self.at_that_time is not None:
            return self.at_that_time
        if not self.baseline.age or (self.at is not None and self._end(self.next_bucket - 1) > self.at):
            return None
        return explain(self, self.keys())

    def close(self, sums: OpenBucket | None, limit: int) -> Verdict:
        """Close the bucket, note it, and why if an incident starts here."""
        bucket, known = self.next_bucket, self.incident
        watching = self._before(bucket)
        verdict = super().close(sums, limit)
        if watching:
            self._note(bucket, float(sums.input_tokens + sums.output_tokens) if sums is not None else 0.0)
            # an early alert has opened its incident inside the bucket
            if verdict.anomalous if known is None else known.started == bucket:
                self.openings[bucket] = explain(self, self.keys())
        return verdict

    def skip(self, skips: Skips) -> bool:
        """An hour that ends in an outage ends, too."""
        bucket = self.next_bucket
        skipped = super().skip(skips)
        if skipped:
            self._end_hour(bucket)
        return skipped

    def _begin(self, next_bucket: int) -> None:
        """A key that is begun anew has forgotten what it was."""
        if next_bucket >= 0:
            self._before(next_bucket)
        super()._begin(next_bucket)

    def _rest(self, limit: int) -> None:
        bucket = self.next_bucket
        watching = self._before(bucket)
        super()._rest(limit)
        if watching:
            self._note(bucket, 0.0)

    def _end(self, bucket: int) -> float:
        return float((bucket + 1) * self.rules.settings.bucket_seconds)

    def _before(self, bucket: int) -> bool:
        """Whether `bucket` is still watched; if it is the first that is not, why is told before it closes."""
        if self.at is None or self._end(bucket) <= self.at:
            return True
        if self.at_that_time is None and self.baseline.age and self._end(self.next_bucket - 1) <= self.at:
            self.at_that_time = explain(self, self.keys())
        return False

    def _note(self, bucket: int, tokens: float) -> None:
        self._tokens += tokens
        self._expected += self.last_expected
        self._end_hour(bucket)

    def _end_hour(self, bucket: int) -> None:
        calendar = self.rules.calendar
        if (bucket + 1) % calendar.per_hour:
            return
        start = float((bucket + 1 - calendar.per_hour) * calendar.bucket_seconds)
        windows = tuple(self._rate(h) for h in range(len(HORIZONS)))
        self.hours.append(Hour(start, self._tokens, self._expected, windows))
        self._tokens = self._expected = 0.0

    def _rate(self, h: int) -> Rate:
        residuals, per_hour = self.residuals, self.rules.calendar.per_hour
        buckets = residuals.horizons.buckets[h]
        band, upper = limits(self, h) if self.baseline.age > self.rules.warm_buckets else (None, None)
        return Rate(
            residuals.observed[h] * per_hour,
            residuals.expected[h] * per_hour,
            None if band is None else band / buckets * per_hour,
            None if upper is None else upper / buckets * per_hour,
        )
