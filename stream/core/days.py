"""A key's days against the same days of the weeks before: what a baseline that learns has long made its own.

A baseline follows a key within a week, and by then whoever takes half as much again is what is usual. So the tokens of
each UTC day are held by themselves, for four weeks, and the last day, three and seven days are compared with the mean
of the same weekdays of the three weeks before. What is new makes a third of that once it has lasted for a week, two
thirds after two, and all of it after three. Of the three, one that lies far below the others for such a key counts for
nothing: a day off, or one of which little was heard, must not make a rise of what is usual weeks later. (A rise that is
as large may be usual after two weeks already, and what was low for two of the three still makes one.) Days without a
call are compared with nothing, and nothing with them.

A departure is the mean of ln(tokens + OFFSET) over such days, less that of the days that they are compared with. Each
key has its own variance of that of one day: a group weighs its members by the inverse of it, as by their `pace`.

Days are held in 8 bits of a logarithm, and compared as such, so that packing loses nothing: 36 bytes.
"""

from __future__ import annotations

import math
import struct
from array import array
from typing import Final

WEEK: Final = 7
WEEKS: Final = 3
"""Weeks before that a day is compared with."""
HELD: Final = (1 + WEEKS) * WEEK
"""So far back lies the last day that the first of the last seven is compared with."""
WINDOWS: Final = (1, 3, 7)
"""Days behind each departure."""
COUNT: Final = len(WINDOWS)
OFFSET: Final = 1000.0
"""Two calls of a usual size. Without them a key of few calls says much by chance."""
PER_UNIT: Final = 12.5
"""Codes of a day are 1 + ln(1 + tokens / OFFSET) × so much, 0 where nothing is known: to 4 %, up to 6 × 10^11. Chance
alone moves a day further."""
SILENT: Final = 1
"""The code of a day without tokens; a key's first one, which has begun somewhere, counts as that, too."""
MOST_CODE: Final = 255
FIXED_VARIANCE: Final = 0.4
DUE_VARIANCE: Final = 2000.0
"""Of a day's departure, over all keys: what no number of tokens takes away, and what one due token adds to that: four
for a call of 500."""
PRIOR_DAYS: Final = 14.0
"""The variance that is usual for such keys counts for so many days of a key's own."""
MEMORY_DAYS: Final = 30.0
LEAST_RATIO: Final = 0.3
MOST_RATIO: Final = 15.0
"""Of a key's own variance to that of its like."""
OFF_SD: Final = 2.0
"""Of the days that one is compared with, the lowest is one off if it lies further below the middle one."""
LEAST_OFF: Final = OFF_SD * math.sqrt(LEAST_RATIO * FIXED_VARIANCE) * PER_UNIT
"""In codes: nearer than that none is one off, however steady the key."""
CLIP_SD: Final = 2.0
"""So many standard deviations are told at most: one key must not make a group."""
LEARNED_SD: Final = 3.0
"""So many are learned at most: an attack must not make a key look restless."""

_RATIO_CODE: Final = 4096.0
_STATE = struct.Struct(f"<BBfH{HELD}s")
SIZE = _STATE.size
_MOST_PASSED: Final = 255
_MOST_COUNT: Final = 255

Departure = tuple[float, float]
"""How far it lies above what it is compared with, clipped, and the variance that it usually has."""


