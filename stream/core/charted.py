"""Keys whose hours are kept for a picture while files are replayed: of the strongest incidents, in bounded memory."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from stream.alerts import Entity, alert_id_of
from stream.core.bucket import OpenBucket, Verdict
from stream.core.incidents import Incident
from stream.core.key import KeyState, Skips
from stream.core.rules import Rules

HOUR_SECONDS = 3600
MOST_HOURS = 21 * 24
"""Three weeks: what an incident is seen against, and itself."""
SPARE_HOURS = 2 * 24
"""Hours are thrown away two days at a time, so that not every hour moves all others."""
MOST_KEYS = 20_000
"""Keys whose hours are kept in case something happens, 4.4 kB each: those that are seen first, for that does not hang
on the order in which keys are closed."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Hours of one key, without a hole: tokens and what was expected in each, from `start` on in epoch seconds."""

    start: float
    tokens: tuple[float, ...]
    expected: tuple[float, ...]

    @property
    def end(self) -> float:
        """End of the last hour, in epoch seconds."""
        return self.start + HOUR_SECONDS * len(self.tokens)


class Series:
    """The last hours of one key, and the sums of the hour that has not ended; `next_hour`: in hours since the epoch."""

    __slots__ = ("expected", "expected_now", "incident", "next_hour", "tokens", "tokens_now")

    def __init__(self) -> None:
        self.next_hour = 0
        self.tokens = array("f")
        self.expected = array("f")
        self.tokens_now = self.expected_now = 0.0
        self.incident: Incident | None = None
        """The one that was open when the last bucket was closed."""

    def end_hour(self, hour: int) -> None:
        """Keep the sums of an hour; after a gap, which is a key that was begun anew, there is nothing before it."""
        if hour != self.next_hour:
            self.tokens, self.expected = array("f"), array("f")
        self.tokens.append(self.tokens_now)
        self.expected.append(self.expected_now)
        self.tokens_now = self.expected_now = 0.0
        self.next_hour = hour + 1
        if len(self.tokens) >= MOST_HOURS + SPARE_HOURS:
            del self.tokens[:SPARE_HOURS]
            del self.expected[:SPARE_HOURS]

    def chart(self) -> Chart:
        """The last MOST_HOURS."""
        tokens, expected = self.tokens[-MOST_HOURS:], self.expected[-MOST_HOURS:]
        return Chart(float((self.next_hour - len(tokens)) * HOUR_SECONDS), tuple(tokens), tuple(expected))


class Charts:
    """Makes the keys of a replay, and keeps the hours of the `most` strongest incidents: by severity, then by excess.

    What lies here is not packed with a key, so keys may sleep.
    """

    stays_awake = False

    def __init__(self, most: int, most_keys: int = MOST_KEYS) -> None:
        self.most, self.most_keys = most, most_keys
        self.first_bucket = -1
        """The first bucket that any key was used in, -1: none was."""
        self._series: dict[str, Series] = {}
        self._kept: dict[str, tuple[int, float, Chart]] = {}

    def __call__(self, key_id: str, rules: Rules) -> KeyState:
        """A key of which nothing is known yet; what was kept of that id goes on."""
        if key_id not in self._series and len(self._series) < self.most_keys:
            self._series[key_id] = Series()
        return ChartedKey(key_id, rules, self)

    def series_of(self, key_id: str) -> Series | None:
        """Where the hours of a key are kept; None if it is one too many."""
        return self._series.get(key_id)

    def follow(self, key_id: str, series: Series, incident: Incident | None, bucket_seconds: int) -> None:
        """Note which incident is open; of one that is over, what led to it is kept."""
        known = series.incident
        if known is not None and (incident is None or incident.started != known.started):
            self._keep(key_id, series, known, bucket_seconds)
        series.incident = incident

    def finish(self, bucket_seconds: int) -> dict[str, Chart]:
        """The end of the input: the charts by alert id, of incidents that are still open as well."""
        for key_id, series in self._series.items():
            if series.incident is not None:
                self._keep(key_id, series, series.incident, bucket_seconds)
        return {alert_id: chart for alert_id, (_, _, chart) in self._kept.items()}

    def _keep(self, key_id: str, series: Series, incident: Incident, bucket_seconds: int) -> None:
        kept = self._kept
        alert_id = alert_id_of(Entity(type="key", id=key_id), float(incident.started * bucket_seconds))
        kept[alert_id] = (incident.severity, incident.excess, series.chart())
        if len(kept) > self.most:
            del kept[min(kept, key=lambda name: (kept[name][0], kept[name][1], name))]


class ChartedKey(KeyState):
    """A KeyState that does the same as any other, and tells its hours."""

    __slots__ = ("charts",)

    def __init__(self, key_id: str, rules: Rules, charts: Charts) -> None:
        self.charts = charts
        super().__init__(key_id, rules)

    def close(self, sums: OpenBucket | None, limit: int) -> Verdict:
        """Close the bucket, and note it."""
        bucket = self.next_bucket
        verdict = super().close(sums, limit)
        if self.charts.first_bucket < 0 or bucket < self.charts.first_bucket:
            self.charts.first_bucket = bucket
        self._note(bucket, float(sums.input_tokens + sums.output_tokens) if sums is not None else 0.0)
        return verdict

    def skip(self, skips: Skips) -> bool:
        """An hour that ends in an outage ends, too."""
        bucket = self.next_bucket
        skipped = super().skip(skips)
        if skipped:
            self._pass_hour(bucket, self.charts.series_of(self.key_id))
        return skipped

    def _rest(self, limit: int) -> None:
        bucket = self.next_bucket
        super()._rest(limit)
        self._note(bucket, 0.0)

    def _note(self, bucket: int, tokens: float) -> None:
        series = self.charts.series_of(self.key_id)
        if series is None:
            return
        series.tokens_now += tokens
        series.expected_now += self.last_expected
        self._pass_hour(bucket, series)
        if series.incident is not self.incident:
            self.charts.follow(self.key_id, series, self.incident, self.rules.settings.bucket_seconds)

    def _pass_hour(self, bucket: int, series: Series | None) -> None:
        calendar = self.rules.calendar
        if series is not None and (bucket + 1) % calendar.per_hour == 0:
            series.end_hour(bucket // calendar.per_hour)
