"""Why, from files: one key of a replay, watched hour by hour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stream.alerts import Alert, Entity
from stream.core.explanation import Explanation
from stream.core.key import KeyState
from stream.core.priors import Priors
from stream.core.rules import Rules
from stream.core.watched import Hour, WatchedKey
from stream.lab.replay import Replay
from stream.settings import Settings

Chunks = Iterable[Sequence[bytes]]
"""Raw records, piece by piece, in their order."""


@dataclass(frozen=True, slots=True)
class Case:
    """A key, why, its hours up to there, and its alerts in the order in which they were found.

    alert_id: of the alert that was asked for: why is then as of the close of the incident's first bucket
    explanation None: no bucket of the key had closed by then
    """

    key_id: str
    alert_id: str | None
    explanation: Explanation | None
    hours: tuple[Hour, ...]
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class Watch:
    """How files are replayed: as `overdraw replay` does, with the other keys, for they move the watermark, too.

    partition_of: as for `Replay`; now: the latest time that a record may have; at: a key is explained as of that time,
    by the buckets that had closed, None: as of the end. All in epoch seconds.
    """

    settings: Settings
    partition_of: Callable[[str, int], int]
    now: float
    at: float | None = None
    priors: Priors | None = None

    def explain(self, read: Callable[[], Chunks], wanted: str) -> Case | None:
        """Explain the key or the alert whose id is `wanted`; None if there is neither.

        An alert's key is known only once it was found, so its records are read twice: `read` begins anew.
        """
        key, alerts, owner = self._run(read(), wanted)
        if key is not None:
            return Case(wanted, None, key.why(), tuple(key.hours), alerts)
        if owner is None:
            return None
        key, alerts, _ = self._run(read(), owner)
        started = next((alert.started_at for alert in alerts if alert.alert_id == wanted), None)
        if key is None or started is None:
            return None
        opening = key.openings.get(int(started // self.settings.bucket_seconds))
        return Case(owner, wanted, opening, tuple(key.hours), alerts)

    def _run(self, chunks: Chunks, wanted: str) -> tuple[WatchedKey | None, tuple[Alert, ...], str | None]:
        """One replay: the key of id `wanted`, its alerts, and the id of the key whose alert `wanted` is."""
        watched: list[WatchedKey] = []

        def make(key_id: str, rules: Rules) -> KeyState:
            if key_id != wanted:
                return KeyState(key_id, rules)
            home = replay.shards[self.partition_of(key_id, self.settings.partitions)]
            watched.append(WatchedKey(key_id, rules, lambda: len(home) * self.settings.partitions, self.at))
            return watched[-1]

        replay = Replay(self.settings, partition_of=self.partition_of, now=self.now, priors=self.priors, make_key=make)
        alerts: list[Alert] = []
        owner = None
        for chunk in chunks:
            replay.feed(chunk)
        replay.finish()
        for alert in replay.summary.step.alerts:
            if alert.alert_id == wanted:
                owner = alert.entity.id
            if alert.entity == Entity(type="key", id=wanted) and self._was_told(alert):
                alerts.append(alert)
        # a record that was refused has made a key that was not kept
        return next((key for key in watched if key.calls), None), tuple(alerts), owner

    def _was_told(self, alert: Alert) -> bool:
        return self.at is None or alert.updated_at <= self.at + self.settings.allowed_lateness_seconds