class Days:
    """What a key used day by day: `take` what came, ask for the `departures` of the days that are over.

    day: the one that is not over, in days since 1970, -1: none so far; today: its tokens; past: codes of those that
    are, the newest last; ratio: the key's own variance to what is usual for keys of as many tokens, in codes; samples:
    how often that has learned
    """

    __slots__ = ("day", "past", "ratio", "samples", "today")

    def __init__(self) -> None:
        self.day = -1
        self.samples = 0
        self.today = array("f", (0.0,))
        self.ratio = round(_RATIO_CODE)
        self.past = bytes(HELD)

    def take(self, day: int, tokens: float, rate: float) -> None:
        """Add what came on a day (since 1970), not before the last one. Days in between had no call.

        rate: 1 is how days are usually learned, less while something is wrong
        """
        today = self.today
        if day != self.day:
            if self.day >= 0:
                used = today[0] if any(self.past) else 0.0
                for _ in range(min(day - self.day, HELD)):
                    self.past = self.past[1:] + bytes((_code_of(used),))
                    self._learn(rate)
                    used = 0.0
            self.day = day
            today[0] = 0.0
        today[0] += tokens

    def departures(self) -> list[Departure]:
        """Of each of WINDOWS up to yesterday, by those of its days that can be compared; with an infinite variance, if
        they are fewer than half. None at all if yesterday is not one of them.
        """  # noqa: D205
        found: list[Departure] = []
        past = self.past
        due = self._due(1)
        if due <= 0:
            return found
        variance = self._variance(due)
        most = CLIP_SD * math.sqrt(variance)
        total = 0.0
        count = back = 0
        for window in WINDOWS:
            while back < window:
                back += 1
                one = self._due(back)
                if one > 0:
                    total += past[-back] - one
                    count += 1
            x = total / (count * PER_UNIT)
            found.append((max(-most, min(most, x)), variance) if 2 * count >= window else (0.0, math.inf))
        return found

    def _due(self, back: int) -> float:
        """The mean code of the days that the one so far `back` (1: yesterday) is compared with; 0: there are none."""
        past = self.past
        if past[-back] <= SILENT:
            return 0.0
        total = count = high = 0
        low = MOST_CODE
        for week in range(1, WEEKS + 1):
            code = past[-back - week * WEEK]
            if code > SILENT:
                total += code
                count += 1
                low = min(low, code)
                high = max(high, code)
        if count == 0:
            return 0.0
        # of three the median, of two the higher: a day that was mostly lost must not decide how far it lies below
        usual = float(total - low - high) if count == WEEKS else float(high)
        below = usual - low
        # the first of these only spares most days the second
        if below > LEAST_OFF and below > OFF_SD * math.sqrt(self._variance(usual)) * PER_UNIT:
            return (total - low) / (count - 1)
        return total / count

    def _variance(self, due: float) -> float:
        """Of a day's departure, of this key, where so many tokens (a code) are due."""
        return max(self.ratio / _RATIO_CODE, LEAST_RATIO) * _prior(due)

    def _learn(self, rate: float) -> None:
        """Take up how far the day that has just ended lies from those that it is compared with."""
        due = self._due(1)
        if due <= 0:
            return
        ratio = self.ratio / _RATIO_CODE
        square = ((self.past[-1] - due) / PER_UNIT) ** 2 / _prior(due)
        share = rate / min(PRIOR_DAYS + self.samples, MEMORY_DAYS)
        ratio += share * (min(square, LEARNED_SD * LEARNED_SD * max(ratio, LEAST_RATIO)) - ratio)
        self.ratio = round(min(ratio, MOST_RATIO) * _RATIO_CODE)
        self.samples = min(self.samples + 1, _MOST_COUNT)

    def accept(self) -> None:
        """What was unusual is the new normal: there is nothing yet to compare it with."""
        self.past = bytes(HELD)

    def pack(self, day: int) -> bytes:
        """All that lasts, as of a day not before the last one; nothing of a key that was never used."""
        if self.day < 0:
            return b""
        passed = min(day - self.day, _MOST_PASSED)
        return _STATE.pack(passed, self.samples, self.today[0], self.ratio, self.past)

    def unpack(self, data: bytes, day: int) -> None:
        """Take up what `pack` gave as of `day`; raises ValueError on damage."""
        if len(data) != SIZE:
            raise ValueError("a key's days are damaged")
        passed, self.samples, today, self.ratio, self.past = _STATE.unpack(data)
        if not 0 <= today < math.inf:
            raise ValueError("a key's days are damaged")
        self.day = day - passed
        self.today = array("f", (today,))


def _code_of(tokens: float) -> int:
    return min(SILENT + round(math.log1p(tokens / OFFSET) * PER_UNIT), MOST_CODE)


def _prior(due: float) -> float:
    """The variance that is usual for a key that is due so many tokens a day (a code)."""
    return FIXED_VARIANCE + DUE_VARIANCE / (OFFSET * math.exp((due - SILENT) / PER_UNIT))
