"""A key's pace: how far its use of hours and days lies above what was due, and how far that usually is for this key.

A departure is ln((came + OFFSET) / (due + OFFSET)) over a window that fades, in calls or in tokens (in calls' worth).
Each key has its own variance of it: how restless it is, and how well its baseline fits it. A group weighs its members'
departures by the inverse of their variances, as best linear unbiased estimates do (Aitken, On Least Squares and Linear
Combination of Observations, 1935), so that a restless or a heavy key counts for little. A mean of its own it has none:
the baseline sees to that, and what a few weeks of days that are alike tell of a mean is more noise than it takes away.

All is held in 16 bits, rounded as it is learned, so that packing loses nothing: 22 bytes.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from functools import lru_cache

WINDOW_HOURS = (6.0, 24.0)
"""Memories of the windows; each holds what was due, what came, and tokens in calls' worth."""
DEPARTURES = ((0, 1), (1, 1), (1, 2))
"""Of each departure its window, and what came there: 1 calls, 2 tokens. Longer windows remember what a baseline has
learned meanwhile, and the weeks in which keys change for good: they found less."""
COUNT = len(DEPARTURES)
OFFSET = 2.0
"""Calls on both sides of a ratio: without them a key of few calls says much by chance."""
PRIOR_VARIANCE = ((0.12, 3.0), (0.08, 2.0), (0.12, 4.0))
"""Of each departure, over all keys: what no number of calls takes away, and what one due call adds to that."""
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
_HEAD = struct.Struct("<HBB")
_SIZE = _HEAD.size + 2 * (3 * len(WINDOW_HOURS) + COUNT)


class Pace:
    """What is usual for one key: `take` an hour in which it was used, ask for its `departures`, then `learn` them.

    hour: the one that was taken last, -1: none so far; samples: how often it has learned; since: hours since then;
    ratios: of each departure, the key's own variance to what is usual for keys of as many calls, in codes
    """

    __slots__ = ("hour", "ratios", "samples", "since", "windows")

    def __init__(self) -> None:
        self.hour = -1
        self.samples = 0
        self.since = SAMPLE_HOURS
        self.windows = array("H", bytes(2 * 3 * len(WINDOW_HOURS)))
        self.ratios = array("H", [round(_RATIO_CODE)] * COUNT)

    def take(self, hour: int, due: float, calls: float, tokens: float) -> None:
        """Move the windows: what came in an hour, and what was due since the one that was taken last.

        tokens: in calls' worth. What was due came due evenly, so that a part of it has faded by now.
        """
        passed = min(hour - self.hour, MOST_PASSED) if self.hour >= 0 else MOST_PASSED
        self.hour = hour
        self.since = min(self.since + passed, _MOST_COUNT)
        windows = self.windows
        for i, (decay, left) in enumerate(_decays(passed)):
            for place, came in enumerate((due * left, calls, tokens), 3 * i):
                windows[place] = min(round(math.log1p(_decoded(windows[place]) * decay + came) * _CODE), _MOST_CODE)

    def departures(self) -> list[tuple[float, float]]:
        """Each departure, clipped, and the variance that it usually has."""
        found = []
        for (x, prior), code in zip(self._readings(), self.ratios, strict=True):
            variance = max(code / _RATIO_CODE, LEAST_RATIO) * prior
            most = CLIP_SD * math.sqrt(variance)
            found.append((max(-most, min(most, x)), variance))
        return found

    def learn(self, rate: float) -> None:
        """Take up the hour that was taken last; `rate` 1 is usual, less while something is wrong."""
        if self.since < SAMPLE_HOURS:
            return
        days = min(PRIOR_DAYS + self.samples * SAMPLE_HOURS / DAY_HOURS, MEMORY_DAYS)
        share = rate * min(self.since, DAY_HOURS) / DAY_HOURS / days
        ratios = self.ratios
        for i, (x, prior) in enumerate(self._readings()):
            ratio = ratios[i] / _RATIO_CODE
            most = LEARNED_SD * LEARNED_SD * max(ratio, LEAST_RATIO)
            ratio += share * (min(x * x / prior, most) - ratio)
            ratios[i] = round(min(ratio, MOST_RATIO) * _RATIO_CODE)
        self.since = 0
        self.samples = min(self.samples + 1, _MOST_COUNT)

    def pack(self, hour: int) -> bytes:
        """All that lasts, as of an hour not before the one that was taken last; nothing of a key that never spoke."""
        if self.hour < 0:
            return b""
        # beyond MOST_PASSED it is all the same
        head = _HEAD.pack(min(hour - self.hour, _MOST_CODE), self.since, self.samples)
        return head + self.windows.tobytes() + self.ratios.tobytes()

    def unpack(self, data: bytes, hour: int) -> None:
        """Take up what `pack` gave as of `hour`; raises ValueError on damage."""
        if len(data) != _SIZE:
            raise ValueError("a key's pace is damaged")
        passed, self.since, self.samples = _HEAD.unpack_from(data)
        self.hour = hour - passed
        at = _HEAD.size + 2 * 3 * len(WINDOW_HOURS)
        self.windows = array("H", data[_HEAD.size : at])
        self.ratios = array("H", data[at:])

    def _readings(self) -> Iterator[tuple[float, float]]:
        """Each departure as it is, and the variance that is usual for keys with as many calls."""
        windows = self.windows
        for (window, what), (fixed, each) in zip(DEPARTURES, PRIOR_VARIANCE, strict=True):
            due, came = _decoded(windows[3 * window]), _decoded(windows[3 * window + what])
            yield math.log((came + OFFSET) / (due + OFFSET)), fixed + each / (due + OFFSET)


@lru_cache(maxsize=8192)
def _decoded(code: int) -> float:
    return math.expm1(code / _CODE)


@lru_cache(maxsize=1024)
def _decays(passed: int) -> tuple[tuple[float, float], ...]:
    """For each window what is left of it after so many hours, and of what came evenly within them."""
    hours = max(passed, 1)
    return tuple((math.exp(-passed / memory), memory / hours * -math.expm1(-hours / memory)) for memory in WINDOW_HOURS)
