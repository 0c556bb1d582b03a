"""Incidents that come too many at once: a limit on messages, and one message about all that is beyond it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest

from stream.alerts import Alert, printable, rfc3339
from stream.notify.message import amount

TOP = 10


class Burst:
    """A token bucket: `limit` messages at once, and as many again within `seconds`. A limit of 0 lets all pass."""

    def __init__(self, limit: int, seconds: float, now: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._left, self._at = float(limit), now

    def take(self, now: float) -> bool:
        """Whether one more message may go.

        >>> burst = Burst(2, 60, now=0)
        >>> [burst.take(0), burst.take(0), burst.take(0), burst.take(30)]
        [True, True, False, True]
        """
        if self._limit == 0:
            return True
        passed = max(0.0, now - self._at)
        self._left = min(float(self._limit), self._left + passed * self._limit / self._seconds)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class Digest:
    """One message about many incidents: those that opened or got worse since the last digest, and what is left of all.

    `open_count` 0: all are over, or were told one by one since, as `moved` were. `partition` is the lowest that this
    process reads, for another one has its own digest.
    """

    app_id: str
    partition: int
    at: float
    opened: int
    resolved: int
    open_count: int
    kinds: tuple[tuple[str, int], ...] = ()
    severities: tuple[tuple[str, int], ...] = ()
    excess_tokens: float = 0.0
    top: tuple[Alert, ...] = ()
    worsened: int = 0
    moved: int = 0

    @property
    def key(self) -> str:
        """The dedupe key: the same for every digest of this process."""
        return f"overdraw-digest-{self.app_id}-{self.partition}"

    @property
    def worst(self) -> str:
        """The highest severity of those that it is about."""
        order = ("critical", "high", "warning", "info")
        return min((name for name, _ in self.severities), key=order.index, default="info")

    @property
    def title(self) -> str:
        """One line."""
        if self.open_count == 0 and not self.opened and not self.worsened:
            if self.moved:
                return "[resolved] incidents that came too many at once are over, or told one by one by now"
            return f"[resolved] all {self.resolved:,} incidents that came too many at once are over"
        if not self.opened:
            if self.worsened:
                return f"[{self.worst.upper()}] {self.worsened:,} of the incidents told in one message got worse"
            return f"[{self.worst.upper()}] {self.open_count:,} incidents that came too many at once are open"
        return (
            f"[{self.worst.upper()}] {self.opened:,} more incidents at once, told in one message: "
            f"{amount(self.excess_tokens, 'tokens')} above the baselines"
        )

    def lines(self) -> list[str]:
        """The message, printable and bounded: counts, and the largest incidents."""
        worse = f", got worse {self.worsened:,}" if self.worsened else ""
        lines = [f"Opened {self.opened:,}{worse}, ended {self.resolved:,}, open now {self.open_count:,}"]
        if self.severities:
            lines.append("By severity: " + ", ".join(f"{name} {count:,}" for name, count in self.severities))
        if self.kinds:
            lines.append("By kind: " + ", ".join(f"{name} {count:,}" for name, count in self.kinds))
        lines += [f"{printable(alert.alert_id)}: {printable(alert.summary, 200)}" for alert in self.top]
        return lines

    @property
    def command(self) -> str:
        """What to paste into a shell to see them all."""
        return "overdraw alerts list"

    def json(self) -> dict[str, object]:
        """For programs."""
        return {
            "at": rfc3339(self.at),
            "opened": self.opened,
            "worsened": self.worsened,
            "resolved": self.resolved,
            "open": self.open_count,
            "kinds": dict(self.kinds),
            "severities": dict(self.severities),
            "excess_tokens": self.excess_tokens,
            "top": [{"alert_id": a.alert_id, "fingerprint": a.fingerprint, "summary": a.summary} for a in self.top],
        }


class Gathered:
    """What the next digest will say; bounded, however many incidents there are."""

    def __init__(self) -> None:
        self.since: float | None = None
        """When the first of them came; None while there is nothing to say."""
        self.opened = self.worsened = self.resolved = self.moved = 0
        self._kinds: Counter[str] = Counter()
        self._severities: Counter[str] = Counter()
        self._excess = 0.0
        self._top: list[Alert] = []

    def add(self, alert: Alert, now: float, *, known: bool = False) -> None:
        """Take up an incident that opened or ended, or one that is `known` from a digest and ended or got worse."""
        self.since = now if self.since is None else self.since
        if alert.status == "resolved":
            self.resolved += 1
            if known:
                return
        if known:
            self.worsened += 1
        else:
            self.opened += 1
            self._excess += alert.excess_tokens
        self._kinds[alert.kind] += 1
        self._severities[alert.severity] += 1
        others = (one for one in self._top if one.alert_id != alert.alert_id)
        self._top = nlargest(TOP, [*others, alert], key=lambda one: one.excess_tokens)

    def move(self, now: float) -> None:
        """An incident of a digest is told by itself now, and it was the last one that only a digest told of."""
        self.since = now if self.since is None else self.since
        self.moved += 1

    def digest(self, app_id: str, partitions: Sequence[int], open_count: int, now: float) -> Digest:
        """The message about them."""
        return Digest(
            app_id, min(partitions, default=0), now, self.opened, self.resolved, open_count,
            tuple(self._kinds.most_common()), tuple(self._severities.most_common()), self._excess, tuple(self._top),
            self.worsened, self.moved,
        )  # fmt: skip
