"""What one notifier is told, and what it was told already: an incident once, its worsening, and its end."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from stream.alerts import RANK, SILENT_SECONDS, Alert
from stream.notify.cover import covered_by, subjects_of
from stream.notify.hold import PAGE, may_wait
from stream.notify.hush import Hush, names_of

MAX_INCIDENTS = 100_000
"""Some 50 MB, and 300 MB where alerts are said again; beyond it the oldest are forgotten."""
log = logging.getLogger(__name__)
_NAME = {rank: name for name, rank in RANK.items()}


class Decision(Enum):
    """What to do with an alert."""

    SEND = "send"
    DIGEST = "digest"
    SILENT = "silent"
    HOLD = "hold"


@dataclass(slots=True)
class Known:
    """An open incident: the worst severity told, and how; `kept`: its last alert as JSON, where that is said again.

    names: under which it may be muted; covers: the keys, organisation or faults of the feed that it speaks for
    held: it is a ticket that waits, of which nothing was told so far
    """

    alert_id: str
    fingerprint: str
    kept: bytes | None
    source: str
    partition: int
    at: float
    said: int
    names: tuple[str, ...]
    covers: frozenset[str]
    digested: bool = False
    held: bool = False


class Desk:
    """The open incidents that one notifier was told of, one by one or in a digest.

    `hush` knows what operators want to hear no more of; `clock` gives epoch seconds.
    """

    def __init__(
        self,
        *,
        dedupes: bool,
        every_update: bool,
        keeps: bool,
        hush: Hush | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dedupes = dedupes
        self._keeps = keeps
        self._every_update = every_update
        self._known: dict[str, Known] = {}
        self._digested: Counter[int] = Counter()
        self._hush, self._clock = hush or Hush(), clock
        self._covering: dict[str, dict[str, None]] = {}
        """Incidents, by fingerprint, that speak for others: for a key, an organisation or a fault of the feed."""

    def __len__(self) -> int:
        return len(self._known)

    def knows(self, alert: Alert) -> bool:
        """Whether it was told of this alert's incident, so that it has to hear of its end."""
        known = self._known.get(alert.fingerprint)
        return known is not None and known.alert_id == alert.alert_id

    def is_quiet(self, alert: Alert, *moments: float) -> bool:
        """Whether nothing is to be said of an incident but its end: it is muted, somebody is at it, or another one that
        was told speaks for it. `moments`: epoch seconds at any of which a mute counts.
        """  # noqa: D205
        rank = RANK[alert.severity]
        return self._hush.is_quiet(alert.alert_id, rank, names_of(alert), *moments) or self._is_covered(alert, rank)

    def _is_covered(self, alert: Alert, rank: int) -> bool:
        """A campaign speaks for its members, an organisation for its keys, the feed for the same faults elsewhere.

        But not for what is worse than itself, and only if it was told by itself.
        """
        faults = covered_by(alert) if alert.kind == "feed" else frozenset()
        for subject in subjects_of(alert):
            for fingerprint in self._covering.get(subject, ()):
                known = self._known[fingerprint]
                if (
                    fingerprint == alert.fingerprint
                    or known.said < rank
                    or known.digested
                    or known.held
                    or not faults <= known.covers
                ):
                    continue
                if not self._hush.is_quiet(known.alert_id, known.said, known.names, self._clock()):
                    return True
        return False

    def judge(
        self,
        alert: Alert,
        matched: bool,
        may_send: bool,
        *,
        source: str,
        partition: int,
        at: float,
        past: bool = False,
        paged: bool = False,
        hold: bool = False,
    ) -> Decision:
        """What to do with the next alert; `matched`: a route leads here. `at`: when it was written, epoch seconds.

        past: the question is what was done with it then
        paged: a pager is told of it as well
        hold: if it is new, and a ticket that may wait, it is to, whether it may be sent or not
        """
        known = self._known.get(alert.fingerprint)
        if known is not None and known.alert_id != alert.alert_id:
            known = None  # an incident whose end we never read: its successor replaces it
        if alert.status == "resolved":
            return self._end(alert, known, matched, may_send)
        rank = RANK[alert.severity]
        quiet = self.is_quiet(alert, at) if past else self.is_quiet(alert, at, self._clock())
        if known is None:
            if not matched or quiet:
                return Decision.SILENT
            held = hold and may_wait(alert)
            digested = not (held or may_send)
            known = Known(
                alert.alert_id, alert.fingerprint, None if digested else self._json(alert), source, partition, at, rank,
                names_of(alert), covered_by(alert), digested, held,
            )  # fmt: skip
            self._keep(alert.fingerprint, known)
            return _opened(known)
        self._drop(alert.fingerprint)
        known.at, known.names, known.covers = at, names_of(alert), covered_by(alert)
        if quiet:
            known.kept = None if known.digested else self._json(alert)
            self._keep(alert.fingerprint, known)
            return Decision.SILENT
        if known.held:
            known.held, known.said = may_wait(alert), max(rank, known.said)
            known.digested = not (known.held or may_send)
            self._keep(alert.fingerprint, known)
            return _opened(known)
        worse, was_digested = self._is_worse(known, rank, paged), known.digested
        known.digested = was_digested and not (worse and may_send)
        known.kept = None if known.digested else self._json(alert)
        known.said = max(rank, known.said)
        self._keep(alert.fingerprint, known)
        if known.digested:
            return Decision.DIGEST if worse else Decision.SILENT
        return Decision.SEND if worse or self._every_update else Decision.SILENT

    def _end(self, alert: Alert, known: Known | None, matched: bool, may_send: bool) -> Decision:
        self._drop(alert.fingerprint)
        if known is None:
            # told before what we remember, perhaps: where nobody hears of an end without a beginning, better say it
            return Decision.SEND if matched and self._dedupes else Decision.SILENT
        if known.held and self.is_quiet(alert, self._clock()):
            return Decision.SILENT
        return Decision.DIGEST if known.digested or (known.held and not may_send) else Decision.SEND

    def is_time(self, alert: Alert, leave: Callable[[], bool]) -> Decision:
        """What to do with a ticket that has waited for long enough: it is told from now on, or else forgotten.

        `leave()` asks the limit on bursts.
        """
        if not self.knows(alert):
            return Decision.SILENT
        known = self._known[alert.fingerprint]
        self._drop(alert.fingerprint)
        if self.is_quiet(alert, self._clock()):
            return Decision.SILENT
        known.held, known.digested = False, not leave()
        self._keep(alert.fingerprint, known)
        return _opened(known)

    def _is_worse(self, known: Known, rank: int, paged: bool) -> bool:
        """Whether a rise is news here.

        Where the message that is there shows it, each one is. Where it would be another message, only a ticket that
        becomes a page is, and not if a pager tells just that: whoever is on call hears one voice. From high to critical
        a growing sum comes by itself, and the page is out.
        """
        if self._dedupes:
            return rank > known.said
        return known.said < PAGE <= rank and not paged

    def needs_leave(self, alert: Alert, matched: bool, *, paged: bool = False, hold: bool = False) -> bool:
        """Whether the limit on bursts has to be asked: for what is told of first, and what of a digest gets worse.

        Not for what is to wait (`hold` as in `judge`), as long as it does.
        """
        over = alert.status == "resolved"
        if self.is_quiet(alert, self._clock()):
            return False
        if not self.knows(alert):
            return matched and not over and not (hold and may_wait(alert))
        known = self._known[alert.fingerprint]
        if known.held:
            return not may_wait(alert)
        return not over and known.digested and self._is_worse(known, RANK[alert.severity], paged)

    def _json(self, alert: Alert) -> bytes | None:
        if not self._keeps:
            return None
        try:
            return alert.model_dump_json().encode()
        except ValueError as error:  # a time beyond all calendars: the service was not told of it either
            log.debug("an alert cannot be kept: %s", type(error).__name__)
            return None

    def _keep(self, fingerprint: str, known: Known) -> None:
        self._drop(fingerprint)
        self._known[fingerprint] = known  # in the order of their last word
        self._digested[known.partition] += known.digested
        for subject in known.covers:
            self._covering.setdefault(subject, {})[fingerprint] = None
        if len(self._known) > MAX_INCIDENTS:
            self._drop(next(iter(self._known)))

    def _drop(self, fingerprint: str) -> None:
        if (known := self._known.pop(fingerprint, None)) is None:
            return
        self._digested[known.partition] -= known.digested
        for subject in known.covers:
            covering = self._covering[subject]
            del covering[fingerprint]
            if not covering:
                del self._covering[subject]

    def remember(
        self, alert: Alert, matched: bool, told: Collection[str] | None, *, source: str, partition: int, at: float
    ) -> bool:
        """An alert that was told before this process began; whether that was one by one.

        `told` has the incidents of its partition that were told one by one; None: all of them were.
        """
        self.judge(alert, matched, True, source=source, partition=partition, at=at, past=True)
        if (known := self._known.get(alert.fingerprint)) is not None:
            self._digested[partition] -= known.digested
            known.digested = not known.held and told is not None and short_id(alert.alert_id) not in told
            self._digested[partition] += known.digested
            return not known.digested
        return False

    def told(self, partition: int) -> list[str]:
        """Short ids of the open incidents of a partition that were told one by one, newest last."""
        return [
            short_id(known.alert_id)
            for known in self._known.values()
            if known.partition == partition and not known.digested
        ]

    def digested(self, partition: int | None = None) -> int:
        """How many open incidents only a digest told of: of one partition, or of all."""
        return self._digested.total() if partition is None else self._digested[partition]

    def digested_severities(self) -> Counter[str]:
        """The open incidents that only a digest told of, by the worst severity told."""
        return Counter(_NAME[known.said] for known in self._known.values() if known.digested)

    def firing(self, now: float) -> Iterator[Known]:
        """The open incidents that were told one by one and are to be said again.

        What has been silent for too long is forgotten; of what operators want to hear no more, nothing is said.
        """
        for fingerprint in [f for f, known in self._known.items() if now - known.at > SILENT_SECONDS]:
            self._drop(fingerprint)
        quiet = self._hush.is_quiet
        return (
            known
            for known in list(self._known.values())
            if not known.digested and not quiet(known.alert_id, known.said, known.names, now)
        )


def _opened(known: Known) -> Decision:
    """What is done with an incident of which nothing was told so far."""
    if known.held:
        return Decision.HOLD
    return Decision.DIGEST if known.digested else Decision.SEND


def short_id(alert_id: str) -> str:
    """Ten characters of an alert id: enough to tell a thousand incidents apart, and short enough to be kept many."""
    return alert_id[:10]
