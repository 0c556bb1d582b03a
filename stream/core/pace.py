"""A key's pace: how far its calls of some hours lie above what was due, and how far they usually do for this key.

A departure is ln((came + OFFSET) / (due + OFFSET)) over a window that fades. Each key has its own variance of it: how
restless it is, and how well its baseline fits it. A group weighs its members' departures by the inverse of their
variances, as best linear unbiased estimates do (Aitken, On Least Squares and Linear Combination of Observations, 1935),
so that a restless or a heavy key counts for little. A mean of its own it has none: the baseline sees to that, and what
a few weeks of days that are alike tell of a mean is more noise than it takes away. What lasts longer than a baseline
takes to learn it, `days` tell.

All is held in 16 bits, rounded as it is learned, so that packing loses nothing: 10 bytes.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache

WINDOW_HOURS = 6.0
"""Memory of the window. Longer ones remember what a baseline has learned meanwhile."""
OFFSET = 2.0
"""Calls on both sides of a ratio: without them a key of few calls says much by chance."""
FIXED_VARIANCE, DUE_VARIANCE = 0.12, 3.0
"""Of a departure, over all keys: what no number of calls takes away, and what one due call adds to that."""
PRIOR_DAYS = 10.0
"""The variance that is usual for such keys counts for so many days of a key's own."""
MEMORY_DAYS = 40.0
LEAST_RATIO, MOST_RATIO = 1.0, 15.0
"""Of a key's own variance to that of its like. None counts for more than its like do: one that has been steady for
weeks, and is no more, would be a group of its own."""
CLIP_SD = 2.0
"""So many standard deviations are told at most: one key must not make a group."""
LEARNED_SD = 3.0
"""So many are learned at most: an attack must not make a key look restless."""
SAMPLE_HOURS = 7
"""Departures of one hour and the next are nearly the same: it learns no more often, by turns at all times of a day."""
DAY_HOURS = 24
MOST_PASSED = 28 * DAY_HOURS
"""A key that was silent for longer has empty windows."""

_CODE = 1000.0
"""Windows are held as 16 bits of ln(1 + calls) × 1000: to 0.1 %, up to 10^28 calls."""
_RATIO_CODE = 4096.0
"""Ratios to 0.0002, up to 16."""
_MOST_CODE, _MOST_COUNT = 65_535, 255
_STATE = struct.Struct("<HBB3H")
_FORMER = struct.Struct("<HBB9H")
"""When a day's calls and tokens were told, too, of a second window."""


class Pace:
    """What is usual for one key: `take` an hour in which it was used, ask for its `departure`, then `learn` that.

    hour: the one that was taken last, -1: none so far; samples: how often it has learned; since: hours since then;
    due, came: the window's calls, in codes; ratio: the key's own variance to what is usual for keys of as many calls,
    in codes
    """

    __slots__ = ("came", "due", "hour", "ratio", "samples", "since")

    def __init__(self) -> None:
        self.hour = -1
        self.samples = 0
        self.since = SAMPLE_HOURS
        self.due = self.came = 0
        self.ratio = round(_RATIO_CODE)

    def take(self, hour: int, due: float, calls: float) -> None:
        """Move the window: what came in an hour, and what was due since the one that was taken last.

        What was due came due evenly, so that a part of it has faded by now.
        """
        passed = min(hour - self.hour, MOST_PASSED) if self.hour >= 0 else MOST_PASSED
        self.hour = hour
        self.since = min(self.since + passed, _MOST_COUNT)
        decay, left = _decays(passed)
        self.due, self.came = (
            _code_of(_decoded(self.due) * decay + due * left),
            _code_of(_decoded(self.came) * decay + calls),
        )

    def departure(self) -> tuple[float, float]:
        """How far what came lies above what was due, clipped, and the variance that this usually has."""
        x, prior = self._reading()
        variance = max(self.ratio / _RATIO_CODE, LEAST_RATIO) * prior
        most = CLIP_SD * math.sqrt(variance)
        return max(-most, min(most, x)), variance

    def learn(self, rate: float) -> None:
        """Take up the hour that was taken last; `rate` 1 is usual, less while something is wrong."""
        if self.since < SAMPLE_HOURS:
            return
        days = min(PRIOR_DAYS + self.samples * SAMPLE_HOURS / DAY_HOURS, MEMORY_DAYS)
        share = rate * min(self.since, DAY_HOURS) / DAY_HOURS / days
        x, prior = self._reading()
        ratio = self.ratio / _RATIO_CODE
        most = LEARNED_SD * LEARNED_SD * max(ratio, LEAST_RATIO)
        ratio += share * (min(x * x / prior, most) - ratio)
        self.ratio = round(min(ratio, MOST_RATIO) * _RATIO_CODE)
        self.since = 0
        self.samples = min(self.samples + 1, _MOST_COUNT)

    def pack(self, hour: int) -> bytes:
        """All that lasts, as of an hour not before the one that was taken last; nothing of a key that never spoke."""
        if self.hour < 0:
            return b""
        # beyond MOST_PASSED it is all the same
        passed = min(hour - self.hour, _MOST_CODE)
        return _STATE.pack(passed, self.since, self.samples, self.due, self.came, self.ratio)

    def unpack(self, data: bytes, hour: int) -> None:
        """Take up what `pack` gave as of `hour`, or what a former version did; raises ValueError on damage."""
        if len(data) == _STATE.size:
            passed, self.since, self.samples, self.due, self.came, self.ratio = _STATE.unpack(data)
        elif len(data) == _FORMER.size:
            passed, self.since, self.samples, self.due, self.came, _, _, _, _, self.ratio, _, _ = _FORMER.unpack(data)
        else:
            raise ValueError("a key's pace is damaged")
        self.hour = hour - passed

    def _reading(self) -> tuple[float, float]:
        """The departure as it is, and the variance that is usual for keys with as many calls."""
        due = _decoded(self.due) + OFFSET
        return math.log((_decoded(self.came) + OFFSET) / due), FIXED_VARIANCE + DUE_VARIANCE / due


def _code_of(calls: float) -> int:
    return min(round(math.log1p(calls) * _CODE), _MOST_CODE)


@lru_cache(maxsize=8192)
def _decoded(code: int) -> float:
    return math.expm1(code / _CODE)


@lru_cache(maxsize=1024)
def _decays(passed: int) -> tuple[float, float]:
    """What is left of the window after so many hours, and of what came evenly within them."""
    hours = max(passed, 1)
    return math.exp(-passed / WINDOW_HOURS), WINDOW_HOURS / hours * -math.expm1(-hours / WINDOW_HOURS)
