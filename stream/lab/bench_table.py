"""What the bench found: one row a measurement, with its bar where there is one, and how rows are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

LEAST_RATIO = 0.35
"""One worker with the whole core against a raw aiokafka + orjson loop, in events per CPU-second."""
LEAST_REPLAY = 100_000.0
"""Events per CPU-second of `replay`."""
MOST_GROWTH = 1.10
"""Peak memory of `replay` for four times as many events: more than allocator's luck is growth."""
MOST_CLOSE_MICROSECONDS = 20.0
MOST_KEY_BYTES = 1200.0
MOST_GROUP_SHARE = 0.25
"""What groups may cost on top of keys."""
MOST_RECOVERY_SECONDS = ((100_000, 5.0), (1_000_000, 15.0))
"""Keys, and the CPU seconds in which one worker process may know them again."""

Verdict = Literal["ok", "short", ""]


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: `value` in `unit`; `ratio` to the raw loop where it has one.

    `bar` bounds `judged` (the ratio, if there is one, else the value) from below, or from above with `at_most`.
    """

    what: str
    value: float
    unit: str
    ratio: float | None = None
    bar: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def judged(self) -> float:
        """The number that the bar is about."""
        return self.value if self.ratio is None else self.ratio

    @property
    def verdict(self) -> Verdict:
        """`ok`, `short` of the bar, or nothing where there is none."""
        if self.bar is None:
            return ""
        return "ok" if (self.judged <= self.bar if self.at_most else self.judged >= self.bar) else "short"

    @property
    def bar_text(self) -> str:
        """The bar in words."""
        return "" if self.bar is None else f"{'≤' if self.at_most else '≥'} {number(self.bar)}"

    def as_json(self) -> dict[str, Any]:
        """The row as plain data."""
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "ratio": self.ratio,
            "bar": self.bar,
            "bound": None if self.bar is None else "at_most" if self.at_most else "at_least",
            "verdict": self.verdict or None,
            "note": self.note,
        }


def number(value: float) -> str:
    """A number for people.

    >>> number(123456.7), number(35.21), number(0.351)
    ('123,457', '35.2', '0.35')
    """
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def most_recovery_seconds(keys: int) -> float:
    """CPU seconds for a recovery of so many keys: between the two bars in proportion.

    >>> most_recovery_seconds(1000), most_recovery_seconds(550_000), most_recovery_seconds(1_000_000)
    (5.0, 10.0, 15.0)
    """
    (few, least), (many, most) = MOST_RECOVERY_SECONDS
    return max(least, least + (most - least) * (keys - few) / (many - few))


def missed(rows: Sequence[Row]) -> list[Row]:
    """The rows that are short of their bar."""
    return [row for row in rows if row.verdict == "short"]


def below(rows: Sequence[Row], margin: float) -> list[Row]:
    """The rows whose ratio is short of its bar by more than a share of it; rows without a ratio depend on the machine.

    >>> row = Row("worker", 20.0, "events/CPU·s", ratio=0.2, bar=0.35)
    >>> [len(below([row], margin)) for margin in (0.0, 0.4, 0.5)]
    [1, 1, 0]
    """
    return [row for row in rows if row.ratio is not None and row.bar is not None and row.ratio < row.bar * (1 - margin)]


def spread(values: Sequence[float]) -> str:
    """Least and most of repeated runs, where there was more than one.

    >>> spread([3.0, 1.0]), spread([2.0])
    ('1 to 3 in 2 runs', '')
    """
    return "" if len(values) < 2 else f"{number(min(values))} to {number(max(values))} in {len(values)} runs"


def worker_rows(kind: str, raw: Sequence[float], worker: Sequence[float]) -> list[Row]:
    """Raw loop and worker on one kind of event, in events per CPU-second, run in turns."""
    base, ours = median(raw), median(worker)
    unit = "events/CPU·s"
    return [
        Row(f"raw loop, {kind} events", base, unit, note=spread(raw)),
        Row(f"worker, {kind} events", ours, unit, ours / base, LEAST_RATIO, note=spread(worker)),
    ]


def replay_rows(kind: str, small: Sequence[float], large: Sequence[float], events: tuple[int, int]) -> list[Row]:
    """`replay` over files of two lengths; `small` and `large` are (CPU seconds, peak bytes) of each.

    The rate is that of the events that the longer file has more: the start-up is in both.
    """
    rate = (events[1] - events[0]) / max(large[0] - small[0], 1e-9)
    growth = large[1] / small[1]
    mb = (f"{peak / 1e6:,.0f} MB at {count:,}" for peak, count in zip((small[1], large[1]), events, strict=True))
    return [
        Row(f"replay, {kind} events", rate, "events/CPU·s", bar=LEAST_REPLAY),
        Row(f"replay's peak memory, {kind} events", growth, "×", bar=MOST_GROWTH, at_most=True, note=", ".join(mb)),
    ]
